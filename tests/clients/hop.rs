//! A load balancer in front of the mirror that loses the reason phrase, as HTTP/2 and some proxies do. The phrase is what
//! stops classic dockerd when it talks to us directly, so behind a hop the refusal has to hold without; the matrix has this
//! hop for one of its doors.

use std::net::SocketAddr;

use http::{HeaderValue, Request, Uri, header::VIA};
use hyper::{body::Incoming, ext::ReasonPhrase, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    clients::{Client, ImageStore, Mode, Program, Pull, Reference},
    doors::Door,
    hub::Caller,
    mirror::Mirror,
    world::{World, free_address, inside},
};

/// Behind a hop that loses the phrase and does not say that it is there, dockerd with its classic store goes on to the Hub;
/// to name the hop closes that.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn a_hop_that_hides_has_to_be_named_in_trusted_proxies() {
    inside(|world| {
        let behind = free_address();
        let _hop = Hop::start(world, behind, Manner::Hides);
        for (trusted, is_held) in [("", false), ("127.0.0.1/32", true)] {
            let settings = [("POLICY_DEFAULT", "enforce"), ("TRUSTED_PROXIES", trusted)];
            let _mirror = Mirror::start_at(world, behind, &settings);
            for (client, mode) in Client::all_by(&[Mode::Mirror]) {
                let image = world.registry.publish("v1");
                let reference = Reference::Tag(&image.tag);
                let pull = Pull { client, mode, door: Door::Dropping, repository: &image.repository, reference };
                if is_held || client.program != Program::Docker(ImageStore::Classic) {
                    pull.is_refused(world, &image, "no valid signature");
                    continue;
                }
                let watch = world.hub.watch();
                pull.run(world).expect("docker pull");
                assert_ne!(watch.by(Caller::Client).len(), 0, "{client}: it came from elsewhere");
                client.empty(world);
            }
        }
    });
}

/// Whether a hop says that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// In `Via`, as every proxy has to.
    Says,
    Hides,
}

/// Listens at [`Door::Dropping`].
pub(crate) struct Hop {
    task: tokio::task::JoinHandle<()>,
}

impl Hop {
    pub(crate) fn start(world: &World, mirror: SocketAddr, manner: Manner) -> Self {
        let listener = world.runtime.block_on(TcpListener::bind(world.doors.address(Door::Dropping))).unwrap();
        Self { task: world.runtime.spawn(forward_all(listener, mirror, manner)) }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward_all(listener: TcpListener, mirror: SocketAddr, manner: Manner) {
    let client = Http::builder(TokioExecutor::new()).build_http::<Incoming>();
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let client = client.clone();
        connections.spawn(async move {
            let service = service_fn(|request| forward(&client, mirror, manner, request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    client: &Http<HttpConnector, Incoming>,
    mirror: SocketAddr,
    manner: Manner,
    mut request: Request<Incoming>,
) -> Result<http::Response<Incoming>, hyper_util::client::legacy::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(format!("http://{mirror}{path}")).unwrap();
    if manner == Manner::Says {
        request.headers_mut().insert(VIA, HeaderValue::from_static("1.1 hop"));
    }
    let mut answer = client.request(request).await?;
    answer.extensions_mut().remove::<ReasonPhrase>();
    Ok(answer)
}
