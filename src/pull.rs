//! The story of a pull: from a reference to a manifest that may leave, or to a refusal.
//!
//! Everything else is a room that this story walks through. What goes out is an [`Admitted`], which
//! only this module makes; what fails, fails closed: an error of ours is a refusal wherever a
//! statement enforces.

mod admitted;
mod artifacts;
mod captured;
mod discovery;
mod explain;
mod fetch;
mod judge;
mod openpgp;
mod own;
mod published;
mod recent;
mod referrers;
mod standing;
mod submissions;
mod tag_lists;
mod trusted;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    audit::{Action, Audit, Event, Who},
    clock::Clock,
    oci::{Digest, Manifest, Reference, Repository, Tag, TagType},
    policy::{Decision, Reason, Statement, TrustPolicy},
    store::{Sighting, Store, StoreError},
    trust::Inconclusive,
    upstream::{Upstream, UpstreamError, Upstreams},
};

pub use self::admitted::Admitted;
pub use self::artifacts::MAX_ARTIFACT_BLOB_BYTES;
pub use self::captured::{Push, PushError, Pushed};
pub use self::explain::Explanation;
pub use self::judge::{Judge, Judged, Judgement, Origin, Signed, end_of_life, identities};
pub use self::openpgp::OpenPgpError;
pub use self::recent::Asker;
pub use self::referrers::Referrers;
pub use self::submissions::{Conflict, NewRecord, SubmitError};
pub use self::trusted::{POLL as TRUST_POLL, TrustFiles, TrustFilesError, Trusted, TrustedError};

use self::{
    fetch::{FetchError, Fetcher},
    published::{Made, Publisher},
    recent::Step,
    standing::{Standing, Standings, Subject},
};

/// Searches under audit that wait their turn; more are left to the next pull.
const MAX_WAITING_SEARCHES: usize = 1024;

const REMEMBERED_ARTIFACT_BLOBS: usize = 16_384;

/// How long a decided manifest is answered without looking into the store's memory again. What the
/// verdict rests on is looked at each time.
const WARM_FOR: Duration = Duration::from_secs(60);

const WARM_ENTRIES: usize = 16_384;

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub repository: Repository,
    pub reference: Reference,
    pub asker: Asker,
}

/// A blob that may leave.
#[derive(Debug, Clone)]
pub struct Blob {
    pub digest: Digest,
    /// What the manifest that names it says, where that is at hand: a body that is longer is none.
    pub size: Option<u64>,
    /// The bytes, where they are our own to send.
    pub held: Option<Bytes>,
}

/// Why nothing is served.
#[derive(Debug, Clone)]
pub struct Refused {
    pub reason: Reason,
    /// The statement that refused, or that holds where nothing was refused but nothing could be had.
    pub statement: Statement,
}

impl Refused {
    /// Whether it must stop the client: not only where this mirror enforces, but also where its upstream has.
    pub fn holds(&self) -> bool {
        self.statement.is_enforced() || matches!(self.reason, Reason::UpstreamRefused)
    }
}

/// How this puller was set up.
#[derive(Debug, Clone)]
pub struct Settings {
    pub policy: TrustPolicy,
    /// The life of a preview signature; `None` for no end.
    pub preview_ttl: Option<Duration>,
    /// Whether internal images are hidden: there are accounts, and whoever asks has none.
    pub isolation: bool,
    /// How long a tag's digest is used without asking the upstream.
    pub tag_max_age: Option<Duration>,
    /// How long content by digest is used without asking the upstream whether it is still there.
    pub content_max_age: Option<Duration>,
}

pub struct Puller {
    store: Store,
    policy: TrustPolicy,
    isolation: bool,
    upstreams: Arc<Upstreams>,
    fetcher: Fetcher,
    standings: Standings,
    publisher: Publisher,
    audit: Arc<Audit>,
    clock: Clock,
    artifact_blobs: artifacts::ServedBlobs,
    searches: mpsc::Sender<(Repository, Digest)>,
    /// By what was asked for, and whether anonymously.
    warm: quick_cache::sync::Cache<(Repository, Digest, Option<Tag>, bool), Arc<Warm>>,
    warm_for: Duration,
}

/// A manifest that was decided on and remembered a moment ago.
struct Warm {
    manifest: Arc<Manifest>,
    standing: Arc<Standing>,
    until: Instant,
}

/// The searches that nobody waits for, for `app` to run.
pub struct Searches(mpsc::Receiver<(Repository, Digest)>);

impl Puller {
    pub fn new(
        settings: Settings,
        store: Store,
        judge: Arc<Judge>,
        trusted: Arc<Trusted>,
        upstreams: Arc<Upstreams>,
        audit: Arc<Audit>,
        clock: Clock,
    ) -> (Self, Searches) {
        let (searches, waiting) = mpsc::channel(MAX_WAITING_SEARCHES);
        let warm_for = settings.content_max_age.map_or(WARM_FOR, |age| age.min(WARM_FOR));
        let puller = Self {
            fetcher: Fetcher::new(store.clone(), &settings, clock.clone()),
            publisher: Publisher::new(store.clone(), clock.clone(), settings.preview_ttl),
            standings: Standings::new(
                store.clone(),
                judge,
                trusted,
                upstreams.clone(),
                settings.preview_ttl,
                settings.isolation,
                clock.clone(),
            ),
            policy: settings.policy,
            isolation: settings.isolation,
            artifact_blobs: artifacts::ServedBlobs::new(REMEMBERED_ARTIFACT_BLOBS),
            store,
            upstreams,
            audit,
            clock,
            searches,
            warm: quick_cache::sync::Cache::new(WARM_ENTRIES),
            warm_for,
        };
        (puller, Searches(waiting))
    }

    /// Decides on a manifest, and hands it out only if it may leave. HEAD and GET ask the same.
    pub async fn manifest(&self, ask: &Ask) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let pulled = match &ask.reference {
            Reference::Tag(tag) if tag.artifact().is_some() => self.artifact_tag(ask, tag).await,
            Reference::Tag(tag) => self.tag(ask, tag).await,
            Reference::Digest(digest) => self.digest(ask, digest).await,
        };
        match pulled {
            Ok(admitted) => Ok(admitted),
            Err(refused) => Err(self.refuse(ask, refused).await),
        }
    }

    /// The same for what was decided on a moment ago, if everything that was decided by is as it was:
    /// lookups, a reference count, and nothing to wait for.
    pub fn warm(&self, ask: &Ask) -> Option<Admitted<Arc<Manifest>>> {
        let now = self.clock.instant();
        let (digest, tag) = match &ask.reference {
            Reference::Tag(tag) => (self.fetcher.fresh_tag(&ask.repository, tag)?, Some(tag.clone())),
            Reference::Digest(digest) => {
                (*digest, self.standings.recent.tag(&ask.repository, digest, &ask.asker, Step::Manifest, now))
            }
        };
        let warm = self.warm.get(&(ask.repository.clone(), digest, tag, ask.asker.is_anonymous()))?;
        // An internal image leaves only after its event was written, which takes waiting.
        if now >= warm.until || warm.standing.internal || !self.standings.holds(&warm.standing) {
            return None;
        }
        let admitted = self.admit(ask, warm.manifest.clone(), &warm.standing).ok()?;
        if let Reference::Tag(tag) = &ask.reference {
            self.standings.recent.asked(&ask.repository, &digest, &ask.asker, tag, now);
        }
        Some(admitted)
    }

    /// Whether a blob may leave: a manifest of the repository that is admitted now names it, or an
    /// artifact that was served does.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        asker: &Asker,
    ) -> Result<Admitted<Blob>, Refused> {
        let upstream = self.upstream_of(repository)?;
        let visible = self.fetcher.check_visible(&upstream, repository, asker.is_anonymous()).await;
        visible.map_err(|error| Refused { reason: error.reason(), statement: self.policy.unknown_digest() })?;
        if let Some(blob) = self.captured_blob(repository, digest, asker)? {
            return Ok(Admitted::new(blob, None));
        }
        if let Some(blob) = self.served_blob(repository, digest, asker) {
            return Ok(Admitted::new(blob, None));
        }
        if let Some(blob) = self.made(repository, digest, asker).await.and_then(|made| made.blob(digest)) {
            return Ok(Admitted::new(blob, None));
        }
        let unreadable = |error| self.unreadable(error);
        let mut refusal = None;
        for parent in self.store.parents(repository, digest).map_err(unreadable)? {
            let subject = Subject { digest: parent, manifest: None };
            let standing = self.standings.of_digest(&self.policy, repository, subject, asker, Step::Blob).await;
            let standing = standing.map_err(unreadable)?;
            match outcome(&standing) {
                Ok(_) => {
                    let blob = Blob { digest: *digest, size: self.size_in(&parent, digest), held: None };
                    return Ok(Admitted::new(blob, None));
                }
                Err(refused) => refusal = Some(refused),
            }
        }
        if refusal.is_none()
            && let Some(blob) = self.search_made(repository, digest, asker).await.and_then(|made| made.blob(digest))
        {
            return Ok(Admitted::new(blob, None));
        }
        Err(refusal.unwrap_or_else(|| Refused { reason: Reason::Absent, statement: self.policy.unknown_digest() }))
    }

    fn size_in(&self, parent: &Digest, blob: &Digest) -> Option<u64> {
        let manifest = self.fetcher.held(parent).ok()??;
        manifest.children().find(|child| child.digest == *blob).map(|child| child.size)
    }

    /// The bytes of a manifest that a signature is to be checked against, asked for and kept. They
    /// are for the judge: nothing was decided about them, so nothing of them may be served.
    async fn subject(&self, repository: &Repository, digest: &Digest, anonymous: bool) -> Option<Bytes> {
        let upstream = self.upstreams.of(repository.registry())?;
        match self.fetch_subject(&upstream, repository, digest, anonymous).await {
            Ok(manifest) => Some(manifest.bytes.clone()),
            Err(error) => {
                tracing::debug!("{repository}@{digest} is not there to check a signature against: {error}");
                None
            }
        }
    }

    async fn fetch_subject(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
        anonymous: bool,
    ) -> Result<Arc<Manifest>, FetchError> {
        let manifest = self.fetcher.digest(upstream, repository, digest, anonymous).await?;
        let sighting = Sighting {
            repository: repository.clone(),
            digest: *digest,
            manifest: Some((manifest.bytes.clone(), manifest.media_type.to_string())),
            tag: None,
            children: manifest.children().map(|child| child.digest).collect(),
            at: self.clock.now(),
        };
        if let Err(error) = self.store.remember(sighting).await {
            tracing::warn!("the memory of {repository} was not written: {error}");
        }
        Ok(manifest)
    }

    /// The registry that serves `repository`, if it is configured.
    pub fn upstream_of(&self, repository: &Repository) -> Result<Arc<Upstream>, Refused> {
        self.upstreams
            .of(repository.registry())
            .ok_or_else(|| Refused { reason: Reason::UnknownRegistry, statement: self.policy.unknown_digest() })
    }

    /// The statement that a request would be held to, for when it is not even tried.
    pub async fn statement_of(&self, ask: &Ask) -> Statement {
        match &ask.reference {
            Reference::Tag(_) => self.statement_when_broken(&ask.reference),
            Reference::Digest(digest) => match self.standing_of_digest(ask, *digest, None).await {
                Ok(standing) => standing.statement.clone(),
                Err(refused) => refused.statement,
            },
        }
    }

    /// The statement for a request whose decision broke down: what a tag says of itself, and for a
    /// digest, of which nothing can be asked, the strictest.
    pub fn statement_when_broken(&self, reference: &Reference) -> Statement {
        match reference {
            Reference::Tag(tag) => self.policy.statement_for(tag.stated_type()).clone(),
            Reference::Digest(_) => self.policy.unknown_digest(),
        }
    }

    /// Whether whoever asks may know of this tag.
    pub fn shows_tag(&self, tag: &Tag, asker: &Asker) -> bool {
        !self.hides_internal_from(asker) || tag.stated_type() != Some(TagType::Internal)
    }

    /// Whether whoever asks may read the repository at all: an account may what our own credentials may.
    pub async fn shows_repository(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        asker: &Asker,
    ) -> Result<bool, UpstreamError> {
        if asker.is_anonymous() { upstream.open_to_anonymous(repository).await } else { Ok(true) }
    }

    fn hides_internal_from(&self, asker: &Asker) -> bool {
        self.isolation && asker.is_anonymous()
    }

    /// Remembers the classes of tags that a list has shown.
    pub async fn saw_tags(
        &self,
        repository: &Repository,
        tags: impl IntoIterator<Item = &Tag>,
    ) -> Result<(), StoreError> {
        self.standings.tag_lists.saw(repository, tags).await
    }

    async fn tag(&self, ask: &Ask, tag: &Tag) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let repository = &ask.repository;
        let stated = self.policy.statement_for(tag.stated_type());
        if !self.shows_tag(tag, &ask.asker) {
            return Err(Refused { reason: Reason::Invisible, statement: stated.clone() });
        }
        let upstream = self.upstream_of(repository)?;
        let manifest = match self.fetcher.tag(&upstream, repository, tag, ask.asker.is_anonymous()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                // An ordinary tag that a record has made an enforced one stays that when the upstream is away.
                let statement =
                    if self.was_enforced(repository, tag)? { self.policy.unknown_digest() } else { stated.clone() };
                return Err(Refused { reason: error.reason(), statement });
            }
        };
        let subject = Subject { digest: manifest.digest, manifest: Some(&manifest.bytes) };
        let standing = self.standings.of_tag(&self.policy, repository, tag, subject, &ask.asker).await;
        let standing = standing.map_err(|error| Refused { statement: stated.clone(), ..self.unreadable(error) })?;
        if self.remember(ask, &manifest, Some((tag, standing.statement.is_enforced())), &standing).await? {
            self.keep_warm(ask, Some(tag.clone()), &manifest, &standing);
        }
        self.standings.recent.asked(repository, &manifest.digest, &ask.asker, tag, self.clock.instant());
        self.answer(ask, manifest, &standing).await
    }

    async fn digest(&self, ask: &Ask, digest: &Digest) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let repository = &ask.repository;
        if let Some(artifact) = self.captured(ask, digest).await? {
            return Ok(artifact);
        }
        let tag = self.standings.recent.tag(repository, digest, &ask.asker, Step::Manifest, self.clock.instant());
        let upstream = self.upstream_of(repository)?;
        if let Some(Made::Manifest(manifest)) = self.made(repository, digest, &ask.asker).await {
            return Ok(Admitted::new(manifest, None));
        }
        let manifest = match self.fetcher.digest(&upstream, repository, digest, ask.asker.is_anonymous()).await {
            Ok(manifest) => manifest,
            Err(error) => {
                if error.is_absent()
                    && let Some(Made::Manifest(manifest)) = self.search_made(repository, digest, &ask.asker).await
                {
                    return Ok(Admitted::new(manifest, None));
                }
                let standing = self.standing_of_digest(ask, *digest, None).await?;
                return Err(Refused { reason: error.reason(), statement: standing.statement.clone() });
            }
        };
        let stated = manifest.subject.as_ref().map(|subject| subject.digest);
        let subject = stated.or_else(|| self.publisher.subject_of(repository, digest));
        if let Some(subject) = subject.filter(|_| manifest.is_artifact()) {
            return self.artifact(ask, manifest, &subject);
        }
        let standing = self.standing_of_digest(ask, *digest, Some(&manifest.bytes)).await?;
        // What came by a tag of the asker's own is found again under that tag.
        if self.remember(ask, &manifest, None, &standing).await? && (standing.shared || tag.is_some()) {
            self.keep_warm(ask, tag, &manifest, &standing);
        }
        self.answer(ask, manifest, &standing).await
    }

    fn keep_warm(&self, ask: &Ask, tag: Option<Tag>, manifest: &Arc<Manifest>, standing: &Arc<Standing>) {
        let until = self.clock.instant() + self.warm_for;
        let warm = Warm { manifest: manifest.clone(), standing: standing.clone(), until };
        self.warm.insert((ask.repository.clone(), manifest.digest, tag, ask.asker.is_anonymous()), Arc::new(warm));
    }

    async fn standing_of_digest(
        &self,
        ask: &Ask,
        digest: Digest,
        manifest: Option<&Bytes>,
    ) -> Result<Arc<Standing>, Refused> {
        let subject = Subject { digest, manifest };
        self.standings
            .of_digest(&self.policy, &ask.repository, subject, &ask.asker, Step::Manifest)
            .await
            .map_err(|error| self.unreadable(error))
    }

    fn was_enforced(&self, repository: &Repository, tag: &Tag) -> Result<bool, Refused> {
        self.store.is_enforced_tag(repository, tag).map_err(|error| self.unreadable(error))
    }

    /// Writes down what this pull showed: bytes, tag, children. Under enforce nothing leaves that
    /// could be forgotten; what is not enforced loses only the memory, and says so.
    async fn remember(
        &self,
        ask: &Ask,
        manifest: &Manifest,
        tag: Option<(&Tag, bool)>,
        standing: &Standing,
    ) -> Result<bool, Refused> {
        let sighting = Sighting {
            repository: ask.repository.clone(),
            digest: manifest.digest,
            manifest: Some((manifest.bytes.clone(), manifest.media_type.to_string())),
            tag: tag.map(|(tag, enforced)| (tag.clone(), enforced)),
            children: manifest.children().map(|child| child.digest).collect(),
            at: self.clock.now(),
        };
        match self.store.remember(sighting).await {
            Ok(()) => Ok(true),
            Err(error) if standing.statement.is_enforced() => Err(self.unreadable(error)),
            Err(error) => {
                tracing::warn!("the memory of {} was not written: {error}", ask.repository);
                Ok(false)
            }
        }
    }

    /// The end of the story: the decision, its event, and what leaves.
    async fn answer(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let digest = manifest.digest;
        let admitted = match self.admit(ask, manifest.clone(), standing) {
            Err(refused) if ask.asker.may_read_to_sign() => {
                return self.read_to_sign(ask, manifest, standing, refused).await;
            }
            admitted => admitted?,
        };
        if standing.internal {
            let event = self.event(ask, action(&admitted), Some(digest), &standing.statement, &standing.decision);
            self.audit.record(event).await.map_err(|error| self.unreadable(error))?;
        }
        Ok(admitted)
    }

    /// Hands a signer the manifest that wants a signature: on the record, and nothing of what it names.
    async fn read_to_sign(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
        refused: Refused,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let wants_signature = matches!(
            refused.reason,
            Reason::Unsigned | Reason::Threshold { .. } | Reason::Rejected(_) | Reason::Unknown(_)
        );
        if !wants_signature {
            return Err(refused);
        }
        let digest = Some(manifest.digest);
        let event = self.event(ask, Action::ReadToSign, digest, &standing.statement, &standing.decision);
        self.audit.record(event).await.map_err(|error| self.unreadable(error))?;
        let warning =
            format!("{} served to be signed: {} (policy {})", display(ask), refused.reason, refused.statement.name);
        Ok(Admitted::new(manifest, Some(Arc::from(warning))))
    }

    fn admit(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let warning = outcome(standing)?.map(|reason| {
            let text = format!("{} served unverified: {reason} (policy {})", display(ask), standing.statement.name);
            Arc::from(text)
        });
        let digest = manifest.digest;
        let admitted = Admitted::new(manifest, warning);
        if !standing.internal {
            let action = action(&admitted);
            let event = || self.event(ask, action, Some(digest), &standing.statement, &standing.decision);
            self.audit.note(ask.asker.address, action, (&ask.repository, &digest), event);
        }
        if let Decision::Unverified(_) = &standing.decision {
            // A full queue is no loss: the next pull asks again.
            drop(self.searches.try_send((ask.repository.clone(), digest)));
        }
        Ok(admitted)
    }

    /// Writes down a refusal. One that cannot be written is still a refusal.
    async fn refuse(&self, ask: &Ask, refused: Refused) -> Refused {
        if refused.holds() {
            let decision = Decision::Refused(refused.reason.clone());
            let digest = match &ask.reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(_) => None,
            };
            let event = || self.event(ask, Action::Refused, digest, &refused.statement, &decision);
            let subject = (&ask.repository, ask.reference.to_string(), refused.reason.code());
            self.audit.note(ask.asker.address, Action::Refused, subject, event);
        }
        refused
    }

    fn event(
        &self,
        ask: &Ask,
        action: Action,
        digest: Option<Digest>,
        statement: &Statement,
        decision: &Decision,
    ) -> Event {
        let verified_by = match decision {
            Decision::Verified(signers) => Some(signers.clone()),
            _ => None,
        };
        Event {
            repository: Some(ask.repository.clone()),
            reference: Some(ask.reference.to_string()),
            digest,
            statement: Some(statement.name.to_string()),
            reason: decision.reason().map(Reason::code),
            verified_by,
            ..Event::new(self.clock.now(), action, who(&ask.asker))
        }
    }

    /// Rows that cannot be read decide nothing: everything is then held to be enforced.
    fn unreadable(&self, error: StoreError) -> Refused {
        tracing::error!("the store failed: {error}");
        Refused { reason: Reason::Unknown(Inconclusive::StoreFailed), statement: self.policy.unknown_digest() }
    }
}

impl Searches {
    /// Runs the searches that came up under audit, one after the other, until the puller is gone.
    pub async fn run(mut self, puller: std::sync::Weak<Puller>) {
        while let Some((repository, digest)) = self.0.recv().await {
            let Some(puller) = puller.upgrade() else { return };
            puller.standings.search_audited(&repository, &digest).await;
        }
    }
}

/// What a verdict means for whoever asks: served, served with a warning, or refused.
fn outcome(standing: &Standing) -> Result<Option<&Reason>, Refused> {
    match &standing.decision {
        Decision::Verified(_) | Decision::Skipped => Ok(None),
        Decision::Unverified(reason) => Ok(Some(reason)),
        Decision::Refused(reason) => Err(Refused { reason: reason.clone(), statement: standing.statement.clone() }),
    }
}

fn action(admitted: &Admitted<Arc<Manifest>>) -> Action {
    if admitted.warning().is_some() { Action::Warned } else { Action::Admitted }
}

fn display(ask: &Ask) -> String {
    match &ask.reference {
        Reference::Tag(tag) => format!("{}:{tag}", ask.repository),
        Reference::Digest(digest) => format!("{}@{digest}", ask.repository),
    }
}

fn who(asker: &Asker) -> Who {
    Who {
        account: asker.account.as_deref().map(str::to_owned),
        address: asker.address,
        user_agent: Some(asker.user_agent.to_string()),
    }
}
