use super::*;

use std::fs;

const NAMES: [&str; 2] = ["records.redb", "memory.redb"];

fn sighting(running: &Running, tag: &str) -> Sighting {
    Sighting {
        repository: repository("team/app"),
        digest: Digest::sha256(b"image"),
        manifest: Some((b"{}".as_slice().into(), "application/json".into())),
        tag: Some((tag.parse().unwrap(), true)),
        confirmed: None,
        children: vec![],
        at: running.clock.now(),
    }
}

/// A write to the database in that file.
async fn write(running: &Running, file: &str, name: &str) -> Result<(), StoreError> {
    match file {
        "records.redb" => running.store.submit(submission(name, "v1"), RULES).await.map(drop),
        _ => running.store.remember(sighting(running, name)).await,
    }
}

fn reads(running: &Running, file: &str) -> Result<usize, StoreError> {
    match file {
        "records.redb" => running.store.records_of(&Digest::sha256(b"before")).map(|records| records.len()),
        _ => running.store.tags_seen(&repository("team/app"), &Digest::sha256(b"image")).map(|tags| tags.len()),
    }
}

async fn until_degraded(running: &Running, text: &str) {
    while !running.store.degraded().is_some_and(|degraded| degraded.contains(text)) {
        tokio::task::yield_now().await;
    }
}

async fn until_it_answers(running: &Running) {
    while running.store.degraded().is_some() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_removed_file_takes_no_writes_and_goes_on_when_it_is_put_back() {
    for file in NAMES {
        let (dir, running) = start();
        write(&running, file, "before").await.unwrap();
        let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        let refused = write(&running, file, "meanwhile").await.unwrap_err();
        assert!(matches!(&refused, StoreError::Failed { reason, .. } if reason.contains("was removed")), "{refused}");
        assert!(matches!(reads(&running, file), Err(StoreError::Failed { .. })));
        assert!(!path.exists(), "an empty one was made");

        fs::rename(&aside, &path).unwrap();
        until_it_answers(&running).await;
        assert_eq!(reads(&running, file).unwrap(), 1);
        write(&running, file, "afterwards").await.unwrap();
        assert_eq!(running.store.check().unwrap().flaws, [""; 0]);
    }
}

#[tokio::test]
async fn a_file_that_is_removed_is_noticed_by_nobodys_write() {
    let (dir, running) = start();
    fs::rename(dir.path().join("records.redb"), dir.path().join("aside")).unwrap();
    until_degraded(&running, "was removed").await;
    assert!(matches!(reads(&running, "records.redb"), Err(StoreError::Failed { .. })));
}

#[tokio::test]
async fn only_a_file_of_the_same_store_is_taken_in_the_place_of_a_removed_one() {
    for file in NAMES {
        let (other_dir, other) = start();
        write(&other, file, "other").await.unwrap();
        drop(other);
        let dir = tempfile::tempdir().unwrap();
        let running = Running::at(dir.path(), &Clock::manual("2026-11-22T10:00:01Z".parse().unwrap()));
        write(&running, file, "before").await.unwrap();
        let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
        fs::rename(&path, &aside).unwrap();
        fs::copy(other_dir.path().join(file), &path).unwrap();
        write(&running, file, "meanwhile").await.unwrap_err();
        until_degraded(&running, "is of another store").await;
        assert!(matches!(reads(&running, file), Err(StoreError::Failed { .. })));

        // A copy of its own, as from a backup, is as good as the file itself.
        fs::copy(&aside, dir.path().join("copy")).unwrap();
        fs::rename(dir.path().join("copy"), &path).unwrap();
        until_it_answers(&running).await;
        assert_eq!(reads(&running, file).unwrap(), 1);
    }
}

#[tokio::test]
async fn a_store_does_not_open_without_the_records_that_it_had() {
    let (dir, running) = start();
    running.create(&submission("a", "v1")).await;
    drop(running);
    let (path, aside) = (dir.path().join("records.redb"), dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    for _ in 0..2 {
        let error = Store::open(&config(dir.path()), clock()).map(drop).unwrap_err();
        assert!(matches!(&error, StoreError::RecordsMissing { missing, .. } if *missing == path), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("Put it back") && text.contains("memory.redb"), "{text}");
        assert!(!path.exists(), "an empty one was made");
    }
    fs::rename(&aside, &path).unwrap();
    let running = Running::at(dir.path(), &clock());
    assert_eq!(running.store.records_of(&Digest::sha256(b"a")).unwrap().len(), 1);
    drop(running);
    // Without both it is a new store.
    NAMES.iter().for_each(|name| fs::remove_file(dir.path().join(name)).unwrap());
    assert_eq!(Running::at(dir.path(), &clock()).store.check().unwrap().records, 0);
}

#[tokio::test]
async fn a_lost_memory_leaves_every_repository_enforced() {
    let (dir, running) = start();
    let elsewhere = repository("team/other");
    assert!(!running.store.knows_enforced_tags(&elsewhere).unwrap());
    drop(running);
    fs::remove_file(dir.path().join("memory.redb")).unwrap();
    for _ in 0..2 {
        let running = Running::at(dir.path(), &clock());
        assert!(running.store.knows_enforced_tags(&elsewhere).unwrap());
        running.store.remember(sighting(&running, "preview-1")).await.unwrap();
    }
}

#[tokio::test]
async fn files_of_two_stores_are_not_put_together() {
    let (dir, running) = start();
    drop(running);
    let other = tempfile::tempdir().unwrap();
    drop(Running::at(other.path(), &Clock::manual("2026-11-22T10:00:01Z".parse().unwrap())));
    fs::copy(other.path().join("memory.redb"), dir.path().join("memory.redb")).unwrap();
    let error = Store::open(&config(dir.path()), clock()).map(drop).unwrap_err();
    assert!(matches!(&error, StoreError::OtherStore { path } if path.ends_with("memory.redb")), "{error:?}");
}
