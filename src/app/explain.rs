use std::{convert::Infallible, net::Ipv4Addr};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::Service;
use url::Url;

use crate::{
    clock::Clock,
    config::Config,
    oci::{Reference, RegistryName, Repository},
    pull::{Ask, Asker},
    server::{self, Listener, ListenerError, Received},
    store::{Disk, Store},
    telemetry::{Drain, Metrics, TrustedProxies},
    upstream::UpstreamConfig,
};

pub use crate::pull::{Explanation, Refused};

use super::{Parts, StartError, TrustFiles};

/// What a server with these settings would make of an image, from the signatures that the image's registry
/// has: the parts of a server over a store that is not kept.
pub async fn explain(
    mut config: Config,
    repository: Repository,
    reference: Reference,
    clock: Clock,
) -> Result<Result<Explanation, Refused>, StartError> {
    config.cache = None;
    let files = TrustFiles::read(&config.trust_dir)?;
    let store = Store::open_on(Disk::memory(), &config.store, clock.clone())?;
    let parts = Parts::build(&config, store, files, &Metrics::new(), clock)?;
    // Whoever may run this may see what the server would hide from strangers.
    let account = Some("operator".into());
    let asker =
        Asker { address: Ipv4Addr::LOCALHOST.into(), user_agent: "sig-repo".into(), account, by_our_name: false };
    let explained = parts.puller.explain(&Ask { repository, reference, asker }).await;
    parts.store.close();
    Ok(explained)
}

/// The same for an image that lies in no registry: what answers for it is served on loopback, under `path`,
/// for as long as the question takes, in the place of the registry that the repository is of.
pub async fn explain_from<S>(
    registry: S,
    path: &str,
    mut config: Config,
    repository: Repository,
    reference: Reference,
    clock: Clock,
) -> Result<Result<Explanation, Refused>, StartError>
where
    S: Service<Received, Response = Response<Full<Bytes>>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let listener = Listener::bind(server::Config {
        addr: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: None,
        trusted_proxies: TrustedProxies::default(),
        limits: server::Limits::default(),
    })
    .await?;
    let addr = listener
        .local_addr()
        .map_err(|source| ListenerError::Bind { addr: (Ipv4Addr::LOCALHOST, 0).into(), source })?;
    let remote: Url = format!("http://{addr}{path}").parse().expect("an address and a path are a URL");
    let name: RegistryName = repository.registry().parse().expect("a repository's registry has a name");
    let stand_in = UpstreamConfig::configured(name, remote);
    match config.upstream.default.name == stand_in.name {
        true => config.upstream.default = stand_in,
        false => {
            config.upstream.others.retain(|other| other.name != stand_in.name);
            config.upstream.others.push(stand_in);
        }
    }
    let drain = Drain::new();
    let serving = listener.serve(registry, drain.clone(), Metrics::new());
    let explaining = async {
        let explained = explain(config, repository, reference, clock).await;
        drain.begin();
        drain.end();
        explained
    };
    let ((), explained) = tokio::join!(serving, explaining);
    explained
}
