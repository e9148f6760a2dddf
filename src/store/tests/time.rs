use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Another process on the same directory, whose clock says this.
fn started_at(dir: &Path, system: Timestamp) -> Running {
    Running::at(dir, &Clock::manual(system))
}

#[tokio::test]
async fn the_latest_time_is_known_to_the_next_process_to_the_minute() {
    let (dir, running) = start();
    let began = running.clock.now();
    running.clock.advance(59 * MINUTE);
    running.store.note_time(MINUTE).await.unwrap();
    // Not written at every look, so that much is what a kill can cost.
    let commits = running.store.counters().commits;
    running.clock.advance(MINUTE - Duration::from_millis(1));
    running.store.note_time(MINUTE).await.unwrap();
    assert_eq!(running.store.counters().commits, commits);
    drop(running);

    let running = started_at(dir.path(), began - YEAR);
    assert_eq!(running.clock.now(), began + 59 * MINUTE);
    running.clock.advance(MINUTE);
    assert_eq!(running.clock.now(), began + 60 * MINUTE);
    assert_eq!(running.create(&submission("a", "preview-1")).await.first_seen, began + 60 * MINUTE);
}

#[tokio::test]
async fn a_start_with_a_later_clock_is_noted_before_anything_is_answered() {
    let (dir, running) = start();
    let began = running.clock.now();
    drop(running);
    drop(started_at(dir.path(), began + YEAR));
    assert_eq!(started_at(dir.path(), began).clock.now(), began + YEAR);
}

#[tokio::test]
async fn a_jump_that_does_not_last_is_not_noted() {
    let (dir, running) = start();
    let began = running.clock.now();
    running.clock.set(began + YEAR);
    running.store.note_time(MINUTE).await.unwrap();
    running.clock.advance(9 * MINUTE);
    running.store.note_time(MINUTE).await.unwrap();
    drop(running);
    let running = started_at(dir.path(), began + 9 * MINUTE);
    assert_eq!(running.clock.now(), began + 9 * MINUTE);
    assert_eq!(running.clock.reading().behind(), None);
}

#[tokio::test]
async fn what_was_submitted_while_the_clock_was_ahead_lives_from_when_it_was_put_right() {
    let (_dir, running) = start();
    let began = running.clock.now();
    running.clock.set(began + YEAR);
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    assert_eq!(record.first_seen, began + YEAR);
    assert_eq!(running.store.begin_lives_by(running.clock.now(), 10).await.unwrap(), 0);

    running.clock.set(began + MINUTE);
    let other = running.create(&submission("b", "preview-1")).await;
    assert_eq!(running.store.begin_lives_by(running.clock.now(), 10).await.unwrap(), 1);
    let record = running.store.record(&record.id).unwrap().unwrap();
    assert_eq!(record.first_seen, began + MINUTE);
    assert_eq!(running.store.identity(&identity("a")).unwrap().unwrap().first_seen, began + MINUTE);
    assert_eq!(running.store.record(&other.id).unwrap(), Some(other));
    assert_eq!(running.store.check().unwrap(), Checked { records: 2, flaws: vec![] });
    running.clock.advance(RULES.life.unwrap());
    assert_eq!(running.submit(&new).await, Submitted::Expired);
}

#[tokio::test]
async fn an_operator_takes_back_a_time_that_was_a_mistake() {
    let (dir, running) = start();
    let began = running.clock.now();
    let config = config(dir.path());
    let in_use = Store::accept_time(&config, &Clock::manual(began)).unwrap_err();
    assert!(matches!(in_use, StoreError::Locked { .. }), "{in_use:?}");
    let new = submission("a", "preview-1");
    let record = running.create(&new).await;
    drop(running);
    let running = started_at(dir.path(), began + YEAR);
    assert_eq!(running.submit(&new).await, Submitted::Expired);
    drop(running);

    let before = Store::accept_time(&config, &Clock::manual(began + MINUTE)).unwrap();
    assert_eq!(before, Some(began + YEAR));
    let running = started_at(dir.path(), began + MINUTE);
    assert_eq!(running.clock.reading().behind(), None);
    assert_eq!(running.submit(&new).await, Submitted::Existing(record));
}
