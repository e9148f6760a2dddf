//! What an operator writes down on each client's machine. Where the project has an example, that is what is tried.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::Mode;

/// The project's own, with the host changed as its reader would.
pub(super) fn daemon_json(mirror: SocketAddr) -> String {
    let text = include_str!("../../../deploy/docker/daemon.json");
    assert!(text.contains(EXAMPLE), "{text}");
    text.replace(EXAMPLE, &format!("http://{mirror}"))
}

/// A directory for `--hosts-dir`.
pub(super) fn containerd_hosts(scratch: &Path, mirror: SocketAddr, mode: Mode) -> PathBuf {
    let hosts = scratch.join("containerd").join(if mode == Mode::Strict { "strict" } else { "mirror" });
    fs::create_dir_all(hosts.join("docker.io")).unwrap();
    let text = match mode {
        Mode::Strict => include_str!("../../../deploy/containerd/hosts.toml").to_owned(),
        Mode::Mirror | Mode::Direct | Mode::DirectByName => format!(
            "server = \"https://registry-1.docker.io\"\n\
             [host.\"http://{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        ),
    };
    fs::write(hosts.join("docker.io/hosts.toml"), text).unwrap();
    hosts
}

/// Podman's and skopeo's settings, without whatever else the machine's packages put there.
pub(super) fn containers_image() {
    let directory = Path::new("/etc/containers");
    if directory.exists() {
        fs::remove_dir_all(directory).unwrap();
    }
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
}

pub(super) fn registries_conf(mirror: SocketAddr, mode: Mode) {
    let text = match mode {
        Mode::Strict => include_str!("../../../deploy/podman/registries.conf").to_owned(),
        Mode::Mirror | Mode::Direct | Mode::DirectByName => format!(
            "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n\
             [[registry]]\nlocation = \"{mirror}\"\ninsecure = true\n"
        ),
    };
    fs::write("/etc/containers/registries.conf", text).unwrap();
}

/// Where the examples in `deploy` say that the mirror is.
const EXAMPLE: &str = "https://sig-repo.example.com";
