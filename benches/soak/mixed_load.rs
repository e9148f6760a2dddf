//! What clients and an upstream do to a cache, all of it at once, and what it may cost.

#[path = "../compare/download.rs"]
#[allow(dead_code, reason = "it was written for a comparison, which uses all of it")]
mod download;
#[path = "../compare/images.rs"]
#[allow(dead_code, reason = "it was written for a comparison, which uses all of it")]
mod images;
#[path = "../compare/registry.rs"]
#[allow(dead_code, reason = "it was written for a comparison, which uses all of it")]
mod registry;

use std::{
    fmt,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use sig_repo::clock::Clock;

use self::{
    download::{Connection, Door},
    images::{Blob, Image},
    registry::{Fault, Registry},
};

/// What was done, and what it cost.
pub(crate) struct Report {
    lasted: Duration,
    done: [(&'static str, u64); 6],
    fetched: u64,
    /// The most memory in the second quarter of the time, and in the last.
    memory: (u64, u64),
    descriptors: usize,
}

#[derive(Default)]
struct Counts {
    whole: AtomicU64,
    parts: AtomicU64,
    unchanged: AtomicU64,
    left: AtomicU64,
    refused: AtomicU64,
    /// What an upstream that is broken excuses.
    failed: AtomicU64,
    /// Blobs that are asked for all the time: how often they were, and how often they were not in the cache and could
    /// not be fetched.
    hot: AtomicU64,
    hot_failed: AtomicU64,
}

struct Load<'a> {
    door: Door,
    registry: &'a Registry,
    process: &'a Process,
    clock: &'a Clock,
    images: Vec<(Image, Blob)>,
    /// Nobody has signed it, and its tag is of a class that must be.
    unsigned: (Image, Blob),
    counts: Counts,
    /// Somebody has failed, so that all may stop.
    over: AtomicBool,
}

/// The server, as a process of its own.
struct Process {
    child: Child,
    log: PathBuf,
}

/// Numbers that are alike in no two clients, and the same in every run.
struct Random(u64);

/// Fails at the first wrong byte, and at the end where something was left over.
pub(crate) fn run(binary: &Path, lasting: Duration) -> anyhow::Result<Report> {
    let clock = Clock::system();
    let directory = tempfile::Builder::new().prefix("sig-repo-soak").tempdir()?;
    let registry = Registry::start(clock.clone())?;
    let config = Blob::config();
    let image = |tag: &str, layer: Blob| {
        let image = Image::new(tag, &config, std::slice::from_ref(&layer));
        registry.hold(&image, [&layer]);
        (image, layer)
    };
    let images = (0..IMAGES).map(|n| image(&format!("v{n}"), Blob::noise(200_001 + n * 120_011, 100 + n as u64)));
    let images: Vec<_> = images.collect();
    let unsigned = image("preview-1", Blob::noise(50_000, 99));

    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let process = Process::start(binary, directory.path(), addr, registry.addr)?;
    let load = Load {
        door: Door::plain(addr),
        registry: &registry,
        process: &process,
        clock: &clock,
        images,
        unsigned,
        counts: Counts::default(),
        over: AtomicBool::new(false),
    };
    let report = load.run(lasting, &directory.path().join("cache"));
    report.map_err(|error| anyhow!("{error:#}; its log ends so:\n{}", process.tail()))
}

impl Load<'_> {
    fn run(&self, lasting: Duration, cache: &Path) -> anyhow::Result<Report> {
        self.until("ready", || Ok(self.door.open()?.ask("GET", "/readyz")?.status == 200))?;
        self.all_is_well()?;
        let descriptors = self.at_rest(None)?;

        let begun = self.clock.instant();
        let goes_on = || self.clock.instant() - begun < lasting && !self.over.load(Ordering::Relaxed);
        let (memory, fetched) = thread::scope(|scope| {
            let goes_on = &goes_on;
            let clients: Vec<_> = (1..=CLIENTS)
                .map(|n| {
                    scope.spawn(move || {
                        let ended = self.client(&mut Random(n), goes_on);
                        self.over.fetch_or(ended.is_err(), Ordering::Relaxed);
                        ended
                    })
                })
                .collect();
            let watched = self.watch(goes_on);
            for client in clients {
                client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            watched
        })?;
        let lasted = self.clock.instant() - begun;

        self.registry.fault(None);
        self.all_is_well()?;
        let left_over = self.at_rest(Some(descriptors))?;
        let kept = bytes_below(&cache.join("blobs"))?;
        ensure!(kept <= CACHE_BYTES, "the cache holds {kept} bytes, more than the {CACHE_BYTES} that it may");

        let quarter = memory.len() / 4;
        let most = |samples: &[u64]| samples.iter().max().copied().unwrap_or_default();
        let memory = (most(&memory[quarter..2 * quarter]), most(&memory[3 * quarter..]));
        ensure!(
            memory.1 <= memory.0 + memory.0 / 10 + MEMORY_NOISE,
            "memory grew from {} to {} MiB",
            memory.0 >> 20,
            memory.1 >> 20
        );
        let done = self.counts.done();
        ensure!(done.iter().all(|(_, count)| *count > 0), "not all of it was done: {done:?}");
        let [hot, hot_failed] = [&self.counts.hot, &self.counts.hot_failed].map(|count| count.load(Ordering::Relaxed));
        // What fails is answered at once and asked for again, so that its share grows with the load on the machine.
        ensure!(hot_failed * 5 <= hot, "{hot_failed} of {hot} requests for what is asked for all the time failed");
        ensure!(fetched > 2 * IMAGES as u64, "nothing was evicted: {fetched} fetches");
        Ok(Report { lasted, done, fetched, memory, descriptors: left_over })
    }

    /// Asks for one thing after the other, until its time is over.
    fn client(&self, random: &mut Random, goes_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let mut kept: Option<Connection> = None;
        while goes_on() {
            let connection = match kept.take() {
                Some(connection) => connection,
                None => self.door.open()?,
            };
            kept = match self.act(connection, random) {
                Ok(connection) => connection,
                // What breaks off is told from what is wrong.
                Err(error) if broke_off(&error) => {
                    self.counts.failed.fetch_add(1, Ordering::Relaxed);
                    None
                }
                Err(error) => return Err(error),
            };
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// The connection is given back where it can go on.
    fn act(&self, mut connection: Connection, random: &mut Random) -> anyhow::Result<Option<Connection>> {
        let is_hot = random.below(4) > 0;
        let (image, blob) = &self.images[random.below(if is_hot { HOT } else { IMAGES })];
        let path = blob.path();
        let etag = format!("If-None-Match: \"{}\"\r\n", blob.digest);
        match random.below(16) {
            0..7 => {
                let head = connection.ask("GET", &path)?;
                self.counts.hot.fetch_add(is_hot.into(), Ordering::Relaxed);
                if head.status == 200 {
                    connection.body(&head, &blob.bytes).with_context(|| path.clone())?;
                    self.counts.whole.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(connection));
                }
                self.counts.hot_failed.fetch_add(is_hot.into(), Ordering::Relaxed);
            }
            7..9 => {
                let path = if random.below(2) == 0 { image.path() } else { image.path_by_tag() };
                let head = connection.ask("GET", &path)?;
                if head.status == 200 {
                    connection.body(&head, &image.manifest).with_context(|| path.clone())?;
                    return Ok(Some(connection));
                }
            }
            9..11 => {
                let length = blob.bytes.len();
                let from = random.below(length);
                let to = from + random.below(length - from);
                let (range, part) = match random.below(4) {
                    0 => (format!("{from}-{to}"), from..to + 1),
                    1 => (format!("{from}-{from}"), from..from + 1),
                    2 => (format!("{from}-"), from..length),
                    _ => (format!("-{}", length - from), from..length),
                };
                let head = connection.ask_with("GET", &path, &format!("Range: bytes={range}\r\n"))?;
                ensure!(head.status != 200, "all of {path} for {range}");
                if head.status == 206 {
                    let stated = format!("bytes {}-{}/{length}", part.start, part.end - 1);
                    let said = head.header("content-range");
                    ensure!(said == Some(&stated), "{said:?} of {path} for {range}");
                    connection.body(&head, &blob.bytes[part]).with_context(|| format!("{path}, {range}"))?;
                    self.counts.parts.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(connection));
                }
            }
            11..13 => {
                let head = connection.ask("GET", &path)?;
                if head.status == 200 {
                    // Some of it, and gone.
                    connection.take(head.length / 2)?;
                    self.counts.left.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
            }
            13 => {
                let head = connection.ask_with("GET", &path, &etag)?;
                if head.status == 304 {
                    self.counts.unchanged.fetch_add(1, Ordering::Relaxed);
                    return Ok(Some(connection));
                }
            }
            14 => {
                let head = connection.ask("HEAD", &path)?;
                if head.status == 200 {
                    ensure!(head.length == blob.bytes.len() as u64, "{} bytes said of {path}", head.length);
                    return Ok(Some(connection));
                }
            }
            _ => {
                let (image, blob) = &self.unsigned;
                let path = if random.below(2) == 0 { image.path_by_tag() } else { blob.path() };
                let head = connection.ask("GET", &path)?;
                ensure!(head.status >= 400, "{} to {path}, which nobody has signed", head.status);
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
        }
        self.counts.failed.fetch_add(1, Ordering::Relaxed);
        Ok(None)
    }

    /// Breaks the upstream and mends it again, and looks at the memory meanwhile.
    fn watch(&self, goes_on: &dyn Fn() -> bool) -> anyhow::Result<(Vec<u64>, u64)> {
        let faults = [Fault::Unavailable, Fault::Cut, Fault::Altered];
        let (mut memory, mut fetched) = (Vec::new(), 0);
        for round in 0.. {
            if !goes_on() {
                break;
            }
            // It is whole for most of the time.
            let fault = (round % WHOLE == WHOLE - 1).then(|| faults[round / WHOLE % faults.len()]);
            self.registry.fault(fault);
            thread::sleep(SAMPLE);
            memory.push(self.process.memory()?);
            let requests = self.registry.take_requests();
            fetched +=
                requests.iter().filter(|request| request.starts_with("GET") && request.contains("/blobs/")).count();
        }
        Ok((memory, fetched as u64))
    }

    /// Each image is served whole, as soon as the upstream is believed again; none is that must not be.
    fn all_is_well(&self) -> anyhow::Result<()> {
        // Those last that are to stay.
        for (image, blob) in self.images.iter().rev() {
            for (path, bytes) in [(image.path_by_tag(), &image.manifest), (blob.path(), &blob.bytes)] {
                self.until(&path, || {
                    let mut connection = self.door.open()?;
                    let head = connection.ask("GET", &path)?;
                    if head.status != 200 {
                        return Ok(false);
                    }
                    connection.body(&head, bytes).with_context(|| path.clone())?;
                    Ok(true)
                })?;
            }
        }
        let refused = self.door.open()?.ask("GET", &self.unsigned.0.path_by_tag())?;
        ensure!(refused.status >= 400, "{} for an image that nobody has signed", refused.status);
        Ok(())
    }

    /// How many files are open when nobody asks for anything, and the upstream has ended its connections: as many as
    /// `before`, if that is said.
    fn at_rest(&self, before: Option<usize>) -> anyhow::Result<usize> {
        let (mut last, mut same) = (usize::MAX, 0);
        self.until("every descriptor closed again", || {
            self.registry.hang_up();
            let open = self.process.descriptors()?;
            same = if open == last { same + 1 } else { 0 };
            last = open;
            Ok(same >= SETTLED && before.is_none_or(|before| open <= before))
        })
        .with_context(|| format!("{last} are open, {before:?} were before"))?;
        Ok(last)
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let begun = self.clock.instant();
        loop {
            match done() {
                Ok(true) => return Ok(()),
                Err(error) if !broke_off(&error) => return Err(error),
                Ok(false) | Err(_) => {}
            }
            ensure!(self.clock.instant() - begun < LIMIT, "{what}: not after {LIMIT:?}");
            thread::sleep(POLL);
        }
    }
}

impl Counts {
    fn done(&self) -> [(&'static str, u64); 6] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("blobs whole", of(&self.whole)),
            ("parts", of(&self.parts)),
            ("unchanged", of(&self.unchanged)),
            ("left in the middle", of(&self.left)),
            ("refused", of(&self.refused)),
            ("failed with the upstream", of(&self.failed)),
        ]
    }
}

impl Process {
    fn start(binary: &Path, data_dir: &Path, addr: SocketAddr, upstream: SocketAddr) -> anyhow::Result<Self> {
        let log = data_dir.join("log");
        // It ends with this thread, whatever that ends by.
        let child = Command::new("/usr/bin/setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binary)
            .env_clear()
            .env("HTTP_ADDR", addr.to_string())
            .env("DATA_DIR", data_dir)
            .env("PROXY_REMOTEURL", format!("http://{upstream}"))
            .env("POLICY_DEFAULT", "skip")
            .env("CACHE_MAX_SIZE", format!("{}MiB", CACHE_BYTES >> 20))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, log })
    }

    /// What is resident, in bytes.
    fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmRSS:")) else { bail!("it has ended") };
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lasted, done, fetched, memory: (early, late), descriptors } = self;
        write!(f, "{} s:", lasted.as_secs())?;
        for (what, count) in done {
            write!(f, " {count} {what},")?;
        }
        write!(f, " {fetched} fetched; ")?;
        write!(f, "memory {} MiB, then {} MiB; {descriptors} descriptors as before", early >> 20, late >> 20)
    }
}

fn broke_off(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<io::Error>())
}

fn bytes_below(directory: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

const IMAGES: usize = 24;
/// Asked for so often that they seldom go.
const HOT: usize = 3;
const CLIENTS: u64 = 8;
/// A third of the images.
const CACHE_BYTES: u64 = 16 << 20;
const PAUSE: Duration = Duration::from_millis(2);
const SAMPLE: Duration = Duration::from_millis(500);
/// Of so many samples the upstream is broken in one.
const WHOLE: usize = 4;
const MEMORY_NOISE: u64 = 16 << 20;
/// As long as a fetch may go on that nobody waits for, and some more.
const LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
const SETTLED: usize = 5;
const TAIL_LINES: usize = 20;
