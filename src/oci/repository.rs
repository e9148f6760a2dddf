use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a registry, canonical: lower case, and one name for all of Docker Hub's hosts.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Arc<str>);

/// A repository under its canonical registry name, as in `docker.io/library/nginx`.
///
/// Two spellings of one repository are equal values: this is the name that policy, records and
/// memory know.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    /// `registry/path`, whole.
    name: Arc<str>,
    registry_len: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    #[error("a registry name is a host name with an optional port")]
    Registry,
    #[error(
        "a repository name has components of lower-case letters and digits, separated by '.', '_', '__' or dashes, \
         joined by '/', and at most 255 characters"
    )]
    Path,
}

impl RegistryName {
    pub const DOCKER_HUB: &'static str = "docker.io";

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a first path component names a registry rather than the start of a repository:
    /// distribution's reference grammar, the rule that `docker pull` applies.
    pub fn is_named_by(component: &str) -> bool {
        component.bytes().any(|byte| matches!(byte, b'.' | b':')) || component == "localhost"
    }

    /// The registry that a name begins with, if it does, and the path behind it.
    pub fn leading(name: &str) -> Option<(&str, &str)> {
        let first = memchr::memchr(b'/', name.as_bytes())?;
        Some((&name[..first], &name[first + 1..])).filter(|(first, _)| Self::is_named_by(first))
    }
}

impl FromStr for RegistryName {
    type Err = RepositoryError;

    fn from_str(text: &str) -> Result<Self, RepositoryError> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        // One spelling for one port: no sign, no zeros before it.
        let port_ok = port.is_none_or(|port| {
            port.parse::<u16>().is_ok_and(|number| number > 0) && port.starts_with(|first| matches!(first, '1'..='9'))
        });
        if text.len() > 255 || !port_ok || !host.split('.').all(label) {
            return Err(RepositoryError::Registry);
        }
        let lower = text.to_ascii_lowercase();
        Ok(Self(match lower.as_str() {
            "index.docker.io" | "registry-1.docker.io" => Self::DOCKER_HUB.into(),
            _ => lower.into(),
        }))
    }
}

impl Repository {
    /// `path` under `registry`; a single component on Docker Hub belongs to `library/`.
    pub fn new(registry: &RegistryName, path: &str) -> Result<Self, RepositoryError> {
        let library =
            if registry.as_str() == RegistryName::DOCKER_HUB && !path.contains('/') { "library/" } else { "" };
        // The whole of it has to fit, or what is written here could not be read again.
        if !is_path(path) || library.len() + path.len() > MAX_PATH {
            return Err(RepositoryError::Path);
        }
        let registry = registry.as_str();
        let mut name = String::with_capacity(registry.len() + 1 + library.len() + path.len());
        name.push_str(registry);
        name.push('/');
        name.push_str(library);
        name.push_str(path);
        Ok(Self { name: name.into(), registry_len: registry.len() })
    }

    /// A name as people write it: the part before the first `/` is a registry if it looks like one,
    /// else the whole belongs to `default`.
    pub fn parse(text: &str, default: &RegistryName) -> Result<Self, RepositoryError> {
        match RegistryName::leading(text) {
            Some((registry, path)) => Self::new(&registry.parse()?, path),
            None => Self::new(default, text),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    pub fn registry(&self) -> &str {
        &self.name[..self.registry_len]
    }

    pub fn path(&self) -> &str {
        &self.name[self.registry_len + 1..]
    }
}

/// By the name alone, which says how long its registry is.
impl Hash for Repository {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// Distribution specification, "Pulling manifests": the grammar of `<name>`. Components begin and end alphanumeric, so
/// that nothing else stands beside what parts them.
fn is_path(path: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = path.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= MAX_PATH
        && alphanumeric(first)
        && alphanumeric(last)
        && bytes.chunk_by(|a, b| alphanumeric(a) == alphanumeric(b)).all(|run| match run {
            [b'/' | b'.' | b'_'] | b"__" => true,
            [first, ..] => alphanumeric(first) || run.iter().all(|b| *b == b'-'),
            [] => false,
        })
}

const MAX_PATH: usize = 255;

impl fmt::Display for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegistryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Repository {
    /// Reads back what `Serialize` wrote: a whole canonical name.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (registry, path) = text.split_once('/').ok_or_else(|| serde::de::Error::custom(RepositoryError::Path))?;
        let registry = registry.parse().map_err(serde::de::Error::custom)?;
        Self::new(&registry, path).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_becomes_one_canonical_name() {
        let hub: RegistryName = "docker.io".parse().unwrap();
        for spelling in [
            "nginx",
            "library/nginx",
            "docker.io/nginx",
            "docker.io/library/nginx",
            "index.docker.io/library/nginx",
            "registry-1.docker.io/library/nginx",
            "Docker.IO/library/nginx",
        ] {
            assert_eq!(Repository::parse(spelling, &hub).unwrap().as_str(), "docker.io/library/nginx", "{spelling}");
        }
        let ghcr = Repository::parse("ghcr.io/app", &hub).unwrap();
        assert_eq!((ghcr.registry(), ghcr.path()), ("ghcr.io", "app"));
        assert_eq!(Repository::parse("localhost/app", &hub).unwrap().registry(), "localhost");
        assert_eq!(Repository::parse("team/app", &hub).unwrap().path(), "team/app");
    }

    #[test]
    fn a_name_that_is_accepted_can_be_read_back() {
        let hub: RegistryName = "docker.io".parse().unwrap();
        let fits = Repository::new(&hub, &"a".repeat(247)).unwrap();
        assert_eq!(fits.path().len(), 255);
        let written = serde_json::to_string(&fits).unwrap();
        assert_eq!(serde_json::from_str::<Repository>(&written).unwrap(), fits);
        // With `library/` before it, it would be longer than any name may be.
        assert_eq!(Repository::new(&hub, &"a".repeat(248)), Err(RepositoryError::Path));
        assert_eq!(Repository::new(&"ghcr.io".parse().unwrap(), &"a".repeat(255)).unwrap().path().len(), 255);
    }

    #[test]
    fn repository_grammar_is_strict() {
        let hub: RegistryName = "docker.io".parse().unwrap();
        for good in ["a", "a.b", "a_b", "a__b", "a---b", "0/1", "a/b/c/d"] {
            assert_eq!(Repository::new(&hub, good).unwrap().path().trim_start_matches("library/"), good);
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "..", "a/../b", "A", "a%2fb", "a..b", "a___b", "-a", "a-", "a._b", "a b", "ä",
            &long,
        ] {
            assert_eq!(Repository::new(&hub, bad), Err(RepositoryError::Path), "{bad}");
        }
        for bad in [
            "",
            "a..b",
            "-a.io",
            "a.io:",
            "a.io:0",
            "a.io:080",
            "a.io:+80",
            "a.io:99999",
            "a.io:x",
            "a_b.io",
            "[::1]:5000",
            "user@host",
        ] {
            assert_eq!(bad.parse::<RegistryName>(), Err(RepositoryError::Registry), "{bad}");
        }
    }
}
