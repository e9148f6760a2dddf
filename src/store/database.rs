use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use redb::{ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{
    StoreError,
    disk::{Disk, FileId, Opened, Opening, no_room},
    generations::{Generations, Touched},
    schema::{META, STORE_ROW, Schema},
};

/// One redb file: open, failed until it is opened again, or closed.
#[derive(Debug)]
pub(super) struct Database {
    schema: &'static Schema,
    path: PathBuf,
    cache_bytes: usize,
    disk: Disk,
    state: RwLock<State>,
    /// The number of the store that it belongs to, once that is known.
    store: OnceLock<u64>,
    /// Why nothing can be written at present, if nothing can.
    stuck: Mutex<Option<String>>,
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
    Open(Opened),
    /// The database is kept until the writer drops it: dropping does I/O, and readers notice failures.
    Failed {
        reason: String,
        last: Option<Opened>,
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
        rows: &[(&str, u64)],
    ) -> Result<Self, StoreError> {
        let opened = disk.open(&path, cache_bytes, Opening::First)?;
        schema.prepare(&opened.database, &path, Opening::First, rows)?;
        Ok(Self {
            schema,
            path,
            cache_bytes,
            disk,
            state: RwLock::new(State { epoch: 0, phase: Phase::Open(opened) }),
            store: OnceLock::new(),
            stuck: Mutex::new(None),
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
                Phase::Open(opened) => (state.epoch, begin(&opened.database)),
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

    /// Why it does not answer, or takes no writes, if that is so.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.state.read().phase {
            Phase::Open(_) => self.stuck.lock().clone(),
            Phase::Failed { reason, .. } => Some(reason.clone()),
            Phase::Closed => Some("closed".to_owned()),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state.read().phase, Phase::Failed { .. })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Which store it belongs to; another one's file is not opened in its place.
    pub(super) fn belongs_to(&self, store: u64) {
        self.store.get_or_init(|| store);
    }

    /// Whether what is open is still what lies at its path. A file that was removed or replaced loses
    /// what is written to it, so it is written and believed no more.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        let state = self.state.read();
        let Phase::Open(Opened { file: Some(file), .. }) = &state.phase else { return Ok(()) };
        let (epoch, file) = (state.epoch, *file);
        drop(state);
        let path = self.path.display();
        let reason = match FileId::at(&self.path) {
            Ok(Some(found)) if found == file => return Ok(()),
            Ok(Some(_)) => format!("{path} was replaced by another file: put back the one that was there"),
            Ok(None) => format!("{path} was removed: put it back"),
            Err(error) => format!("{path} cannot be looked at: {error}"),
        };
        self.fail(epoch, &reason);
        tracing::error!("what {path} held is kept open until this process ends: it is one of /proc/PID/fd");
        Err(self.failed(&reason))
    }

    /// Whether so many bytes more can be written.
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), StoreError> {
        if !matches!(&self.state.read().phase, Phase::Open(Opened { file: Some(_), .. })) {
            return Ok(());
        }
        let reason = no_room(&self.path, bytes);
        let mut stuck = self.stuck.lock();
        let name = self.name();
        match (&*stuck, &reason) {
            (None, Some(reason)) => {
                tracing::error!(database = name, reason, "the {name} database takes no writes: {reason}");
            }
            (Some(_), None) => tracing::info!(database = name, "the {name} database takes writes again"),
            _ => {}
        }
        stuck.clone_from(&reason);
        reason.map_or(Ok(()), |reason| Err(StoreError::NoRoom { database: name, reason }))
    }

    /// One attempt to open a failed database again. Only its writer calls this: no transaction of its
    /// own is live then, and those of readers end with the old opening.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let last = match &mut self.state.write().phase {
            Phase::Failed { last, .. } => last.take(),
            Phase::Open(_) | Phase::Closed => return Ok(()),
        };
        let (last, opened) = self.open_again(last);
        let mut state = self.state.write();
        match opened {
            Ok(opened) => {
                state.epoch += 1;
                state.phase = Phase::Open(opened);
            }
            Err(error) => {
                if let Phase::Failed { last: kept, reason } = &mut state.phase {
                    *kept = last;
                    if matches!(error, StoreError::OtherStore { .. } | StoreError::FormatVersion { .. }) {
                        *reason = error.to_string();
                    }
                }
                return Err(error);
            }
        }
        drop(state);
        drop(last);
        // A commit whose failure was reported may have reached the disk after all.
        self.generations.bump_all();
        let name = self.name();
        tracing::info!(database = name, "the {name} database answers again");
        Ok(())
    }

    /// Opens what lies at the path. A file that has gone from there is held on to until there is one to
    /// go on with: it is the only copy.
    fn open_again(&self, mut last: Option<Opened>) -> (Option<Opened>, Result<Opened, StoreError>) {
        let file = last.as_ref().and_then(|last| last.file);
        // What is held by us cannot be opened twice.
        if file.is_none() || FileId::at(&self.path).is_ok_and(|found| found == file) {
            last = None;
        }
        let opened = self.disk.open(&self.path, self.cache_bytes, Opening::Again).and_then(|opened| {
            self.schema.prepare(&opened.database, &self.path, Opening::Again, &[])?;
            self.check_store(&opened.database)?;
            Ok(opened)
        });
        (last, opened)
    }

    fn check_store(&self, database: &redb::Database) -> Result<(), StoreError> {
        let Some(store) = self.store.get() else { return Ok(()) };
        let row = database.begin_read()?.open_table(META)?.get(STORE_ROW)?.map(|row| row.value());
        if row == Some(*store) { Ok(()) } else { Err(StoreError::OtherStore { path: self.path.clone() }) }
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
