//! From the signal until the exit: what runs finishes, what is new is refused, and nobody meets a
//! closed port while something still runs.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::TcpStream,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use nix::sys::signal::Signal;
use sig_repo::server::{Config, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use crate::support::{
    port::{Body, Port, SHORT, config, rest_of, text},
    process::Server,
};

/// A body whose pieces the test sends.
struct Pieces(mpsc::Receiver<&'static str>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(cx).map(|piece| Some(Ok(Frame::data(Bytes::from_static(piece?.as_bytes())))))
    }
}

/// Answers `/v2/blob` with the pieces, and everything else at once.
fn blob_of(
    pieces: mpsc::Receiver<&'static str>,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Send + Sync + 'static
{
    let pieces = Arc::new(Mutex::new(Some(Pieces(pieces))));
    service_fn(move |request: Request<Incoming>| {
        let blob = (request.uri().path() == "/v2/blob").then(|| pieces.lock().unwrap().take().unwrap());
        async move { Ok(blob.map_or_else(|| text("at once"), |blob| Response::new(Body::new(blob)))) }
    })
}

#[tokio::test]
async fn a_running_transfer_finishes_while_new_requests_are_refused() {
    let (send, pieces) = mpsc::channel(1);
    let limits = Limits { rest: Duration::from_millis(10), ..Limits::default() };
    let port = Port::open(Config { limits, ..config() }, blob_of(pieces)).await;
    let mut idle = port.connect().await;
    let mut rested = port.connect().await;
    rested.write_all(b"GET /v2/ HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    rested.readable().await.unwrap();
    tokio::time::sleep(limits.rest * 5).await;
    let mut blob = port.connect().await;
    blob.write_all(b"GET /v2/blob HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    send.send("first ").await.unwrap();
    let mut begun = [0; 15];
    blob.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");

    port.drain.begin();
    insta::assert_snapshot!(port.get("/api/v1/tags").await, @r#"HTTP/1.1 503 Service Unavailable | application/problem+json | {"detail":"shutting down","status":503,"title":"Service Unavailable","type":"about:blank"}"#);
    insta::assert_snapshot!(port.get("/readyz").await, @r#"HTTP/1.1 503 Service Unavailable | application/json | {"degraded":["the test"],"status":"shutting down"}"#);
    insta::assert_snapshot!(port.get("/healthz").await, @r#"HTTP/1.1 200 OK | application/json | {"status":"alive"}"#);
    // The registry itself knows what of it is enforced, and refuses in its own form.
    insta::assert_snapshot!(port.get("/v2/x").await, @"HTTP/1.1 200 OK | - | at once");
    assert!(!port.serving.is_finished());

    send.send("last").await.unwrap();
    drop(send);
    assert!(rest_of(&mut blob).await.contains("last"), "nothing of it is lost");
    assert_eq!(rest_of(&mut idle).await, "", "a connection without a request is closed");
    assert!(rest_of(&mut rested).await.ends_with("at once"), "one after its request, too");
    port.serving.await.unwrap();
}

#[tokio::test]
async fn a_transfer_that_never_ends_is_cut_when_the_time_is_up() {
    let (send, pieces) = mpsc::channel(1);
    let limits = Limits { drain: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, ..config() }, blob_of(pieces)).await;
    let mut blob = port.connect().await;
    blob.write_all(b"GET /v2/blob HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    send.send("first").await.unwrap();
    blob.read_exact(&mut [0; 15]).await.unwrap();
    port.drain.begin();
    port.serving.await.unwrap();
}

#[tokio::test]
async fn the_second_signal_ends_the_waiting() {
    let (send, pieces) = mpsc::channel(1);
    let port = Port::open(config(), blob_of(pieces)).await;
    let mut blob = port.connect().await;
    blob.write_all(b"GET /v2/blob HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    send.send("first").await.unwrap();
    blob.read_exact(&mut [0; 15]).await.unwrap();
    port.drain.begin();
    port.drain.end();
    port.serving.await.unwrap();
}

#[test]
fn both_signals_end_the_process_with_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let data_dir = tempfile::tempdir().unwrap();
        let server = Server::start(&data_dir, &[]);
        let mut asked = TcpStream::connect(server.addr).unwrap();
        asked.write_all(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        server.signal(signal);
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains("shutting down"), "{log}");
    }
}
