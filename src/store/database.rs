use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{
    StoreError,
    disk::{Disk, Opening},
    generations::{Generations, Touched},
    schema::Schema,
};

/// One redb file: open, failed until it is opened again, or closed.
#[derive(Debug)]
pub(super) struct Database {
    schema: &'static Schema,
    path: PathBuf,
    cache_bytes: usize,
    disk: Disk,
    state: RwLock<State>,
    generations: Arc<Generations>,
    pub(super) commits: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) failures: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// How often it was opened: a transaction of an earlier opening says nothing about this one.
    epoch: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Open(redb::Database),
    /// The database is kept until the writer drops it: dropping does I/O, and readers notice failures.
    Failed {
        reason: String,
        last: Option<redb::Database>,
    },
    Closed,
}

/// What an operation met, with the opening it belongs to.
pub(super) struct Begun<T> {
    pub(super) transaction: T,
    pub(super) epoch: u64,
}

impl Database {
    pub(super) fn open(
        schema: &'static Schema,
        path: PathBuf,
        cache_bytes: usize,
        disk: Disk,
        generations: Arc<Generations>,
    ) -> Result<Self, StoreError> {
        let database = disk.open(&path, cache_bytes, Opening::First)?;
        schema.prepare(&database, &path, Opening::First)?;
        Ok(Self {
            schema,
            path,
            cache_bytes,
            disk,
            state: RwLock::new(State { epoch: 0, phase: Phase::Open(database) }),
            generations,
            commits: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.schema.name
    }

    /// Runs `read` on one snapshot.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let begun = self.begin(|database| Ok(database.begin_read()?))?;
        read(&begun.transaction).map_err(|error| self.judge(begun.epoch, error))
    }

    pub(super) fn begin_write(&self) -> Result<Begun<WriteTransaction>, StoreError> {
        self.begin(|database| {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            Ok(transaction)
        })
    }

    fn begin<T>(&self, begin: impl FnOnce(&redb::Database) -> Result<T, StoreError>) -> Result<Begun<T>, StoreError> {
        let (epoch, result) = {
            let state = self.state.read();
            match &state.phase {
                Phase::Open(database) => (state.epoch, begin(database)),
                Phase::Failed { reason, .. } => return Err(self.failed(reason)),
                Phase::Closed => return Err(StoreError::Closed),
            }
        };
        match result {
            Ok(transaction) => Ok(Begun { transaction, epoch }),
            Err(error) => Err(self.judge(epoch, error)),
        }
    }

    /// Turns an error that leaves the database in doubt into its failure.
    pub(super) fn judge(&self, epoch: u64, error: StoreError) -> StoreError {
        if !error.ends_database() {
            return error;
        }
        let reason = match error {
            StoreError::Database(source) => source.to_string(),
            other => other.to_string(),
        };
        self.fail(epoch, &reason);
        self.failed(&reason)
    }

    fn fail(&self, epoch: u64, reason: &str) {
        let mut state = self.state.write();
        if state.epoch != epoch || !matches!(state.phase, Phase::Open(_)) {
            return;
        }
        let Phase::Open(last) = std::mem::replace(&mut state.phase, Phase::Closed) else { return };
        state.phase = Phase::Failed { reason: reason.to_owned(), last: Some(last) };
        drop(state);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.generations.bump_all();
        let name = self.name();
        tracing::error!(database = name, reason, "the {name} database failed and answers nothing until reopened");
    }

    /// Why it does not answer, if it does not.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.state.read().phase {
            Phase::Open(_) => None,
            Phase::Failed { reason, .. } => Some(reason.clone()),
            Phase::Closed => Some("closed".to_owned()),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state.read().phase, Phase::Failed { .. })
    }

    /// One attempt to open a failed database again. Only its writer calls this: no transaction of its
    /// own is live then, and those of readers end with the old opening.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let last = match &mut self.state.write().phase {
            Phase::Failed { last, .. } => last.take(),
            Phase::Open(_) | Phase::Closed => return Ok(()),
        };
        drop(last);
        let database = self.disk.open(&self.path, self.cache_bytes, Opening::Again)?;
        self.schema.prepare(&database, &self.path, Opening::Again)?;
        let mut state = self.state.write();
        state.epoch += 1;
        state.phase = Phase::Open(database);
        drop(state);
        // A commit whose failure was reported may have reached the disk after all.
        self.generations.bump_all();
        let name = self.name();
        tracing::info!(database = name, "the {name} database answers again");
        Ok(())
    }

    pub(super) fn close(&self) {
        let last = {
            let mut state = self.state.write();
            state.epoch += 1;
            std::mem::replace(&mut state.phase, Phase::Closed)
        };
        drop(last);
    }

    pub(super) fn bump(&self, touched: &Touched) {
        self.generations.bump(touched);
    }

    fn failed(&self, reason: &str) -> StoreError {
        StoreError::Failed { database: self.name(), reason: reason.to_owned() }
    }
}
