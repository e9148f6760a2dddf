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
    operations: u64,
    /// The operation, counted from one, from which on nothing works.
    fails_from: Option<u64>,
    reads_fail: bool,
}

impl Faulty {
    fn disk(files: &BTreeMap<&'static str, Self>) -> Disk {
        let files = files.clone();
        Disk::with_backend(move |path, _| Ok(files[path.file_name().unwrap().to_str().unwrap()].clone()))
    }

    fn fail_after(&self, operations: u64) {
        let mut state = self.0.lock().unwrap();
        state.fails_from = Some(state.operations + operations + 1);
    }

    fn heal(&self) {
        self.0.lock().unwrap().fails_from = None;
    }

    /// What a power cut leaves.
    fn lose_unsynced(&self) {
        let mut state = self.0.lock().unwrap();
        state.live = state.synced.clone();
        state.fails_from = None;
    }

    fn operate<T>(&self, operate: impl FnOnce(&mut FaultyState) -> T) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.operations += 1;
        match state.fails_from {
            Some(first) if state.operations >= first => Err(io::Error::other("this disk is broken")),
            _ => Ok(operate(&mut state)),
        }
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
        self.operate(|state| state.live.resize(usize::try_from(len).unwrap(), 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operate(|state| state.synced.clone_from(&state.live))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.operate(|state| state.live[offset..offset + data.len()].copy_from_slice(data))
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

/// Every so manyeth operation fails in the plain run, so that it takes seconds.
const STEP: usize = 5;

#[tokio::test]
async fn nothing_acknowledged_is_lost_whichever_operation_fails_before_a_power_cut() {
    for name in ["records.redb", "memory.redb"] {
        for n in (0..operations(name).await).step_by(STEP) {
            let files = files();
            let running = running_on(&files, &clock());
            files[name].fail_after(n);
            let mut told = Acknowledged::default();
            assert!(matches!(history(&running, &mut told).await, Err(StoreError::Failed { .. })), "{name} {n}");
            drop(running);
            files.values().for_each(Faulty::lose_unsynced);
            holds(&running_on(&files, &clock()), &told, n);
        }
    }
}

#[tokio::test]
async fn a_failed_database_answers_nothing_until_it_is_opened_again() {
    for name in ["records.redb", "memory.redb"] {
        for n in (0..operations(name).await).step_by(STEP * 2) {
            let files = files();
            let running = running_on(&files, &clock());
            let generation = running.store.generation_of("anything");
            files[name].fail_after(n);
            let mut told = Acknowledged::default();
            assert!(history(&running, &mut told).await.is_err(), "{name} {n}");

            let degraded = running.store.degraded().unwrap();
            assert!(degraded.contains(name.trim_end_matches(".redb")), "{degraded}");
            assert_ne!(running.store.generation_of("anything"), generation);
            if name == "records.redb" {
                let read = running.store.records_of(&Digest::sha256(b"0"));
                assert!(matches!(read, Err(StoreError::Failed { database: "records", .. })), "{read:?}");
                let write = running.store.submit(submission("late", "v1"), RULES).await;
                assert!(matches!(write, Err(StoreError::Failed { database: "records", .. })), "{write:?}");
            } else {
                let read = running.store.tags_seen(&repository("team/app"), &Digest::sha256(b"image"));
                assert!(matches!(read, Err(StoreError::Failed { database: "memory", .. })), "{read:?}");
            }

            files[name].heal();
            until_it_answers(&running).await;
            holds(&running, &told, n);
            running.create(&submission("afterwards", "v1")).await;
        }
    }
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
