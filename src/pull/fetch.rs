//! Manifests, from memory or from the upstream. Nothing here decides: what comes out has only been
//! hashed and parsed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quick_cache::sync::Cache;

use crate::{
    clock::Clock,
    oci::{Digest, Manifest, ManifestError, Reference, Repository, Tag},
    policy::Reason,
    store::{Store, StoreError},
    trust::Inconclusive,
    upstream::{FetchedManifest, Kind, Upstream, UpstreamError},
};

use super::Settings;

/// How long it is believed that a repository still has a digest.
const PRESENCE_RENEWED: Duration = Duration::from_secs(3600);

/// How long what the upstream said last is believed while it cannot be asked.
const KEPT: Duration = Duration::from_secs(24 * 3600);

const CACHED_TAGS: usize = 65_536;
const CACHED_PRESENCES: usize = 65_536;
const OPENED: usize = 4096;

pub(super) struct Fetcher {
    store: Store,
    clock: Clock,
    tag_max_age: Option<Duration>,
    presence_max_age: Duration,
    tags: Cache<(Repository, Tag), (Digest, Instant)>,
    pub(super) present: Presences,
    /// The repositories of which is noted lately that anonymous clients get them.
    opened: Cache<Repository, Instant>,
    /// Manifests as parsed, by digest: content alone, which no permission hangs on.
    parsed: Cache<Digest, Arc<Manifest>, ByBytes>,
}

/// Weighs a manifest by its bytes, so that large ones do not add up.
#[derive(Debug, Clone)]
struct ByBytes;

const PARSED_BYTES: u64 = 32 << 20;
const PARSED_ENTRIES: usize = 16_384;

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The upstream serves it to our credentials, but not to whoever asks.
    #[error("the upstream does not show this repository to anonymous clients")]
    Invisible,
}

/// A manifest, and how it is known that it is what was asked for.
pub(super) struct Fetched {
    pub(super) manifest: Arc<Manifest>,
    /// When the upstream was asked which one the tag names, where it just was.
    pub(super) confirmed: Option<Timestamp>,
    /// Why it could not be asked whether this is so still.
    pub(super) stale: Option<UpstreamError>,
}

/// What was found in a repository a moment ago, and is on its way to the store.
#[derive(Clone)]
pub(super) struct Presences {
    seen: Arc<Cache<(Repository, Digest), Timestamp>>,
    clock: Clock,
}

impl Presences {
    /// The upstream has just said that it has it.
    pub(super) fn note(&self, repository: &Repository, digest: &Digest) -> Timestamp {
        let now = self.clock.now();
        self.seen.insert((repository.clone(), *digest), now);
        now
    }

    fn seen(&self, repository: &Repository, digest: &Digest) -> Option<Timestamp> {
        self.seen.get(&(repository.clone(), *digest))
    }
}

/// What is known of a blob's being in an upstream repository.
pub(super) enum Presence {
    Known,
    /// It was there, and now nobody can be asked.
    Kept(UpstreamError),
    Unknown,
}

impl Fetcher {
    pub(super) fn new(store: Store, settings: &Settings, clock: Clock) -> Self {
        Self {
            store,
            tag_max_age: settings.tag_max_age,
            presence_max_age: settings.content_max_age.map_or(PRESENCE_RENEWED, |age| age.min(PRESENCE_RENEWED)),
            tags: Cache::new(CACHED_TAGS),
            present: Presences { seen: Arc::new(Cache::new(CACHED_PRESENCES)), clock: clock.clone() },
            opened: Cache::new(OPENED),
            clock,
            parsed: Cache::with_weighter(PARSED_ENTRIES, PARSED_BYTES, ByBytes),
        }
    }

    /// What the tag named a moment ago, where the upstream need not be asked each time. It knows what this
    /// process has seen.
    pub(super) fn fresh_tag(&self, repository: &Repository, tag: &Tag, now: Instant) -> Option<Digest> {
        if self.tag_max_age == Some(Duration::ZERO) {
            return None;
        }
        let (digest, seen) = self.tags.get(&(repository.clone(), tag.clone()))?;
        let age = now.saturating_duration_since(seen);
        self.tag_max_age.is_none_or(|limit| age < limit).then_some(digest)
    }

    /// The same of what an earlier one has seen.
    fn fresh_before(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        if self.tag_max_age == Some(Duration::ZERO) {
            return Ok(None);
        }
        let Some(known) = self.store.tag_digest(repository, tag)? else { return Ok(None) };
        let Some(age) = self.age(known.at) else { return Ok(None) };
        if self.tag_max_age.is_some_and(|limit| age >= limit) {
            return Ok(None);
        }
        if let Some(seen) = self.clock.instant().checked_sub(age) {
            self.tags.insert((repository.clone(), tag.clone()), (known.what, seen));
        }
        Ok(Some(known.what))
    }

    /// The manifest that `tag` names now, by what the upstream says, and where that fails, the one that it
    /// named last, within a day.
    pub(super) async fn tag_or_last_known(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        tag: &Tag,
        anonymous: bool,
    ) -> Result<Fetched, FetchError> {
        self.check_visible(upstream, repository, anonymous).await?;
        if let Some(manifest) = self.fresh_manifest(repository, tag)? {
            return Ok(Fetched::known(manifest));
        }
        let is_known = || Ok(self.last_known(repository, tag)?.is_some());
        let asked = upstream.patiently(Kind::Other, self.asked_tag(upstream, repository, tag), is_known).await;
        match &asked {
            Err(FetchError::Upstream(error)) if error.is_final() => self.forget_tag(repository, tag).await?,
            Err(FetchError::Upstream(error)) if error.is_outage() => {
                if let Some(manifest) = self.last_known(repository, tag)? {
                    return Ok(Fetched::stale(manifest, error.clone()));
                }
            }
            _ => {}
        }
        asked
    }

    /// The manifest that the upstream named last, if that is not too long ago.
    fn last_known(&self, repository: &Repository, tag: &Tag) -> Result<Option<Arc<Manifest>>, FetchError> {
        let known = self.store.tag_digest(repository, tag)?;
        match known.filter(|known| self.is_kept(known.at)) {
            Some(known) => self.held(&known.what),
            None => Ok(None),
        }
    }

    fn was_asked_for(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        let is_cached = self.tags.peek(&(repository.clone(), tag.clone())).is_some();
        Ok(is_cached || self.store.tag_digest(repository, tag)?.is_some())
    }

    async fn forget_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), StoreError> {
        self.tags.remove(&(repository.clone(), tag.clone()));
        self.store.forget_tag_digest(repository, tag).await
    }

    /// The manifest that `tag` names now, by what the upstream says.
    pub(super) async fn tag(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        tag: &Tag,
        anonymous: bool,
    ) -> Result<Arc<Manifest>, FetchError> {
        self.check_visible(upstream, repository, anonymous).await?;
        match self.fresh_manifest(repository, tag)? {
            Some(manifest) => Ok(manifest),
            None => self.asked_tag(upstream, repository, tag).await.map(|fetched| fetched.manifest),
        }
    }

    /// The manifest that the tag named a moment ago, where the upstream need not be asked each time.
    fn fresh_manifest(&self, repository: &Repository, tag: &Tag) -> Result<Option<Arc<Manifest>>, FetchError> {
        let fresh = match self.fresh_tag(repository, tag, self.clock.instant()) {
            Some(digest) => Some(digest),
            None => self.fresh_before(repository, tag)?,
        };
        fresh.map_or(Ok(None), |digest| self.held(&digest))
    }

    async fn asked_tag(&self, upstream: &Upstream, repository: &Repository, tag: &Tag) -> Result<Fetched, FetchError> {
        let (now, asked) = (self.clock.instant(), self.clock.now());
        let reference = Reference::Tag(tag.clone());
        // The digest of a header only selects among bytes that we hold and have hashed. A tag that nobody has asked
        // for has none of these as a rule: its manifest has to come, so the header is not asked for first.
        let hint = match self.was_asked_for(repository, tag)? {
            true => match upstream.resolve(repository, &reference).await {
                Ok(hint) => hint,
                Err(UpstreamError::Status { status: 405 }) => None,
                Err(error) => return Err(error.into()),
            },
            false => None,
        };
        let manifest = match hint.map(|digest| self.held(&digest)).transpose()?.flatten() {
            Some(manifest) => {
                self.renew_presence(repository, &manifest.digest).await;
                manifest
            }
            None => self.parse(upstream.manifest(repository, &reference).await?, None)?,
        };
        self.tags.insert((repository.clone(), tag.clone()), (manifest.digest, now));
        Ok(Fetched { confirmed: Some(asked), ..Fetched::known(manifest) })
    }

    /// The manifest with this digest, if the upstream repository has it: that another repository has
    /// the same bytes gives nobody anything.
    pub(super) async fn digest(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
        anonymous: bool,
    ) -> Result<Fetched, FetchError> {
        self.check_visible(upstream, repository, anonymous).await?;
        let reference = Reference::Digest(*digest);
        let seen = self.store.presence(repository, digest)?;
        if let (Some(seen), Some(manifest)) = (seen, self.held(digest)?) {
            let age = self.age(seen);
            if age.is_some_and(|age| age < self.presence_max_age) {
                return Ok(Fetched::known(manifest));
            }
            let is_kept = age.is_some_and(|age| age < KEPT);
            let asking = upstream.resolve(repository, &reference);
            return match upstream.patiently(Kind::Other, asking, || Ok(is_kept)).await {
                Ok(_) => {
                    self.renew_presence(repository, digest).await;
                    Ok(Fetched::known(manifest))
                }
                Err(error) if !error.is_final() && is_kept => Ok(Fetched::stale(manifest, error)),
                Err(error) => {
                    if error.is_final() {
                        self.forget_presence(repository, digest).await?;
                    }
                    Err(error.into())
                }
            };
        }
        self.parse(upstream.manifest(repository, &reference).await?, Some(digest)).map(Fetched::known)
    }

    /// Whether the upstream repository has a blob, as far as that is known.
    pub(super) async fn blob_presence(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Presence, FetchError> {
        let noted = self.present.seen(repository, digest);
        let Some(seen) = noted.map_or_else(|| self.store.presence(repository, digest), |seen| Ok(Some(seen)))? else {
            return Ok(Presence::Unknown);
        };
        let age = self.age(seen);
        if age.is_some_and(|age| age < self.presence_max_age) {
            return Ok(Presence::Known);
        }
        let is_kept = age.is_some_and(|age| age < KEPT);
        match upstream.patiently(Kind::Blob, upstream.blob_length(repository, digest), || Ok(is_kept)).await {
            Ok(_) => {
                self.renew_presence(repository, digest).await;
                Ok(Presence::Known)
            }
            Err(error) if error.is_final() => {
                self.forget_presence(repository, digest).await?;
                Err(error.into())
            }
            Err(error) if is_kept => Ok(Presence::Kept(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a blob was found there a moment ago, by whoever asked.
    pub(super) fn is_present(&self, repository: &Repository, digest: &Digest) -> bool {
        let seen = self.present.seen(repository, digest);
        seen.and_then(|seen| self.age(seen)).is_some_and(|age| age < self.presence_max_age)
    }

    /// How long ago something was. What lies ahead of a clock that was put right says nothing, or it would
    /// count for longer than it may.
    fn age(&self, at: Timestamp) -> Option<Duration> {
        Duration::try_from(self.clock.now().duration_since(at)).ok()
    }

    /// Whether what the upstream said then counts while it cannot be asked.
    pub(super) fn is_kept(&self, at: Timestamp) -> bool {
        self.age(at).is_some_and(|age| age < KEPT)
    }

    async fn forget_presence(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        self.present.seen.remove(&(repository.clone(), *digest));
        self.store.forget_presence(repository, digest).await
    }

    /// The upstream has just said that it has what we hold. Not noting it costs a question later.
    pub(super) async fn renew_presence(&self, repository: &Repository, digest: &Digest) {
        let now = self.present.note(repository, digest);
        if let Err(error) = self.store.remember_presence(repository, digest, now).await {
            tracing::warn!("the presence of {repository}@{digest} was not noted: {error}");
        }
    }

    /// Our credentials are nobody's way in who has none himself.
    pub(super) async fn check_visible(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        anonymous: bool,
    ) -> Result<(), FetchError> {
        let visible = !anonymous || self.is_open(upstream, repository).await?;
        if visible { Ok(()) } else { Err(FetchError::Invisible) }
    }

    /// Whether anonymous clients may have the repository, by what the upstream says, and where that fails, by
    /// what it said last.
    pub(super) async fn is_open(&self, upstream: &Upstream, repository: &Repository) -> Result<bool, UpstreamError> {
        if upstream.is_open_to_all() {
            return Ok(true);
        }
        let was_open = || Ok(self.was_open(repository));
        match upstream.patiently(Kind::Other, upstream.open_to_anonymous(repository), was_open).await {
            Ok(open) => {
                self.note_open(repository, open).await;
                Ok(open)
            }
            Err(error) if error.is_outage() && self.was_open(repository) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn was_open(&self, repository: &Repository) -> bool {
        match self.store.open_to_anonymous(repository) {
            Ok(at) => at.is_some_and(|at| self.is_kept(at)),
            // What cannot be looked up is not known.
            Err(error) => {
                tracing::error!("who may read {repository} cannot be looked up: {error}");
                false
            }
        }
    }

    /// For when the upstream cannot be asked. Not noting it costs an answer then.
    async fn note_open(&self, repository: &Repository, open: bool) {
        let now = self.clock.instant();
        let is_noted = |noted: Instant| now.saturating_duration_since(noted) < Upstream::PROBE_KEPT;
        if open && self.opened.get(repository).is_some_and(is_noted) {
            return;
        }
        let noted = if open {
            let said = self.clock.now().checked_sub(Upstream::PROBE_KEPT).unwrap_or(Timestamp::MIN);
            self.store.remember_open_to_anonymous(repository, said).await
        } else {
            self.opened.remove(repository);
            self.store.forget_open_to_anonymous(repository).await
        };
        match noted {
            Ok(()) if open => self.opened.insert(repository.clone(), now),
            Ok(()) => {}
            Err(error) => tracing::warn!("who may read {repository} was not noted: {error}"),
        }
    }

    pub(super) fn held(&self, digest: &Digest) -> Result<Option<Arc<Manifest>>, FetchError> {
        if let Some(manifest) = self.parsed.get(digest) {
            return Ok(Some(manifest));
        }
        let Some(held) = self.store.manifest(digest)? else { return Ok(None) };
        // What lies on a disk is untrusted input: hashed and parsed again, and fetched again if it is not whole.
        match Manifest::parse(held.bytes, Some(digest), Some(&held.media_type)) {
            Ok(manifest) => {
                let manifest = Arc::new(manifest);
                self.parsed.insert(*digest, manifest.clone());
                Ok(Some(manifest))
            }
            Err(error) => {
                tracing::error!(%digest, "the stored manifest {digest} is damaged: {error}");
                Ok(None)
            }
        }
    }

    fn parse(&self, fetched: FetchedManifest, expected: Option<&Digest>) -> Result<Arc<Manifest>, FetchError> {
        let manifest = Arc::new(Manifest::parse(fetched.bytes, expected, fetched.content_type.as_deref())?);
        self.parsed.insert(manifest.digest, manifest.clone());
        Ok(manifest)
    }
}

impl Fetched {
    fn known(manifest: Arc<Manifest>) -> Self {
        Self { manifest, confirmed: None, stale: None }
    }

    fn stale(manifest: Arc<Manifest>, error: UpstreamError) -> Self {
        Self { stale: Some(error), ..Self::known(manifest) }
    }
}

impl quick_cache::Weighter<Digest, Arc<Manifest>> for ByBytes {
    fn weight(&self, _: &Digest, manifest: &Arc<Manifest>) -> u64 {
        // A descriptor takes a few times its JSON once parsed.
        manifest.bytes.len() as u64 * 4
    }
}

impl FetchError {
    /// Whether it is known not to be there: whatever else fails may hide that it is.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Upstream(error) if error.is_absent())
    }

    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Upstream(error) if error.is_absent() => Reason::Absent,
            // What the upstream does not show us is as good as absent, in one text with what is.
            Self::Upstream(UpstreamError::Denied) => Reason::Invisible,
            Self::Upstream(UpstreamError::Refused) => Reason::UpstreamRefused,
            Self::Upstream(error) => Reason::Upstream(error.code()),
            Self::Manifest(error) => {
                tracing::warn!("the upstream sent no valid manifest: {error}");
                Reason::InvalidManifest
            }
            Self::Store(error) => {
                tracing::error!("the store failed: {error}");
                Reason::Unknown(Inconclusive::StoreFailed)
            }
            Self::Invisible => Reason::Invisible,
        }
    }
}
