//! Reads what lies in the cache, so that what the disk has altered is found before a client finds it.
//!
//! The [`Scrubber`] walks through all of it, over and over, and no faster than its [`Pace`]. It holds nothing up:
//! what it reads may be read, evicted and fetched by others meanwhile, and does not count as used.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::io::Errno;
use tokio::time::MissedTickBehavior;

use super::{
    BlobCache,
    directory::{Directory, Stamp},
    index::Entry,
};
use crate::oci::DigestHasher;

/// How fast the cache is read through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the beginning of one pass to that of the next; longer where there is more than can be read in it.
    pub pass: Duration,
    pub max_bytes_per_second: u64,
}

/// Reads through a cache, for `app` to run.
pub struct Scrubber {
    cache: BlobCache,
    pace: Pace,
    /// What was read since the place was last written down.
    unnoted: u64,
}

/// What there is to say of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Right,
    Damaged(String),
    /// It is not there any more, or could not be looked at now.
    Unknown(String),
}

/// A file that is being hashed.
struct Check {
    before: Stamp,
    hasher: DigestHasher,
    buffer: Vec<u8>,
    offset: u64,
}

impl Pace {
    pub const DEFAULT: Self = Self { pass: Duration::from_secs(24 * 3600), max_bytes_per_second: 4 << 20 };

    /// How long reading `bytes` has to take while there are `total`.
    fn time_for(self, bytes: u64, total: u64) -> Duration {
        let wanted = total / self.pass.as_secs().max(1);
        let rate = wanted.max(MIN_BYTES_PER_SECOND).min(self.max_bytes_per_second).max(1);
        Duration::from_secs_f64(bytes as f64 / rate as f64)
    }
}

impl Scrubber {
    pub(super) fn new(cache: BlobCache, pace: Pace) -> Self {
        Self { cache, pace, unnoted: 0 }
    }

    /// Goes on for as long as it is let, from where the process before this one was.
    pub async fn run(mut self) {
        let mut after = self.cache.inner.directory.scrubbed();
        let mut passes = tokio::time::interval(self.pace.pass.max(Duration::from_millis(1)));
        passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            passes.tick().await;
            let (mut blobs, mut damaged) = (0, 0);
            for digest in self.cache.inner.index.after(after.take()) {
                let Some(entry) = self.cache.inner.index.entry(&digest) else { continue };
                self.note(&entry);
                blobs += 1;
                // What was evicted meanwhile is no damage.
                if let Finding::Damaged(why) = self.look_at(&entry).await
                    && self.cache.inner.index.holds(&entry)
                {
                    damaged += 1;
                    tracing::warn!(%digest, "a cached blob is damaged, and removed: {why}");
                    self.cache.discard(&entry);
                }
            }
            self.cache.inner.directory.note_scrubbed(None);
            tracing::info!(blobs, damaged, "read through the cache: {blobs} blobs, {damaged} of them damaged");
        }
    }

    /// Before it is read: one that no process lives long enough to read to its end holds the others up in none.
    fn note(&mut self, entry: &Entry) {
        self.unnoted += entry.size;
        if self.unnoted >= NOTED_BYTES {
            self.unnoted = 0;
            self.cache.inner.directory.note_scrubbed(Some(&entry.digest));
        }
    }

    /// Hashes a file piece by piece, with pauses. Many small ones take their time too.
    async fn look_at(&self, entry: &Arc<Entry>) -> Finding {
        let now = self.cache.system_time();
        // Nothing that the drain cannot end holds the directory's lock.
        let (known, path) = (Arc::clone(entry), self.cache.inner.directory.path(&entry.digest));
        let begun = tokio::task::spawn_blocking(move || {
            let file = Directory::open_unnoticed(&path)?;
            Ok((Check::begin(&known, &file)?, file))
        });
        let (mut check, file) = match flat(begun.await) {
            Ok((check, file)) => (check, Arc::new(file)),
            Err(error) => return Finding::of(&error),
        };
        if let Some(damaged) = check.other_size(entry) {
            return damaged;
        }
        loop {
            let reading = Arc::clone(&file);
            let read = tokio::task::spawn_blocking(move || check.step(&reading).map(|length| (check, length)));
            let length;
            (check, length) = match flat(read.await) {
                Ok(read) => read,
                Err(error) => return Finding::of(&error),
            };
            let (_, total) = self.cache.inner.index.totals();
            tokio::time::sleep(self.pace.time_for((length as u64).max(LEAST_COUNTED), total)).await;
            if !self.cache.inner.index.holds(entry) {
                return Finding::Unknown("it has gone".to_owned());
            }
            if length == 0 {
                return check.end(entry, &file, now).map_or_else(|error| Finding::of(&error), Finding::of_digest);
            }
        }
    }
}

/// Whether a file is the blob that it is kept for; notes what it was like if it is.
pub(super) fn verify(entry: &Entry, file: &File, now: SystemTime) -> io::Result<bool> {
    let mut check = Check::begin(entry, file)?;
    while check.step(file)? > 0 {}
    check.end(entry, file, now)
}

/// The same, with a word for it.
pub(super) fn examine(entry: &Entry, file: &File, now: SystemTime) -> io::Result<Finding> {
    match Check::begin(entry, file)?.other_size(entry) {
        Some(damaged) => Ok(damaged),
        None => verify(entry, file, now).map(Finding::of_digest),
    }
}

impl Check {
    fn begin(entry: &Entry, file: &File) -> io::Result<Self> {
        let hasher = DigestHasher::new(entry.digest.algorithm());
        Ok(Self { before: Stamp::of(file)?, hasher, buffer: vec![0; PIECE], offset: 0 })
    }

    fn other_size(&self, entry: &Entry) -> Option<Finding> {
        let size = self.before.size;
        (size != entry.size).then(|| Finding::Damaged(format!("it has {size} bytes instead of {}", entry.size)))
    }

    /// Reads on; 0 at the end.
    fn step(&mut self, file: &File) -> io::Result<usize> {
        let length = file.read_at(&mut self.buffer, self.offset)?;
        self.hasher.update(&self.buffer[..length]);
        self.offset += length as u64;
        Ok(length)
    }

    fn end(self, entry: &Entry, file: &File, now: SystemTime) -> io::Result<bool> {
        let mut verified = entry.verified.lock();
        let is_right = self.offset == entry.size && self.hasher.finish() == entry.digest;
        // Read while it was being changed, it has told nothing.
        let is_still = self.before.is_settled(now) && self.before == Stamp::of(file)?;
        *verified = (is_right && is_still).then_some(self.before);
        Ok(is_right)
    }
}

impl Finding {
    fn of_digest(is_right: bool) -> Self {
        if is_right { Self::Right } else { Self::Damaged("it has another digest".to_owned()) }
    }

    /// An error of the file is damage; one of the process says nothing of the file.
    pub(super) fn of(error: &io::Error) -> Self {
        let why = format!("it cannot be read: {error}");
        match error.kind() {
            ErrorKind::OutOfMemory | ErrorKind::PermissionDenied | ErrorKind::Other => Self::Unknown(why),
            // A file system that is served by somebody, who is not there or takes his time.
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Unknown(why),
            ErrorKind::NotConnected | ErrorKind::Unsupported => Self::Unknown(why),
            _ if matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)) => Self::Unknown(why),
            _ => Self::Damaged(why),
        }
    }
}

fn flat<T>(done: Result<io::Result<T>, tokio::task::JoinError>) -> io::Result<T> {
    done.unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

const PIECE: usize = 256 << 10;

/// Of a cache so small that a pass would hardly move; the rest of the time it waits for the next.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;
/// What opening a file counts as.
const LEAST_COUNTED: u64 = 16 << 10;
/// After so many bytes the place is written down, for the next process.
const NOTED_BYTES: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_its_time_and_never_more_than_its_share_of_the_disk() {
        let pace = Pace::DEFAULT;
        let seconds = |bytes, total| pace.time_for(bytes, total).as_secs();
        // 20 GiB in a day, a TiB as fast as it may, little at the least rate.
        assert!((86_000..=86_800).contains(&seconds(20 << 30, 20 << 30)));
        assert_eq!((seconds(1 << 40, 1 << 40), seconds(1 << 20, 1 << 20)), ((1 << 40) / (4 << 20), 16));
        let still = Pace { pass: Duration::ZERO, max_bytes_per_second: 0 };
        assert_eq!(still.time_for(5, 100), Duration::from_secs(5));
    }
}
