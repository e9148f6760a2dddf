//! What the store costs: a durable submission, a look among many records, a sweep.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on has failed")]

use std::{collections::BTreeMap, hint::black_box, path::Path, thread::JoinHandle, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use jiff::Timestamp;
use sig_repo::{
    clock::Clock,
    oci::{Digest, TagType},
    store::{Config, Identity, Store, Submission, SubmitRules, Submitted},
};
use tokio::runtime::Runtime;

const RECORDS: usize = 100_000;
const SWEPT: usize = 100;
const DAY: Duration = Duration::from_secs(24 * 3600);
const RULES: SubmitRules = SubmitRules { life: None, may_promote: false, verified: true };

fn store(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let open = Open::at(dir.path());
    let mut next = 0..;
    let mut fresh = move || submission(next.next().unwrap(), None);

    let mut group = c.benchmark_group("store");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("commit one signature", |b| b.iter(|| open.submit(&runtime, [fresh()])));
    group.throughput(Throughput::Elements(256));
    group.bench_function("commit 256 signatures at once", |b| {
        b.iter(|| open.submit(&runtime, std::iter::repeat_with(&mut fresh).take(256)));
    });
    group.throughput(Throughput::Elements(1));

    let stored = open.store.check().unwrap().records;
    for _ in 0..RECORDS.saturating_sub(stored) / 500 {
        open.submit(&runtime, std::iter::repeat_with(&mut fresh).take(500));
    }
    group.bench_function("records of a digest among 100,000", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 7919) % RECORDS;
            black_box(open.store.records_of(&digest(n)).unwrap())
        });
    });
    group.bench_function("sweep among 100,000 when nothing expired", |b| {
        b.iter(|| runtime.block_on(open.sweep()));
    });
    let mut next = RECORDS * 100..;
    group.throughput(Throughput::Elements(SWEPT as u64));
    group.bench_function("sweep 100 expired among 100,000", |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let previews = next.by_ref().take(SWEPT).map(|n| submission(n, Some(TagType::Preview)));
                open.submit(&runtime, previews);
                open.clock.advance(DAY);
                let clock = Clock::system();
                let before = clock.instant();
                assert_eq!(runtime.block_on(open.sweep()), SWEPT);
                took += clock.instant() - before;
            }
            took
        });
    });
    group.finish();
}

struct Open {
    store: Store,
    clock: Clock,
    writers: Vec<JoinHandle<()>>,
}

impl Open {
    fn at(dir: &Path) -> Self {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        let (store, writers) = Store::open(&Config::new(dir.to_owned()), clock.clone()).unwrap();
        let writers = writers.into_iter().map(|writer| std::thread::spawn(move || writer.run())).collect();
        Self { store, clock, writers }
    }

    fn submit(&self, runtime: &Runtime, submissions: impl IntoIterator<Item = Submission>) {
        let submissions = submissions.into_iter().map(|submission| self.store.submit(submission, RULES));
        for submitted in runtime.block_on(join_all(submissions)) {
            assert!(matches!(submitted.unwrap(), Submitted::Created(_)));
        }
    }

    async fn sweep(&self) -> usize {
        let now = self.clock.now();
        self.store.sweep(Some(now - Duration::from_secs(1)), now, DAY, SWEPT).await.unwrap()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.store.close();
        for writer in self.writers.drain(..) {
            let ended = writer.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

fn submission(n: usize, tag_type: Option<TagType>) -> Submission {
    let digest = digest(n);
    Submission {
        digest,
        repository: None,
        tag: if tag_type.is_some() { "preview-1" } else { "v1" }.parse().unwrap(),
        tag_type,
        environment: None,
        of_digest: false,
        format: "raw".into(),
        signature: vec![7; 72],
        payload: None,
        annotations: BTreeMap::new(),
        signer: Some("ci".into()),
        metadata: BTreeMap::from([("git_commit".into(), "a1b2c3d".into())]),
        expires_at: None,
        first_seen: None,
        granted: true,
        identities: vec![Identity(digest.as_bytes().try_into().unwrap())],
        submitted_by: "192.0.2.1".into(),
    }
}

fn digest(n: usize) -> Digest {
    Digest::sha256(&n.to_be_bytes())
}

criterion_group!(benches, store);
criterion_main!(benches);
