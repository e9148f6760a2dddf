use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

/// How often the store may have changed what it says about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation {
    shard: usize,
    moves: u64,
}

/// Counters in a fixed number of shards: keys that share one are merely asked about again.
#[derive(Debug)]
pub(super) struct Generations {
    shards: Box<[AtomicU64]>,
}

/// Which counters a write moves once it is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Touched(Vec<usize>);

impl Generations {
    pub(super) fn of(&self, key: impl Hash) -> Generation {
        self.at(shard(key))
    }

    /// Whether no write has touched the key since; the key itself is not needed for that.
    pub(super) fn is_current(&self, generation: Generation) -> bool {
        self.at(generation.shard) == generation
    }

    fn at(&self, shard: usize) -> Generation {
        Generation { shard, moves: self.shards[shard].load(Ordering::Acquire) }
    }

    pub(super) fn bump(&self, touched: &Touched) {
        for shard in &touched.0 {
            self.shards[*shard].fetch_add(1, Ordering::Release);
        }
    }

    /// For a moment after which nothing that was read before may be relied on.
    pub(super) fn bump_all(&self) {
        for shard in &self.shards {
            shard.fetch_add(1, Ordering::Release);
        }
    }
}

impl Default for Generations {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Touched {
    pub(super) fn add(&mut self, key: impl Hash) {
        self.0.push(shard(key));
    }
}

fn shard(key: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % SHARDS).expect("the remainder is below SHARDS")
}

const SHARDS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_key_moves_and_every_key_moves_when_all_do() {
        let generations = Generations::default();
        let (before, other) = (generations.of("a"), generations.of("b"));
        let mut touched = Touched::default();
        touched.add("a");
        generations.bump(&touched);
        assert_ne!(generations.of("a"), before);
        assert!(!generations.is_current(before));
        assert!(generations.is_current(other));
        generations.bump_all();
        assert_ne!(generations.of("b"), other);
    }
}
