//! What a digest is held to in a repository, and whether it holds.
//!
//! A request by tag is held to the tag's statement. A request by digest carries no tag, so it is
//! held to those of the tags it was seen under, and of the indexes that name it: if any of them is
//! enforced, the others do not count.

mod hidden;
mod known;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use quick_cache::sync::Cache;

use crate::{
    clock::Clock,
    oci::{Digest, Repository, Tag, TagType},
    policy::{Decision, Finding, Reason, Statement, TrustPolicy},
    store::{Generation, Store, StoreError},
    trust::Inconclusive,
    upstream::Upstreams,
};

pub(super) use self::hidden::Hidden;
use self::known::{Known, class_of};
use super::{
    discovery::{Discovery, Urgency},
    judge::{Judge, Judged, Judgement},
    recent::{Asker, RecentTags, Step},
    tag_lists::TagLists,
    trusted::{Reliance, Trusted},
};

/// How long "could not tell" is kept, so that the second request of a client does not wait again.
const UNKNOWN_KEPT: Duration = Duration::from_secs(1);

/// How long a refusal for want of a signature stands before the upstream is asked again.
const REFUSAL_KEPT: Duration = Duration::from_secs(60);

const CACHED_STANDINGS: usize = 65_536;

pub(super) struct Standings {
    pub(super) store: Store,
    pub(super) judge: Arc<Judge>,
    pub(super) trusted: Arc<Trusted>,
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) discovery: Discovery,
    pub(super) recent: RecentTags,
    pub(super) tag_lists: TagLists,
    pub(super) preview_ttl: Option<Duration>,
    /// Whether internal images are hidden from whoever has no role.
    pub(super) isolation: bool,
    pub(super) clock: Clock,
    cached: Cache<Asked, Arc<Standing>>,
}

/// What a verdict was asked for by, and whether by somebody from whom internal images are hidden.
type Asked = (Repository, Digest, Option<Tag>, bool);

/// A verdict on one digest, with what it rests on.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) statement: Statement,
    pub(super) decision: Decision,
    /// Whether this is an internal image, whose pulls are audited durably.
    pub(super) internal: bool,
    /// Whether it holds for everybody: none of it came by the tag that one asker had asked for.
    pub(super) shared: bool,
    /// The next instant at which a signature or key begins or ends to count.
    until: Option<Timestamp>,
    /// When a verdict that rests on a search or a failure is looked at again.
    recheck: Option<Instant>,
    basis: Basis,
}

/// What is decided on. Some signatures are over the manifest's bytes, which the store has only after the
/// first pull: whoever holds them brings them along.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) digest: Digest,
    pub(super) manifest: Option<&'a Bytes>,
}

/// What a verdict was made from, read before the rows themselves: a change in between makes it void.
#[derive(Debug, Clone)]
struct Basis {
    rows: Vec<Generation>,
    trust: Arc<Reliance>,
}

impl Standings {
    pub(super) fn new(
        store: Store,
        judge: Arc<Judge>,
        trusted: Arc<Trusted>,
        upstreams: Arc<Upstreams>,
        preview_ttl: Option<Duration>,
        isolation: bool,
        clock: Clock,
    ) -> Self {
        Self {
            discovery: Discovery::new(store.clone(), clock.clone()),
            recent: RecentTags::new(),
            tag_lists: TagLists::new(store.clone(), clock.clone()),
            cached: Cache::new(CACHED_STANDINGS),
            store,
            judge,
            trusted,
            upstreams,
            preview_ttl,
            isolation,
            clock,
        }
    }

    /// The verdict on a digest that was asked for by `tag`.
    pub(super) async fn of_tag(
        &self,
        policy: &TrustPolicy,
        repository: &Repository,
        tag: &Tag,
        subject: Subject<'_>,
        asker: &Asker,
    ) -> Result<Arc<Standing>, StoreError> {
        let digest = &subject.digest;
        let hidden = self.hides_internal_from(asker);
        let key = (repository.clone(), *digest, Some(tag.clone()), hidden);
        if let Some(standing) = self.current(&key) {
            return Ok(standing);
        }
        let basis = self.basis(repository, digest);
        let mut judgement = self.judgement(repository, subject).await?;
        let seen = self.store.tags_seen(repository, digest)?;
        let class = class_of(tag, &seen, &judgement);
        let statement = policy.statement_for(class);
        let mut decision = self.decide(statement, class, |judged| judged.bears_on(tag), &judgement, None, hidden);
        if self.wants_search(&decision, statement) {
            let failure = self.search(repository, digest, statement).await;
            judgement = self.judgement(repository, subject).await?;
            decision = self.decide(statement, class, |judged| judged.bears_on(tag), &judgement, failure, hidden);
        }
        let internal = class == Some(TagType::Internal);
        let standing = self.standing(statement.clone(), decision, internal, &judgement, class, basis, None);
        self.keep(key, &standing);
        Ok(standing)
    }

    /// The verdict on a digest that was asked for as such: as the tag its asker came by a moment
    /// ago, else by everything that is known of it.
    pub(super) fn of_digest<'a>(
        &'a self,
        policy: &'a TrustPolicy,
        repository: &'a Repository,
        subject: Subject<'a>,
        asker: &'a Asker,
        step: Step,
    ) -> BoxFuture<'a, Result<Arc<Standing>, StoreError>> {
        self.of_digest_at(policy, repository, subject, asker, step, 0)
    }

    fn of_digest_at<'a>(
        &'a self,
        policy: &'a TrustPolicy,
        repository: &'a Repository,
        subject: Subject<'a>,
        asker: &'a Asker,
        step: Step,
        depth: usize,
    ) -> BoxFuture<'a, Result<Arc<Standing>, StoreError>> {
        let digest = subject.digest;
        Box::pin(async move {
            if let Some(tag) = self.recent.tag(repository, &digest, asker, step, self.clock.instant()) {
                let standing = self.of_tag(policy, repository, &tag, subject, asker).await?;
                return Ok(Arc::new(Standing { shared: false, ..(*standing).clone() }));
            }
            let hidden = self.hides_internal_from(asker);
            let key = (repository.clone(), digest, None, hidden);
            if let Some(standing) = self.current(&key) {
                return Ok(standing);
            }
            let basis = self.basis(repository, &digest);
            let mut judgement = self.judgement(repository, subject).await?;
            let known = self.known(policy, repository, digest, &judgement, asker, step, depth).await?;
            let unread = if hidden { self.learn_tags(repository, &known).await? } else { None };
            let (statement, internal) = match unread {
                Some(_) => (policy.unknown_digest(), true),
                None => self.statement_of(policy, repository, &known)?,
            };
            let mut decision = self.decide_known(policy, &statement, &known, &judgement, None, hidden);
            if self.wants_search(&decision, &statement) {
                let failure = self.search(repository, &digest, &statement).await;
                judgement = self.judgement(repository, subject).await?;
                decision = self.decide_known(policy, &statement, &known, &judgement, failure, hidden);
            }
            if internal && hidden {
                decision = Decision::Refused(Reason::Invisible);
            }
            if let Some(unread) = unread {
                decision = Decision::Refused(Reason::Unknown(unread));
            }
            let class = known.tags.iter().filter_map(|(_, class)| *class).min();
            let standing = self.standing(statement, decision, internal, &judgement, class, basis, Some(&known));
            if standing.shared {
                self.keep(key, &standing);
            }
            Ok(standing)
        })
    }

    fn decide(
        &self,
        statement: &Statement,
        class: Option<TagType>,
        bears: impl Fn(&Judged) -> bool,
        judgement: &Judgement,
        failure: Option<Inconclusive>,
        hidden: bool,
    ) -> Decision {
        if class == Some(TagType::Internal) && hidden {
            return Decision::Refused(Reason::Invisible);
        }
        let now = self.clock.now();
        let findings: Vec<Finding> = judgement
            .signatures
            .iter()
            .filter(|judged| bears(judged))
            .map(|judged| judged.finding(class, self.preview_ttl, now))
            .chain(failure.map(Finding::Unknown))
            .collect();
        statement.decide(&findings)
    }

    fn hides_internal_from(&self, asker: &Asker) -> bool {
        self.isolation && asker.is_anonymous()
    }

    fn wants_search(&self, decision: &Decision, statement: &Statement) -> bool {
        statement.is_enforced() && matches!(decision, Decision::Refused(reason) if *reason != Reason::Invisible)
    }

    /// Looks for signatures at the upstream; what could not be looked for is a finding of its own.
    async fn search(&self, repository: &Repository, digest: &Digest, statement: &Statement) -> Option<Inconclusive> {
        let urgency = if statement.is_enforced() { Urgency::Enforced } else { Urgency::Audited };
        let upstream = self.upstreams.of(repository.registry())?;
        self.discovery.search(&upstream, repository, digest, urgency).await.err().map(|_| Inconclusive::UpstreamFailed)
    }

    /// A search that nobody waits for.
    pub(super) async fn search_audited(&self, repository: &Repository, digest: &Digest) {
        if let Some(upstream) = self.upstreams.of(repository.registry()) {
            // The outcome is in the log and, where something was found, in the store.
            let _failure_is_logged = self.discovery.search(&upstream, repository, digest, Urgency::Audited).await;
        }
    }

    async fn judgement(&self, repository: &Repository, subject: Subject<'_>) -> Result<Arc<Judgement>, StoreError> {
        let Subject { digest, manifest } = subject;
        let manifest = match manifest {
            Some(manifest) => Some(manifest.clone()),
            None => self.store.manifest(&digest)?.map(|held| held.bytes),
        };
        self.judge.image(repository, &digest, manifest.as_ref()).await
    }

    fn basis(&self, repository: &Repository, digest: &Digest) -> Basis {
        let rows = vec![self.store.generation_of(digest), self.store.generation_of(repository)];
        Basis { rows, trust: Arc::new(Reliance::new(self.trusted.generation(), [])) }
    }

    #[expect(clippy::too_many_arguments, reason = "gathers what the walk has found")]
    fn standing(
        &self,
        statement: Statement,
        decision: Decision,
        internal: bool,
        judgement: &Judgement,
        class: Option<TagType>,
        mut basis: Basis,
        known: Option<&Known>,
    ) -> Arc<Standing> {
        let now = self.clock.instant();
        let parents = || known.iter().flat_map(|known| &known.parents).map(|(_, parent)| parent);
        basis.trust = Arc::new(basis.trust.and(judgement.reliance()));
        let mut until = judgement.until();
        for judged in &judgement.signatures {
            let end = judged.ends(class, self.preview_ttl).filter(|end| *end > self.clock.now());
            until = earliest(until, end);
        }
        let mut recheck = match &decision {
            _ if !judgement.is_complete() => Some(now + UNKNOWN_KEPT),
            Decision::Refused(Reason::Unknown(_)) | Decision::Unverified(Reason::Unknown(_)) => {
                Some(now + UNKNOWN_KEPT)
            }
            Decision::Refused(_) => Some(now + REFUSAL_KEPT),
            _ => None,
        };
        for parent in parents() {
            until = earliest(until, parent.until);
            recheck = earliest(recheck, parent.recheck);
            for generation in &parent.basis.rows {
                if !basis.rows.contains(generation) {
                    basis.rows.push(*generation);
                }
            }
            basis.trust = Arc::new(basis.trust.and(&parent.basis.trust));
        }
        let shared = parents().all(|parent| parent.shared);
        Arc::new(Standing { statement, decision, internal, shared, until, recheck, basis })
    }

    /// The verdict that is kept, if everything it rests on is as it was.
    fn current(&self, key: &Asked) -> Option<Arc<Standing>> {
        let standing = self.cached.get(key)?;
        self.holds(&standing).then_some(standing)
    }

    pub(super) fn holds(&self, standing: &Standing) -> bool {
        self.trusted.leaves(&standing.basis.trust)
            && standing.until.is_none_or(|until| self.clock.now() < until)
            && standing.recheck.is_none_or(|recheck| self.clock.instant() < recheck)
            && standing.basis.rows.iter().all(|generation| self.store.is_current(*generation))
    }

    fn keep(&self, key: Asked, standing: &Arc<Standing>) {
        self.cached.insert(key, standing.clone());
    }
}

fn earliest<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
