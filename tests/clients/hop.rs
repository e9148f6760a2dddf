//! A load balancer in front of the mirror that loses the reason phrase, as HTTP/2 and some proxies do. The phrase is what
//! stops classic dockerd when it talks to us directly, so behind a hop the refusal has to hold without.

use std::net::SocketAddr;

use http::{HeaderValue, Request, Uri, header::VIA};
use hyper::{body::Incoming, ext::ReasonPhrase, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    mirror::Mirror,
    world::{World, free_address, inside},
};

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn a_refusal_holds_behind_a_hop_that_loses_the_reason_phrase() {
    inside(|world| {
        let behind = free_address();
        let _hop = Hop::start(world, behind);
        let mirror = Mirror::start_at(world, behind, &[("POLICY_DEFAULT", "enforce")]);
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            let (signed, other) = (world.registry.publish("v1"), world.registry.publish("v1"));
            mirror.submit(&world.signer, &signed.single, &signed.tag);
            for reference in [Reference::Tag(&signed.tag), Reference::Digest(&signed.single)] {
                Pull { client, mode, door: Door::Dropping, repository: &signed.repository, reference }
                    .comes(world, &signed.single);
                client.empty(world);
            }
            for reference in
                [Reference::Tag(&other.tag), Reference::Digest(&other.single), Reference::Tag(&other.index_tag)]
            {
                Pull { client, mode, door: Door::Dropping, repository: &other.repository, reference }.is_refused(
                    world,
                    &other,
                    "no valid signature",
                );
            }
        }
    });
}

/// Listens where the clients expect the mirror.
struct Hop {
    task: tokio::task::JoinHandle<()>,
}

impl Hop {
    fn start(world: &World, mirror: SocketAddr) -> Self {
        let listener = world.runtime.block_on(TcpListener::bind(world.doors.address(Door::Dropping))).unwrap();
        Self { task: world.runtime.spawn(forward_all(listener, mirror)) }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward_all(listener: TcpListener, mirror: SocketAddr) {
    let client = Http::builder(TokioExecutor::new()).build_http::<Incoming>();
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let client = client.clone();
        connections.spawn(async move {
            let service = service_fn(|request| forward(&client, mirror, request));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(
    client: &Http<HttpConnector, Incoming>,
    mirror: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<http::Response<Incoming>, hyper_util::client::legacy::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::try_from(format!("http://{mirror}{path}")).unwrap();
    request.headers_mut().insert(VIA, HeaderValue::from_static("1.1 hop"));
    let mut answer = client.request(request).await?;
    answer.extensions_mut().remove::<ReasonPhrase>();
    Ok(answer)
}
