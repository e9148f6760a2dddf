use std::sync::atomic::AtomicI64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// What the blob cache tells of itself. A clone counts into the same ones.
#[derive(Debug, Clone, Default)]
pub struct CacheCounters {
    /// Room that is taken, by what lies there and by what is on its way.
    pub bytes: Gauge<i64, AtomicI64>,
    pub blobs: Gauge<i64, AtomicI64>,
    /// Blobs, or parts, that were sent from what lies there.
    pub hits: Counter,
    /// Blobs, or parts, that did not lie there: who waits for another's fetch is counted too.
    pub misses: Counter,
    /// Blobs that went to make room.
    pub evictions: Counter,
    /// Files that were not what was written.
    pub damaged: Counter,
    /// Bytes that upstreams sent to be kept.
    pub fetched_bytes: Counter,
    /// Answers that went past the disk, as nothing could be written there.
    pub past_disk: Counter,
}

impl CacheCounters {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("cache_bytes", "Room that the blob cache takes, with what is on its way", self.bytes.clone());
        registry.register("cache_blobs", "Blobs in the cache", self.blobs.clone());
        let counters = [
            ("cache_hits", "Blobs or parts of them sent from the cache", &self.hits),
            ("cache_misses", "Blobs or parts of them that had to be fetched, or waited for", &self.misses),
            ("cache_evictions", "Blobs that left the cache to make room", &self.evictions),
            ("cache_damaged", "Files of the cache that were not what was written", &self.damaged),
            ("cache_fetched_bytes", "Bytes of blobs that upstreams sent to be kept", &self.fetched_bytes),
            (
                "cache_past_disk",
                "Blobs that went past the disk, which had no room or could not be written",
                &self.past_disk,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }

    /// What lies there now.
    pub fn hold(&self, blobs: usize, bytes: u64) {
        self.blobs.set(i64::try_from(blobs).unwrap_or(i64::MAX));
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
