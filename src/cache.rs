//! Blobs that were fetched, kept as files by their digest, and fetches under way, which all share who want
//! the same blob.
//!
//! It knows bytes and room. Who may have a blob, and whether a repository has it, is asked before anybody
//! comes here; where blobs come from is a [`Source`]. What is served from here had the digest when it was
//! written, and is read again before it is served where the file may have changed since.

mod chunks;
mod directory;
mod fill;
mod index;
mod reader;
mod scrub;
mod whole;

use std::{
    collections::{HashMap, HashSet},
    fs::FileTimes,
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use self::{
    chunks::Chunks,
    directory::{Directory, Stamp},
    fill::{Background, Fill, FillError, Job},
    index::{Entry, Evicted, InUse, Index, Room},
    scrub::Finding,
};
use crate::{clock::Clock, oci::Digest, telemetry::CacheCounters};

pub use self::fill::{Source, SourceBody, SourceError};
pub use self::reader::{BlobBody, CachedBlob, ComingBlob, ReadError};
pub use self::scrub::{Pace, Scrubber};
pub use self::whole::{Checked, NotRight, verify_all};

/// Where the cache lies, and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub directory: PathBuf,
    pub max_bytes: u64,
    /// What is left free on the disk for others, the records above all.
    pub reserve_bytes: u64,
    /// How long a fetch goes on that nobody waits for any more.
    pub patience: Duration,
    /// How fast what lies there is read through for damage.
    pub scrub: Pace,
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cannot use the cache directory {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("the cache directory {path} belongs to the user {owner}, and this process is {own}: expected one's own")]
    Owner { path: PathBuf, owner: u32, own: u32 },
    #[error("the cache directory {path} is on a read-only file system: expected a writable one, or CACHE_MAX_SIZE=0")]
    ReadOnly { path: PathBuf },
    #[error(
        "the cache directory {path} is on a network file system ({name}): expected a local one, or CACHE_MAX_SIZE=0"
    )]
    NetworkFileSystem { path: PathBuf, name: &'static str },
    #[error("the cache directory {path} is in use by another process")]
    InUse { path: PathBuf },
}

/// The cache. Copies are one cache.
#[derive(Clone)]
pub struct BlobCache {
    inner: Arc<Inner>,
}

struct Inner {
    directory: Directory,
    index: Arc<Index>,
    fills: Mutex<HashMap<Digest, Weak<Fill>>>,
    beginning: Mutex<()>,
    jobs: mpsc::UnboundedSender<Job>,
    chunks: Arc<Chunks>,
    background: Background,
    reserve_bytes: u64,
    scrub: Pace,
    since: Timestamp,
    clock: Clock,
    counters: CacheCounters,
}

/// What a cache holds.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub blobs: usize,
    /// With the room that was set aside for what is on its way.
    pub bytes: u64,
    pub max_bytes: u64,
    /// Fetches under way.
    pub in_flight: usize,
    /// The start that its counters begin at.
    pub since: Timestamp,
}

/// What went because somebody wanted it to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub blobs: u64,
    pub bytes: u64,
    /// What stays because it is being read.
    pub in_use: u64,
}

/// The fetches that were begun, for `app` to run.
pub struct Fetches {
    jobs: mpsc::UnboundedReceiver<Job>,
    cache: Weak<Inner>,
}

impl Config {
    pub const MAX_BYTES: u64 = 20 << 30;
    pub const RESERVE_BYTES: u64 = 128 << 20;
    pub const PATIENCE: Duration = Duration::from_secs(60);

    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            max_bytes: Self::MAX_BYTES,
            reserve_bytes: Self::RESERVE_BYTES,
            patience: Self::PATIENCE,
            scrub: Pace::DEFAULT,
        }
    }
}

impl BlobCache {
    /// Finds what lies there without reading it.
    pub fn open(config: &Config, clock: Clock, counters: CacheCounters) -> Result<(Self, Fetches), CacheError> {
        let directory = Directory::open(&config.directory)?;
        let kept = directory.scan();
        let kept = kept.map_err(|source| CacheError::Directory { path: config.directory.clone(), source })?;
        let (jobs, waiting) = mpsc::unbounded_channel();
        let inner = Inner {
            directory,
            index: Arc::new(Index::new(config.max_bytes, kept, counters.clone())),
            fills: Mutex::default(),
            beginning: Mutex::default(),
            jobs,
            chunks: Arc::default(),
            background: Background { places: Semaphore::new(MAX_BACKGROUND), patience: config.patience },
            reserve_bytes: config.reserve_bytes,
            scrub: config.scrub,
            since: clock.now(),
            clock,
            counters,
        };
        let cache = Self { inner: Arc::new(inner) };
        let (blobs, bytes) = cache.inner.index.totals();
        if bytes > config.max_bytes {
            let gone = cache.inner.index.shrink(bytes - config.max_bytes, cache.inner.clock.now());
            cache.remove_files(&gone);
        }
        tracing::info!(blobs, bytes, "the cache holds {blobs} blobs, {} MiB", bytes >> 20);
        let fetches = Fetches { jobs: waiting, cache: Arc::downgrade(&cache.inner) };
        Ok((cache, fetches))
    }

    pub fn totals(&self) -> Totals {
        let (blobs, bytes) = self.inner.index.totals();
        let in_flight = self.inner.fills.lock().len();
        Totals { blobs, bytes, max_bytes: self.inner.index.max_bytes(), in_flight, since: self.inner.since }
    }

    pub fn counters(&self) -> &CacheCounters {
        &self.inner.counters
    }

    /// Keeps these blobs no longer, or none of all, but those that somebody is reading.
    pub async fn remove(&self, wanted: Option<HashSet<Digest>>) -> Removed {
        let cache = self.clone();
        let removing = tokio::task::spawn_blocking(move || {
            let is_wanted = |digest: &Digest| wanted.as_ref().is_none_or(|wanted| wanted.contains(digest));
            let (gone, removed) = cache.inner.index.remove_unused(is_wanted);
            cache.remove_files(&gone);
            removed
        });
        removing.await.unwrap_or_else(|panic| {
            tracing::error!("removing blobs from the cache: {panic}");
            Removed::default()
        })
    }

    /// What reads through it, for damage that no reader has met.
    pub fn scrubber(&self) -> Scrubber {
        Scrubber::new(self.clone(), self.inner.scrub)
    }

    /// Whether a blob lies here, as far as that is known without a look at its file.
    pub fn is_kept(&self, digest: &Digest) -> bool {
        !self.inner.index.is_gone(digest)
    }

    /// Whether anything is here that somebody else may have fetched: the blob, or a fetch of it.
    pub fn has(&self, digest: &Digest) -> bool {
        !self.inner.index.is_gone(digest) || self.inner.fills.lock().contains_key(digest)
    }

    /// A blob that lies here, if its file still is what was written.
    pub async fn cached(&self, digest: &Digest) -> Option<CachedBlob> {
        let entry = self.inner.index.take(digest)?;
        let cache = self.clone();
        let opened = tokio::task::spawn_blocking(move || cache.opened(entry)).await;
        opened.unwrap_or_else(|panic| {
            tracing::error!("opening a cached blob: {panic}");
            None
        })
    }

    fn opened(self, entry: InUse) -> Option<CachedBlob> {
        let found = self.inner.directory.open_blob(&entry.0.digest).and_then(|file| Ok((Stamp::of(&file)?, file)));
        let (stamp, file) = match found {
            Ok((stamp, file)) if stamp.size == entry.0.size => (stamp, file),
            Ok((stamp, _)) => {
                tracing::warn!(digest = %entry.0.digest, "a cached blob has {} bytes instead of {}", stamp.size, entry.0.size);
                self.discard(&entry.0);
                return None;
            }
            Err(error) => {
                self.not_read(&entry.0, &error);
                return None;
            }
        };
        let is_verified = {
            let mut verified = entry.0.verified.lock();
            if *verified != Some(stamp) {
                *verified = None;
            }
            let is_verified = verified.is_some();
            if entry.0.used(self.inner.clock.now()) {
                // For the next process.
                let times = FileTimes::new().set_accessed(SystemTime::from(entry.0.last_used()));
                if let Err(error) = file.set_times(times) {
                    tracing::debug!("the use of a cached blob was not noted: {error}");
                }
            }
            is_verified
        };
        Some(CachedBlob { cache: self, entry, file, is_verified })
    }

    /// A blob that is being fetched, to be read as it comes.
    pub fn coming(&self, digest: &Digest) -> Option<ComingBlob> {
        let fills = self.inner.fills.lock();
        let fill = fills.get(digest)?.upgrade().filter(|fill| !fill.has_failed())?;
        Some(ComingBlob { cache: self.clone(), reading: fill.join() })
    }

    /// Begins to fetch a blob, unless somebody has. None: there is no room for it here.
    pub async fn fetch(&self, digest: Digest, size: u64, source: Arc<dyn Source>) -> Option<ComingBlob> {
        self.inner.counters.misses.inc();
        if let Some(coming) = self.coming(&digest) {
            return Some(coming);
        }
        let cache = self.clone();
        let begun = tokio::task::spawn_blocking(move || cache.begin(digest, size, source)).await;
        let coming = match begun {
            Ok(Ok(coming)) => coming,
            Ok(Err(error)) => {
                tracing::warn!("a blob is not cached: {error}");
                None
            }
            Err(panic) => {
                tracing::error!("beginning to fetch a blob: {panic}");
                None
            }
        };
        if coming.is_none() {
            self.inner.counters.past_disk.inc();
        }
        coming
    }

    fn begin(&self, digest: Digest, size: u64, source: Arc<dyn Source>) -> io::Result<Option<ComingBlob>> {
        // One at a time: who comes second joins, and neither takes room twice nor sends others away for it.
        let _beginning = self.inner.beginning.lock();
        if let Some(coming) = self.coming(&digest) {
            return Ok(Some(coming));
        }
        let Some(room) = self.room(size)? else { return Ok(None) };
        let partial = self.inner.directory.partial()?;
        let counters = self.inner.counters.clone();
        let fill = Fill::new(digest, size, source, partial.file.try_clone()?, counters);
        let reading = fill.join();
        self.inner.fills.lock().insert(digest, Arc::downgrade(&fill));
        if self.inner.jobs.send(Job { fill, partial, room }).is_err() {
            return Ok(None);
        }
        Ok(Some(ComingBlob { cache: self.clone(), reading }))
    }

    /// Sets room aside, for which others may have to go.
    fn room(&self, size: u64) -> io::Result<Option<Room>> {
        let now = self.inner.clock.now();
        let Some((room, gone)) = self.inner.index.make_room(size, now) else { return Ok(None) };
        self.remove_files(&gone);
        let needed = size.saturating_add(self.inner.reserve_bytes);
        let free = self.inner.directory.free_bytes()?;
        if free >= needed {
            return Ok(Some(room));
        }
        let gone = self.inner.index.shrink(needed - free, now);
        self.remove_files(&gone);
        let free = self.inner.directory.free_bytes()?;
        if free >= needed {
            return Ok(Some(room));
        }
        Err(io::Error::other(format!("the disk is full: {} MiB are free and {} are needed", free >> 20, needed >> 20)))
    }

    fn remove_files(&self, Evicted(gone): &Evicted) {
        for digest in gone {
            // Meanwhile it may have come again.
            if self.inner.index.is_gone(digest)
                && let Err(error) = self.inner.directory.remove(digest)
            {
                tracing::warn!(%digest, "the file of a blob that is gone was not removed: {error}");
            }
        }
    }

    /// What cannot be opened or read is of no use to anybody, if that is the file's fault.
    fn not_read(&self, entry: &Arc<Entry>, error: &io::Error) {
        tracing::warn!(digest = %entry.digest, "a cached blob cannot be read: {error}");
        if matches!(Finding::of(error), Finding::Damaged(_)) && self.inner.index.holds(entry) {
            // Who reads does not wait for a disk that does not even read.
            let (cache, entry) = (self.clone(), Arc::clone(entry));
            drop(tokio::task::spawn_blocking(move || cache.discard(&entry)));
        }
    }

    /// What is not the blob that it is kept for goes, and is fetched again.
    fn discard(&self, entry: &Arc<Entry>) {
        self.inner.counters.damaged.inc();
        self.inner.index.remove_entry(entry);
        self.remove_files(&Evicted(vec![entry.digest]));
    }

    /// What changed while it was read is read in whole before it is served again.
    fn suspect(&self, entry: &Entry) {
        *entry.verified.lock() = None;
    }

    /// What the system says, which is what its files are stamped with.
    fn system_time(&self) -> SystemTime {
        self.inner.clock.reading().system.into()
    }

    fn chunks(&self) -> Arc<Chunks> {
        Arc::clone(&self.inner.chunks)
    }

    async fn run(&self, job: Job) {
        let Job { fill, partial, room } = job;
        let ended = fill.run(&self.inner.background).await;
        match &ended {
            Ok(()) => self.keep(&fill, partial, room).await,
            Err(FillError::Abandoned) => tracing::debug!(digest = %fill.digest, "a fetch was left by everybody"),
            Err(error) => tracing::warn!(digest = %fill.digest, "a blob was not fetched: {error}"),
        }
        let mut fills = self.inner.fills.lock();
        if fills.get(&fill.digest).is_some_and(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&fill))) {
            fills.remove(&fill.digest);
        }
    }

    /// From the last reader's view it is whole already; this makes it last.
    async fn keep(&self, fill: &Fill, partial: directory::Partial, room: Room) {
        let (cache, digest) = (self.clone(), fill.digest);
        let kept = tokio::task::spawn_blocking(move || cache.inner.directory.keep(partial, &digest)).await;
        match kept.map_err(io::Error::other).and_then(|kept| kept) {
            Ok(stamp) => self.inner.index.insert(room, digest, stamp, self.inner.clock.now()),
            Err(error) => tracing::warn!(%digest, "a blob is not cached: {error}"),
        }
    }
}

impl Fetches {
    /// The next one, to be run beside the others. None: the cache is gone.
    pub async fn next(&mut self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let job = self.jobs.recv().await?;
        let cache = BlobCache { inner: self.cache.upgrade()? };
        Some(async move { cache.run(job).await })
    }
}

/// So many fetches go on at a time that nobody waits for.
const MAX_BACKGROUND: usize = 4;

#[cfg(test)]
mod tests;
