//! Looking for signatures where the image comes from.
//!
//! One round per digest for all who ask, and no round again for a while after one that found
//! nothing new. What is found is kept as found, also where part of the round failed; whether it
//! verifies is the judge's business.

mod round;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::sync::Cache;

use crate::{
    clock::Clock,
    oci::{Digest, Repository},
    store::{Store, StoreError},
    upstream::{Upstream, UpstreamError},
};

use self::round::Round;

/// How long a search that found nothing is not repeated: where a pull waits for it, and where none does.
const ENFORCED_PAUSE: Duration = Duration::from_secs(60);
const AUDITED_PAUSE: Duration = Duration::from_secs(3600);

/// How long a failure is believed, so that a client's second request does not wait again.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

const REMEMBERED_SEARCHES: usize = 65_536;

pub(super) struct Discovery {
    store: Store,
    clock: Clock,
    searches: Cache<(Repository, Digest), Arc<tokio::sync::Mutex<Option<Search>>>>,
}

#[derive(Debug, Clone)]
struct Search {
    ended: Instant,
    found: Result<usize, &'static str>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SearchError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How much a caller wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A pull waits: its statement is enforced.
    Enforced,
    /// Nobody waits.
    Audited,
}

impl Discovery {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock, searches: Cache::new(REMEMBERED_SEARCHES) }
    }

    /// Looks for signatures of `digest`, unless that was done a moment ago. `Ok(true)` means that
    /// there may be some now that were not there before; `Err` holds the code of the failure.
    pub(super) async fn search(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        digest: &Digest,
        urgency: Urgency,
    ) -> Result<bool, &'static str> {
        let key = (repository.clone(), *digest);
        let slot = self.searches.get_or_insert_with(&key, || Ok::<_, std::convert::Infallible>(Arc::default()));
        let Ok(slot) = slot;
        // Whoever comes while a search is under way waits here and takes its answer.
        let mut last = slot.lock().await;
        let now = self.clock.instant();
        if let Some(search) = last.as_ref().filter(|search| now < search.ended + search.pause(urgency)) {
            return search.found.map(|_| false);
        }
        let found = self.round(upstream, repository, digest).await;
        let found = found.map_err(|error| {
            tracing::warn!(%repository, %digest, "signatures of {repository}@{digest} could not be looked for: {error}");
            error.code()
        });
        *last = Some(Search { ended: self.clock.instant(), found });
        found.map(|count| count > 0)
    }

    async fn round(&self, upstream: &Upstream, repository: &Repository, digest: &Digest) -> Result<usize, SearchError> {
        let Round { found, failure } = round::round(upstream, repository, digest, self.clock.now()).await;
        let count = found.len();
        self.store.put_found(repository, digest, found, self.clock.now()).await?;
        failure.map_or(Ok(count), |error| Err(error.into()))
    }
}

impl Search {
    fn pause(&self, urgency: Urgency) -> Duration {
        match (&self.found, urgency) {
            (Err(_), _) => FAILED_PAUSE,
            (Ok(_), Urgency::Enforced) => ENFORCED_PAUSE,
            (Ok(_), Urgency::Audited) => AUDITED_PAUSE,
        }
    }
}

impl SearchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.code(),
            Self::Store(_) => "store-failed",
        }
    }
}
