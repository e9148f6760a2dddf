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
    upstream::{FetchedManifest, Upstream, UpstreamError},
};

use super::Settings;

/// How long it is believed that a repository still has a digest.
const PRESENCE_RENEWED: Duration = Duration::from_secs(3600);

/// How long it is believed while the upstream cannot be asked.
const PRESENCE_KEPT: Duration = Duration::from_secs(24 * 3600);

const CACHED_TAGS: usize = 65_536;
const CACHED_PRESENCES: usize = 65_536;

pub(super) struct Fetcher {
    store: Store,
    clock: Clock,
    tag_max_age: Option<Duration>,
    presence_max_age: Duration,
    tags: Cache<(Repository, Tag), (Digest, Instant)>,
    pub(super) present: Presences,
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
            clock,
            parsed: Cache::with_weighter(PARSED_ENTRIES, PARSED_BYTES, ByBytes),
        }
    }

    /// What the tag named a moment ago, where the upstream need not be asked each time.
    pub(super) fn fresh_tag(&self, repository: &Repository, tag: &Tag) -> Option<Digest> {
        if self.tag_max_age == Some(Duration::ZERO) {
            return None;
        }
        let (digest, seen) = self.tags.get(&(repository.clone(), tag.clone()))?;
        let age = self.clock.instant().saturating_duration_since(seen);
        self.tag_max_age.is_none_or(|limit| age < limit).then_some(digest)
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
        let now = self.clock.instant();
        if let Some(digest) = self.fresh_tag(repository, tag)
            && let Some(manifest) = self.held(&digest)?
        {
            return Ok(manifest);
        }
        let reference = Reference::Tag(tag.clone());
        // The digest of a header only selects among bytes that we hold and have hashed.
        let hint = match upstream.resolve(repository, &reference).await {
            Ok(hint) => hint,
            Err(UpstreamError::Status { status: 405 }) => None,
            Err(error) => return Err(error.into()),
        };
        let manifest = match hint.map(|digest| self.held(&digest)).transpose()?.flatten() {
            Some(manifest) => {
                self.renew_presence(repository, &manifest.digest).await;
                manifest
            }
            None => self.parse(upstream.manifest(repository, &reference).await?, None)?,
        };
        self.tags.insert((repository.clone(), tag.clone()), (manifest.digest, now));
        Ok(manifest)
    }

    /// The manifest with this digest, if the upstream repository has it: that another repository has
    /// the same bytes gives nobody anything.
    pub(super) async fn digest(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
        anonymous: bool,
    ) -> Result<Arc<Manifest>, FetchError> {
        self.check_visible(upstream, repository, anonymous).await?;
        let reference = Reference::Digest(*digest);
        let seen = self.store.presence(repository, digest)?;
        if let (Some(seen), Some(manifest)) = (seen, self.held(digest)?) {
            // A clock that went back leaves a presence in the future: that says nothing.
            let age = self.clock.now().duration_since(seen).unsigned_abs();
            if age < self.presence_max_age {
                return Ok(manifest);
            }
            return match upstream.resolve(repository, &reference).await {
                Ok(_) => {
                    self.renew_presence(repository, digest).await;
                    Ok(manifest)
                }
                Err(error) if !error.is_final() && age < PRESENCE_KEPT => Ok(manifest),
                Err(error) => {
                    if error.is_final() {
                        self.forget_presence(repository, digest).await?;
                    }
                    Err(error.into())
                }
            };
        }
        self.parse(upstream.manifest(repository, &reference).await?, Some(digest))
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
        let age = self.clock.now().duration_since(seen).unsigned_abs();
        if age < self.presence_max_age {
            return Ok(Presence::Known);
        }
        match upstream.blob_length(repository, digest).await {
            Ok(_) => {
                self.renew_presence(repository, digest).await;
                Ok(Presence::Known)
            }
            Err(error) if error.is_final() => {
                self.forget_presence(repository, digest).await?;
                Err(error.into())
            }
            Err(error) if age < PRESENCE_KEPT => Ok(Presence::Kept(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a blob was found there a moment ago, by whoever asked.
    pub(super) fn is_present(&self, repository: &Repository, digest: &Digest) -> bool {
        let seen = self.present.seen(repository, digest);
        seen.is_some_and(|seen| self.clock.now().duration_since(seen).unsigned_abs() < self.presence_max_age)
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
        if !anonymous || upstream.open_to_anonymous(repository).await? { Ok(()) } else { Err(FetchError::Invisible) }
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
