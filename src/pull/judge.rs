//! Which signatures an image has, and what each is worth.
//!
//! A judgement says what verifies; what policy makes of it for one tag is the neighbour's job
//! (`standing`). Verification runs in a bounded pool off the async threads, in an order that keeps
//! garbage from hiding the good signature, and within a budget for one image.

mod candidate;
mod identity;
mod judged;
mod question;
mod vain;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::{
    clock::Clock,
    oci::{Digest, Repository},
    store::{FoundId, Generation, Identity, Record, RecordId, Store, StoreError},
    telemetry::Metrics,
    trust::{Inconclusive, Outcome, Rejection, TrustRoot},
    upstream::RevocationServices,
};

pub use self::identity::identities;
pub use self::judged::{Judged, Origin, end_of_life};
pub use self::question::Signed;

use self::{
    candidate::{Candidate, in_order},
    identity::verified_identity,
    question::{Answer, Question},
    vain::Vain,
};
use super::trusted::{Reliance, Trusted};

/// The time that the signatures of one image may take; past it the rest could not be told.
const IMAGE_BUDGET: Duration = Duration::from_millis(50);

/// Signatures of one image that are looked at.
const MAX_SIGNATURES: usize = 1024;

const CACHED_JUDGEMENTS: usize = 16_384;

/// Records whose worth is kept, for whoever asks again before anything has changed.
const CACHED_RECORDS: usize = 16_384;

pub struct Judge {
    store: Store,
    trusted: Arc<Trusted>,
    services: RevocationServices,
    clock: Clock,
    metrics: Metrics,
    /// Bounds the threads that verify: the work is CPU alone.
    pool: Semaphore,
    cached: Cache<(Repository, Digest), Arc<Judgement>>,
    records: Cache<RecordId, Arc<JudgedRecord>>,
    vain: Arc<Vain>,
}

/// What was found about every signature of one image in one repository.
#[derive(Debug)]
pub struct Judgement {
    pub signatures: Vec<Judged>,
    rows: (Generation, Generation),
    reliance: Arc<Reliance>,
    /// The next instant at which a signer that it rests on begins or ends to count.
    until: Option<Timestamp>,
    with_manifest: bool,
    complete: bool,
}

/// What one record was worth, and what that rests on.
struct JudgedRecord {
    judged: Judged,
    rows: Generation,
    reliance: Reliance,
    until: Option<Timestamp>,
    with_manifest: bool,
}

impl Judge {
    pub fn new(
        store: Store,
        trusted: Arc<Trusted>,
        services: RevocationServices,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            store,
            trusted,
            services,
            clock,
            metrics,
            pool: Semaphore::new(threads),
            cached: Cache::new(CACHED_JUDGEMENTS),
            records: Cache::new(CACHED_RECORDS),
            vain: Arc::new(Vain::new()),
        }
    }

    pub fn trust(&self) -> Arc<TrustRoot> {
        self.trusted.root()
    }

    /// The signatures of `digest` that the store has for `repository`, each with its outcome.
    pub async fn image(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: Option<&Bytes>,
    ) -> Result<Arc<Judgement>, StoreError> {
        let key = (repository.clone(), *digest);
        let rows = (self.store.generation_of(digest), self.store.generation_of(repository));
        let generation = self.trusted.generation();
        if let Some(judgement) = self.cached.get(&key)
            && judgement.rows == rows
            && self.trusted.leaves(&judgement.reliance)
            && judgement.complete
            && judgement.with_manifest >= manifest.is_some()
            && judgement.until.is_none_or(|until| self.clock.now() < until)
        {
            return Ok(judgement);
        }
        let records = self.store.records_to_judge(digest, MAX_SIGNATURES)?;
        let found = self.store.found(repository, digest)?;
        let candidates = records
            .into_iter()
            .filter(|record| record.repository.as_ref().is_none_or(|bound| bound == repository))
            .map(Candidate::of_record)
            .chain(found.into_iter().map(Candidate::of_found));
        let mut candidates = in_order(candidates);
        candidates.truncate(MAX_SIGNATURES);
        let marks: Vec<_> = candidates.iter().map(|candidate| (candidate.found, candidate.verified)).collect();
        let begun = self.clock.instant();
        let signatures = self.verify(*digest, Some(repository.clone()), manifest.cloned(), candidates).await?;
        self.metrics.verdict_took(self.clock.instant().saturating_duration_since(begun));
        self.mark(repository, digest, &marks, &signatures).await;
        let complete = !signatures.iter().any(|judged| matches!(judged.outcome, Outcome::Unknown(_)));
        let reliance = Reliance::new(generation, signatures.iter().map(|judged| &judged.outcome));
        let judgement = Arc::new(Judgement {
            rows,
            until: self.next_change(&reliance, &signatures),
            reliance: Arc::new(reliance),
            with_manifest: manifest.is_some(),
            complete,
            signatures,
        });
        self.cached.insert(key, judgement.clone());
        Ok(judgement)
    }

    /// Keeps it in mind which of those that were found have verified, so that whatever comes beside them later does
    /// not take their place.
    async fn mark(
        &self,
        repository: &Repository,
        digest: &Digest,
        marks: &[(Option<FoundId>, Option<Identity>)],
        judged: &[Judged],
    ) {
        let mut kept: BTreeSet<_> = marks.iter().filter_map(|(_, verified)| *verified).collect();
        let mut verified = Vec::new();
        for ((found, _), judged) in marks.iter().zip(judged) {
            if let (Some(id), Outcome::Verified(by)) = (found, &judged.outcome) {
                let identity = verified_identity(digest, by);
                if kept.insert(identity) {
                    verified.push((*id, identity));
                }
            }
        }
        if !verified.is_empty()
            && let Err(error) = self.store.found_verified(repository, digest, verified).await
        {
            tracing::warn!("that signatures of {repository}@{digest} have verified was not kept: {error}");
        }
    }

    /// What one record is worth, for the question that the API answers. `manifest` is its image's,
    /// where it is held.
    pub async fn record(&self, record: &Record, manifest: Option<Bytes>) -> Result<Judged, StoreError> {
        let (rows, generation) = (self.store.generation_of(record.digest), self.trusted.generation());
        let with_manifest = manifest.is_some();
        if let Some(kept) = self.records.get(&record.id)
            && kept.rows == rows
            && self.trusted.leaves(&kept.reliance)
            && kept.with_manifest >= with_manifest
            && kept.until.is_none_or(|until| self.clock.now() < until)
        {
            return Ok(kept.judged.clone());
        }
        let candidates = vec![Candidate::of_record(record.clone())];
        let judged = self.verify(record.digest, record.repository.clone(), manifest, candidates).await?;
        let judged = judged.into_iter().next().expect("one candidate gives one outcome");
        if !matches!(judged.outcome, Outcome::Unknown(_)) {
            let reliance = Reliance::new(generation, [&judged.outcome]);
            let until = self.next_change(&reliance, [&judged]);
            let kept = JudgedRecord { judged: judged.clone(), rows, reliance, until, with_manifest };
            self.records.insert(record.id.clone(), Arc::new(kept));
        }
        Ok(judged)
    }

    /// What a submission is worth before it is a record, and the identities it would have.
    pub async fn submission(
        &self,
        digest: Digest,
        repository: Option<Repository>,
        signed: Signed,
        manifest: Option<Bytes>,
    ) -> (Outcome, Vec<Identity>) {
        let hash = Digest::sha256(&signed.signature).as_bytes().try_into().expect("SHA-256 has 32 bytes");
        let asked = Question { digest, repository, manifest, signed: vec![signed] };
        let Some([answer]) = self.answers(asked).await.and_then(|answers| <[_; 1]>::try_from(answers).ok()) else {
            return (inconclusive(), Vec::new());
        };
        let identities = identities(&digest, answer.hash.unwrap_or(hash), &answer.outcome);
        (answer.outcome, identities)
    }

    /// The next instant at which one of these, or a signer they rest on, may be worth something else.
    fn next_change<'a>(&self, reliance: &Reliance, judged: impl IntoIterator<Item = &'a Judged>) -> Option<Timestamp> {
        let of_signers = self.trusted.root().next_change(self.clock.now(), |signer| reliance.is_on(signer));
        judged.into_iter().filter_map(|judged| judged.outcome.until()).chain(of_signers).min()
    }

    async fn verify(
        &self,
        digest: Digest,
        repository: Option<Repository>,
        manifest: Option<Bytes>,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<Judged>, StoreError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let (judged, signed): (Vec<_>, Vec<_>) = candidates.into_iter().map(Candidate::unjudged).unzip();
        // A verifier that panicked has told nothing about any of them.
        let Some(answers) = self.answers(Question { digest, repository, manifest, signed }).await else {
            return Ok(judged);
        };
        let mut signatures = Vec::with_capacity(judged.len());
        for (mut judged, answer) in judged.into_iter().zip(answers) {
            judged.outcome = answer.outcome;
            self.apply_identity(&digest, answer.hash.unwrap_or_default(), &mut judged, now).await?;
            signatures.push(judged);
        }
        Ok(signatures)
    }

    /// Looks at each signature, and once more where somebody who was asked about a certificate answered.
    async fn answers(&self, question: Question) -> Option<Vec<Answer>> {
        let question = Arc::new(question);
        let answers = self.look(&question).await?;
        let checks: Vec<_> = answers.iter().flat_map(|answer| &answer.checks).cloned().collect();
        if checks.is_empty() {
            return Some(answers);
        }
        let learnt = self.services.ask(checks).await;
        if learnt.is_empty() {
            return Some(answers);
        }
        self.trusted.learn(learnt);
        self.look(&question).await
    }

    async fn look(&self, question: &Arc<Question>) -> Option<Vec<Answer>> {
        let (question, trusted, vain) = (Arc::clone(question), Arc::clone(&self.trusted), Arc::clone(&self.vain));
        let (generation, root) = (trusted.generation(), trusted.root());
        let (now, clock) = (self.clock.now(), self.clock.clone());
        self.in_pool(move || {
            let deadline = clock.instant() + IMAGE_BUDGET;
            let until = root.next_change(now, |_| true);
            let subject = question.subject();
            let answer = |signed: &Signed| {
                if clock.instant() >= deadline {
                    return Answer { outcome: inconclusive(), hash: None, checks: Vec::new() };
                }
                let fingerprint = question.fingerprint(signed);
                vain.answer(&question, &fingerprint, &trusted, now).unwrap_or_else(|| {
                    let answer = signed.answer(&subject, &root, now);
                    vain.keep(&question, fingerprint, &answer, generation, until);
                    answer
                })
            };
            question.signed.iter().map(answer).collect()
        })
        .await
    }

    /// Labels and encodings make no new signature: the same one withdrawn elsewhere is withdrawn,
    /// and its life began when the first of them was seen.
    async fn apply_identity(
        &self,
        digest: &Digest,
        hash: [u8; 32],
        judged: &mut Judged,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let identities = identities(digest, hash, &judged.outcome);
        let mut known = true;
        for identity in &identities {
            match self.store.identity(identity)? {
                Some(row) => {
                    judged.first_seen = judged.first_seen.min(row.first_seen);
                    if row.withdrawn {
                        judged.outcome = Outcome::Rejected(Rejection::Withdrawn);
                    }
                }
                None => known = false,
            }
        }
        // A clock that was ahead when it was first seen has not made its life begin later than now.
        let ahead = judged.first_seen > now;
        judged.first_seen = judged.first_seen.min(now);
        // What was found upstream lies in memory, which forgets: its age is kept with the records, so
        // that a preview that is found again is not as good as new.
        if (!known || ahead) && judged.is_authentic() {
            judged.first_seen = self.store.remember_identity(identities, judged.first_seen).await?;
        }
        Ok(())
    }

    async fn in_pool<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _permit = self.pool.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.inspect_err(|error| tracing::error!("verifier: {error}")).ok()
    }
}

impl Judgement {
    /// When the verdicts that rest on this must be looked at again, whatever else happens.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    pub(super) fn reliance(&self) -> &Arc<Reliance> {
        &self.reliance
    }

    /// Whether every signature could be judged.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

fn inconclusive() -> Outcome {
    Outcome::Unknown(Inconclusive::BudgetSpent)
}
