//! podman, skopeo, buildah and CRI-O: registries.conf, and what lies beside it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{DOCKER_HUB, Hole, Machine, Mirror, Place, Registry, Setting, Software, is_docker_hub};
use crate::{
    cli::doctor::{address::Address, files::Files},
    oci::RegistryName,
};

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    registry: Vec<Entry>,
    #[serde(default, rename = "unqualified-search-registries")]
    searched: Option<Vec<String>>,
    registries: Option<toml::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default, rename = "mirror-by-digest-only")]
    by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
}

#[derive(Debug, Clone, Deserialize)]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pull: Option<String>,
}

pub(super) fn read(files: &Files, machine: &mut Machine) {
    let before = machine.unknown.len();
    let mut paths = vec![MAIN.to_owned()];
    for name in machine.names(files, DROP_INS, NAME) {
        if name.ends_with(".conf") {
            paths.push(format!("{DROP_INS}/{name}"));
        }
    }
    let mut texts = Vec::new();
    for path in paths {
        if let Some(text) = machine.text(files, &path, NAME) {
            texts.push((path, text));
        }
    }
    let installed = PROGRAMS.into_iter().any(|program| files.exists(program));
    if machine.unknown.len() > before || (texts.is_empty() && !installed) {
        return;
    }
    match merged(&texts) {
        Ok(mut merged) => {
            for place in merged.settings.iter_mut().flat_map(|setting| &mut setting.places) {
                if let Place::Mirror(mirror) = place {
                    mirror.authorities = authorities(files, machine, &mirror.address.authority());
                }
            }
            machine.settings.extend(merged.settings);
            machine.notes.extend(merged.notes);
            machine.notes.push(
                "a user's own ~/.config/containers/registries.conf stands in the place of these files and was not \
                 looked at"
                    .to_owned(),
            );
        }
        Err((path, error)) => machine.unknown.push(format!("{NAME}: {path} is not what they read: {error}")),
    }
}

fn authorities(files: &Files, machine: &mut Machine, host: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for directory in CERTIFICATES.map(|directory| format!("{directory}/{host}")) {
        let names = machine.names(files, &directory, NAME);
        let certificates = names.iter().filter(|name| name.ends_with(".crt"));
        found.extend(certificates.filter_map(|name| files.bytes(&format!("{directory}/{name}"))));
    }
    found
}

#[derive(Debug, Default)]
struct Merged {
    settings: Vec<Setting>,
    notes: Vec<String>,
}

/// Later files replace whole entries of earlier ones, by prefix.
fn merged(texts: &[(String, String)]) -> Result<Merged, (String, String)> {
    let mut entries: BTreeMap<String, (Entry, String)> = BTreeMap::new();
    let (mut searched, mut merged) = (Vec::new(), Merged::default());
    for (path, text) in texts {
        let document: Document = toml::from_str(text).map_err(|error| (path.clone(), error.message().to_owned()))?;
        if document.registries.is_some() {
            merged
                .notes
                .push(format!("{path}: [registries] is the form of 2018, which newer releases refuse or ignore"));
        }
        searched = document.searched.unwrap_or(searched);
        for entry in document.registry {
            let prefix = entry.prefix.clone().filter(|prefix| !prefix.is_empty()).or(entry.location.clone());
            let Some(prefix) = prefix else {
                return Err((path.clone(), "a [[registry]] has neither prefix nor location".to_owned()));
            };
            entries.insert(prefix.trim_end_matches('/').to_owned(), (entry, path.clone()));
        }
    }
    for (prefix, (entry, path)) in &entries {
        merged.settings.extend(setting(prefix, entry, path));
    }
    if !entries.contains_key(DOCKER_HUB) {
        let file = SUGGESTED.to_owned();
        let registry = Registry::Named(DOCKER_HUB.to_owned());
        let places = vec![Place::Registry];
        merged.settings.push(Setting { software: Software::Containers, registry, places, holes: Vec::new(), file });
    }
    let others: Vec<_> = searched.into_iter().filter(|name| !entries.contains_key(name)).collect();
    match others.as_slice() {
        [] => {}
        others => merged.notes.push(format!(
            "names without a registry are looked for at {}, past the mirror: see unqualified-search-registries",
            others.join(", ")
        )),
    }
    merged.notes.push(format!("{NAME} get the images of every registry without a [[registry]] from there"));
    Ok(merged)
}

/// What one entry means; none where it is about the mirror itself and leads nowhere else.
fn setting(prefix: &str, entry: &Entry, path: &str) -> Option<Setting> {
    let mut setting = Setting {
        software: Software::Containers,
        registry: Registry::Named(prefix.to_owned()),
        places: Vec::new(),
        holes: Vec::new(),
        file: path.to_owned(),
    };
    let location = entry.location.as_deref().filter(|location| !location.is_empty()).unwrap_or(prefix);
    if entry.blocked || (entry.mirror.is_empty() && same_place(location, prefix) && !is_docker_hub(host(prefix))) {
        return None;
    }
    for mirror in &entry.mirror {
        setting.push_location(&mirror.location, mirror.insecure, mirror.pull.as_deref(), prefix);
        if names_registry(&mirror.location) {
            setting.holes.push(Hole {
                what: format!(
                    "[[registry.mirror]] {:?} asks with a registry's name in the path, where a refusal is an ordinary \
                     403, after which the registry itself is asked",
                    mirror.location
                ),
                close: format!("write location = \"{}\" under [[registry]], and no mirror", mirror.location),
            });
        }
    }
    let by_digest: Vec<_> = setting.mirrors().filter(|mirror| !mirror.tags || entry.by_digest_only).cloned().collect();
    for mirror in by_digest {
        setting.holes.push(Hole {
            what: format!("{} is asked by digest alone, so tags are looked up elsewhere", mirror.address),
            close: "leave out mirror-by-digest-only and pull-from-mirror".to_owned(),
        });
    }
    if same_place(location, prefix) || is_docker_hub(host(location)) {
        setting.places.push(Place::Registry);
    } else {
        setting.push_location(location, entry.insecure, None, prefix);
    }
    Some(setting)
}

impl Setting {
    fn push_location(&mut self, location: &str, insecure: bool, pull: Option<&str>, prefix: &str) {
        let Ok(address) = Address::of_location(host(location), true) else {
            self.holes.push(Hole {
                what: format!("{location:?} is no location of a registry"),
                close: "write host[:port]/path, without http:// or https://".to_owned(),
            });
            return;
        };
        let registry = host(prefix);
        let below = location.split_once('/').map(|(_, path)| path).unwrap_or_default();
        let named = below.split('/').next().unwrap_or_default();
        let meant = if named.is_empty() { DOCKER_HUB } else { named };
        // What names no registry is Docker Hub's.
        let of_docker_hub = is_docker_hub(registry) && !RegistryName::is_named_by(named);
        if registry != meant && !of_docker_hub {
            self.holes.push(Hole {
                what: format!(
                    "the location {location:?} does not say {registry}: the mirror takes the name for Docker Hub's"
                ),
                close: format!("write location = \"{}/{prefix}\"", host(location)),
            });
        }
        let (tags, digests) = (pull != Some("digest-only"), pull != Some("tag-only"));
        self.places.push(Place::Mirror(Mirror { tags, digests, insecure, ..Mirror::at(address) }));
    }
}

fn same_place(location: &str, prefix: &str) -> bool {
    location == prefix || (is_docker_hub(host(location)) && is_docker_hub(host(prefix)))
}

/// Whether the path of a location begins with the name of a registry.
fn names_registry(location: &str) -> bool {
    location.split('/').nth(1).is_some_and(RegistryName::is_named_by)
}

fn host(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

const NAME: &str = "podman, skopeo, buildah, CRI-O";
const MAIN: &str = "/etc/containers/registries.conf";
const DROP_INS: &str = "/etc/containers/registries.conf.d";
const CERTIFICATES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
const SUGGESTED: &str = "/etc/containers/registries.conf.d/sig-repo.conf";
const PROGRAMS: [&str; 5] =
    ["/usr/bin/podman", "/usr/bin/skopeo", "/usr/bin/buildah", "/usr/bin/crio", "/usr/local/bin/podman"];
