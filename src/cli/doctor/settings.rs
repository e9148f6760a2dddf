//! What the clients of a machine are told about registries: which software, which registry, asked where and in which
//! order. Pure: text in, [`Setting`]s out; what they let through is judged elsewhere, with what the URLs turned out to be.

mod containerd;
mod containers;
mod docker;
mod hosts;

use std::fmt;

use super::{
    address::Address,
    family::Family,
    files::{Files, Looked},
};

/// The programs that have settings of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Software {
    /// dockerd with its classic image store.
    Docker,
    DockerContainerd,
    Containerd,
    Containers,
}

/// Where one client looks for the images of one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) software: Software,
    pub(super) registry: Registry,
    /// In the order in which they are asked.
    pub(super) places: Vec<Place>,
    /// What goes past the mirror whatever it answers, and how to close that.
    pub(super) holes: Vec<Hole>,
    /// The file to change.
    pub(super) file: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Registry {
    Named(String),
    /// Every one without a setting of its own.
    Others,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Mirror(Mirror),
    /// The registry itself.
    Registry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) address: Address,
    /// Whether it is asked what a tag means.
    pub(super) tags: bool,
    pub(super) digests: bool,
    /// Certificates that this client trusts here beside the platform's.
    pub(super) authorities: Vec<Vec<u8>>,
    /// Whether the client takes any certificate, and plain HTTP where there is no TLS.
    pub(super) insecure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) what: String,
    pub(super) close: String,
}

/// What was found out about a machine.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) settings: Vec<Setting>,
    /// Every file and directory that was looked for.
    pub(super) looked: Vec<(String, Looked)>,
    /// What could not be read or understood, so that nothing is known of the client it is for.
    pub(super) unknown: Vec<String>,
    /// What is worth knowing and decides nothing.
    pub(super) notes: Vec<String>,
}

/// Reads everything that there is.
pub(super) fn read(files: &Files) -> Machine {
    let mut machine = Machine::default();
    docker::read(files, &mut machine);
    containerd::read(files, &mut machine);
    containers::read(files, &mut machine);
    machine
}

impl Software {
    pub(super) fn family(self) -> Family {
        match self {
            Self::Docker => Family::Docker,
            Self::DockerContainerd => Family::DockerContainerd,
            Self::Containerd => Family::Containerd,
            Self::Containers => Family::Containers,
        }
    }
}

impl Setting {
    pub(super) fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.places.iter().filter_map(|place| match place {
            Place::Mirror(mirror) => Some(mirror),
            Place::Registry => None,
        })
    }

    pub(super) fn mirrors_mut(&mut self) -> impl Iterator<Item = &mut Mirror> {
        self.places.iter_mut().filter_map(|place| match place {
            Place::Mirror(mirror) => Some(mirror),
            Place::Registry => None,
        })
    }
}

impl Mirror {
    /// The same place without TLS, where the client would take that.
    pub(super) fn plain(&self) -> Option<Address> {
        (self.insecure && self.address.tls).then(|| self.address.without_tls())
    }

    pub(super) fn at(address: Address) -> Self {
        Self { address, tags: true, digests: true, authorities: Vec::new(), insecure: false }
    }
}

impl Machine {
    /// The text of a file, noted as looked at. What is there and cannot be read leaves `what` in the dark.
    fn text(&mut self, files: &Files, path: &str, what: &str) -> Option<String> {
        let (looked, text) = files.text(path);
        if let Looked::Unreadable(error) = &looked {
            self.unknown.push(format!("{what}: {path} cannot be read: {error}"));
        }
        self.looked.push((path.to_owned(), looked));
        text
    }

    fn names(&mut self, files: &Files, path: &str, what: &str) -> Vec<String> {
        let (looked, names) = files.names(path);
        if let Looked::Unreadable(error) = &looked {
            self.unknown.push(format!("{what}: {path} cannot be read: {error}"));
        }
        self.looked.push((path.to_owned(), looked));
        names
    }
}

/// Docker Hub's own name and its hosts'.
fn is_docker_hub(host: &str) -> bool {
    matches!(host, DOCKER_HUB | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com")
}

/// Whether a URL is that of the registry itself.
fn is_registry_itself(address: &Address, registry: &Registry) -> bool {
    match registry {
        Registry::Named(name) if is_docker_hub(name) => is_docker_hub(address.bare_host()),
        Registry::Named(name) => address.authority() == *name,
        Registry::Others => false,
    }
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker (classic image store)",
            Self::DockerContainerd => "Docker (containerd image store)",
            Self::Containerd => "containerd (CRI, nerdctl)",
            Self::Containers => "podman, skopeo, buildah, CRI-O",
        })
    }
}

impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Others => f.write_str("every other registry"),
        }
    }
}

pub(super) const DOCKER_HUB: &str = "docker.io";
/// The name of the directory that stands for every registry without one.
const DEFAULT_DIRECTORY: &str = "_default";
