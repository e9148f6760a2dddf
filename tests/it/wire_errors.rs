//! What strangers send to the port: each gets a bounded answer or a closed connection, and the next
//! one is served.

mod bodies;
mod crowd;
mod heads;
mod protocols;
mod smuggling;
mod tls;

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use sig_repo::{
    server::{Config, Limits},
    telemetry::{Peer, TrustedProxies},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::support::port::{Body, Port, config, text};

/// Answers with what it was asked, so that a test sees how a request was read.
fn echo()
-> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Send + Sync + 'static
{
    service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        assert_ne!(head.uri.path(), "/panic", "asked for");
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(text(format!("{} {} {:?};", head.method, head.uri.path(), String::from_utf8_lossy(&body))))
    })
}

async fn port() -> Port {
    Port::open(config(), echo()).await
}

async fn port_with(limits: Limits) -> Port {
    Port::open(Config { limits, ..config() }, echo()).await
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let port = port().await;
    insta::assert_snapshot!(port.get("/panic").await, @r#"HTTP/1.1 500 Internal Server Error | application/problem+json | {"detail":"an error of this server; its log has more","status":500,"title":"Internal Server Error","type":"about:blank"}"#);
    assert_eq!(port.get("/next").await, "HTTP/1.1 200 OK | - | GET /next \"\";");
    let counted = port.metrics.encode().unwrap();
    assert!(counted.contains("sig_repo_panics_total 1\n"), "{counted}");
    assert!(counted.contains("sig_repo_requests_total{surface=\"other\",status=\"500\"} 1\n"), "{counted}");
}

#[tokio::test]
async fn the_process_answers_for_itself() {
    let port = port().await;
    insta::assert_snapshot!(port.get("/healthz").await, @r#"HTTP/1.1 200 OK | application/json | {"status":"alive"}"#);
    insta::assert_snapshot!(port.get("/readyz").await, @r#"HTTP/1.1 200 OK | application/json | {"degraded":["the test"],"status":"ready"}"#);
    insta::assert_snapshot!(port.ask("POST /healthz HTTP/1.1\r\nHost: test").await, @"HTTP/1.1 405 Method Not Allowed | text/plain; charset=utf-8 | only GET and HEAD");
    insta::assert_snapshot!(port.ask("HEAD /readyz HTTP/1.1\r\nHost: test").await, @"HTTP/1.1 200 OK | application/json | ");
    let metrics = port.get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK | application/openmetrics-text; version=1.0.0; charset=utf-8 | "));
    assert!(metrics.contains("sig_repo_requests_total{surface=\"health\",status=\"200\"} 3\n"), "{metrics}");
}

#[tokio::test]
async fn pitfall_36_a_forwarded_address_counts_only_from_a_trusted_proxy() {
    for (trusted, client) in [("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let service = service_fn(|request: Request<Incoming>| async move {
            let peer = request.extensions().get::<Peer>().unwrap();
            Ok(text(format!("{} {}", peer.client, peer.behind_hop)))
        });
        let trusted_proxies = TrustedProxies::new([trusted.parse().unwrap()]);
        let port = Port::open(Config { trusted_proxies, ..config() }, service).await;
        let answer = port.ask("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 10.1.1.1, 198.51.100.7").await;
        assert_eq!(answer, format!("HTTP/1.1 200 OK | - | {client} true"));
    }
}

/// Asks for `/a` on a connection that stays open, and reads the whole answer.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    answered(stream).await;
}

async fn answered(stream: &mut (impl AsyncRead + Unpin)) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"GET /a \"\";") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{answer:?}");
}
