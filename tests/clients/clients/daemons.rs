//! containerd and dockerd of the suite's own, with their state in the world.

use std::{
    fs,
    net::SocketAddr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use crate::process::{self, Daemon};

pub(crate) struct Daemons {
    containerd_socket: PathBuf,
    docker_socket: PathBuf,
    /// Before containerd, so that it ends first.
    _dockerd: Daemon,
    _containerd: Daemon,
}

impl Daemons {
    pub(crate) fn start(scratch: &Path, mirror: SocketAddr) -> Self {
        let (containerd, containerd_socket) = containerd(scratch);
        let (dockerd, docker_socket) = dockerd(scratch, &containerd_socket, mirror);
        super::settings::containers_image();
        Self { containerd_socket, docker_socket, _dockerd: dockerd, _containerd: containerd }
    }

    pub(super) fn containerd_socket(&self) -> &Path {
        &self.containerd_socket
    }

    pub(super) fn docker_host(&self) -> String {
        format!("unix://{}", self.docker_socket.display())
    }
}

fn containerd(scratch: &Path) -> (Daemon, PathBuf) {
    let home = scratch.join("containerd");
    let socket = home.join("containerd.sock");
    fs::create_dir_all(&home).unwrap();
    let config = home.join("config.toml");
    let text = format!(
        "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\n\
         disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.internal.v1.opt']\n\
         [grpc]\naddress = '{home}/containerd.sock'\n",
        home = home.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = process::daemon("containerd", scratch);
    command.arg("--config").arg(config);
    let mut daemon = Daemon::start("containerd", command);
    daemon.wait_until(|| UnixStream::connect(&socket).is_ok());
    (daemon, socket)
}

fn dockerd(scratch: &Path, containerd: &Path, mirror: SocketAddr) -> (Daemon, PathBuf) {
    let home = scratch.join("docker");
    let socket = home.join("docker.sock");
    fs::create_dir_all(&home).unwrap();
    let config = home.join("daemon.json");
    fs::write(&config, super::settings::daemon_json(mirror)).unwrap();
    let mut command = process::daemon("dockerd", scratch);
    command.arg("--config-file").arg(config).arg("--containerd").arg(containerd);
    command.arg("--data-root").arg(home.join("data")).arg("--exec-root").arg(home.join("exec"));
    command.arg("--pidfile").arg(home.join("docker.pid")).arg("--host").arg(format!("unix://{}", socket.display()));
    command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
    let mut daemon = Daemon::start("dockerd", command);
    // The socket is there long before anybody listens to it.
    daemon.wait_until(|| {
        let mut version = process::command("/usr/bin/docker", scratch);
        version.arg("--host").arg(format!("unix://{}", socket.display()));
        process::run(version.args(["version", "--format", "{{.Server.Version}}"])).ok
    });
    (daemon, socket)
}
