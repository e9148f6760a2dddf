//! The store through its own surface, on real files and on storage that fails.

mod artifacts;
mod expiry;
mod faults;
mod files;
mod model;
mod opening;
mod rules;
mod time;

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::oci::{Digest, Repository, Tag, TagType};

/// A store with its writers running; closed, and its threads joined, when it goes.
pub(super) struct Running {
    pub(super) store: Store,
    pub(super) clock: Clock,
    writers: Vec<JoinHandle<()>>,
}

impl Running {
    pub(super) fn on(disk: Disk, config: &Config, clock: Clock) -> Self {
        let (store, writers) = Store::open_on(disk, config, clock.clone()).unwrap();
        Self { store, clock, writers: spawn(writers) }
    }

    pub(super) fn at(dir: &Path, clock: &Clock) -> Self {
        Self::on(Disk::files(), &config(dir), clock.clone())
    }

    pub(super) async fn submit(&self, submission: &Submission) -> Submitted {
        self.store.submit(submission.clone(), RULES).await.unwrap()
    }

    pub(super) async fn create(&self, submission: &Submission) -> Record {
        match self.submit(submission).await {
            Submitted::Created(record) => record,
            other => panic!("not created: {other:?}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.store.close();
        for writer in self.writers.drain(..) {
            let ended = writer.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn spawn(writers: Vec<StoreWriter>) -> Vec<JoinHandle<()>> {
    writers.into_iter().map(|writer| std::thread::spawn(move || writer.run())).collect()
}

pub(super) fn start() -> (TempDir, Running) {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::at(dir.path(), &clock());
    (dir, running)
}

pub(super) fn config(dir: &Path) -> Config {
    Config { reopen_after: Duration::from_millis(1), ..Config::new(dir.to_owned()) }
}

pub(super) fn clock() -> Clock {
    Clock::manual("2026-11-22T10:00:00Z".parse().unwrap())
}

/// Starts a future without a thread that would go on with it: what it queues is queued then.
fn started<F: Future>(mut future: std::pin::Pin<&mut F>) {
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Pending));
}

pub(super) const RULES: SubmitRules =
    SubmitRules { life: Some(Duration::from_secs(7 * 24 * 3600)), may_promote: false, verified: true };

/// A signature of its own for each `name`, over an image of its own.
pub(super) fn submission(name: &str, tag: &str) -> Submission {
    let tag: Tag = tag.parse().unwrap();
    Submission {
        digest: Digest::sha256(name.as_bytes()),
        repository: None,
        tag_type: tag.stated_type(),
        tag,
        environment: None,
        of_digest: false,
        format: "raw".into(),
        signature: name.as_bytes().to_vec(),
        payload: Some(vec![0, 255]),
        annotations: BTreeMap::from([("dev.sigstore.cosign/bundle".into(), "{}".into())]),
        signer: Some("ci".into()),
        metadata: BTreeMap::from([("git_commit".into(), "a1b2c3d".into())]),
        expires_at: None,
        first_seen: None,
        granted: true,
        identities: vec![identity(name)],
        submitted_by: "192.0.2.1".into(),
    }
}

pub(super) fn identity(name: &str) -> Identity {
    Identity(Digest::sha256(name.as_bytes()).as_bytes().try_into().unwrap())
}

pub(super) fn repository(name: &str) -> Repository {
    Repository::new(&"docker.io".parse().unwrap(), name).unwrap()
}

pub(super) fn seconds(store: &Running, after: i64) -> Timestamp {
    Timestamp::from_second(store.clock.now().as_second() + after).unwrap()
}

#[tokio::test]
async fn a_record_comes_back_as_it_went_in_and_survives_reopening() {
    let (dir, running) = start();
    let new = Submission {
        repository: Some(repository("team/app")),
        environment: Some("test-prod".into()),
        of_digest: true,
        expires_at: Some(seconds(&running, 60)),
        ..submission("a", "internal-1.0")
    };
    let record = running.create(&new).await;
    assert_eq!(record.signature, new.signature);
    assert_eq!(record.created_at, running.clock.now());
    let clock = running.clock.clone();
    drop(running);

    let running = Running::at(dir.path(), &clock);
    assert_eq!(running.store.record(&record.id).unwrap(), Some(record.clone()));
    assert_eq!(running.store.records_of(&new.digest).unwrap(), std::slice::from_ref(&record));
    let page = running.store.tags_page(Some(TagType::Internal), Some("test-prod"), None, 10).unwrap();
    assert_eq!(page, Page { items: vec![record.clone()], next: None });
    assert_eq!(running.store.tags_page(Some(TagType::Preview), None, None, 10).unwrap().items, []);
    assert_eq!(running.store.tags_page(None, Some("test"), None, 10).unwrap().items, []);
    assert_eq!(running.store.check().unwrap(), Checked { records: 1, flaws: vec![] });
}

#[test]
fn writes_that_wait_together_are_one_commit_and_each_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, writers) = Store::open(&config(dir.path()), clock()).unwrap();
    let mut futures: Vec<_> =
        (0..40).map(|n| Box::pin(store.submit(submission(&format!("{n}"), "v1"), RULES))).collect();
    futures.iter_mut().for_each(|future| started(future.as_mut()));
    let before = store.generation_of(Digest::sha256(b"0"));
    let writers = spawn(writers);
    for future in futures {
        assert!(matches!(block_on(future).unwrap(), Submitted::Created(_)));
    }
    assert_ne!(store.generation_of(Digest::sha256(b"0")), before);
    assert_eq!(store.counters(), StoreCounters { commits: 1, writes: 40, failures: 0 });
    store.close();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(matches!(store.record(&"0".repeat(32).parse().unwrap()), Err(StoreError::Closed)));
    assert!(matches!(block_on(store.submit(submission("late", "v1"), RULES)), Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_damaged_row_fails_its_own_reader_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut writers) = Store::open(&config(dir.path()), clock()).unwrap();
    let (memory, records) = (writers.pop().unwrap(), writers.pop().unwrap());
    let damaged: RecordId = "00".repeat(16).parse().unwrap();
    let key = schema::RecordKey::of(&damaged).unwrap();
    let mut damage = pin!(store.inner.records.write(0, move |transaction| {
        transaction.open_table(schema::RECORDS)?.insert(key.0.as_slice(), b"{}".as_slice())?;
        Ok(writer::Done::changed((), generations::Touched::default()))
    }));
    let mut withdrawal = pin!(store.withdraw(&damaged, vec![]));
    let mut submission = pin!(store.submit(submission("good", "v1"), RULES));
    started(damage.as_mut());
    started(withdrawal.as_mut());
    started(submission.as_mut());
    let writers = spawn(vec![records, memory]);
    damage.await.unwrap();
    assert!(matches!(withdrawal.await, Err(StoreError::Row { table: "records", .. })));
    assert!(matches!(submission.await, Ok(Submitted::Created(_))));
    assert!(matches!(store.record(&damaged), Err(StoreError::Row { .. })));
    assert_eq!(store.degraded(), None);
    store.close();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
