//! Files that are not, or no longer, what was written.

use super::*;

#[tokio::test]
async fn what_was_kept_is_found_again_and_believed_once_it_was_read() {
    let scene = Scene::new();
    let [good, bad, short, gone] = [8, 9, 10, 11].map(|seed| blob(seed, 600_001));
    for blob in [&good, &bad, &short, &gone] {
        scene.keep(blob).await;
    }
    fs::write(scene.directory.path().join("partial/7"), b"left over").unwrap();
    let scene = scene.restarted().await;
    assert_eq!((scene.partials(), scene.cache.inner.index.totals()), (0, (4, 4 * 600_001)));

    // One byte is another one, the length is what it was.
    let mut bytes = fs::read(scene.file_of(&bad)).unwrap();
    bytes[300_000] ^= 1;
    fs::write(scene.file_of(&bad), bytes).unwrap();
    fs::File::options().write(true).open(scene.file_of(&short)).unwrap().set_len(600_000).unwrap();
    fs::remove_file(scene.file_of(&gone)).unwrap();

    assert_eq!(scene.whole(&good).await.unwrap(), good);
    assert_eq!(scene.cached(&good, 7..9).await.unwrap(), good.slice(7..9));
    for (blob, why) in [(&bad, "not what it was"), (&short, "missing"), (&gone, "missing")] {
        assert!(scene.whole(blob).await.unwrap_err().contains(why));
        assert!(scene.cache.cached(&Digest::sha256(blob)).await.is_none());
        scene.keep(blob).await;
        assert_eq!(&scene.whole(blob).await.unwrap(), blob);
    }
}

#[tokio::test]
async fn a_file_that_changes_under_us_never_arrives_whole() {
    let scene = Scene::new();
    let blob = blob(12, 2_000_000);
    scene.keep(&blob).await;
    let change = || {
        let mut bytes = fs::read(scene.file_of(&blob)).unwrap();
        bytes[1_999_999] ^= 1;
        fs::write(scene.file_of(&blob), bytes).unwrap();
    };
    let mut body = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap().body(0..2_000_000).await.unwrap();
    body.frame().await.unwrap().unwrap();
    change();
    body.collect().await.unwrap_err();
    // Nor a part of it, the next time.
    assert!(scene.cached(&blob, 0..10).await.unwrap_err().contains("not what it was"));
    scene.keep(&blob).await;
    // What only looks changed is read, and served.
    fs::File::open(scene.file_of(&blob)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(scene.whole(&blob).await.unwrap(), blob);
}

const FAST: Pace = Pace { pass: Duration::from_millis(1), max_bytes_per_second: u64::MAX };

#[tokio::test]
async fn what_the_disk_has_altered_is_found_without_a_reader() {
    let scene = Scene::new();
    let [good, flipped, cut, missing] = [41, 42, 43, 44].map(|seed| blob(seed, 600_001));
    for blob in [&good, &flipped, &cut, &missing] {
        scene.keep(blob).await;
    }
    let unused = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    let times = FileTimes::new().set_accessed(unused);
    fs::File::open(scene.file_of(&good)).unwrap().set_times(times).unwrap();
    scene.flip_a_bit(&flipped);
    fs::File::options().write(true).open(scene.file_of(&cut)).unwrap().set_len(600_000).unwrap();
    fs::remove_file(scene.file_of(&missing)).unwrap();
    // Nothing tells a reader that anything has happened.
    assert_ne!(scene.whole(&flipped).await.unwrap(), flipped);

    let _scrubbing = scene.scrub(FAST);
    for blob in [&flipped, &cut, &missing] {
        scene.until_gone(blob).await;
        scene.keep(blob).await;
        assert_eq!(&scene.whole(blob).await.unwrap(), blob);
    }
    assert_eq!(scene.cache.inner.counters.damaged.get(), 3);
    assert_eq!(fs::metadata(scene.file_of(&good)).unwrap().accessed().unwrap(), unused);
    assert_eq!(scene.whole(&good).await.unwrap(), good);
}

#[tokio::test]
async fn who_reads_what_is_found_damaged_does_not_get_it_whole() {
    let scene = Scene::new();
    let blob = blob(45, 2_000_000);
    scene.keep(&blob).await;
    let mut body = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap().body(0..2_000_000).await.unwrap();
    body.frame().await.unwrap().unwrap();
    scene.flip_a_bit(&blob);
    let _scrubbing = scene.scrub(FAST);
    scene.until_gone(&blob).await;
    assert!(read(body).await.unwrap_err().contains("not what it was"));
}

#[tokio::test]
async fn reading_through_goes_on_where_the_process_before_was() {
    let scene = Scene::new();
    let mut blobs = [46, 47, 48].map(|seed| blob(seed, 100_000));
    blobs.sort_by_key(|blob| Digest::sha256(blob));
    for blob in &blobs {
        scene.keep(blob).await;
        scene.flip_a_bit(blob);
    }
    fs::write(scene.directory.path().join("scrubbed"), Digest::sha256(&blobs[1]).to_string()).unwrap();
    let scene = scene.restarted().await;
    let scrubbing = scene.scrub(Pace { pass: Duration::from_secs(3600), ..FAST });
    scene.until_gone(&blobs[2]).await;
    drop(scrubbing);
    assert!(scene.file_of(&blobs[0]).exists() && scene.file_of(&blobs[1]).exists());
    // What is written down there may be anything.
    fs::write(scene.directory.path().join("scrubbed"), "sha256:no").unwrap();
    let _scrubbing = scene.scrub(Pace { pass: Duration::from_secs(3600), ..FAST });
    scene.until_gone(&blobs[0]).await;
    scene.until_gone(&blobs[1]).await;
}

#[tokio::test]
async fn what_is_read_through_may_go_meanwhile() {
    let scene = Scene::of_size(1_000_000);
    let [old, new] = [49, 50].map(|seed| blob(seed, 900_000));
    scene.keep(&old).await;
    // At this pace it would take days.
    let _scrubbing = scene.scrub(Pace { max_bytes_per_second: 1, ..FAST });
    tokio::task::yield_now().await;
    scene.keep(&new).await;
    assert_eq!(scene.cache.inner.counters.damaged.get(), 0);
    assert_eq!(scene.whole(&new).await.unwrap(), new);
}

#[tokio::test]
async fn a_part_of_a_piece_that_others_read_is_looked_at_too() {
    let scene = Scene::new();
    let blob = blob(15, 600_000);
    scene.keep(&blob).await;
    let digest = Digest::sha256(&blob);
    let mut whole = scene.cache.cached(&digest).await.unwrap().body(0..600_000).await.unwrap();
    let part = scene.cache.cached(&digest).await.unwrap().body(0..1000).await.unwrap();
    // The piece that the part is in stays with whoever sends it.
    let _sent = whole.frame().await.unwrap().unwrap();
    fs::write(scene.file_of(&blob), &blob[1..]).unwrap();
    assert!(read(part).await.unwrap_err().contains("not what it was"));
}

#[tokio::test]
async fn a_file_that_changes_before_its_fetch_is_over_never_arrives_whole() {
    let blob = blob(14, 1_500_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let fill =
        Fill::new(Digest::sha256(&blob), 1_500_000, Arc::new(Scripted::new(&blob)), file, CacheCounters::default());
    let scene = Scene::new();
    let [late, later] = [fill.join(), fill.join()].map(|reading| ComingBlob { cache: scene.cache.clone(), reading });
    fill.run(&Background { places: Semaphore::new(0), patience: Duration::ZERO }).await.unwrap();
    assert_eq!(read(late.body(0..1_500_000)).await.unwrap(), blob);
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut bytes = fs::read(&path).unwrap();
    bytes[7] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Its end is at hand in memory, its beginning is read from the file.
    assert!(read(later.body(0..1_500_000)).await.unwrap_err().contains("not what it was"));
}

#[tokio::test]
async fn a_file_that_the_disk_does_not_read_is_fetched_again() {
    let scene = Scene::new();
    let blob = blob(46, 600_001);
    for range in [0..600_001, 7..9] {
        scene.keep(&blob).await;
        let mut cached = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap();
        cached.file = unreadable();
        let error = read(cached.body(range).await.unwrap()).await.unwrap_err();
        assert!(error.contains("Input/output error"), "{error}");
        scene.until_gone(&blob).await;
    }
    // One that is read to know it, too.
    scene.keep(&blob).await;
    let mut cached = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap();
    (cached.file, cached.is_verified) = (unreadable(), false);
    assert!(cached.body(7..9).await.unwrap_err().to_string().contains("Input/output error"));
    scene.until_gone(&blob).await;
    scene.keep(&blob).await;
    assert_eq!((scene.whole(&blob).await.unwrap(), scene.cache.inner.counters.damaged.get()), (blob, 3));
}

/// No process has anything at the address 0, so that reading it is EIO.
fn unreadable() -> fs::File {
    fs::File::open("/proc/self/mem").unwrap()
}
