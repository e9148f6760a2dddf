//! The world the suite lives in: namespaces, names, a CA, the stand-in for Docker Hub and the clients' daemons.
//!
//! Outside, [`inside`] runs the whole selection of tests once, in the world, and passes on what became of the test
//! that asked. Inside, it hands the test the world, started at the first asking and shared by all.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::{
    clients::Daemons,
    doors::Doors,
    http::Http,
    hub::{ACCOUNT, Hub, certificate::Authority},
    images::Registry,
    lab::Lab,
    process,
    signing::Signer,
};

mod namespace;

pub(crate) use namespace::mount;

pub(crate) struct World {
    pub(crate) scratch: PathBuf,
    pub(crate) hub: Hub,
    pub(crate) registry: Registry,
    pub(crate) daemons: Daemons,
    /// Trusted by every mirror from its start.
    pub(crate) signer: Signer,
    /// Where the clients are told that the mirror is.
    pub(crate) doors: Doors,
    /// The stand-in serves on it.
    pub(crate) runtime: Runtime,
    lab: OnceLock<Lab>,
}

/// Runs `test` in the world.
pub(crate) fn inside(test: impl Fn(&World)) {
    let name = std::thread::current().name().expect("the harness names a test's thread after it").to_owned();
    match variable(RESULTS) {
        Some(results) => run_inside(&name, Path::new(&results), test),
        None => report_of(&name),
    }
}

/// Whether the long matrices were asked for.
pub(crate) fn everything() -> bool {
    variable("SIG_REPO_TESTS").is_some_and(|value| value == "all")
}

fn run_inside(name: &str, results: &Path, test: impl Fn(&World)) {
    static WORLD: OnceLock<(World, Mutex<fs::File>)> = OnceLock::new();
    // Opened before the world's mounts, which may cover the place where the file is.
    let (world, results) = WORLD.get_or_init(|| {
        let results = fs::OpenOptions::new().append(true).create(true).open(results).unwrap();
        (World::start(), Mutex::new(results))
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| test(world)));
    let word = if outcome.is_ok() { PASSED } else { "failed" };
    writeln!(results.lock(), "{name} {word}").unwrap();
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

fn report_of(name: &str) {
    static RESULTS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let results = RESULTS.get_or_init(run_selection_in_a_world);
    let word = results.get(name).map_or("did not run", String::as_str);
    assert!(word == PASSED, "{name} {word}: its output is above");
}

fn run_selection_in_a_world() -> BTreeMap<String, String> {
    assert!(nix::unistd::geteuid().is_root(), "needs root and real clients: tests/run");
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let results = directory.path().join("results");
    // Killed from outside or by Ctrl-C, this process takes the world along.
    let mut command = Command::new("setpriv");
    command.args([
        "--pdeathsig",
        "KILL",
        "unshare",
        "--mount",
        "--net",
        "--ipc",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ]);
    command.arg(std::env::current_exe().unwrap()).args(selection()).args(["--test-threads=1", "--nocapture"]);
    command.env(RESULTS, &results).env(OUTSIDE, namespace::names());
    // How it ended says no more than the results do: a test that is not in them did not run.
    let status = command.status().expect("setpriv and unshare are part of every Debian");
    eprintln!("the world ended: {status}");
    let lines = fs::read_to_string(&results).unwrap_or_default();
    lines.lines().filter_map(|line| line.split_once(' ')).map(|(name, word)| (name.into(), word.into())).collect()
}

/// The arguments that this process got, without those that the inner one gets from us.
fn selection() -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut all = std::env::args_os().skip(1);
    while let Some(argument) = all.next() {
        match argument.to_str() {
            Some("--test-threads") => drop(all.next()),
            Some("--nocapture" | "--no-capture") => {}
            Some(other) if other.starts_with("--test-threads=") => {}
            _ => arguments.push(argument),
        }
    }
    arguments
}

impl World {
    fn start() -> Self {
        let scratch = PathBuf::from(SCRATCH);
        let outside = variable(OUTSIDE).and_then(|names| names.into_string().ok()).unwrap_or_default();
        namespace::enter(&scratch, &outside);
        for directory in ["home/.docker", "tmp"] {
            fs::create_dir_all(scratch.join(directory)).unwrap();
        }
        fs::write(scratch.join("home/.docker/config.json"), hub_login().to_string()).unwrap();
        let authority = Authority::new();
        namespace::trust(&authority.pem());
        namespace::name_the_hub(&scratch, &HUB_NAMES, CLIENTS_HUB, MIRRORS_HUB);

        let runtime = Runtime::new().unwrap();
        let http = Http::new(runtime.handle().clone());
        let registry = Registry::start(&scratch, http);
        let hub = Hub::start(&runtime, &authority, registry.address(), [CLIENTS_HUB, MIRRORS_HUB]);
        let daemons = Daemons::new(&scratch);
        let (certificate, key) = authority.issue(&[MIRROR_NAME]);
        fs::write(scratch.join("mirror.crt"), certificate.pem()).unwrap();
        fs::write(scratch.join("mirror.key"), key.serialize_pem()).unwrap();
        let signer = Signer::new(&scratch, "team");
        Self { signer, scratch, hub, registry, daemons, doors: Doors::new(), runtime, lab: OnceLock::new() }
    }

    /// Started when the first test asks for it.
    pub(crate) fn lab(&self) -> &Lab {
        self.lab.get_or_init(|| Lab::start(self))
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        process::command(program, &self.scratch)
    }
}

/// Everybody here is logged in at Docker Hub, as on a developer's machine.
pub(crate) fn hub_login() -> serde_json::Value {
    let (username, password) = ACCOUNT;
    let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
    serde_json::json!({"auths": {"https://index.docker.io/v1/": {"auth": auth}}})
}

/// An address that is free and stays so: the kernel gives its port to no outgoing connection either.
pub(crate) fn free_address() -> SocketAddr {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    namespace::reserve(address.port());
    address
}

#[expect(clippy::disallowed_methods, reason = "the suite's own switches, not settings of the program")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Set for the inner process: the file to write to what became of each test.
const RESULTS: &str = "SIG_REPO_CLIENTS_RESULTS";
/// Set for the inner process: the namespaces that it must not be in.
const OUTSIDE: &str = "SIG_REPO_CLIENTS_OUTSIDE";
const PASSED: &str = "passed";
const SCRATCH: &str = "/run/clients";

/// Public addresses, because a private one in a redirect or a token realm is refused by design. They exist only on
/// this world's loopback.
const CLIENTS_HUB: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 2);
const MIRRORS_HUB: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 3);

/// The mirror's name in the examples of `deploy`.
pub(crate) const MIRROR_NAME: &str = "sig-repo.example.com";

pub(crate) const HUB_NAMES: [&str; 5] =
    ["registry-1.docker.io", "auth.docker.io", "index.docker.io", "docker.io", "production.cloudflare.docker.com"];
