//! Which signatures an image has, and what each is worth.
//!
//! A judgement says what verifies; what policy makes of it for one tag is the neighbour's job
//! (`standing`). Verification runs in a bounded pool off the async threads, in an order that keeps
//! garbage from hiding the good signature, and within a budget for one image.

mod question;
mod vain;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::{
    clock::Clock,
    oci::{Digest, Repository, Tag, TagType},
    policy::Finding,
    store::{FoundEnvelope, FoundId, Generation, Identity, Record, RecordId, Store, StoreError},
    telemetry::Metrics,
    trust::{Inconclusive, Outcome, Rejection, TrustRoot, Verified},
    upstream::RevocationServices,
};

pub use self::question::Signed;

use self::{
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

/// One signature and its outcome, before anything of policy.
#[derive(Debug, Clone)]
pub struct Judged {
    pub origin: Origin,
    pub outcome: Outcome,
    /// The earliest time at which this signature was seen, whoever brought it.
    pub first_seen: Timestamp,
    /// The end that the record itself has.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub enum Origin {
    /// Submitted, and bound to what it names.
    Record { id: RecordId, tag: Tag, repository: Option<Repository>, tag_type: Option<TagType>, granted: bool },
    /// Pushed here as an artifact of the digest; bears on the digest, as what was found does.
    Pushed,
    /// Found at the upstream; bears on the digest.
    Found,
}

struct Candidate {
    origin: Origin,
    signed: Signed,
    first_seen: Timestamp,
    expires_at: Option<Timestamp>,
    /// What it had verified as, for one that was found.
    verified: Option<Identity>,
    verified_before: bool,
    found: Option<FoundId>,
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

impl Judged {
    /// What this signature is worth for an image of class `class` at `now`.
    pub fn finding(&self, class: Option<TagType>, preview_ttl: Option<Duration>, now: Timestamp) -> Finding {
        if matches!(self.outcome, Outcome::Verified(_)) && self.ends(class, preview_ttl).is_some_and(|end| end <= now) {
            return Finding::Rejected(Rejection::Expired);
        }
        self.outcome.clone().into()
    }

    /// The earliest of the record's own end and, for what is preview, the end of its life.
    pub fn ends(&self, class: Option<TagType>, preview_ttl: Option<Duration>) -> Option<Timestamp> {
        let preview = [class, self.tag_type()].contains(&Some(TagType::Preview));
        let life = preview_ttl.filter(|_| preview).map(|ttl| end_of_life(self.first_seen, ttl));
        [self.expires_at, life].into_iter().flatten().min()
    }

    /// Whether a key verifies it, expired or not.
    pub fn is_authentic(&self) -> bool {
        matches!(self.outcome, Outcome::Verified(_))
    }

    /// The tag that this signature names.
    pub fn tag(&self) -> Option<&Tag> {
        match &self.origin {
            Origin::Record { tag, .. } => Some(tag),
            Origin::Pushed | Origin::Found => None,
        }
    }

    /// Whether it may speak for `tag`: a record for the tag it names, what was found for every tag.
    pub fn bears_on(&self, tag: &Tag) -> bool {
        self.tag().is_none_or(|named| named == tag)
    }

    fn tag_type(&self) -> Option<TagType> {
        match &self.origin {
            Origin::Record { tag, tag_type, .. } => tag_type.or(tag.stated_type()),
            Origin::Pushed | Origin::Found => None,
        }
    }
}

/// When a preview signature ends that was first seen at `first_seen`.
pub fn end_of_life(first_seen: Timestamp, ttl: Duration) -> Timestamp {
    first_seen.saturating_add(ttl).unwrap_or(Timestamp::MAX)
}

impl Candidate {
    fn of_record(record: Record) -> Self {
        Self {
            signed: Signed::from(&record),
            verified_before: record.verified_before(),
            verified: None,
            found: None,
            origin: if record.of_digest {
                Origin::Pushed
            } else {
                Origin::Record {
                    id: record.id,
                    tag: record.tag,
                    repository: record.repository,
                    tag_type: record.tag_type,
                    granted: record.granted,
                }
            },
            first_seen: record.first_seen,
            expires_at: record.expires_at,
        }
    }

    fn of_found(found: FoundEnvelope) -> Self {
        Self {
            verified_before: found.verified.is_some(),
            verified: found.verified,
            found: Some(found.id()),
            origin: Origin::Found,
            signed: Signed {
                format: found.format.parse().ok(),
                signature: found.signature,
                payload: found.payload,
                annotations: found.annotations,
            },
            first_seen: found.first_seen,
            expires_at: None,
        }
    }

    /// What is known before it was looked at, and what there is to look at.
    fn unjudged(self) -> (Judged, Signed) {
        let Self { origin, signed, first_seen, expires_at, .. } = self;
        (Judged { origin, outcome: inconclusive(), first_seen, expires_at }, signed)
    }
}

/// What verified before comes first. Of the rest what anybody may have submitted takes turns with what only those could put
/// there who may write to the registry, so that however much there is of one, the other has half of the time.
fn in_order(candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    let (mut ordered, others): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.verified_before);
    let is_record = |candidate: &Candidate| matches!(candidate.origin, Origin::Record { .. });
    let (records, found): (Vec<_>, Vec<_>) = others.into_iter().partition(is_record);
    let (mut records, mut found) = (records.into_iter(), found.into_iter());
    loop {
        let next = [found.next(), records.next()];
        if next.iter().all(Option::is_none) {
            return ordered;
        }
        ordered.extend(next.into_iter().flatten());
    }
}

fn inconclusive() -> Outcome {
    Outcome::Unknown(Inconclusive::BudgetSpent)
}

/// What makes two signatures the same one: digest, key and signed payload once a key verifies it;
/// until then the digest and the signature in its normal form.
pub fn identities(digest: &Digest, normalised: [u8; 32], outcome: &Outcome) -> Vec<Identity> {
    let mut identities = vec![identity(b"signature", digest, &[&normalised])];
    if let Outcome::Verified(verified) = outcome {
        identities.push(verified_identity(digest, verified));
    }
    identities
}

fn verified_identity(digest: &Digest, verified: &Verified) -> Identity {
    identity(b"verified", digest, &[&verified.identity, &verified.payload_hash])
}

fn identity(kind: &[u8], digest: &Digest, parts: &[&[u8]]) -> Identity {
    let mut text = [kind, b"\0", digest.algorithm().name().as_bytes(), b"\0", digest.as_bytes()].concat();
    for part in parts {
        text.extend_from_slice(part);
    }
    Identity(Digest::sha256(&text).as_bytes().try_into().expect("SHA-256 has 32 bytes"))
}
