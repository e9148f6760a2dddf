//! containerd and dockerd of the suite's own, with their state in the world. Each is started when it is first asked
//! for: a run needs few of them, and each takes memory.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::signal::{Signal, kill};
use parking_lot::Mutex;

use super::{ImageStore, Origin, caches::Cache, containerd, settings};
use crate::{
    doors::Door,
    process::{self, Daemon},
    world::World,
};

pub(crate) struct Daemons {
    scratch: PathBuf,
    /// Before the containerds, so that they end first.
    dockerds: Mutex<BTreeMap<(Origin, ImageStore), Arc<Dockerd>>>,
    containerds: Mutex<BTreeMap<Origin, (Daemon, PathBuf)>>,
    pub(super) caches: Mutex<BTreeMap<(super::Client, Door), Arc<Cache>>>,
}

pub(super) struct Dockerd {
    origin: Origin,
    home: PathBuf,
    store: ImageStore,
    /// The mirror that it was started with, and the one that it has been told of since.
    first_mirror: String,
    mirror: Mutex<String>,
    daemon: Daemon,
}

impl Daemons {
    pub(crate) fn new(scratch: &Path) -> Self {
        settings::containers_image();
        let scratch = scratch.to_owned();
        Self { scratch, dockerds: Mutex::default(), containerds: Mutex::default(), caches: Mutex::default() }
    }

    /// Its socket. What is compiled is dockerd alone.
    pub(super) fn containerd(&self, origin: Origin) -> PathBuf {
        let origin = if origin == Origin::Compiled { Origin::Sid } else { origin };
        let mut running = self.containerds.lock();
        let (_, socket) = running.entry(origin).or_insert_with(|| containerd(&self.scratch, origin));
        socket.clone()
    }

    pub(super) fn dockerd(&self, origin: Origin, store: ImageStore) -> Arc<Dockerd> {
        self.dockerd_with(origin, store, NO_MIRROR)
    }

    /// One that had this mirror when it started. Its BuildKit hears of no other.
    pub(super) fn dockerd_started_with(&self, origin: Origin, store: ImageStore, mirror: &str) -> Arc<Dockerd> {
        // The last to hold one ends it.
        self.dockerds.lock().retain(|of, running| *of != (origin, store) || running.first_mirror == mirror);
        self.dockerd_with(origin, store, mirror)
    }

    fn dockerd_with(&self, origin: Origin, store: ImageStore, mirror: &str) -> Arc<Dockerd> {
        let mut running = self.dockerds.lock();
        let start = || Arc::new(Dockerd::start(&self.scratch, &self.containerd(origin), origin, store, mirror));
        Arc::clone(running.entry((origin, store)).or_insert_with(start))
    }
}

fn containerd(scratch: &Path, origin: Origin) -> (Daemon, PathBuf) {
    let home = scratch.join(format!("containerd-{origin:?}"));
    let (socket, config) = (home.join("containerd.sock"), home.join("config.toml"));
    fs::create_dir_all(&home).unwrap();
    fs::write(&config, containerd::config(&home, &scratch.join(containerd::CRI_HOSTS), origin)).unwrap();
    let mut daemon = origin.daemon("containerd", scratch, |command| {
        command.arg("--config").arg(config);
    });
    daemon.wait_until(|| UnixStream::connect(&socket).is_ok());
    (daemon, socket)
}

impl Dockerd {
    fn start(scratch: &Path, containerd: &Path, origin: Origin, store: ImageStore, mirror: &str) -> Self {
        let home = scratch.join(format!("docker-{origin:?}-{store:?}"));
        fs::create_dir_all(&home).unwrap();
        let config = home.join("daemon.json");
        fs::write(&config, settings::daemon_json(mirror, store)).unwrap();
        let daemon = origin.daemon("dockerd", scratch, |command| {
            command.arg("--config-file").arg(config).arg("--containerd").arg(containerd);
            // Those of one Debian share a containerd, and nothing in it.
            command.args(["--containerd-namespace", &format!("moby-{origin:?}-{store:?}")]);
            command.arg("--data-root").arg(home.join("data")).arg("--exec-root").arg(home.join("exec"));
            command.arg("--pidfile").arg(home.join("docker.pid"));
            command.arg("--host").arg(format!("unix://{}", home.join("docker.sock").display()));
            command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        });
        let (first_mirror, mirror) = (mirror.to_owned(), Mutex::new(mirror.to_owned()));
        let mut dockerd = Self { origin, home, store, first_mirror, mirror, daemon };
        let socket = dockerd.host();
        // The socket is there long before anybody listens to it.
        dockerd.daemon.wait_until(|| {
            let mut version = process::command("/usr/bin/docker", scratch);
            version.args(["--host", &socket, "version", "--format", "{{.Server.Version}}"]);
            process::run(&mut version).ok
        });
        dockerd
    }

    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.home.join("docker.sock").display())
    }

    /// What is compiled is the daemon alone.
    pub(super) fn origin_of_its_client(&self) -> Origin {
        if self.origin == Origin::Compiled { Origin::Sid } else { self.origin }
    }

    /// Its mirror is this door from now on.
    pub(super) fn look_at(&self, door: Door, world: &World) {
        let url = world.doors.url(door);
        let mut mirror = self.mirror.lock();
        if *mirror == url {
            return;
        }
        fs::write(self.home.join("daemon.json"), settings::daemon_json(&url, self.store)).unwrap();
        kill(self.daemon.id(), Signal::SIGHUP).unwrap();
        self.daemon.wait_for(|| {
            let mut info = self.origin_of_its_client().command("docker", world);
            info.args(["--host", &self.host(), "info", "--format", "{{json .RegistryConfig.Mirrors}}"]);
            process::run(&mut info).output.contains(&format!("\"{url}/\""))
        });
        *mirror = url;
    }
}

/// Before it is told of one that is meant.
const NO_MIRROR: &str = "http://127.0.0.1:1";
