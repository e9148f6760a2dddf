use std::{
    io,
    sync::{Arc, Mutex},
};

use redb::StorageBackend;

use super::*;

/// Storage in memory that can fail from one operation on, and lose what was never synced.
#[derive(Debug, Clone, Default)]
pub(super) struct Faulty(Arc<Mutex<FaultyState>>);

#[derive(Debug, Default)]
struct FaultyState {
    live: Vec<u8>,
    synced: Vec<u8>,
    /// What was done since the last sync.
    unsynced: Vec<Change>,
    operations: u64,
    /// The operation, counted from one, that fails.
    fails_at: Option<(u64, Fails)>,
    reads_fail: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Len(usize),
    Write(usize, Vec<u8>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Once,
    FromThenOn,
}

/// What a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Synced,
    /// Every second change since then, too: a disk writes in an order of its own.
    Some,
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }
}

impl Faulty {
    fn disk(files: &BTreeMap<&'static str, Self>) -> Disk {
        let files = files.clone();
        Disk::with_backend(move |path, _| Ok(files[path.file_name().unwrap().to_str().unwrap()].clone()))
    }

    fn fail_after(&self, operations: u64) {
        self.fail(operations, Fails::FromThenOn);
    }

    fn fail(&self, after: u64, fails: Fails) {
        let mut state = self.0.lock().unwrap();
        state.fails_at = Some((state.operations + after + 1, fails));
    }

    fn heal(&self) {
        self.0.lock().unwrap().fails_at = None;
    }

    fn cut_power(&self, keeps: Keeps) {
        let mut state = self.0.lock().unwrap();
        let mut left = state.synced.clone();
        let unsynced = std::mem::take(&mut state.unsynced);
        if keeps == Keeps::Some {
            unsynced.iter().step_by(2).for_each(|change| change.apply(&mut left));
        }
        state.synced.clone_from(&left);
        state.live = left;
        state.fails_at = None;
    }

    fn operate<T>(&self, operate: impl FnOnce(&mut FaultyState) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.operations += 1;
        match state.fails_at {
            Some((at, Fails::Once)) if state.operations == at => Err(io::Error::other("this disk failed once")),
            Some((at, Fails::FromThenOn)) if state.operations >= at => Err(io::Error::other("this disk is broken")),
            _ => Ok(operate(&mut state)),
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.operate(|state| {
            change.apply(&mut state.live);
            state.unsynced.push(change);
        })
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        if state.reads_fail {
            return Err(io::Error::other("this disk cannot be read"));
        }
        let offset = usize::try_from(offset).unwrap();
        let bytes = state.live.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|state| {
            // Only what changed: the whole of a file at each sync would take most of the time.
            for change in std::mem::take(&mut state.unsynced) {
                change.apply(&mut state.synced);
            }
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

pub(super) fn files() -> BTreeMap<&'static str, Faulty> {
    BTreeMap::from([("records.redb", Faulty::default()), ("memory.redb", Faulty::default())])
}

pub(super) fn running_on(files: &BTreeMap<&'static str, Faulty>, clock: &Clock) -> Running {
    Running::on(Faulty::disk(files), &config(Path::new("nowhere")), clock.clone())
}

/// What the history was told: these must hold whatever happens next.
#[derive(Debug, Default)]
struct Acknowledged {
    present: BTreeMap<RecordId, Record>,
    withdrawn: Vec<Identity>,
    tags: Vec<Tag>,
}

/// A history that touches every table; ends with the first write that failed.
async fn history(running: &Running, told: &mut Acknowledged) -> Result<(), StoreError> {
    for n in 0..6 {
        let new = Submission { expires_at: Some(seconds(running, 60)), ..submission(&n.to_string(), "preview-1") };
        if let Submitted::Created(record) = running.store.submit(new, RULES).await? {
            told.present.insert(record.id.clone(), record);
        }
        if n % 3 == 2 {
            let (id, record) = told.present.pop_first().unwrap();
            // Where this fails it may be so all the same: neither presence nor absence was told.
            running.store.withdraw(&id, vec![]).await?;
            told.withdrawn.extend(record.identities);
        }
        let tag: Tag = format!("preview-{n}").parse().unwrap();
        running
            .store
            .remember(Sighting {
                repository: repository("team/app"),
                digest: Digest::sha256(b"image"),
                manifest: Some((vec![b'x'; 3000].into(), "application/json".into())),
                tag: Some((tag.clone(), true)),
                confirmed: None,
                children: vec![Digest::sha256(b"layer")],
                at: running.clock.now(),
            })
            .await?;
        told.tags.push(tag);
    }
    Ok(())
}

fn holds(running: &Running, told: &Acknowledged, n: u64) {
    let store = &running.store;
    for (id, record) in &told.present {
        assert_eq!(store.record(id).unwrap().as_ref(), Some(record), "fault {n}");
        assert!(store.records_of(&record.digest).unwrap().contains(record), "fault {n}");
    }
    for identity in &told.withdrawn {
        assert!(store.identity(identity).unwrap().unwrap().withdrawn, "fault {n}");
    }
    let tags = store.tags_seen(&repository("team/app"), &Digest::sha256(b"image")).unwrap();
    assert!(told.tags.iter().all(|tag| tags.contains(tag)), "fault {n}: {tags:?}");
    assert_eq!(store.check().unwrap().flaws, [""; 0], "fault {n}");
}

/// How many operations on each file the history takes when nothing fails.
async fn operations(name: &'static str) -> u64 {
    let files = files();
    let running = running_on(&files, &clock());
    let before = files[name].0.lock().unwrap().operations;
    history(&running, &mut Acknowledged::default()).await.unwrap();
    files[name].0.lock().unwrap().operations - before
}

/// The power goes at every operation in turn: what was synced is kept, and of the rest what `keeps` says.
async fn survives_a_power_cut(name: &'static str, keeps: Keeps) {
    for n in 0..operations(name).await {
        let files = files();
        let running = running_on(&files, &clock());
        files[name].fail(n, Fails::FromThenOn);
        let mut told = Acknowledged::default();
        assert!(matches!(history(&running, &mut told).await, Err(StoreError::Failed { .. })), "{name} {n}");
        drop(running);
        files.values().for_each(|file| file.cut_power(keeps));
        let running = running_on(&files, &clock());
        holds(&running, &told, n);
        running.create(&submission("afterwards", "v1")).await;
    }
}

#[tokio::test]
async fn records_outlive_a_power_cut_that_keeps_only_what_was_synced() {
    survives_a_power_cut("records.redb", Keeps::Synced).await;
}

#[tokio::test]
async fn memory_outlives_a_power_cut_that_keeps_only_what_was_synced() {
    survives_a_power_cut("memory.redb", Keeps::Synced).await;
}

#[tokio::test]
async fn records_outlive_a_power_cut_that_keeps_some_of_the_rest() {
    survives_a_power_cut("records.redb", Keeps::Some).await;
}

#[tokio::test]
async fn memory_outlives_a_power_cut_that_keeps_some_of_the_rest() {
    survives_a_power_cut("memory.redb", Keeps::Some).await;
}

/// Every operation in turn fails: the database refuses, says so, has lost nothing, and works again.
async fn survives_a_failure(name: &'static str, fails: Fails) {
    for n in 0..operations(name).await {
        let files = files();
        let running = running_on(&files, &clock());
        let generation = running.store.generation_of("anything");
        files[name].fail(n, fails);
        let mut told = Acknowledged::default();
        let error = history(&running, &mut told).await.unwrap_err();
        let expected = name.trim_end_matches(".redb");
        assert!(matches!(error, StoreError::Failed { database, .. } if database == expected), "{name} {n}: {error}");
        assert_ne!(running.store.generation_of("anything"), generation);
        assert!(running.store.counters().failures > 0);
        if fails == Fails::FromThenOn {
            refuses(&running, expected).await;
            files[name].heal();
        }
        until_it_answers(&running).await;
        holds(&running, &told, n);
        running.create(&submission("afterwards", "v1")).await;
    }
}

async fn refuses(running: &Running, name: &str) {
    let degraded = running.store.degraded().unwrap();
    assert!(degraded.contains(name), "{degraded}");
    if name == "records" {
        let read = running.store.records_of(&Digest::sha256(b"0"));
        assert!(matches!(read, Err(StoreError::Failed { database: "records", .. })), "{read:?}");
        let write = running.store.submit(submission("late", "v1"), RULES).await;
        assert!(matches!(write, Err(StoreError::Failed { database: "records", .. })), "{write:?}");
    } else {
        let read = running.store.tags_seen(&repository("team/app"), &Digest::sha256(b"image"));
        assert!(matches!(read, Err(StoreError::Failed { database: "memory", .. })), "{read:?}");
        let write = running.store.mark_enforced_tags(&repository("team/late")).await;
        assert!(matches!(write, Err(StoreError::Failed { database: "memory", .. })), "{write:?}");
    }
}

#[tokio::test]
async fn records_refuse_and_go_on_whichever_operation_fails_once() {
    survives_a_failure("records.redb", Fails::Once).await;
}

#[tokio::test]
async fn memory_refuses_and_goes_on_whichever_operation_fails_once() {
    survives_a_failure("memory.redb", Fails::Once).await;
}

#[tokio::test]
async fn records_answer_nothing_from_any_failure_on_until_opened_again() {
    survives_a_failure("records.redb", Fails::FromThenOn).await;
}

#[tokio::test]
async fn memory_answers_nothing_from_any_failure_on_until_opened_again() {
    survives_a_failure("memory.redb", Fails::FromThenOn).await;
}

#[tokio::test]
async fn a_reader_that_meets_a_failure_has_the_database_opened_again() {
    let files = files();
    // Without a cache every read is one of the disk.
    let config = Config { records_cache_bytes: 0, ..config(Path::new("nowhere")) };
    let running = Running::on(Faulty::disk(&files), &config, clock());
    let record = running.create(&submission("a", "v1")).await;
    let set = |fail| files["records.redb"].0.lock().unwrap().reads_fail = fail;
    set(true);
    assert!(matches!(running.store.record(&record.id), Err(StoreError::Failed { database: "records", .. })));
    assert_eq!(running.store.counters().failures, 1);
    set(false);
    until_it_answers(&running).await;
    assert_eq!(running.store.record(&record.id).unwrap(), Some(record));
}

#[tokio::test]
async fn a_file_that_has_gone_is_not_replaced_by_an_empty_one() {
    let files = files();
    let replaced = Arc::new(Mutex::new(None));
    let disk = {
        let (files, replaced) = (files.clone(), Arc::clone(&replaced));
        Disk::with_backend(move |path, opening| {
            if let (Opening::Again, Some(tries)) = (opening, replaced.lock().unwrap().as_mut()) {
                *tries += 1;
                return Ok(Faulty::default());
            }
            Ok(files[path.file_name().unwrap().to_str().unwrap()].clone())
        })
    };
    let running = Running::on(disk, &config(Path::new("nowhere")), clock());
    running.create(&submission("a", "v1")).await;
    *replaced.lock().unwrap() = Some(0);
    files["records.redb"].fail_after(0);
    running.store.submit(submission("b", "v1"), RULES).await.unwrap_err();
    files["records.redb"].heal();
    while replaced.lock().unwrap().is_some_and(|tries| tries < 3) {
        assert!(matches!(running.store.identity(&identity("a")), Err(StoreError::Failed { .. })));
        tokio::task::yield_now().await;
    }
    *replaced.lock().unwrap() = None;
    until_it_answers(&running).await;
    assert_eq!(running.store.records_of(&Digest::sha256(b"a")).unwrap().len(), 1);
}

async fn until_it_answers(running: &Running) {
    while running.store.degraded().is_some() {
        tokio::task::yield_now().await;
    }
}
