//! `config.json` as `docker login` writes it: which registry has which credentials, and which helper knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    marker::PhantomData,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use url::Url;

use super::{CredentialHelper, Credentials, IDENTITY_TOKEN, object::Object};
use crate::clock::Clock;

/// The file, as it was when it was read.
#[derive(Clone)]
pub struct DockerConfig {
    path: PathBuf,
    contents: Arc<Contents>,
    state: State,
}

/// What is wrong with the file. Nothing that stands in it is told but names of registries.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    #[error("expected a file that can be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("expected a file of at most {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("line {line}, column {column}: expected JSON as docker login writes it, with no key twice")]
    Json { line: usize, column: usize },
    #[error("auths of {registry}: expected auth to be the base64 of user:password")]
    Auth { registry: String },
    #[error("auths of {registry}: expected a username without ':'")]
    Username { registry: String },
    #[error("auths of {registry}: a registrytoken is not supported: expected auth, username or identitytoken")]
    RegistryToken { registry: String },
    #[error("credHelpers of {registry}: expected what follows docker-credential- in a program's name")]
    Helper { registry: String },
    #[error("credsStore: expected what follows docker-credential- in a program's name")]
    Store,
}

/// Changes with the file, as far as that can be told without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    modified: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

#[derive(Default)]
pub(in crate::upstream) struct Contents {
    /// With the host that the key means.
    credentials: BTreeMap<String, (String, Option<Credentials>)>,
    helpers: BTreeMap<String, Option<CredentialHelper>>,
    store: Option<CredentialHelper>,
}

/// What the file has for a registry.
#[derive(Clone)]
pub(in crate::upstream) enum Found {
    Nothing,
    Credentials(Credentials),
    /// With the name under which it is asked for the registry.
    Helper(CredentialHelper, String),
}

/// What a registry is called in such a file: the same as after `docker login`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct ServerAddress(Vec<String>);

/// The file, looked at again once it may have changed.
pub(in crate::upstream) struct WatchedDockerConfig {
    clock: Clock,
    current: Mutex<Current>,
}

struct Current {
    config: DockerConfig,
    looked: Instant,
    failing: bool,
}

impl DockerConfig {
    /// The file as it is now.
    pub fn read(path: &Path) -> Result<Self, DockerConfigError> {
        // Opening anything else may wait for ever.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file").into());
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut bytes = Vec::new();
        (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(DockerConfigError::TooLarge);
        }
        let contents = Arc::new(Contents::parse(&bytes)?);
        Ok(Self { path: path.to_owned(), contents, state: State::of(&metadata) })
    }

    /// None: it has not changed.
    fn changed(&self) -> Result<Option<Self>, DockerConfigError> {
        match State::of(&fs::metadata(&self.path)?) == self.state {
            true => Ok(None),
            false => Self::read(&self.path).map(Some),
        }
    }

    /// Every helper that it names, each once.
    pub(in crate::upstream) fn helpers(&self) -> impl Iterator<Item = &CredentialHelper> {
        let named = self.contents.helpers.values().flatten().chain(&self.contents.store);
        named.collect::<BTreeSet<_>>().into_iter()
    }
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DockerConfig").field(&self.path).finish()
    }
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }
}

impl WatchedDockerConfig {
    pub(in crate::upstream) fn new(config: DockerConfig, clock: Clock) -> Self {
        let current = Mutex::new(Current { config, looked: clock.instant(), failing: false });
        Self { clock, current }
    }

    /// What it says now, or said a second ago. Where it can no longer be read, what it said last goes on.
    pub(in crate::upstream) async fn current(&self) -> Arc<Contents> {
        let known = {
            let mut current = self.current.lock();
            let now = self.clock.instant();
            if now.saturating_duration_since(current.looked) < LOOKED_AT_AGAIN {
                return Arc::clone(&current.config.contents);
            }
            current.looked = now;
            current.config.clone()
        };
        let path = known.path.clone();
        let looked = tokio::task::spawn_blocking(move || known.changed()).await;
        let mut current = self.current.lock();
        match looked {
            Ok(Ok(changed)) => {
                current.failing = false;
                if let Some(config) = changed {
                    tracing::info!("{} was read again", path.display());
                    current.config = config;
                }
            }
            Ok(Err(error)) if !current.failing => {
                current.failing = true;
                tracing::error!("{}: the credentials that it had go on: {error}", path.display());
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!("reading {}: {error}", path.display()),
        }
        Arc::clone(&current.config.contents)
    }

    /// What it said when it was looked at last.
    pub(in crate::upstream) fn known(&self) -> Arc<Contents> {
        Arc::clone(&self.current.lock().config.contents)
    }
}

impl Contents {
    pub(in crate::upstream) fn parse(bytes: &[u8]) -> Result<Self, DockerConfigError> {
        // What the reader has to say may quote a secret; where it is does not.
        let read: Option<Object<Wire>> = serde_json::from_slice(bytes)
            .map_err(|error| DockerConfigError::Json { line: error.line(), column: error.column() })?;
        let Object(Wire { auths, helpers, store }) = read.unwrap_or_default();
        let credentials = auths.unwrap_or_default().0.into_iter().map(|(registry, entry)| {
            let found = entry.unwrap_or_default().0.credentials(&registry)?;
            Ok((registry.clone(), (host_of(&registry), found)))
        });
        let helpers = helpers.unwrap_or_default().0.into_iter().map(|(registry, name)| {
            let helper = helper(name).map_err(|_| DockerConfigError::Helper { registry: shown(&registry) })?;
            Ok((registry, helper))
        });
        Ok(Self {
            credentials: credentials.collect::<Result<_, DockerConfigError>>()?,
            helpers: helpers.collect::<Result<_, DockerConfigError>>()?,
            store: helper(store).map_err(|_| DockerConfigError::Store)?,
        })
    }

    /// As docker looks it up: a helper of the registry's own, else the one of all, else what stands here.
    pub(in crate::upstream) fn of(&self, registry: &ServerAddress) -> Found {
        let own = registry.0.iter().find_map(|name| Some((name, self.helpers.get(name)?)));
        let (name, helper) = match own {
            Some((name, helper)) => (name.as_str(), helper.as_ref()),
            None => (registry.name(), self.store.as_ref()),
        };
        match helper {
            Some(helper) => Found::Helper(helper.clone(), name.to_owned()),
            None => self.written(registry).cloned().map_or(Found::Nothing, Found::Credentials),
        }
    }

    fn written(&self, registry: &ServerAddress) -> Option<&Credentials> {
        let exactly = registry.0.iter().find_map(|name| self.credentials.get(name));
        let by_host = || {
            let is_named = |host: &str| registry.0.iter().any(|name| host.eq_ignore_ascii_case(name));
            self.credentials.values().find(|(host, _)| is_named(host))
        };
        exactly.or_else(by_host)?.1.as_ref()
    }
}

impl ServerAddress {
    pub(in crate::upstream) fn of(remote: &Url) -> Self {
        let host = remote.host_str().unwrap_or_default();
        let is_hub = HUB_HOSTS.contains(&host) && remote.scheme() == "https" && remote.port().is_none();
        Self(match remote.port() {
            _ if is_hub => vec![HUB.to_owned()],
            Some(port) => vec![format!("{host}:{port}")],
            // Who logs in may have named the port.
            None => {
                let port = remote.port_or_known_default().map(|port| format!("{host}:{port}"));
                std::iter::once(host.to_owned()).chain(port).collect()
            }
        })
    }

    /// What a helper is asked for.
    pub(in crate::upstream) fn name(&self) -> &str {
        self.0.first().expect("a registry has a name")
    }
}

/// What stands in the file, under docker's own names; what else stands there is docker's business.
#[derive(Default, Deserialize)]
struct Wire {
    auths: Option<Members<Option<Object<Entry>>>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<Members<Option<String>>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Entry {
    /// None: it is empty, as docker leaves it where a helper keeps the credentials.
    fn credentials(self, registry: &str) -> Result<Option<Credentials>, DockerConfigError> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (username, password) = match given(self.auth) {
            Some(auth) => {
                user_and_password(&auth).ok_or_else(|| DockerConfigError::Auth { registry: shown(registry) })?
            }
            None => (self.username.unwrap_or_default(), self.password.unwrap_or_default()),
        };
        if let Some(token) = given(self.identitytoken) {
            return Ok(Credentials::of(IDENTITY_TOKEN, &token.into()));
        }
        if username.is_empty() && password.is_empty() {
            return match given(self.registrytoken) {
                None => Ok(None),
                Some(_) => Err(DockerConfigError::RegistryToken { registry: shown(registry) }),
            };
        }
        let found = Credentials::of(&username, &password.into()).filter(|_| !username.is_empty());
        found.map(Some).ok_or_else(|| DockerConfigError::Username { registry: shown(registry) })
    }
}

fn user_and_password(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64_STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = text.split_once(':').filter(|(username, _)| !username.is_empty())?;
    Some((username.to_owned(), password.trim_matches('\0').to_owned()))
}

fn helper(name: Option<String>) -> Result<Option<CredentialHelper>, super::NoSuchHelper> {
    name.filter(|name| !name.is_empty()).map(|name| name.parse()).transpose()
}

/// Of a key, which may be a URL: the host, with its port if it names one.
fn host_of(key: &str) -> String {
    match Url::parse(key).ok().filter(|_| key.contains("://")) {
        Some(url) => {
            let host = url.host_str().unwrap_or_default();
            url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        }
        None => key.split('/').next().unwrap_or_default().to_owned(),
    }
}

/// A key as it may be printed: neither what stands before the host nor much of it.
fn shown(key: &str) -> String {
    let host = host_of(key);
    let host = host.rsplit('@').next().unwrap_or_default();
    host.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}

/// The members of an object, none of them twice.
struct Members<T>(BTreeMap<String, T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<T>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if members.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// What docker calls its own registry.
const HUB: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["registry-1.docker.io", "index.docker.io", "docker.io"];
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_SHOWN: usize = 120;
const LOOKED_AT_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
