//! dockerd: daemon.json, and the hosts.toml that Docker 28 and newer read with the containerd image store.

use serde::Deserialize;

use super::{DOCKER_HUB, Hole, Machine, Mirror, Place, Registry, Setting, Software, hosts};
use crate::cli::doctor::{address::Address, files::Files};

#[derive(Debug, Default, Deserialize)]
struct Daemon {
    #[serde(default, rename = "registry-mirrors")]
    mirrors: Vec<String>,
    #[serde(default, rename = "insecure-registries")]
    insecure: Vec<String>,
    #[serde(default)]
    features: Features,
}

#[derive(Debug, Default, Deserialize)]
struct Features {
    #[serde(default, rename = "containerd-snapshotter")]
    containerd_store: Option<bool>,
}

pub(super) fn read(files: &Files, machine: &mut Machine) {
    let before = machine.unknown.len();
    let text = machine.text(files, DAEMON_JSON, "Docker");
    let directories = machine.names(files, CERTIFICATES, "Docker");
    let installed = PROGRAMS.into_iter().any(|program| files.exists(program));
    if machine.unknown.len() > before || (!installed && text.is_none() && directories.is_empty()) {
        return;
    }
    let daemon = match text.as_deref().map_or_else(|| Ok(Daemon::default()), parse) {
        Ok(daemon) => daemon,
        Err(error) => {
            machine.unknown.push(format!("Docker: {DAEMON_JSON} is not what dockerd reads: {error}"));
            return;
        }
    };
    let hosts_files: Vec<_> =
        directories.iter().filter(|name| files.exists(&format!("{CERTIFICATES}/{name}/hosts.toml"))).collect();
    if daemon.features.containerd_store == Some(true) {
        let known = hosts::read(files, machine, CERTIFICATES, Software::DockerContainerd);
        if known.iter().any(|name| name == DOCKER_HUB) {
            machine.notes.push(format!(
                "{CERTIFICATES}/*/hosts.toml are read by Docker 28 and newer; an older one knows only registry-mirrors"
            ));
            return;
        }
        let setting = of_mirrors(&daemon, Software::DockerContainerd, files, machine);
        machine.settings.push(setting);
    } else {
        let mut setting = of_mirrors(&daemon, Software::Docker, files, machine);
        if !hosts_files.is_empty() {
            setting.holes.push(Hole {
                what: format!("{CERTIFICATES}/*/hosts.toml are there, and the classic image store does not read them"),
                close: format!("set {{\"features\": {{\"containerd-snapshotter\": true}}}} in {DAEMON_JSON}"),
            });
        }
        machine.settings.push(setting);
    }
    machine.notes.push(
        "registry-mirrors stand for Docker Hub alone: Docker gets the images of every other registry from there, \
         unless they are pulled by the mirror's name"
            .to_owned(),
    );
}

fn parse(text: &str) -> Result<Daemon, serde_json::Error> {
    // An empty file is an empty object to dockerd.
    if text.trim().is_empty() { Ok(Daemon::default()) } else { serde_json::from_str(text) }
}

fn of_mirrors(daemon: &Daemon, software: Software, files: &Files, machine: &mut Machine) -> Setting {
    let mut places = Vec::new();
    for mirror in &daemon.mirrors {
        match mirror.parse::<Address>() {
            Ok(address) => {
                let mut mirror = Mirror::at(address);
                let host = mirror.address.authority();
                mirror.insecure = daemon.insecure.contains(&host);
                mirror.authorities = authorities(files, machine, &host);
                if !mirror.address.base().is_empty() {
                    machine.notes.push(format!("{}: Docker takes a mirror with a path from 24 on", mirror.address));
                }
                places.push(Place::Mirror(mirror));
            }
            Err(error) => {
                machine.unknown.push(format!("Docker: {DAEMON_JSON}: registry-mirrors: {mirror:?}: {error}"));
            }
        }
    }
    if places.is_empty() {
        machine.notes.push("dockerd's own command line (--registry-mirror) was not looked at".to_owned());
    }
    places.push(Place::Registry);
    let registry = Registry::Named(DOCKER_HUB.to_owned());
    Setting { software, registry, places, holes: Vec::new(), file: DAEMON_JSON.to_owned() }
}

fn authorities(files: &Files, machine: &mut Machine, host: &str) -> Vec<Vec<u8>> {
    let directory = format!("{CERTIFICATES}/{host}");
    let names = machine.names(files, &directory, "Docker");
    let certificates = names.iter().filter(|name| name.ends_with(".crt"));
    certificates.filter_map(|name| files.bytes(&format!("{directory}/{name}"))).collect()
}

pub(super) const DAEMON_JSON: &str = "/etc/docker/daemon.json";
const CERTIFICATES: &str = "/etc/docker/certs.d";
const PROGRAMS: [&str; 4] = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/snap/bin/docker"];
