//! Keeps what must survive: signatures and their identities, signers and the audit in `records.redb`;
//! what pulls taught us (manifests, tags seen, lineage, presence) in `memory.redb`, which is bounded.
//!
//! It never judges: envelopes are bytes that went in and come out, and whether one verifies or counts
//! is the business of others. Every write is durable when its future answers. After an I/O error a
//! database answers nothing until it has been opened again, because what it holds in memory may not be
//! what lies on the disk.

mod error;
mod generations;
mod record;
mod schema;
mod sighting;

use std::{hash::Hash, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    clock::Clock,
    oci::{Digest, Repository, Tag, TagType},
};

pub use self::error::StoreError;
pub use self::generations::Generation;
pub use self::record::{
    Identity, IdentityRow, Page, Record, RecordId, RecordIdError, SignerRow, Submission, SubmitRules, Submitted,
};
pub use self::sighting::{AuditKind, AuditRow, FoundEnvelope, HeldManifest, Sighting};

/// Where the store lives and how much it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub records_cache_bytes: usize,
    pub memory_cache_bytes: usize,
    /// The size at which `memory.redb` forgets what is oldest.
    pub memory_max_bytes: u64,
    /// How long after an I/O error the first attempt to open again is made; it doubles from there.
    pub reopen_after: Duration,
}

/// The handle to both databases; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    generations: Arc<generations::Generations>,
}

/// The one writer of one database; `run` blocks its thread until the store is closed.
pub struct StoreWriter {}

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
    pub const REOPEN_AFTER: Duration = Duration::from_millis(100);

    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            records_cache_bytes: Self::RECORDS_CACHE_BYTES,
            memory_cache_bytes: Self::MEMORY_CACHE_BYTES,
            memory_max_bytes: Self::MEMORY_MAX_BYTES,
            reopen_after: Self::REOPEN_AFTER,
        }
    }
}

impl StoreWriter {
    /// The database's name, for the thread.
    pub fn name(&self) -> &'static str {
        ""
    }

    /// Writes until the store is closed or its last handle is gone; then closes the database.
    pub fn run(self) {}
}

impl Store {
    pub fn open(_config: &Config, _clock: Clock) -> Result<(Self, Vec<StoreWriter>), StoreError> {
        Err(StoreError::Closed)
    }
    pub fn close(&self) {}
    pub fn degraded(&self) -> Option<String> {
        None
    }
    pub fn counters(&self) -> StoreCounters {
        StoreCounters::default()
    }
    pub fn generation_of(&self, key: impl Hash) -> Generation {
        self.inner.generations.of(key)
    }
    pub async fn submit(&self, _submission: Submission, _rules: SubmitRules) -> Result<Submitted, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn record(&self, _id: &RecordId) -> Result<Option<Record>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn records_of(&self, _digest: &Digest) -> Result<Vec<Record>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn records_page(
        &self,
        _digest: &Digest,
        _after: Option<&[u8]>,
        _limit: usize,
    ) -> Result<Page<Record>, StoreError> {
        Err(StoreError::Closed)
    }
    /// Records in order of type, environment and tag; `None` is no filter.
    pub fn tags_page(
        &self,
        _tag_type: Option<TagType>,
        _environment: Option<&str>,
        _after: Option<&[u8]>,
        _limit: usize,
    ) -> Result<Page<Record>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn withdraw(&self, _id: &RecordId, _also: Vec<Identity>) -> Result<Option<Record>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn identity(&self, _identity: &Identity) -> Result<Option<IdentityRow>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remember_identity(
        &self,
        _identities: Vec<Identity>,
        _first_seen: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn sweep(
        &self,
        _preview_cutoff: Option<Timestamp>,
        _now: Timestamp,
        _remove_after: Duration,
        _limit: usize,
    ) -> Result<usize, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn count_removable(
        &self,
        _preview_cutoff: Option<Timestamp>,
        _now: Timestamp,
        _remove_after: Duration,
    ) -> Result<usize, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn signers(&self) -> Result<Vec<SignerRow>, StoreError> {
        Err(StoreError::Closed)
    }
    /// Every revocation, also of keys that only a file holds: key id and since when.
    pub fn revocations(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        Err(StoreError::Closed)
    }
    /// Moves whenever a signer or a revocation was written.
    pub fn signers_generation(&self) -> Generation {
        Generation(0)
    }
    pub async fn put_signer(&self, _row: SignerRow) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn revoke_signer(&self, _key_id: String, _at: Timestamp) -> Result<Timestamp, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn append_audit(&self, _rows: Vec<AuditRow>, _kind: AuditKind) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    /// Both kinds merged, newest first.
    pub fn audit_page(&self, _after: Option<&[u8]>, _limit: usize) -> Result<Page<Vec<u8>>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn manifest(&self, _digest: &Digest) -> Result<Option<HeldManifest>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remember(&self, _sighting: Sighting) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub fn tags_seen(&self, _repository: &Repository, _digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn parents(&self, _repository: &Repository, _child: &Digest) -> Result<Vec<Digest>, StoreError> {
        Err(StoreError::Closed)
    }
    pub fn presence(&self, _repository: &Repository, _digest: &Digest) -> Result<Option<Timestamp>, StoreError> {
        Err(StoreError::Closed)
    }
    /// The bytes were fetched or asked for with success at that upstream repository.
    pub async fn remember_presence(
        &self,
        _repository: &Repository,
        _digest: &Digest,
        _at: Timestamp,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn forget_presence(&self, _repository: &Repository, _digest: &Digest) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub fn knows_enforced_tags(&self, _repository: &Repository) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }
    /// Whether an internal tag was ever seen in the repository: a digest of which nothing is known
    /// may then be internal too. Set by `mark_internal_tags`, never evicted.
    pub fn knows_internal_tags(&self, _repository: &Repository) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn mark_internal_tags(&self, _repository: &Repository) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    /// Whether this tag of the repository was ever remembered as enforced (`Sighting::tag`): what an
    /// ordinary tag is held to that a record classes, while its digest cannot be asked for.
    pub fn is_enforced_tag(&self, _repository: &Repository, _tag: &Tag) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn mark_enforced_tags(&self, _repository: &Repository) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub fn found(&self, _repository: &Repository, _digest: &Digest) -> Result<Vec<FoundEnvelope>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn put_found(
        &self,
        _repository: &Repository,
        _digest: &Digest,
        _envelopes: Vec<FoundEnvelope>,
        _at: Timestamp,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    /// Forgets up to `limit` of the oldest things where `memory.redb` is over its size; says how many.
    pub async fn evict(&self, _limit: usize) -> Result<usize, StoreError> {
        Err(StoreError::Closed)
    }
}
