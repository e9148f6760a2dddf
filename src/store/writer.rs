use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use redb::{ReadTransaction, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::clock::Clock;

use super::{StoreError, database::Database, generations::Touched};

/// The one writer of one database: takes what is queued, commits it as one transaction, and answers
/// each write after that commit.
///
/// `run` blocks its thread until the store is closed or its last handle is gone, then closes the
/// database and so gives up the lock of its file.
pub struct StoreWriter {
    database: Arc<Database>,
    queue: Receiver<Message>,
    reopen_after: Duration,
}

/// How the rest of the store reads and writes one database.
#[derive(Clone)]
pub(super) struct Handle {
    pub(super) database: Arc<Database>,
    queue: Sender<Message>,
    /// In KiB: writers wait here, rather than their rows in memory.
    room: Arc<Semaphore>,
}

/// What a write did, told by the write itself while its transaction is open.
pub(super) struct Done<T> {
    pub(super) value: T,
    /// A group in which nothing changed is not committed.
    changed: bool,
    touched: Touched,
}

enum Message {
    Write(Box<dyn Job>),
    /// A reader met a failure: the writer opens the database again.
    Failed,
    Close,
}

trait Job: Send {
    /// May run twice: a group that fails for one member's sake is tried member by member.
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<Applied, StoreError>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
    /// About how much it writes, in KiB.
    fn kib(&self) -> u64;
}

#[derive(Default)]
struct Applied {
    changed: bool,
    touched: Touched,
}

struct Write<F, T> {
    apply: F,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
    room: OwnedSemaphorePermit,
}

impl<T> Done<T> {
    pub(super) fn unchanged(value: T) -> Self {
        Self { value, changed: false, touched: Touched::default() }
    }

    pub(super) fn changed(value: T, touched: Touched) -> Self {
        Self { value, changed: true, touched }
    }
}

pub(super) fn writer(database: Database, reopen_after: Duration) -> (Handle, StoreWriter) {
    let database = Arc::new(database);
    let (sender, queue) = mpsc::channel();
    let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
    (Handle { database: Arc::clone(&database), queue: sender, room }, StoreWriter { database, queue, reopen_after })
}

impl Handle {
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = self.database.read(read);
        if matches!(result, Err(StoreError::Failed { .. })) {
            // A writer that is gone has closed the database: there is nothing left to wake.
            self.queue.send(Message::Failed).ok();
        }
        result
    }

    /// Queues `apply` and waits until what it did is durable. `bytes` is about how much it holds.
    pub(super) async fn write<T, F>(&self, bytes: usize, apply: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&WriteTransaction) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(QUEUE_KIB).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job = Write { apply, value: None, answer, room };
        self.queue.send(Message::Write(Box::new(job))).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn close(&self) {
        // A writer that is gone is closed already.
        self.queue.send(Message::Close).ok();
    }
}

impl StoreWriter {
    /// The database's name, for the thread that runs it.
    pub fn name(&self) -> &'static str {
        self.database.name()
    }

    pub fn run(self) {
        loop {
            let flow = if self.database.has_failed() { self.recover() } else { self.serve() };
            if flow.is_break() {
                break;
            }
        }
    }

    fn serve(&self) -> ControlFlow<()> {
        let mut group = Vec::new();
        let mut flow = match self.queue.recv_timeout(LOOK_EVERY) {
            Ok(message) => take(message, &mut group),
            Err(RecvTimeoutError::Timeout) => {
                // What it finds it says itself.
                self.database.look().and_then(|()| self.database.room_for(0)).ok();
                return ControlFlow::Continue(());
            }
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        };
        while flow.is_continue() && group.len() < GROUP_MAX {
            match self.queue.try_recv() {
                Ok(message) => flow = take(message, &mut group),
                Err(_) => break,
            }
        }
        self.commit(group);
        flow
    }

    fn commit(&self, mut group: Vec<Box<dyn Job>>) {
        if group.is_empty() {
            return;
        }
        match self.attempt(&mut group) {
            Ok(()) => group.into_iter().for_each(|job| job.answer(Ok(()))),
            Err(_) if group.len() > 1 && !self.database.has_failed() => {
                group.into_iter().for_each(|job| self.commit(vec![job]));
            }
            Err(error) => {
                for job in group.drain(1..) {
                    job.answer(Err(error.repeated()));
                }
                if let Some(job) = group.pop() {
                    job.answer(Err(error));
                }
            }
        }
    }

    /// One transaction with all of them; what it touched is bumped before anybody is answered.
    fn attempt(&self, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        self.database.look()?;
        let kib: u64 = group.iter().map(|job| job.kib()).sum();
        self.database.room_for(kib.saturating_mul(1024 * WRITTEN_PER_HELD))?;
        let begun = self.database.begin_write()?;
        let judge = |error| self.database.judge(begun.epoch, error);
        let mut applied = Vec::with_capacity(group.len());
        for job in group.iter_mut() {
            applied.push(job.apply(&begun.transaction).map_err(judge)?);
        }
        if !applied.iter().any(|applied| applied.changed) {
            return begun.transaction.abort().map_err(|error| judge(error.into()));
        }
        begun.transaction.commit().map_err(|error| judge(error.into()))?;
        // What went into a file that nobody will find again was not written.
        self.database.look()?;
        self.database.commits.fetch_add(1, Ordering::Relaxed);
        self.database.writes.fetch_add(group.len() as u64, Ordering::Relaxed);
        applied.iter().for_each(|applied| self.database.bump(&applied.touched));
        Ok(())
    }

    /// Opens the database again, at growing intervals; what is asked meanwhile is answered at once.
    fn recover(&self) -> ControlFlow<()> {
        let clock = Clock::system();
        let mut wait = self.reopen_after;
        let mut next = clock.instant() + wait;
        loop {
            match self.queue.recv_timeout(next.saturating_duration_since(clock.instant())) {
                Ok(Message::Write(job)) => {
                    let reason = self.database.failure().unwrap_or_default();
                    job.answer(Err(StoreError::Failed { database: self.name(), reason }));
                }
                Ok(Message::Failed) => {}
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
                Err(RecvTimeoutError::Timeout) => match self.database.reopen() {
                    Ok(()) => return ControlFlow::Continue(()),
                    Err(error) => {
                        tracing::debug!(%error, "the {} database still fails to open", self.name());
                        wait = (wait * 2).min(REOPEN_AT_MOST_AFTER);
                        next = clock.instant() + wait;
                    }
                },
            }
        }
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.database.close();
    }
}

fn take(message: Message, group: &mut Vec<Box<dyn Job>>) -> ControlFlow<()> {
    match message {
        Message::Write(job) => group.push(job),
        Message::Failed => {}
        Message::Close => return ControlFlow::Break(()),
    }
    ControlFlow::Continue(())
}

impl<F, T> Job for Write<F, T>
where
    F: Fn(&WriteTransaction) -> Result<Done<T>, StoreError> + Send,
    T: Send,
{
    fn apply(&mut self, transaction: &WriteTransaction) -> Result<Applied, StoreError> {
        let done = (self.apply)(transaction)?;
        self.value = Some(done.value);
        Ok(Applied { changed: done.changed, touched: done.touched })
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { value, answer, .. } = *self;
        // Whoever asked may have gone; the write stands all the same.
        answer.send(outcome.and_then(|()| value.ok_or(StoreError::Closed))).ok();
    }

    fn kib(&self) -> u64 {
        self.room.num_permits() as u64
    }
}

/// How often an idle writer looks whether its file is still there, and can be written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Signatures are stored as text, and pages are never quite full.
const WRITTEN_PER_HELD: u64 = 3;
/// How many writes one commit takes at most.
const GROUP_MAX: usize = 512;
/// How much may wait for its commit, in KiB.
const QUEUE_KIB: u32 = 64 << 10;
const REOPEN_AT_MOST_AFTER: Duration = Duration::from_secs(5);
