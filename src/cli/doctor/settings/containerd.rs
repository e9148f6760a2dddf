//! containerd: which directory its config.toml names, and the hosts.toml of each registry in it.

use toml::{Table, Value};

use super::{DEFAULT_DIRECTORY, DOCKER_HUB, Hole, Machine, Mirror, Place, Registry, Setting, Software, hosts};
use crate::cli::doctor::files::Files;

/// What the CRI plugin is told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cri {
    disabled: bool,
    config_path: Option<String>,
    /// `registry.mirrors`, the older way: registry and endpoints.
    mirrors: Vec<(String, Vec<String>)>,
    imports: bool,
    /// Of the file: from 3 on the plugin has another name.
    version: i64,
}

pub(super) fn read(files: &Files, machine: &mut Machine) {
    let before = machine.unknown.len();
    let text = machine.text(files, CONFIG, "containerd");
    if machine.unknown.len() > before {
        return;
    }
    let cri = match text.as_deref().map_or_else(|| Ok(Cri::default()), parse) {
        Ok(cri) => cri,
        Err(error) => {
            machine.unknown.push(format!("containerd: {CONFIG} is not what containerd reads: {error}"));
            return;
        }
    };
    let named = cri.config_path.as_deref().filter(|path| !path.is_empty());
    let directories: Vec<&str> = named.map_or_else(|| vec![CERTIFICATES], |path| path.split(':').collect());
    let first = machine.settings.len();
    let mut known = Vec::new();
    for directory in &directories {
        known.extend(hosts::read(files, machine, directory.trim_end_matches('/'), Software::Containerd));
    }
    if machine.unknown.len() > before {
        return;
    }
    let installed = text.is_some() || PROGRAMS.into_iter().any(|program| files.exists(program));
    if known.is_empty() && cri.disabled {
        machine
            .notes
            .push("containerd is here for Docker alone: its CRI plugin is off, and no registry is set up".into());
        return;
    }
    if known.is_empty() && !installed {
        return;
    }
    machine.settings.extend(older(&cri));
    if !known.iter().any(|name| name == DOCKER_HUB || name == DEFAULT_DIRECTORY) && cri.mirrors.is_empty() {
        machine.settings.push(unset(directories[0]));
    }
    if !cri.disabled {
        let hole = match named {
            None => Some(Hole {
                what: format!("{CONFIG} names no config_path, so the CRI plugin (Kubernetes) may read no hosts.toml"),
                close: format!(
                    "add to {CONFIG}, and restart containerd\n  [plugins.\"{}\".registry]\n  config_path = \"{CERTIFICATES}\"",
                    CRI_PLUGINS[usize::from(cri.version >= 3)]
                ),
            }),
            Some(path) if path.contains(':') => Some(Hole {
                what: format!("config_path = \"{path}\": there are releases whose CRI plugin ignores a list"),
                close: format!("name one directory: config_path = \"{CERTIFICATES}\""),
            }),
            Some(_) => None,
        };
        // What stands in config.toml itself needs no directory.
        for setting in machine.settings[first..].iter_mut().filter(|setting| setting.file != CONFIG) {
            setting.holes.extend(hole.clone());
        }
    }
    machine.notes.push("ctr reads hosts.toml only where it is told to: ctr images pull --hosts-dir".to_owned());
    if cri.imports {
        machine.notes.push(format!("{CONFIG} imports further files, which were not looked at"));
    }
    if !known.iter().any(|name| name == DEFAULT_DIRECTORY) {
        machine.notes.push(format!(
            "containerd gets the images of every registry without a directory in {} from there",
            directories.join(", ")
        ));
    }
}

fn parse(text: &str) -> Result<Cri, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let plugins = table.get("plugins").and_then(Value::as_table);
    let registries = CRI_PLUGINS.iter().filter_map(|name| plugins?.get(*name)?.get("registry"));
    let mut cri = Cri {
        imports: table.get("imports").is_some(),
        version: table.get("version").and_then(Value::as_integer).unwrap_or_default(),
        ..Cri::default()
    };
    for registry in registries {
        if let Some(path) = registry.get("config_path").and_then(Value::as_str) {
            cri.config_path = Some(path.to_owned());
        }
        for (name, mirror) in registry.get("mirrors").and_then(Value::as_table).into_iter().flatten() {
            let endpoints = mirror.get("endpoint").and_then(Value::as_array).into_iter().flatten();
            cri.mirrors.push((name.clone(), endpoints.filter_map(|one| one.as_str().map(str::to_owned)).collect()));
        }
    }
    let disabled = table.get("disabled_plugins").and_then(Value::as_array).into_iter().flatten();
    cri.disabled = disabled.filter_map(Value::as_str).any(|name| name == "cri" || CRI_PLUGINS.contains(&name));
    Ok(cri)
}

/// `registry.mirrors`: the registry itself always comes last.
fn older(cri: &Cri) -> impl Iterator<Item = Setting> {
    cri.mirrors.iter().map(|(name, endpoints)| {
        let registry = if name == "*" { Registry::Others } else { Registry::Named(name.clone()) };
        let mirrors = endpoints.iter().filter_map(|url| url.parse().ok()).map(Mirror::at).map(Place::Mirror);
        let places = mirrors.chain([Place::Registry]).collect();
        Setting { software: Software::Containerd, registry, places, holes: Vec::new(), file: CONFIG.to_owned() }
    })
}

/// Nobody told it anything.
fn unset(directory: &str) -> Setting {
    Setting {
        software: Software::Containerd,
        registry: Registry::Named(DOCKER_HUB.to_owned()),
        places: vec![Place::Registry],
        holes: Vec::new(),
        file: format!("{directory}/{DOCKER_HUB}/hosts.toml"),
    }
}

const CONFIG: &str = "/etc/containerd/config.toml";
const CERTIFICATES: &str = "/etc/containerd/certs.d";
/// Until version 2 of the file, and from 3 on.
const CRI_PLUGINS: [&str; 2] = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"];
const PROGRAMS: [&str; 3] = ["/usr/bin/containerd", "/usr/local/bin/containerd", "/usr/sbin/containerd"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_registries_is_found_in_every_version_of_the_file() {
        for (text, path) in [
            ("", None),
            ("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/a\"", Some("/a")),
            ("version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/b'", Some("/b")),
            ("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"", None),
        ] {
            assert_eq!(parse(text).unwrap().config_path.as_deref(), path, "{text}");
        }
        let older = "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"http://m\"]";
        assert_eq!(parse(older).unwrap().mirrors, [("docker.io".to_owned(), vec!["http://m".to_owned()])]);
        assert!(parse("disabled_plugins = [\"cri\"]").unwrap().disabled);
        parse("disabled_plugins = [").unwrap_err();
    }
}
