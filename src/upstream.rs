//! The registries that are mirrored: one client per registry, found by its canonical name.
//!
//! What comes back is bytes with a length cap, a time limit and, for blobs, a checked digest; nothing
//! here judges or keeps them. Refused here, whatever a caller asks for: a registry that nobody
//! configured, an address that is not public (unless the operator configured it), credentials to
//! anybody but the registry and its token service, and a client's own credentials: no function
//! takes any. What mirrors only reads; what writes is a client of its own, for a command.

mod addresses;
mod answers;
mod body;
mod challenge;
mod circuit;
mod client;
mod connector;
mod credentials;
mod error;
mod flights;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod patience;
mod place;
mod presets;
mod proxies;
mod push;
mod realms;
mod redirects;
mod requests;
mod revocation;
mod tls;
mod tokens;
mod transport;
mod tuf;
mod tunnel;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use url::Url;

use self::{
    connector::Endpoint,
    credentials::{Asked, Credentials, FromDockerConfig, Program, ServerAddress, Source, Terms, WatchedDockerConfig},
    place::Place,
    realms::Realms,
    requests::Requests,
    tls::{Roots, Tls},
    tokens::{Access, Tokens},
    transport::Transport,
};
use crate::{clock::Clock, oci::RegistryName};

pub use self::answers::{BlobAnswer, FetchedManifest, ReferrersAnswer, TagsAnswer};
pub use self::body::UpstreamBody;
pub use self::circuit::Kind;
pub use self::client::Upstream;
pub use self::credentials::{
    CredentialHelper, CredentialsFailure, DockerConfig, DockerConfigError, HelperEnvironment, NoSuchHelper,
};
pub use self::error::{Phase, ProxyRefusal, RealmRefusal, RedirectRefusal, UpstreamError};
pub use self::proxies::{NoProxy, NoSuchProxy, Proxies, Proxy};
pub use self::push::{Pushed, Pusher};
pub use self::revocation::RevocationServices;
pub use self::tls::UnusableIdentity;
pub use self::tuf::{TufRepository, TufRepositoryError};

/// What the registries are and how patient we are with them.
#[derive(Debug, Clone)]
pub struct Config {
    /// The upstream of bare paths; its `name` is the canonical name of these.
    pub default: UpstreamConfig,
    /// Further upstreams; one with the name of a preset replaces it.
    pub others: Vec<UpstreamConfig>,
    /// Where the credentials of those stand that have none of their own here.
    pub docker_config: Option<DockerConfig>,
    pub helper_environment: HelperEnvironment,
    /// The way out of the network, for everything that is asked from here.
    pub proxies: Proxies,
    pub limits: Limits,
}

#[derive(Debug, Clone)]
pub struct UpstreamConfig {
    /// The registry name under which everything from here is known.
    pub name: RegistryName,
    /// `http` or `https`, a host, and at most a path before `/v2/`.
    pub remote: Url,
    /// The same registry at other addresses, asked in this order where the one before fails; they get what
    /// `remote` gets.
    pub alternatives: Vec<Url>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// Who knows them, in their place.
    pub helper: Option<CredentialHelper>,
    /// Certificates in PEM form that are trusted here beside the platform's; read already, because the
    /// process may be root only while it loads its configuration.
    pub ca: Option<Vec<u8>>,
    /// What is shown to the registry itself, where it asks who we are, and to nobody else.
    pub identity: Option<ClientIdentity>,
    /// Where its tokens come from; none: its own host, or the preset's token service.
    pub realm: Option<Url>,
    /// A host name of ours that means this upstream.
    pub host: Option<String>,
    pub anonymous: Anonymous,
    /// Whether the operator wrote it down; only then its host may have an address that is not public.
    pub configured: bool,
}

/// A certificate of ours, with those that lead to its issuer, and its key; both in PEM form.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    pub certificate: Vec<u8>,
    pub key: SecretString,
}

/// What anonymous clients may read through our credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// What the upstream gives to anonymous clients itself.
    #[default]
    Probe,
    /// Whatever our credentials can read.
    All,
}

/// How long an upstream may take and how much it may send.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Resolving, connecting and the TLS handshake together.
    pub connect: Duration,
    /// From the request to the end of the answer's head, connecting included.
    pub head: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// The whole body of anything but a streamed blob.
    pub body: Duration,
    /// A streamed blob.
    pub blob_bytes: u64,
    /// A credential helper, from its start to its end.
    pub helper: Duration,
}

/// Called after each request to an upstream, with the operation and `ok` or the error's code.
pub type OnCall = Arc<dyn Fn(&'static str, &'static str) + Send + Sync>;

/// Every registry that is configured or ready by name.
pub struct Upstreams {
    by_name: HashMap<Box<str>, Arc<Upstream>>,
    by_host: HashMap<String, RegistryName>,
    canonical: RegistryName,
}

/// What the upstreams have in common.
struct Context {
    roots: Roots,
    proxies: Arc<Proxies>,
    docker_config: Option<Arc<WatchedDockerConfig>>,
    helper_environment: HelperEnvironment,
    limits: Limits,
    clock: Clock,
    on_call: OnCall,
}

#[derive(Debug, thiserror::Error)]
pub enum UpstreamSetupError {
    #[error("upstream {name}: the name stands twice")]
    DuplicateName { name: RegistryName },
    #[error("upstream {name}: the host {host} means another upstream already")]
    DuplicateHost { name: RegistryName, host: String },
    #[error("upstream {name}: remoteurl must be http:// or https:// and a host, without user, query and fragment")]
    Remote { name: RegistryName },
    #[error(
        "upstream {name}: realm must be an https:// URL, or http:// on the registry's own host where remoteurl is http"
    )]
    Realm { name: RegistryName },
    #[error("upstream {name}: username and password belong together, and credentialHelper stands in their place")]
    Credentials { name: RegistryName },
    #[error("upstream {name}: credentialHelper: expected a program {helper} in a directory of PATH")]
    Helper { name: RegistryName, helper: CredentialHelper },
    #[error("upstream {name}: ca holds no usable PEM certificate")]
    Ca { name: RegistryName },
    #[error("upstream {name}: {reason}")]
    Identity { name: RegistryName, reason: UnusableIdentity },
    #[error("upstream {name}: alternatives must be like remoteurl, and https:// where that is")]
    Alternative { name: RegistryName },
    #[error("upstream {name}: a client certificate needs a remoteurl of https://")]
    IdentityInTheClear { name: RegistryName },
}

impl Upstreams {
    /// Reads the platform's certificates; connects to nothing.
    pub fn new(config: Config, clock: Clock, on_call: OnCall) -> Result<Self, UpstreamSetupError> {
        let Config { default, others, docker_config, helper_environment, proxies, limits } = config;
        let context = Context::new(docker_config, helper_environment, proxies, limits, clock, on_call);
        let canonical = default.name.clone();
        let mut by_name = HashMap::new();
        let mut by_host = HashMap::new();
        for upstream in std::iter::once(default).chain(others) {
            let name = upstream.name.clone();
            if let Some(host) = &upstream.host
                && by_host.insert(host.to_ascii_lowercase(), name.clone()).is_some()
            {
                return Err(UpstreamSetupError::DuplicateHost { name, host: host.clone() });
            }
            let built = upstream.build(&context)?;
            if by_name.insert(name.as_str().into(), Arc::new(built)).is_some() {
                return Err(UpstreamSetupError::DuplicateName { name });
            }
        }
        for preset in presets::all() {
            if !by_name.contains_key(preset.name.as_str()) {
                let name = preset.name.as_str().into();
                by_name.insert(name, Arc::new(preset.build(&context)?));
            }
        }
        Ok(Self { by_name, by_host, canonical })
    }

    /// The registry that bare paths mean.
    pub fn canonical(&self) -> &RegistryName {
        &self.canonical
    }

    /// The upstream of a canonical registry name; none: nobody configured it, and it is not asked.
    pub fn of(&self, registry: &str) -> Option<Arc<Upstream>> {
        self.by_name.get(registry).map(Arc::clone)
    }

    /// The registry that a host name of ours stands for.
    pub fn of_host(&self, host: &str) -> Option<&RegistryName> {
        self.by_host.get(&host.to_ascii_lowercase())
    }
}

impl Default for Config {
    /// Docker Hub by its own name.
    fn default() -> Self {
        Self {
            default: UpstreamConfig::docker_hub(),
            others: Vec::new(),
            docker_config: None,
            helper_environment: HelperEnvironment::default(),
            proxies: Proxies::default(),
            limits: Limits::default(),
        }
    }
}

impl UpstreamConfig {
    /// The upstream of bare paths where the operator names none.
    pub fn docker_hub() -> Self {
        presets::all().next().expect("Docker Hub is the first preset")
    }

    /// One that is ready by this name.
    pub fn preset(name: &RegistryName) -> Option<Self> {
        presets::all().find(|preset| preset.name == *name)
    }

    /// An upstream that the operator wrote down, without credentials.
    pub fn configured(name: RegistryName, remote: Url) -> Self {
        Self {
            name,
            remote,
            alternatives: Vec::new(),
            username: None,
            password: None,
            helper: None,
            ca: None,
            identity: None,
            realm: None,
            host: None,
            anonymous: Anonymous::Probe,
            configured: true,
        }
    }

    fn build(self, context: &Context) -> Result<Upstream, UpstreamSetupError> {
        let open_to_all = self.anonymous == Anonymous::All;
        let requests = self.requests(Access::Pull, context)?;
        if open_to_all && requests.primary().tokens.may_have_credentials() {
            let name = requests.name();
            tracing::warn!(upstream = %name, "anonymous clients may read whatever our credentials for {name} can read");
        }
        Ok(Upstream::new(requests, open_to_all))
    }

    fn requests(self, access: Access, context: &Context) -> Result<Requests, UpstreamSetupError> {
        let Context { roots, proxies, limits, clock, on_call, .. } = context;
        let Self {
            name,
            remote,
            alternatives,
            username,
            password,
            helper,
            ca,
            identity,
            realm,
            host: _,
            anonymous: _,
            configured,
        } = self;
        let Some(first) = endpoint_of(&remote) else { return Err(UpstreamSetupError::Remote { name }) };
        let is_downgrade = |other: &Url| remote.scheme() == "https" && other.scheme() != "https";
        let others = alternatives.iter().map(|other| endpoint_of(other).filter(|_| !is_downgrade(other)));
        let Some(others) = others.collect::<Option<Vec<_>>>() else {
            return Err(UpstreamSetupError::Alternative { name });
        };
        let own: BTreeSet<_> = std::iter::once(first).chain(others).collect();
        let is_plain = |remote: &Url| remote.scheme() != "https";
        let realms_of = |remote: Url| Realms { realm: realm.clone().or_else(|| presets::realm_of(&remote)), remote };
        let realms: Vec<_> = std::iter::once(&remote).chain(&alternatives).cloned().map(realms_of).collect();
        if !realms.iter().all(Realms::is_sound) {
            return Err(UpstreamSetupError::Realm { name });
        }
        let source = match (username, password, helper) {
            (None, None, None) => context.source_of(&name, &remote),
            (None, None, Some(helper)) if context.helper_environment.find(&helper).is_none() => {
                return Err(UpstreamSetupError::Helper { name, helper });
            }
            (None, None, Some(helper)) => Source::Helper(context.asked(helper, &name, &remote)),
            (Some(username), Some(password), None) => match Credentials::of(&username, &password) {
                None => return Err(UpstreamSetupError::Credentials { name }),
                Some(credentials) => Source::Fixed(credentials),
            },
            _ => return Err(UpstreamSetupError::Credentials { name }),
        };
        let source = Arc::new(source);
        let Ok(with_all) = roots.client_config(ca.as_deref()) else { return Err(UpstreamSetupError::Ca { name }) };
        let with_own = match identity {
            None => None,
            Some(_) if realms.iter().any(|realms| is_plain(&realms.remote)) => {
                return Err(UpstreamSetupError::IdentityInTheClear { name });
            }
            Some(identity) => match roots.showing(ca.as_deref(), &identity) {
                Ok(showing) => Some((own.clone(), showing)),
                Err(reason) => return Err(UpstreamSetupError::Identity { name, reason }),
            },
        };
        let tls = Tls { with_all, with_own };
        // Only what the operator wrote down may lie on a network that is not public.
        let own = match configured {
            true => realms.iter().filter_map(|realms| Endpoint::of(realms.realm.as_ref()?)).chain(own).collect(),
            false => BTreeSet::new(),
        };
        let transport = Arc::new(Transport::new(name.clone(), tls, own, Arc::clone(proxies), limits.clone()));
        let place = |realms: Realms| {
            let (remote, transport, source) = (realms.remote.clone(), Arc::clone(&transport), Arc::clone(&source));
            let tokens = Tokens::new(access, transport, source, realms, clock.clone(), Arc::clone(on_call));
            Arc::new(Place::new(&name, remote, tokens))
        };
        let places = realms.into_iter().map(place).collect();
        Ok(Requests::new(name, places, Arc::clone(&transport), clock.clone(), Arc::clone(on_call)))
    }
}

impl Context {
    fn new(
        docker_config: Option<DockerConfig>,
        helper_environment: HelperEnvironment,
        proxies: Proxies,
        limits: Limits,
        clock: Clock,
        on_call: OnCall,
    ) -> Self {
        let named = docker_config.iter().flat_map(DockerConfig::helpers);
        for helper in named.filter(|helper| helper_environment.find(helper).is_none()) {
            tracing::warn!(%helper, "{helper} is not in a directory of PATH, so what wants its credentials cannot be asked");
        }
        let watched = |config| Arc::new(WatchedDockerConfig::new(config, clock.clone()));
        Self {
            roots: Roots::of_platform(),
            proxies: Arc::new(proxies),
            docker_config: docker_config.map(watched),
            helper_environment,
            limits,
            clock,
            on_call,
        }
    }

    /// Of an upstream that has no credentials of its own in the settings.
    fn source_of(&self, name: &RegistryName, remote: &Url) -> Source {
        let Some(config) = &self.docker_config else { return Source::Nowhere };
        Source::DockerConfig(FromDockerConfig::new(Arc::clone(config), ServerAddress::of(remote), self.terms(name)))
    }

    fn asked(&self, helper: CredentialHelper, name: &RegistryName, remote: &Url) -> Asked {
        let registry = ServerAddress::of(remote).name().to_owned();
        Asked::new(Program { helper, registry, terms: self.terms(name) })
    }

    fn terms(&self, name: &RegistryName) -> Terms {
        let (environment, clock) = (self.helper_environment.clone(), self.clock.clone());
        Terms { environment, limit: self.limits.helper, clock, name: name.clone() }
    }
}

/// Of a registry's address, which says nothing but where it is.
fn endpoint_of(remote: &Url) -> Option<Endpoint> {
    let is_plain = remote.username().is_empty() && remote.password().is_none();
    let is_bare = remote.query().is_none() && remote.fragment().is_none();
    Endpoint::of(remote).filter(|_| is_plain && is_bare && matches!(remote.scheme(), "http" | "https"))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: CONNECT_TIMEOUT,
            head: HEAD_TIMEOUT,
            idle: IDLE_TIMEOUT,
            body: BODY_TIMEOUT,
            blob_bytes: MAX_BLOB_BYTES,
            helper: HELPER_TIMEOUT,
        }
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any registry takes as one layer.
const MAX_BLOB_BYTES: u64 = 256 << 30;
