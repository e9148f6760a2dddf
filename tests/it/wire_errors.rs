//! What strangers send to the port: each gets a bounded answer or a closed connection, and the next
//! one is served.

use std::{
    convert::Infallible,
    path::PathBuf,
    pin::Pin,
    process::Command,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use sig_repo::{
    server::{Config, Limits, Tls},
    telemetry::{Peer, TrustedProxies},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use crate::support::port::{Body, Port, SHORT, config, rest_of, text};

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
async fn a_tls_hello_on_the_plain_port_gets_an_answer_in_http() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(client), name).unwrap().write_tls(&mut hello).unwrap();
    assert_eq!(hello[0], 0x16);
    let answer = port().await.exchange(hello).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?}");
}

#[tokio::test]
async fn heads_over_the_limits_are_431() {
    let port = port().await;
    let long = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: a\r\n".repeat(200));
    let path = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(70_000));
    for head in [long, many] {
        let answer = port.exchange(&head).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer:?}");
    }
    let answer = port.exchange(path).await;
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    assert_eq!(port.get("/next").await, "HTTP/1.1 200 OK | - | GET /next \"\";");
}

#[tokio::test]
async fn what_is_no_request_is_400() {
    let port = port().await;
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        let answer = port.exchange(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{garbage:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{garbage:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let port = port().await;
    for head in ["GET / HTTP/1.1\r\nX: y", "GET / HTTP/1.1\r\nHost: a\r\nHost: b"] {
        let answer = port.ask(head).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(answer, @r#"HTTP/1.1 400 Bad Request | application/problem+json | {"detail":"exactly one Host header is expected","status":400,"title":"Bad Request","type":"about:blank"}"#);
        }
    }
}

#[tokio::test]
async fn a_slow_head_ends_the_connection_and_nothing_is_answered_from_it() {
    let port = port_with(Limits { head: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    assert_eq!(rest_of(&mut stream).await, "");
    // The second head of a connection has no more time than the first.
    let mut stream = port.connect().await;
    stream.write_all(b"GET /whole HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stream.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    assert!(rest_of(&mut stream).await.ends_with("GET /whole \"\";"));
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let port = port_with(Limits { idle: SHORT, ..Limits::default() }).await;
    assert_eq!(rest_of(&mut port.connect().await).await, "");
    // After an answer, too.
    let mut stream = port.connect().await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert!(rest_of(&mut stream).await.ends_with("GET /a \"\";"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let port = port_with(Limits { body: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"POST /api HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    assert!(answer.contains("the request did not arrive in time"), "{answer:?}");
}

#[tokio::test]
async fn a_chunked_body_that_never_ends_is_cut() {
    let port = port_with(Limits { body: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"POST /api HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut answer = [0; 12];
    tokio::select! {
        read = reading.read_exact(&mut answer) => assert_eq!(read.unwrap(), answer.len()),
        () = async { while writing.write_all(b"1\r\na\r\n").await.is_ok() { tokio::task::yield_now().await; } } => {}
    }
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    /// Says when the server has let go of it.
    struct Endless(#[expect(dead_code, reason = "its drop is what counts")] oneshot::Sender<()>);
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 * 1024])))))
        }
    }
    let (let_go, gone) = oneshot::channel();
    let body = Mutex::new(Some(Endless(let_go)));
    let service = service_fn(move |_: Request<Incoming>| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok(Response::new(body.boxed())) }
    });
    let limits = Limits { stall: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, ..config() }, service).await;
    let mut stream = port.connect().await;
    stream.write_all(b"GET /blob HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert!(gone.await.is_err(), "dropped without a word");
}

#[tokio::test]
async fn old_and_foreign_protocols_are_answered_or_closed() {
    let port = port().await;
    let old = port.exchange("GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("GET /old \"\";"), "{old:?}");
    let h2 = port.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(h2.is_empty() || h2.starts_with("HTTP/1.1 400 "), "{h2:?}");
    for upgrade in ["websocket", "h2c", "TLS/1.2"] {
        let head =
            format!("GET /up HTTP/1.1\r\nHost: test\r\nUpgrade: {upgrade}\r\nConnection: Upgrade, close\r\n\r\n");
        let answer = port.exchange(head).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{upgrade}: {answer:?}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let two = "GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let answer = port().await.exchange(two).await;
    let bodies = ["GET /a \"\";", "GET /b \"\";"].map(|body| answer.find(body).unwrap());
    assert!(bodies[0] < bodies[1], "{answer:?}");
}

#[tokio::test]
async fn two_lengths_for_one_body_smuggle_nothing() {
    let port = port().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
    ] {
        let request = format!("POST /first HTTP/1.1\r\nHost: test\r\n{head}\r\n0\r\n\r\n{smuggled}");
        let answer = port.exchange(request).await;
        assert!(!answer.contains("GET /smuggled"), "{head:?}: {answer:?}");
    }
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

struct Certificate {
    directory: tempfile::TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        Self { directory, der }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tls(&self) -> Tls {
        Tls::load(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    async fn handshake(
        &self,
        port: &Port,
        alpn: &[&str],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, port.connect().await).await
    }
}

#[tokio::test]
async fn tls_offers_http_1_1_and_nothing_else() {
    let certificate = Certificate::new();
    let port = Port::with_tls(certificate.tls(), echo()).await;
    let mut stream = certificate.handshake(&port, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(b"GET /tls HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("GET /tls \"\";"), "{answer:?}");

    let refused = certificate.handshake(&port, &["h2"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    let without = certificate.handshake(&port, &[]).await.unwrap();
    assert_eq!(without.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let port = Port::with_tls(Certificate::new().tls(), echo()).await;
    insta::assert_snapshot!(port.get("/").await, @"HTTP/1.1 400 Bad Request | - | this port speaks TLS: its URLs begin with https://");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_believes_the_configured_certificate_and_no_other() {
    let (ours, other) = (Certificate::new(), Certificate::new());
    let port = Port::with_tls(ours.tls(), echo()).await;
    let ask = |certificate: &Certificate| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sig-repo"));
        command.arg("healthcheck").env_clear().env("PORT", port.addr.port().to_string());
        command.env("HTTP_TLS_CERTIFICATE", certificate.path("cert.pem"));
        command.env("HTTP_TLS_KEY", certificate.path("key.pem")).output().unwrap()
    };
    let good = ask(&ours);
    assert_eq!((good.status.code(), String::from_utf8_lossy(&good.stderr).as_ref()), (Some(0), ""));
    let bad = ask(&other);
    assert_eq!(bad.status.code(), Some(1));
    let line = String::from_utf8_lossy(&bad.stderr);
    assert!(line.contains("invalid peer certificate"), "{line}");
}
