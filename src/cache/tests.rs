//! Blobs that come, stay and go, over a source that does what a test tells it to.

use std::{
    fs,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use tokio::{sync::Semaphore, task::JoinSet};

use super::*;
use crate::oci::Repository;

mod damage;
mod sending;

/// Gives out a blob in pieces, as many as it is let.
struct Scripted {
    place: Repository,
    blob: Bytes,
    gate: Arc<Semaphore>,
    /// From where it was asked, each time.
    asked: Arc<Mutex<Vec<u64>>>,
    /// After how many bytes each opening breaks off.
    breaks: Mutex<Vec<u64>>,
    dropped: Arc<AtomicUsize>,
}

/// Counts the bodies that are no longer read.
struct Dropped(Arc<AtomicUsize>);

const PIECE: usize = 10_000;

impl Scripted {
    fn new(blob: &Bytes) -> Self {
        Self {
            place: Repository::parse("team/app", &"docker.io".parse().unwrap()).unwrap(),
            blob: blob.clone(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            asked: Arc::default(),
            breaks: Mutex::default(),
            dropped: Arc::default(),
        }
    }

    /// So many pieces, and no more until it is let.
    fn held_after(blob: &Bytes, pieces: usize) -> Self {
        Self { gate: Arc::new(Semaphore::new(pieces)), ..Self::new(blob) }
    }
}

impl Source for Scripted {
    fn place(&self) -> &Repository {
        &self.place
    }

    fn open(&self, from: u64) -> BoxFuture<'static, Result<SourceBody, SourceError>> {
        self.asked.lock().push(from);
        let end = {
            let mut breaks = self.breaks.lock();
            if breaks.is_empty() { None } else { Some(breaks.remove(0)) }
        };
        let rest = self.blob.slice(usize::try_from(from).unwrap()..);
        let pieces: Vec<Bytes> = rest.chunks(PIECE).map(Bytes::copy_from_slice).collect();
        let (gate, dropped) = (Arc::clone(&self.gate), Dropped(Arc::clone(&self.dropped)));
        let mut sent = from;
        let body = stream::iter(pieces).then(move |piece| {
            let gate = Arc::clone(&gate);
            let _alive = &dropped;
            sent += piece.len() as u64;
            let broken = end.is_some_and(|end| sent > end);
            async move {
                gate.acquire().await.unwrap().forget();
                if broken { Err(reset()) } else { Ok(Frame::data(piece)) }
            }
        });
        async move { Ok(Box::pin(StreamBody::new(body)) as SourceBody) }.boxed()
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn reset() -> SourceError {
    SourceError { source: Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)), may_pass: true }
}

/// A cache with its fetches running.
struct Scene {
    cache: BlobCache,
    directory: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Scene {
    fn new() -> Self {
        Self::of_size(1 << 30)
    }

    fn of_size(max_bytes: u64) -> Self {
        Self::open(tempfile::tempdir().unwrap(), max_bytes)
    }

    /// One that finishes nothing which nobody waits for.
    fn impatient() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { patience: Duration::from_millis(1), ..config(&directory, 1 << 30) };
        Self::with(directory, &config)
    }

    fn open(directory: tempfile::TempDir, max_bytes: u64) -> Self {
        let config = config(&directory, max_bytes);
        Self::with(directory, &config)
    }

    fn with(directory: tempfile::TempDir, config: &Config) -> Self {
        let (cache, mut fetches) = BlobCache::open(config, Clock::system(), CacheCounters::default()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut running = JoinSet::new();
            while let Some(fetch) = fetches.next().await {
                running.spawn(fetch);
            }
        });
        Self { cache, directory, _tasks: tasks }
    }

    /// The same directory under another process.
    async fn restarted(self) -> Self {
        let Self { cache, directory, mut _tasks } = self;
        _tasks.shutdown().await;
        drop(cache);
        Self::open(directory, 1 << 30)
    }

    async fn fetch(&self, blob: &Bytes, source: Scripted) -> ComingBlob {
        self.cache.fetch(Digest::sha256(blob), blob.len() as u64, Arc::new(source)).await.unwrap()
    }

    /// Fetches a blob and waits until it is kept.
    async fn keep(&self, blob: &Bytes) {
        let coming = self.fetch(blob, Scripted::new(blob)).await;
        assert_eq!(read(coming.body(0..blob.len() as u64)).await.unwrap(), blob);
        self.until_kept(blob).await;
    }

    async fn until_kept(&self, blob: &Bytes) {
        let kept = async {
            while self.cache.inner.index.is_gone(&Digest::sha256(blob)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), kept).await.unwrap();
    }

    async fn cached(&self, blob: &Bytes, range: Range<u64>) -> Result<Bytes, String> {
        let Some(cached) = self.cache.cached(&Digest::sha256(blob)).await else { return Err("missing".to_owned()) };
        let body = cached.body(range).await.map_err(|error| error.to_string())?;
        read(body).await
    }

    async fn whole(&self, blob: &Bytes) -> Result<Bytes, String> {
        self.cached(blob, 0..blob.len() as u64).await
    }

    fn scrub(&self, pace: Pace) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(Scrubber::new(self.cache.clone(), pace).run());
        tasks
    }

    async fn until_gone(&self, blob: &Bytes) {
        let gone = async {
            while self.cache.has(&Digest::sha256(blob)) || self.file_of(blob).exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    }

    /// Another byte, by nobody's doing: nothing that is written down of the file has changed.
    fn flip_a_bit(&self, blob: &Bytes) {
        let path = self.file_of(blob);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[blob[blob.len() / 2] ^ 1], blob.len() as u64 / 2).unwrap();
        file.set_modified(modified).unwrap();
    }

    fn file_of(&self, blob: &Bytes) -> PathBuf {
        let encoded = Digest::sha256(blob).encoded();
        self.directory.path().join("blobs/sha256").join(&encoded[..2]).join(encoded)
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.directory.path().join("partial")).unwrap().count()
    }
}

fn config(directory: &tempfile::TempDir, max_bytes: u64) -> Config {
    Config { max_bytes, reserve_bytes: 0, ..Config::new(directory.path().to_owned()) }
}

/// Bytes that are not alike anywhere, of a number that no piece or buffer divides.
fn blob(seed: u32, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[1]
        })
        .collect()
}

async fn read(body: BlobBody) -> Result<Bytes, String> {
    body.collect().await.map(|collected| collected.to_bytes()).map_err(|error| error.to_string())
}

/// How much came before it broke off, and why.
async fn broken_off(mut body: BlobBody) -> (u64, String) {
    let mut received = 0;
    loop {
        match body.frame().await.expect("it ended well") {
            Ok(frame) => received += frame.into_data().unwrap().len() as u64,
            Err(error) => return (received, error.to_string()),
        }
    }
}

#[tokio::test]
async fn a_blob_is_fetched_once_for_all_who_want_it_and_then_kept() {
    let scene = Scene::new();
    let blob = blob(1, 3_000_017);
    let source = Scripted::held_after(&blob, 20);
    let (asked, gate) = (Arc::clone(&source.asked), Arc::clone(&source.gate));
    let first = scene.fetch(&blob, source).await;
    let others: Vec<_> = (0..5).map(|_| scene.cache.coming(&Digest::sha256(&blob)).unwrap()).collect();
    // One reads nothing yet, one has read what there is, and none of them waits for another.
    let mut eager = first.body(0..blob.len() as u64);
    let mut received = 0;
    while received < 20 * PIECE {
        received += eager.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    let rest = eager.collect().await.unwrap().to_bytes();
    assert_eq!(rest, blob.slice(received..));
    for other in others {
        assert_eq!(read(other.body(0..blob.len() as u64)).await.unwrap(), blob);
    }
    assert_eq!(*asked.lock(), [0]);
    scene.until_kept(&blob).await;
    assert_eq!(scene.whole(&blob).await.unwrap(), blob);
    assert_eq!(scene.cached(&blob, 5..5).await.unwrap(), Bytes::new());
    assert_eq!(scene.cached(&blob, 700_000..700_003).await.unwrap(), blob.slice(700_000..700_003));
    assert_eq!(scene.partials(), 0);
    assert!(scene.cache.coming(&Digest::sha256(&blob)).is_none());
}

#[tokio::test]
async fn parts_of_what_is_coming_come_with_it() {
    let scene = Scene::new();
    let blob = blob(2, 1_000_003);
    let coming = scene.fetch(&blob, Scripted::new(&blob)).await;
    let tail = scene.cache.coming(&Digest::sha256(&blob)).unwrap();
    assert_eq!(read(coming.body(123..456_789)).await.unwrap(), blob.slice(123..456_789));
    assert_eq!(read(tail.body(900_000..1_000_003)).await.unwrap(), blob.slice(900_000..));
}

#[tokio::test]
async fn other_bytes_than_the_digests_never_arrive_whole_and_are_not_kept() {
    let scene = Scene::new();
    let right = blob(3, 100_000);
    let digest = Digest::sha256(&right);
    let last = [&right[..99_999], &[right[99_999] ^ 1]].concat().into();
    for (wrong, why) in [
        (blob(4, 100_000), "other bytes"),
        (last, "other bytes"),
        (right.slice(..99_999), "sent 99999 bytes"),
        ([&right[..], b"!"].concat().into(), "sent 100001 bytes"),
    ] {
        // The whole, and parts of it.
        let ranges = [0..100_000, 0..1, 100..300, 5..6, 0..99_999, 99_900..100_000, 99_999..100_000];
        let source = Arc::new(Scripted::held_after(&wrong, 0));
        let gate = Arc::clone(&source.gate);
        let _coming = scene.cache.fetch(digest, 100_000, source).await.unwrap();
        let bodies = ranges.clone().map(|range| scene.cache.coming(&digest).unwrap().body(range));
        gate.add_permits(100);
        for (range, body) in ranges.into_iter().zip(bodies) {
            let (received, error) = broken_off(body).await;
            assert!(error.contains(why), "{range:?}: {error}");
            assert!(received < range.end - range.start, "{range:?}: {received}");
        }
        assert!(scene.cache.cached(&digest).await.is_none());
    }
    // A failure is nobody's but theirs who waited for it.
    scene.keep(&right).await;
    assert_eq!((scene.partials(), scene.cache.inner.index.totals()), (0, (1, 100_000)));
}

#[tokio::test]
async fn a_fetch_that_breaks_goes_on_where_it_was() {
    let scene = Scene::new();
    let blob = blob(5, 500_000);
    let source = Scripted { breaks: Mutex::new(vec![120_000, 120_000, 300_000]), ..Scripted::new(&blob) };
    let asked = Arc::clone(&source.asked);
    let coming = scene.fetch(&blob, source).await;
    assert_eq!(read(coming.body(0..500_000)).await.unwrap(), blob);
    assert_eq!(*asked.lock(), [0, 120_000, 120_000, 300_000]);

    let never = Scripted { breaks: Mutex::new(vec![20_000; 100]), ..Scripted::new(&blob) };
    let asked = Arc::clone(&never.asked);
    let other = blob.slice(1..);
    let coming = scene.cache.fetch(Digest::sha256(&other), 499_999, Arc::new(never)).await.unwrap();
    let part = scene.cache.coming(&Digest::sha256(&other)).unwrap().body(5..10);
    assert!(read(coming.body(0..499_999)).await.unwrap_err().contains("connection reset"));
    // What came of it is no part of anything.
    let (received, error) = broken_off(part).await;
    assert!(received < 5 && error.contains("connection reset"), "{received}: {error}");
    assert_eq!(asked.lock().len(), 5);
}

#[tokio::test]
async fn the_last_to_leave_ends_the_fetch_unless_little_is_left() {
    let scene = Scene::new();
    let small = blob(6, 300_000);
    let source = Scripted::held_after(&small, 5);
    let (gate, dropped) = (Arc::clone(&source.gate), Arc::clone(&source.dropped));
    let coming = scene.fetch(&small, source).await;
    let staying = scene.cache.coming(&Digest::sha256(&small)).unwrap();
    drop(coming);
    drop(staying);
    gate.add_permits(100);
    scene.until_kept(&small).await;
    assert_eq!(scene.whole(&small).await.unwrap(), small);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);

    // Held up for longer than anybody's patience, it ends.
    let scene = Scene::impatient();
    let stuck = blob(7, 300_000);
    let source = Scripted::held_after(&stuck, 5);
    let dropped = Arc::clone(&source.dropped);
    drop(scene.fetch(&stuck, source).await);
    let ended = async {
        while dropped.load(Ordering::SeqCst) == 0 || scene.partials() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), ended).await.unwrap();
    assert_eq!(scene.cache.inner.index.totals(), (0, 0));
}

#[tokio::test]
async fn who_waits_for_a_part_is_waited_for_as_any_other_reader() {
    let scene = Scene::impatient();
    let staying = blob(16, 300_000);
    let source = Scripted::held_after(&staying, 5);
    let (gate, dropped) = (Arc::clone(&source.gate), Arc::clone(&source.dropped));
    let whole = scene.fetch(&staying, source).await;
    let mut part = scene.cache.coming(&Digest::sha256(&staying)).unwrap().body(100..20_000);
    drop(whole);
    let mut received = Vec::new();
    while received.len() < 19_899 {
        received.extend(part.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    // Its last byte waits for the rest of the blob, for longer than what nobody waits for would go on.
    tokio::time::timeout(Duration::from_millis(50), part.frame()).await.unwrap_err();
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    gate.add_permits(100);
    received.extend(read(part).await.unwrap());
    assert_eq!(received, staying.slice(100..20_000));

    let leaving = blob(17, 300_000);
    let source = Scripted::held_after(&leaving, 5);
    let dropped = Arc::clone(&source.dropped);
    let mut part = scene.fetch(&leaving, source).await.body(0..10);
    assert_eq!(part.frame().await.unwrap().unwrap().into_data().unwrap(), leaving.slice(..9));
    drop(part);
    let ended = async {
        while dropped.load(Ordering::SeqCst) == 0 || scene.partials() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn what_is_wanted_to_go_goes_and_nothing_from_under_a_reader() {
    let scene = Scene::new();
    let [read_now, unread, other] = [51, 52, 53].map(|seed| blob(seed, 800_000));
    for blob in [&read_now, &unread, &other] {
        scene.keep(blob).await;
    }
    let body = scene.cache.cached(&Digest::sha256(&read_now)).await.unwrap().body(0..800_000).await.unwrap();
    let wanted = [&read_now, &unread].map(|blob| Digest::sha256(blob)).into();
    assert_eq!(scene.cache.remove(Some(wanted)).await, Removed { blobs: 1, bytes: 800_000, in_use: 1 });
    assert_eq!([&read_now, &unread, &other].map(|blob| scene.file_of(blob).exists()), [true, false, true]);
    assert_eq!(read(body).await.unwrap(), read_now);
    assert_eq!(scene.cache.remove(None).await, Removed { blobs: 2, bytes: 1_600_000, in_use: 0 });
    assert_eq!((scene.cache.totals().blobs, scene.cache.totals().bytes), (0, 0));
    scene.keep(&other).await;
}

#[tokio::test]
async fn there_is_room_for_so_much_and_no_more() {
    let scene = Scene::of_size(1_000_000);
    let blobs: Vec<_> = (20..30).map(|seed| blob(seed, 300_000)).collect();
    for blob in &blobs {
        scene.keep(blob).await;
        let (_, bytes) = scene.cache.inner.index.totals();
        assert!(bytes <= 1_000_000, "{bytes}");
    }
    assert_eq!(scene.whole(&blobs[9]).await.unwrap(), blobs[9]);
    assert_eq!(blobs.iter().filter(|blob| scene.file_of(blob).exists()).count(), 3);
    let large = blob(31, 1_000_001);
    assert!(scene.cache.fetch(Digest::sha256(&large), 1_000_001, Arc::new(Scripted::new(&large))).await.is_none());
    assert_eq!(scene.whole(&blobs[9]).await.unwrap(), blobs[9]);
}

#[tokio::test]
async fn what_cannot_be_written_down_goes_past_the_disk() {
    let blob = blob(13, 400_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    // What was written before the disk was full can be read; then every write fails.
    fs::write(&path, &blob[..]).unwrap();
    let source = Arc::new(Scripted::new(&blob));
    let asked = Arc::clone(&source.asked);
    let fill =
        Fill::new(Digest::sha256(&blob), 400_000, source, fs::File::open(&path).unwrap(), CacheCounters::default());
    let scene = Scene::new();
    let coming = ComingBlob { cache: scene.cache.clone(), reading: fill.join() };
    let wrong = ComingBlob { cache: scene.cache.clone(), reading: fill.join() };
    assert!(matches!(
        fill.run(&Background { places: Semaphore::new(0), patience: Duration::ZERO }).await,
        Err(FillError::Disk { at: 0, .. })
    ));
    assert_eq!(read(coming.body(0..400_000)).await.unwrap(), blob);
    assert_eq!(read(wrong.body(300_000..300_010)).await.unwrap(), blob.slice(300_000..300_010));
    assert_eq!(*asked.lock(), [0, 0, 0]);
}

#[tokio::test]
async fn a_part_that_the_disk_took_ends_well_only_with_the_rest_that_it_did_not_take() {
    let right = blob(18, 400_000);
    for source in [right.clone(), [&right[..399_999], &[right[399_999] ^ 1]].concat().into()] {
        // A disk with room for half of it.
        let file: fs::File = memfd_create(c"half", MFdFlags::MFD_ALLOW_SEALING).unwrap().into();
        file.set_len(200_000).unwrap();
        fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).unwrap();
        let is_right = source == right;
        let source = Arc::new(Scripted::new(&source));
        let asked = Arc::clone(&source.asked);
        let fill = Fill::new(Digest::sha256(&right), 400_000, source, file, CacheCounters::default());
        let scene = Scene::new();
        let ranges = [5_000..5_100, 5_100..5_101, 0..300_000, 350_000..350_001, 399_000..400_000];
        let coming = ranges.clone().map(|_| ComingBlob { cache: scene.cache.clone(), reading: fill.join() });
        let ended = fill.run(&Background { places: Semaphore::new(0), patience: Duration::ZERO }).await;
        let Err(FillError::Disk { at, .. }) = ended else { panic!("{ended:?}") };
        assert!((10_000..=200_000).contains(&at), "{at}");
        for (range, coming) in ranges.into_iter().zip(coming) {
            let body = coming.body(range.clone());
            if is_right {
                assert_eq!(read(body).await.unwrap(), right.slice(range.start as usize..range.end as usize));
            } else {
                let (received, error) = broken_off(body).await;
                assert!(error.contains("other bytes") && received < range.end - range.start, "{range:?}: {error}");
            }
        }
        assert_eq!(*asked.lock(), [0, at, at, at, at, at]);
    }
}

#[tokio::test]
async fn a_directory_that_is_not_ours_alone_stops_the_start() {
    let scene = Scene::new();
    let again = BlobCache::open(&config(&scene.directory, 1), Clock::system(), CacheCounters::default());
    assert!(matches!(again.map(|_| ()), Err(CacheError::InUse { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = Config { directory: file.path().to_owned(), max_bytes: 1, ..config(&scene.directory, 1) };
    let error =
        BlobCache::open(&config, Clock::system(), CacheCounters::default()).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("cannot use the cache directory"), "{error}");
}
