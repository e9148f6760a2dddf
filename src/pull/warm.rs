//! What was decided on a moment ago, answered again without a transaction of the store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::{Equivalent, sync::Cache};

use crate::oci::{Digest, Manifest, Reference, Repository, Tag};

use super::{Admitted, Ask, Puller, recent::Step, standing::Standing};

/// The manifests that were decided on and remembered a moment ago.
pub(super) struct Warm {
    /// By what was asked for, and whether anonymously.
    decided: Cache<Key, Arc<Decided>>,
    kept_for: Duration,
}

type Key = (Repository, Digest, Option<Tag>, bool);

/// The same, not copied.
#[derive(Hash)]
struct Asked<'a>(&'a Repository, &'a Digest, Option<&'a Tag>, bool);

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, (repository, digest, tag, anonymously): &Key) -> bool {
        (self.0, self.1, self.2, self.3) == (repository, digest, tag.as_ref(), *anonymously)
    }
}

struct Decided {
    manifest: Arc<Manifest>,
    standing: Arc<Standing>,
    until: Instant,
}

impl Warm {
    pub(super) fn new(content_max_age: Option<Duration>) -> Self {
        Self { decided: Cache::new(ENTRIES), kept_for: content_max_age.map_or(KEPT_FOR, |age| age.min(KEPT_FOR)) }
    }
}

impl Puller {
    /// The answer to what was decided on a moment ago, if everything that was decided by is as it was:
    /// lookups, a reference count, and nothing to wait for.
    pub fn warm(&self, ask: &Ask) -> Option<Admitted<Arc<Manifest>>> {
        let now = self.clock.instant();
        let came_by;
        let (digest, tag) = match &ask.reference {
            Reference::Tag(tag) => (self.fetcher.fresh_tag(&ask.repository, tag, now)?, Some(tag)),
            Reference::Digest(digest) => {
                came_by = self.standings.recent.tag(&ask.repository, digest, &ask.asker, Step::Manifest, now);
                (*digest, came_by.as_ref())
            }
        };
        let decided = self.warm.decided.get(&Asked(&ask.repository, &digest, tag, ask.asker.is_anonymous()))?;
        // An internal image leaves only after its event was written, which takes waiting.
        if now >= decided.until || decided.standing.internal || !self.standings.holds(&decided.standing) {
            return None;
        }
        let admitted = self.admit(ask, decided.manifest.clone(), &decided.standing).ok()?;
        if let Reference::Tag(tag) = &ask.reference {
            self.standings.recent.asked(&ask.repository, &digest, &ask.asker, tag, now);
        }
        Some(admitted)
    }

    pub(super) fn keep_warm(&self, ask: &Ask, tag: Option<Tag>, manifest: &Arc<Manifest>, standing: &Arc<Standing>) {
        let until = self.clock.instant() + self.warm.kept_for;
        let decided = Decided { manifest: manifest.clone(), standing: standing.clone(), until };
        let key = (ask.repository.clone(), manifest.digest, tag, ask.asker.is_anonymous());
        self.warm.decided.insert(key, Arc::new(decided));
    }
}

/// How long a decided manifest is answered without looking into the store's memory again. What the
/// verdict rests on is looked at each time.
const KEPT_FOR: Duration = Duration::from_secs(60);

const ENTRIES: usize = 16_384;
