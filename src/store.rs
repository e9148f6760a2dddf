//! Keeps what must survive: signatures and their identities, artifacts that were pushed, signers and the
//! audit in `records.redb`;
//! what pulls taught us (manifests, tags seen, lineage, presence) in `memory.redb`, which is bounded.
//!
//! It never judges: envelopes are bytes that went in and come out, and whether one verifies or counts
//! is the business of others. Every write is durable when its future answers. After an I/O error a
//! database answers nothing until it has been opened again, because what it holds in memory may not be
//! what lies on the disk.

mod artifacts;
mod audit_log;
mod check;
mod database;
mod disk;
mod error;
mod expiry;
mod generations;
mod identities;
mod latest_time;
mod memory;
mod pairing;
mod record;
mod record_rows;
mod schema;
mod sighting;
mod signatures;
mod signers;
mod writer;

use std::{
    hash::Hash,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::clock::Clock;

use self::{
    database::Database,
    generations::Generations,
    memory::{NOTED, NotedSightings},
    schema::{MEMORY_SCHEMA, RECORDS_SCHEMA, STORE_ROW, Schema},
    writer::Handle,
};

pub use self::artifacts::{Artifact, ArtifactBlob, Capture, Captured, NewArtifact, Retag};
pub use self::check::Checked;
pub use self::disk::{Disk, Opening};
pub use self::error::StoreError;
pub use self::generations::Generation;
pub use self::memory::Confirmed;
pub use self::record::{
    Identity, IdentityRow, Page, Record, RecordId, RecordIdError, RevocationRow, SignerRow, Submission, SubmitRules,
    Submitted,
};
pub use self::sighting::{AuditKind, AuditRow, FoundEnvelope, FoundId, HeldManifest, Sighting, TagPage};
pub use self::writer::StoreWriter;

/// Where the store lives and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub records_cache_bytes: usize,
    pub memory_cache_bytes: usize,
    /// The size at which `memory.redb` forgets what is oldest.
    pub memory_max_bytes: u64,
    /// The free space below which `memory.redb` grows no more, whatever its size.
    pub disk_reserve_bytes: u64,
    /// How long after an I/O error the first attempt to open again is made; it doubles from there.
    pub reopen_after: Duration,
}

/// The handle to both databases; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    clock: Clock,
    generations: Arc<Generations>,
    records: Handle,
    memory: Handle,
    noted: NotedSightings,
}

/// What the store has done since it was opened, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreCounters {
    pub commits: u64,
    pub writes: u64,
    pub failures: u64,
}

impl Config {
    pub const RECORDS_CACHE_BYTES: usize = 16 << 20;
    pub const MEMORY_CACHE_BYTES: usize = 16 << 20;
    pub const MEMORY_MAX_BYTES: u64 = 1 << 30;
    pub const DISK_RESERVE_BYTES: u64 = 64 << 20;
    pub const REOPEN_AFTER: Duration = Duration::from_millis(100);

    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            records_cache_bytes: Self::RECORDS_CACHE_BYTES,
            memory_cache_bytes: Self::MEMORY_CACHE_BYTES,
            memory_max_bytes: Self::MEMORY_MAX_BYTES,
            disk_reserve_bytes: Self::DISK_RESERVE_BYTES,
            reopen_after: Self::REOPEN_AFTER,
        }
    }
}

impl Store {
    /// Opens both databases in `data_dir`, which must be there. Each writer is to be run on a thread
    /// of its own; nothing is written before.
    pub fn open(config: &Config, clock: Clock) -> Result<(Self, Vec<StoreWriter>), StoreError> {
        disk::check_directory(&config.data_dir)?;
        Self::open_on(Disk::files(), config, clock)
    }

    /// The same on other storage than files.
    pub fn open_on(disk: Disk, config: &Config, clock: Clock) -> Result<(Self, Vec<StoreWriter>), StoreError> {
        let generations = Arc::new(Generations::default());
        let open = |schema: &'static Schema, cache_bytes, rows: &[(&str, u64)]| {
            let path = config.data_dir.join(schema.file);
            Database::open(schema, path, cache_bytes, disk.clone(), Arc::clone(&generations), rows)
        };
        pairing::expect_records(&disk, config)?;
        let records = open(&RECORDS_SCHEMA, config.records_cache_bytes, &[(STORE_ROW, pairing::new_store(&clock))])?;
        let belonging = pairing::of_memory(&records)?;
        let memory = open(&MEMORY_SCHEMA, config.memory_cache_bytes, &belonging)?;
        pairing::pair(&records, &memory, &clock)?;
        let (records, records_writer) = writer::writer(records, config.reopen_after);
        let (memory, memory_writer) = writer::writer(memory, config.reopen_after);
        let noted = NotedSightings::new(NOTED);
        let inner = Inner { config: config.clone(), clock, generations, records, memory, noted };
        Ok((Self { inner: Arc::new(inner) }, vec![records_writer, memory_writer]))
    }

    /// Lets both writers end once they have written what is queued; whatever comes later is refused.
    pub fn close(&self) {
        self.inner.records.close();
        self.inner.memory.close();
    }

    /// Why the store does not answer, or cannot be written, if that is so of one of its databases.
    pub fn degraded(&self) -> Option<String> {
        let of = |handle: &Handle| {
            handle.database.failure().map(|reason| format!("the {} database: {reason}", handle.database.name()))
        };
        let reasons: Vec<String> = [&self.inner.records, &self.inner.memory].into_iter().filter_map(of).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    pub fn counters(&self) -> StoreCounters {
        let databases = [&self.inner.records.database, &self.inner.memory.database];
        let sum = |count: fn(&Database) -> &AtomicU64| {
            databases.iter().map(|database| count(database).load(Ordering::Relaxed)).sum()
        };
        StoreCounters {
            commits: sum(|database| &database.commits),
            writes: sum(|database| &database.writes),
            failures: sum(|database| &database.failures),
        }
    }

    /// Moves, before the writer is answered, with each write that concerned a digest (its records,
    /// tags, parents, what was found of it) or a repository (its mark), and with every failure and
    /// reopening. Take it before reading what is to be cached under it.
    pub fn generation_of(&self, key: impl Hash) -> Generation {
        self.inner.generations.of(key)
    }

    /// Whether what was read under this generation still is what the store says.
    pub fn is_current(&self, generation: Generation) -> bool {
        self.inner.generations.is_current(generation)
    }
}

#[cfg(test)]
mod tests;
