use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn sweep(running: &Running, life: Option<Duration>, limit: usize) -> usize {
    let now = running.clock.now();
    let cutoff = life.map(|life| now - life - DAY);
    let counted = running.store.count_removable(cutoff, now, DAY).unwrap();
    let removed = running.store.sweep(cutoff, now, DAY, limit).await.unwrap();
    assert_eq!(removed, counted.min(limit));
    removed
}

#[tokio::test]
async fn an_expired_preview_is_refused_before_and_after_the_sweep() {
    let (dir, running) = start();
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    running.clock.advance(7 * DAY - Duration::from_nanos(1));
    assert_eq!(running.submit(&new).await, Submitted::Existing(record.clone()));
    running.clock.advance(Duration::from_nanos(1));
    assert_eq!(running.submit(&new).await, Submitted::Expired);
    assert_eq!(sweep(&running, RULES.life, 100).await, 0, "removal waits");

    running.clock.advance(DAY + Duration::from_micros(1));
    assert_eq!(sweep(&running, RULES.life, 100).await, 1);
    assert_eq!(running.store.records_of(&new.digest).unwrap(), []);
    let relabelled = Submission { tag: "preview-2".parse().unwrap(), ..new.clone() };
    let promoted = Submission { tag: "internal-1".parse().unwrap(), tag_type: Some(TagType::Internal), ..new.clone() };
    for again in [&new, &relabelled, &promoted] {
        let rules = SubmitRules { may_promote: true, ..RULES };
        assert_eq!(running.store.submit(again.clone(), rules).await.unwrap(), Submitted::Expired);
    }
    // A clock that goes back does not make it new, nor does a process that starts with such a clock.
    running.clock.set(record.first_seen - DAY);
    assert_eq!(running.submit(&new).await, Submitted::Expired);
    running.store.note_time(Duration::ZERO).await.unwrap();
    drop(running);
    let running = Running::at(dir.path(), &Clock::manual(record.first_seen - DAY));
    assert_eq!(running.submit(&new).await, Submitted::Expired);
}

#[tokio::test]
async fn the_life_in_force_decides_and_none_keeps() {
    let (_dir, running) = start();
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    running.clock.advance(30 * DAY);
    let life = |life| SubmitRules { life, ..RULES };
    assert_eq!(running.store.submit(new.clone(), life(None)).await.unwrap(), Submitted::Existing(record.clone()));
    assert_eq!(running.store.submit(new.clone(), life(Some(31 * DAY))).await.unwrap(), Submitted::Existing(record));
    assert_eq!(running.store.submit(new, life(Some(30 * DAY))).await.unwrap(), Submitted::Expired);
    assert_eq!(sweep(&running, None, 100).await, 0);
}

#[tokio::test]
async fn an_end_of_its_own_is_remembered_beyond_the_record() {
    let (_dir, running) = start();
    let new = Submission { expires_at: Some(seconds(&running, 60)), ..submission("a", "v1") };
    running.create(&new).await;
    let renewed = Submission { expires_at: None, ..new.clone() };
    assert!(matches!(running.submit(&renewed).await, Submitted::Existing(_)));
    running.clock.advance(Duration::from_secs(60));
    assert_eq!(running.submit(&renewed).await, Submitted::Expired);
    running.clock.advance(2 * DAY);
    assert_eq!(sweep(&running, None, 100).await, 1);
    assert_eq!(running.submit(&renewed).await, Submitted::Expired);
}

#[tokio::test]
async fn the_sweep_takes_the_oldest_first_and_leaves_the_living() {
    let (_dir, running) = start();
    let mut ids = Vec::new();
    for n in 0..6 {
        let new = Submission { digest: Digest::sha256(b"image"), ..submission(&n.to_string(), "preview-1") };
        // One with both ends is counted and removed once.
        let expires_at = (n == 0).then(|| seconds(&running, 10));
        ids.push(running.create(&Submission { expires_at, ..new }).await.id);
        running.clock.advance(DAY);
    }
    running.create(&submission("release", "v1")).await;
    running.clock.advance(5 * DAY + Duration::from_secs(1));
    assert_eq!(sweep(&running, RULES.life, 1).await, 1);
    let left = |running: &Running| -> Vec<RecordId> {
        running.store.records_of(&Digest::sha256(b"image")).unwrap().into_iter().map(|record| record.id).collect()
    };
    assert_eq!(left(&running), ids[1..]);
    assert_eq!(sweep(&running, RULES.life, 100).await, 3);
    assert_eq!(left(&running), ids[4..]);
    assert_eq!(sweep(&running, RULES.life, 100).await, 0);
    assert_eq!(running.store.check().unwrap(), Checked { records: 3, flaws: vec![] });
}
