//! What an operator writes down on each client's machine.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::Mode;

pub(super) fn daemon_json(mirror: SocketAddr) -> String {
    serde_json::json!({"registry-mirrors": [format!("http://{mirror}")]}).to_string()
}

/// A directory for `--hosts-dir`.
pub(super) fn containerd_hosts(scratch: &Path, mirror: SocketAddr, mode: Mode) -> PathBuf {
    let server = match mode {
        Mode::Strict => format!("http://{mirror}"),
        Mode::Mirror | Mode::Direct | Mode::DirectByName => "https://registry-1.docker.io".to_owned(),
    };
    let hosts = scratch.join("containerd").join(if mode == Mode::Strict { "strict" } else { "mirror" });
    fs::create_dir_all(hosts.join("docker.io")).unwrap();
    let text = format!("server = \"{server}\"\n[host.\"http://{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
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
    let hub = match mode {
        Mode::Strict => format!("location = \"{mirror}\"\ninsecure = true\n"),
        Mode::Mirror | Mode::Direct | Mode::DirectByName => {
            format!("location = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n")
        }
    };
    let text =
        format!("[[registry]]\nprefix = \"docker.io\"\n{hub}[[registry]]\nlocation = \"{mirror}\"\ninsecure = true\n");
    fs::write("/etc/containers/registries.conf", text).unwrap();
}
