//! The only place where the parts meet: they are built here, their background work is started here,
//! and here is the order in which they end.

mod client;
mod explain;
mod process;
mod service;
mod sweep;
mod time;
mod trusted_root;

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use crate::{
    access::{BasicAuth, NoRandomness},
    api::{self, Api},
    audit::Audit,
    cache::{BlobCache, Fetches, Scrubber},
    clock::Clock,
    config::{Config, MaxAge},
    oci::OwnNames,
    policy::TrustPolicy,
    pull::{Judge, Puller, Searches, Settings, TRUST_POLL, TrustFiles, TrustFilesError, Trusted},
    registry::{self, Registry},
    server::{Health, Layers, Listener, ListenerError, Readiness},
    store::{Store, StoreError, StoreWriter},
    telemetry::{Drain, Metrics},
    upstream::{self, Proxies, RevocationServices, UpstreamSetupError, Upstreams},
};

pub use self::client::{
    Pushed, Pusher, TagsAnswer, Upstream, UpstreamConfig, UpstreamError, UpstreamSettings, client_of, pusher_of,
};
pub use self::explain::{Explanation, Refused, explain, explain_from};
pub use self::process::{ServeError, serve};
use self::service::Service;
pub use self::trusted_root::{FetchError, fetch_trusted_root, sigstore_root_files, sigstore_roots};
pub use crate::cache::{CacheError, Checked, NotRight, verify_all as verify_cache};
pub(crate) use crate::pull::{Artifact, Published, SignatureParts, listed};
pub use crate::server::Received;
pub use crate::upstream::{TufRepository, TufRepositoryError};

/// How often gathered audit events are written.
const AUDIT_FLUSH: Duration = Duration::from_secs(1);

/// How often uploads are forgotten that nobody goes on with.
const UPLOADS_SWEEP: Duration = Duration::from_secs(60);

/// A process that serves.
pub struct Running {
    addr: SocketAddr,
    drain: Drain,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Trust(#[from] TrustFilesError),
    #[error(transparent)]
    Upstream(#[from] UpstreamSetupError),
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("a thread of the store could not be started: {0}")]
    Thread(io::Error),
}

/// The parts that outlive the listener, in the order in which they end.
struct Background {
    tasks: JoinSet<()>,
    audit: Arc<Audit>,
    store: Store,
    writers: Vec<thread::JoinHandle<()>>,
}

/// Checks what can be checked beside a process that runs: the files of the trust directory and the
/// upstreams. The configuration itself was checked when it was loaded.
pub fn check(config: &Config) -> Result<usize, StartError> {
    Upstreams::new(config.upstream.clone(), Clock::system(), Arc::new(|_, _| {}))?;
    Ok(TrustFiles::read(&config.trust_dir)?.signers().count())
}

/// Makes the system's time the latest that the store has seen; says which one that was.
pub fn accept_time(config: &Config, clock: &Clock) -> Result<Option<jiff::Timestamp>, StartError> {
    Ok(Store::accept_time(&config.store, clock)?)
}

/// Opens the store, builds every part, and serves. When this returns, requests are answered.
pub async fn start(config: Config, clock: Clock) -> Result<Running, StartError> {
    let files = TrustFiles::read(&config.trust_dir)?;
    start_trusting(config, files, clock).await
}

/// The same, with trust files that were read when they still could be.
async fn start_trusting(config: Config, files: TrustFiles, clock: Clock) -> Result<Running, StartError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    say_what_is_open(&config);
    say_what_the_way_out_is(&config.upstream.proxies);
    let (metrics, drain) = (Metrics::new(), Drain::new());
    let Parts { store, writers, trusted, judge, audit, puller, searches, fetches, scrubber } =
        Parts::build(&config, Store::open(&config.store, clock.clone())?, files, &metrics, clock.clone())?;
    let canonical = config.upstream.default.name.clone();
    let auth =
        config.auth.as_ref().map(|basic| BasicAuth::new(&basic.user, basic.password.expose_secret(), clock.clone()));
    let auth = auth.transpose()?.map(Arc::new);
    let api = Api::new(
        api::Config { canonical: canonical.clone(), preview_ttl: config.preview.ttl, auth: auth.clone() },
        store.clone(),
        judge,
        trusted.clone(),
        puller.clone(),
        audit.clone(),
        clock.clone(),
    );
    let of_registry = registry::Config { canonical, hosts: config.registry_hosts.clone(), auth };
    let registry = Registry::new(of_registry, puller.clone(), drain.clone(), metrics.clone(), clock.clone());

    let listener = Listener::bind(config.server.clone()).await?;
    let addr = listener.local_addr().map_err(|source| ListenerError::Bind { addr: config.server.addr, source })?;
    let health = health(&metrics, &drain, &store, &trusted, &clock);
    let service = Layers::new(Service::new(registry.clone(), api::router(api)), health, &config.server.limits);
    let mut background =
        Background::start(&config, store, writers, audit, trusted, (&puller, searches), clock, metrics.clone());
    background.tasks.spawn(sweep_uploads(registry));
    if let Some(fetches) = fetches {
        background.tasks.spawn(run_fetches(fetches));
    }
    if let Some(scrubber) = scrubber {
        background.tasks.spawn(scrubber.run());
    }
    let serving = {
        let drain = drain.clone();
        async move {
            listener.serve(service, drain, metrics).await;
            background.end().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    let serving = tokio::spawn(serving);
    tracing::info!(%addr, "listening on {addr}");
    Ok(Running { addr, drain, serving })
}

/// What decides, and what it decides by.
struct Parts {
    store: Store,
    writers: Vec<thread::JoinHandle<()>>,
    trusted: Arc<Trusted>,
    judge: Arc<Judge>,
    audit: Arc<Audit>,
    puller: Arc<Puller>,
    searches: Searches,
    fetches: Option<Fetches>,
    scrubber: Option<Scrubber>,
}

impl Parts {
    fn build(
        config: &Config,
        (store, writers): (Store, Vec<StoreWriter>),
        files: TrustFiles,
        metrics: &Metrics,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let writers = writers
            .into_iter()
            .map(|writer| thread::Builder::new().name(writer.name().to_owned()).spawn(move || writer.run()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(StartError::Thread)?;
        let trusted = Arc::new(Trusted::new(files, config.sigstore, own_names(config), store.clone(), clock.clone())?);
        let upstreams = Arc::new(Upstreams::new(config.upstream.clone(), clock.clone(), counting(metrics))?);
        let services =
            RevocationServices::new(&config.revocation_hosts, config.upstream.proxies.clone(), clock.clone());
        let judge = Arc::new(Judge::new(store.clone(), trusted.clone(), services, clock.clone(), metrics.clone()));
        let audit = Arc::new(Audit::new(store.clone(), clock.clone(), metrics.clone()));
        let cache =
            config.cache.as_ref().map(|config| BlobCache::open(config, clock.clone(), metrics.cache())).transpose()?;
        let (cache, fetches) = cache.unzip();
        let scrubber = cache.as_ref().map(BlobCache::scrubber);
        let (puller, searches) = Puller::new(
            settings(config),
            store.clone(),
            judge.clone(),
            trusted.clone(),
            upstreams,
            cache,
            audit.clone(),
            clock,
        );
        Ok(Self { store, writers, trusted, judge, audit, puller: Arc::new(puller), searches, fetches, scrubber })
    }
}

impl Running {
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The state that a signal changes; see [`crate::server::Signals`].
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Waits until the drain is over and every part has ended.
    pub async fn ended(self) -> Result<(), tokio::task::JoinError> {
        self.serving.await
    }

    /// Begins the drain, and waits for its end.
    pub async fn shutdown(self) -> Result<(), tokio::task::JoinError> {
        self.drain.begin();
        self.ended().await
    }
}

impl Background {
    #[expect(clippy::too_many_arguments, reason = "everything that has work of its own to do")]
    fn start(
        config: &Config,
        store: Store,
        writers: Vec<thread::JoinHandle<()>>,
        audit: Arc<Audit>,
        trusted: Arc<Trusted>,
        (puller, searches): (&Arc<Puller>, Searches),
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(searches.run(Arc::downgrade(puller)));
        tasks.spawn(poll_trust(trusted));
        tasks.spawn(flush_audit(audit.clone()));
        tasks.spawn(time::watch(store.clone(), clock.clone(), metrics.clone()));
        tasks.spawn(sweep::run(store.clone(), clock, config.preview, metrics));
        Self { tasks, audit, store, writers }
    }

    /// Stops the background work, writes what was gathered, and closes the store last.
    async fn end(mut self) {
        self.tasks.shutdown().await;
        if let Err(error) = self.audit.flush(true).await {
            tracing::error!("the last audit events were not written: {error}");
        }
        // To the moment: the next process may start with a clock that was set back meanwhile.
        if let Err(error) = self.store.note_time(Duration::ZERO).await {
            tracing::error!("the time was not noted: {error}");
        }
        self.store.close();
        let writers = self.writers;
        let joined = tokio::task::spawn_blocking(move || writers.into_iter().try_for_each(thread::JoinHandle::join));
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("a thread of the store ended in a panic");
        }
    }
}

async fn poll_trust(trusted: Arc<Trusted>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(TRUST_POLL).await;
        let polled = {
            let trusted = trusted.clone();
            tokio::task::spawn_blocking(move || trusted.poll()).await
        };
        match polled {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!("the trusted keys could not be read again, those in force stay: {error}");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!("reading the trusted keys: {error}"),
        }
    }
}

async fn sweep_uploads(registry: Registry) {
    loop {
        tokio::time::sleep(UPLOADS_SWEEP).await;
        registry.forget_uploads();
    }
}

/// The fetches end with the process: what was written of them is of no use to the next.
async fn run_fetches(mut fetches: Fetches) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            fetch = fetches.next() => match fetch {
                Some(fetch) => drop(running.spawn(fetch)),
                None => return,
            },
            Some(ended) = running.join_next() => if let Err(error) = ended {
                tracing::error!("a fetch of a blob: {error}");
            },
        }
    }
}

async fn flush_audit(audit: Arc<Audit>) {
    loop {
        tokio::time::sleep(AUDIT_FLUSH).await;
        if let Err(error) = audit.flush(false).await {
            tracing::error!("audit events were not written: {error}");
        }
    }
}

fn own_names(config: &Config) -> OwnNames {
    OwnNames::new(config.registry_hosts.names(), config.upstream.default.name.clone())
}

fn settings(config: &Config) -> Settings {
    let duration = |age: MaxAge| match age {
        MaxAge::For(duration) => Some(duration),
        MaxAge::Forever => None,
    };
    Settings {
        policy: TrustPolicy::built_in(config.policy_default, config.policy_threshold),
        preview_ttl: config.preview.ttl,
        isolation: config.auth.is_some(),
        shared_caches: config.cdn,
        tag_max_age: duration(config.metadata_max_age),
        content_max_age: duration(config.content_max_age),
    }
}

fn health(metrics: &Metrics, drain: &Drain, store: &Store, trusted: &Arc<Trusted>, clock: &Clock) -> Health {
    let (store, trusted, clock, gauge) = (store.clone(), trusted.clone(), clock.clone(), metrics.clone());
    Health::new(metrics.clone(), drain.clone(), move || {
        let parts = [store.degraded(), trusted.degraded(), time::trouble(&clock.reading())];
        let degraded: Vec<_> = parts.into_iter().flatten().collect();
        gauge.store_degraded(store.degraded().is_some());
        Readiness { opened: true, degraded }
    })
}

fn counting(metrics: &Metrics) -> upstream::OnCall {
    let metrics = metrics.clone();
    Arc::new(move |operation, outcome| metrics.upstream_call(operation, outcome))
}

fn say_what_the_way_out_is(proxies: &Proxies) {
    for (scheme, proxy) in [("https", &proxies.https), ("http", &proxies.http)] {
        if let Some(proxy) = proxy {
            tracing::info!(%proxy, "{scheme} is asked for through {proxy}, but for what NO_PROXY names");
        }
    }
}

fn say_what_is_open(config: &Config) {
    if config.auth.is_some() {
        if config.registry_hosts.is_empty() {
            tracing::warn!(
                "docker login, pulls of internal images and signing through this port need a name to sign in under: REGISTRY_HOSTS is not set"
            );
        }
    } else {
        tracing::warn!(
            "AUTH_ENABLED is off: whoever reaches this port may submit and read signatures, internal images are not isolated, and nobody may push"
        );
    }
}
