//! Which blobs there are, how much room they take, and which go when there is none left.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    Removed,
    chunks::Shared,
    directory::{Kept, Stamp},
};
use crate::{oci::Digest, telemetry::CacheCounters};

/// The blobs of the cache. What is on its way is not among them, but its room is.
pub(super) struct Index {
    max_bytes: u64,
    rows: Mutex<Rows>,
    counters: CacheCounters,
}

#[derive(Default)]
struct Rows {
    entries: HashMap<Digest, Arc<Entry>>,
    /// Of the entries, and of what room was set aside for.
    bytes: u64,
}

/// A blob that lies in the cache.
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) size: u64,
    used: Mutex<Used>,
    /// How many are reading it.
    readers: AtomicUsize,
    /// What the file was like when all of it was last seen to have the digest; none since the start.
    pub(super) verified: Mutex<Option<Stamp>>,
    pub(super) shared: Shared,
}

/// When a blob was used last, and what of that is known to its file.
struct Used {
    last: Timestamp,
    noted: Timestamp,
}

/// Keeps a blob from being evicted while somebody reads it.
pub(super) struct InUse(pub(super) Arc<Entry>);

/// Room for a blob that is on its way.
pub(super) struct Room {
    index: Arc<Index>,
    bytes: u64,
}

/// Who goes, and what the directory has to do about it.
pub(super) struct Evicted(pub(super) Vec<Digest>);

impl Index {
    pub(super) fn new(max_bytes: u64, kept: Vec<Kept>, counters: CacheCounters) -> Self {
        let mut rows = Rows::default();
        for Kept { digest, size, last_used } in kept {
            let last_used = Timestamp::try_from(last_used).unwrap_or(Timestamp::UNIX_EPOCH);
            rows.bytes += size;
            rows.entries.insert(digest, Arc::new(Entry::new(digest, size, last_used, None)));
        }
        rows.tell(&counters);
        Self { max_bytes, rows: Mutex::new(rows), counters }
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// How many blobs there are, and how much room is taken.
    pub(super) fn totals(&self) -> (usize, u64) {
        let rows = self.rows.lock();
        (rows.entries.len(), rows.bytes)
    }

    /// A blob, kept from eviction for as long as the answer is held.
    pub(super) fn take(&self, digest: &Digest) -> Option<InUse> {
        let rows = self.rows.lock();
        let entry = rows.entries.get(digest)?;
        entry.readers.fetch_add(1, Ordering::AcqRel);
        Some(InUse(Arc::clone(entry)))
    }

    /// Room for `bytes` more, and who has to go for it. None: not even an empty cache has so much, or what
    /// fills it is in use.
    pub(super) fn make_room(self: &Arc<Self>, bytes: u64, now: Timestamp) -> Option<(Room, Evicted)> {
        let mut rows = self.rows.lock();
        let wanted = rows.bytes.checked_add(bytes)?;
        let evicted = match wanted.checked_sub(self.max_bytes) {
            None | Some(0) => Vec::new(),
            // Some more than is needed: the next ones then find room without a search.
            Some(over) => rows.evict(over, self.max_bytes / SLACK, now)?,
        };
        rows.bytes += bytes;
        self.evicted(&rows, evicted.len());
        Some((Room { index: Arc::clone(self), bytes }, Evicted(evicted)))
    }

    /// Who has to go so that `bytes` less are used, as far as they can.
    pub(super) fn shrink(&self, bytes: u64, now: Timestamp) -> Evicted {
        let mut rows = self.rows.lock();
        let bytes = bytes.min(rows.evictable());
        let gone = rows.evict(bytes, 0, now).unwrap_or_default();
        self.evicted(&rows, gone.len());
        Evicted(gone)
    }

    /// A blob that is whole takes the room that was set aside for it.
    pub(super) fn insert(&self, mut room: Room, digest: Digest, stamp: Stamp, now: Timestamp) {
        let mut rows = self.rows.lock();
        rows.bytes = rows.bytes - room.bytes + stamp.size;
        room.bytes = 0;
        let entry = Arc::new(Entry::new(digest, stamp.size, now, Some(stamp)));
        if let Some(old) = rows.entries.insert(digest, entry) {
            rows.bytes -= old.size;
        }
        rows.tell(&self.counters);
    }

    /// Takes out what is wanted to go and nobody is reading.
    pub(super) fn remove_unused(&self, is_wanted: impl Fn(&Digest) -> bool) -> (Evicted, Removed) {
        let mut rows = self.rows.lock();
        let (mut gone, mut removed) = (Vec::new(), Removed::default());
        rows.entries.retain(|digest, entry| {
            if !is_wanted(digest) {
                return true;
            }
            if entry.is_in_use() {
                removed.in_use += 1;
                return true;
            }
            removed.blobs += 1;
            removed.bytes += entry.size;
            gone.push(*digest);
            false
        });
        rows.bytes -= removed.bytes;
        rows.tell(&self.counters);
        (Evicted(gone), removed)
    }

    /// Takes out this very entry, if it is still the one.
    pub(super) fn remove_entry(&self, entry: &Arc<Entry>) {
        let mut rows = self.rows.lock();
        if rows.entries.get(&entry.digest).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            rows.entries.remove(&entry.digest);
            rows.bytes -= entry.size;
            rows.tell(&self.counters);
        }
    }

    /// Whether the file of this digest belongs to no entry any more.
    pub(super) fn is_gone(&self, digest: &Digest) -> bool {
        !self.rows.lock().entries.contains_key(digest)
    }

    pub(super) fn entry(&self, digest: &Digest) -> Option<Arc<Entry>> {
        self.rows.lock().entries.get(digest).cloned()
    }

    /// Whether this very entry still is among them.
    pub(super) fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.entry(&entry.digest).is_some_and(|known| Arc::ptr_eq(&known, entry))
    }

    /// In order, those that come after this one, or all.
    pub(super) fn after(&self, digest: Option<Digest>) -> Vec<Digest> {
        let rows = self.rows.lock();
        let mut digests: Vec<_> =
            rows.entries.keys().filter(|known| digest.is_none_or(|digest| **known > digest)).copied().collect();
        drop(rows);
        digests.sort_unstable();
        digests
    }

    fn evicted(&self, rows: &Rows, blobs: usize) {
        self.counters.evictions.inc_by(blobs as u64);
        rows.tell(&self.counters);
    }
}

impl Rows {
    fn tell(&self, counters: &CacheCounters) {
        counters.hold(self.entries.len(), self.bytes);
    }

    fn evictable(&self) -> u64 {
        self.entries.values().filter(|entry| !entry.is_in_use()).map(|entry| entry.size).sum()
    }

    /// Takes out at least `needed` bytes, and then up to `slack` more.
    fn evict(&mut self, needed: u64, slack: u64, now: Timestamp) -> Option<Vec<Digest>> {
        let mut candidates: Vec<_> = self.entries.values().filter(|entry| !entry.is_in_use()).cloned().collect();
        if candidates.iter().map(|entry| entry.size).sum::<u64>() < needed {
            return None;
        }
        candidates.sort_by_cached_key(|entry| std::cmp::Reverse(entry.weight(now)));
        let (mut gone, mut freed) = (Vec::new(), 0);
        for entry in candidates {
            if freed >= needed && (freed >= needed + slack || entry.size > slack) {
                break;
            }
            freed += entry.size;
            self.entries.remove(&entry.digest);
            gone.push(entry.digest);
        }
        self.bytes -= freed;
        Some(gone)
    }
}

impl Entry {
    /// One that nothing is known of but its name and length.
    pub(super) fn found(digest: Digest, size: u64) -> Self {
        Self::new(digest, size, Timestamp::UNIX_EPOCH, None)
    }

    fn new(digest: Digest, size: u64, last_used: Timestamp, verified: Option<Stamp>) -> Self {
        Self {
            digest,
            size,
            used: Mutex::new(Used { last: last_used, noted: last_used }),
            readers: AtomicUsize::new(0),
            verified: Mutex::new(verified),
            shared: Shared::default(),
        }
    }

    fn is_in_use(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    pub(super) fn last_used(&self) -> Timestamp {
        self.used.lock().last
    }

    /// Notes a use. True if its file was told of one so long ago that it should be told of this one.
    pub(super) fn used(&self, now: Timestamp) -> bool {
        let mut used = self.used.lock();
        used.last = now;
        let is_due = now.duration_since(used.noted).as_secs() >= NOTED_AFTER_SECS;
        if is_due {
            used.noted = now;
        }
        is_due
    }

    /// How much is gained by letting it go: how long it was not used, times the digits of its size. A
    /// large one of the same age goes first, and a small one stays some ten times as long as the largest.
    fn weight(&self, now: Timestamp) -> u64 {
        let age = u64::try_from(now.duration_since(self.last_used()).as_millis()).unwrap_or(0) + 1;
        age.saturating_mul(u64::from(self.size.max(2).ilog2()))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.readers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut rows = self.index.rows.lock();
            rows.bytes -= self.bytes;
            rows.tell(&self.index.counters);
        }
    }
}

/// What is evicted beyond the need, as a part of the whole.
const SLACK: u64 = 50;

/// The file is told of a use once in so long.
const NOTED_AFTER_SECS: i64 = 60;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn digest(n: u8) -> Digest {
        Digest::sha256(&[n])
    }

    /// Blobs with a size and an age in hours.
    fn index(max_bytes: u64, blobs: &[(u8, u64, u64)]) -> Arc<Index> {
        let kept = blobs.iter().map(|(n, size, hours)| Kept {
            digest: digest(*n),
            size: *size,
            last_used: SystemTime::from(now()) - Duration::from_secs(hours * 3600),
        });
        Arc::new(Index::new(max_bytes, kept.collect(), CacheCounters::default()))
    }

    fn now() -> Timestamp {
        "2026-11-26T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_longest_unused_goes_first_and_the_larger_of_two() {
        let index = index(4000, &[(1, 1000, 1), (2, 1000, 5), (3, 900, 3), (4, 1100, 3)]);
        let (room, Evicted(gone)) = index.make_room(500, now()).unwrap();
        assert_eq!(gone, [digest(2)]);
        assert_eq!(index.totals(), (3, 3500));
        let (_second, Evicted(gone)) = index.make_room(1000, now()).unwrap();
        assert_eq!(gone, [digest(4)]);
        drop(room);
        assert_eq!(index.totals(), (2, 2900));
        let counters = &index.counters;
        assert_eq!((counters.blobs.get(), counters.bytes.get(), counters.evictions.get()), (2, 2900, 2));
    }

    #[test]
    fn a_use_counts_at_once_and_is_noted_once_a_minute() {
        let index = index(3000, &[(1, 1000, 3), (2, 1000, 2), (3, 1000, 1)]);
        let use_at = |n: u8, seconds: u64| index.take(&digest(n)).unwrap().0.used(now() + Duration::from_secs(seconds));
        assert_eq!([use_at(3, 0), use_at(1, 1), use_at(2, 2), use_at(3, 3)], [true, true, true, false]);
        let (_room, Evicted(gone)) = index.make_room(1000, now() + Duration::from_secs(4)).unwrap();
        assert_eq!(gone, [digest(1)]);
        assert_eq!([use_at(3, 59), use_at(3, 60), use_at(3, 61)], [false, true, false]);
    }

    #[test]
    fn what_is_in_use_stays() {
        let index = index(2000, &[(1, 1000, 9), (2, 1000, 1)]);
        let reading = index.take(&digest(1)).unwrap();
        let (room, Evicted(gone)) = index.make_room(1000, now()).unwrap();
        assert_eq!(gone, [digest(2)]);
        drop(room);
        assert!(index.make_room(1500, now()).is_none());
        drop(reading);
        assert!(index.make_room(2000, now()).is_some());
        assert!(index.make_room(2001, now()).is_none());
    }

    #[test]
    fn what_is_wanted_to_go_goes_unless_it_is_read() {
        let index = index(9000, &[(1, 1000, 1), (2, 2000, 2), (3, 4000, 3)]);
        let _reading = index.take(&digest(2)).unwrap();
        let (Evicted(gone), removed) = index.remove_unused(|wanted| *wanted != digest(3));
        assert_eq!((gone, removed), (vec![digest(1)], Removed { blobs: 1, bytes: 1000, in_use: 1 }));
        assert_eq!((index.totals(), index.counters.evictions.get()), ((2, 6000), 0));
    }

    #[test]
    fn a_blob_takes_the_room_that_was_made_for_it() {
        let index = index(1 << 40, &[]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("blob");
        std::fs::write(&path, [7; 300]).unwrap();
        let stamp = Stamp::of(&std::fs::File::open(&path).unwrap()).unwrap();
        for _ in 0..2 {
            let (room, _) = index.make_room(500, now()).unwrap();
            index.insert(room, digest(1), stamp, now());
            assert_eq!(index.totals(), (1, 300));
        }
    }
}
