//! The listener and its layers around a service of the test's own, on loopback.

use std::{convert::Infallible, net::SocketAddr, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use sig_repo::{
    server::{Config, Health, Layers, Limits, Listener, Readiness, Received, Tls},
    telemetry::{Drain, Metrics, TrustedProxies},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

pub(crate) use axum::body::Body;

pub(crate) struct Port {
    pub(crate) addr: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) metrics: Metrics,
    pub(crate) serving: JoinHandle<()>,
}

/// No test of a limit should wait as long as people do.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

/// Shorter than any limit of the server's that a test does not set.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config() -> Config {
    Config {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    }
}

/// Finds the peer among the extensions of its requests.
struct OfRequests<S>(S);

impl<S: Service<Request<Incoming>>> Service<Received> for OfRequests<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<S::Future>>;

    fn call(&self, Received { mut request, peer }: Received) -> Self::Future {
        request.extensions_mut().insert(peer);
        Box::pin(self.0.call(request))
    }
}

impl Port {
    pub(crate) async fn open<S>(config: Config, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let (drain, metrics) = (Drain::new(), Metrics::new());
        let limits = config.limits;
        let listener = Listener::bind(config).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let ready = || Readiness { opened: true, degraded: vec!["the test".to_owned()] };
        let layers = Layers::new(OfRequests(service), Health::new(metrics.clone(), drain.clone(), ready), &limits);
        #[expect(clippy::disallowed_methods, reason = "the test waits for it, or ends with it")]
        let serving = tokio::spawn(listener.serve(layers, drain.clone(), metrics.clone()));
        Self { addr, drain, metrics, serving }
    }

    pub(crate) async fn with_tls<S>(tls: Tls, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self::open(Config { tls: Some(tls), ..config() }, service).await
    }

    /// Sends these bytes, and gives everything that comes until the server closes.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // A server that has read enough closes while more is being sent.
        drop(stream.write_all(bytes.as_ref()).await);
        rest_of(&mut stream).await
    }

    /// One request on a connection of its own; only status line, content type and body of the answer.
    pub(crate) async fn ask(&self, head: &str) -> String {
        let answer = self.exchange(format!("{head}\r\nConnection: close\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default();
        let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or("-");
        format!("{status} | {kind} | {}", body.trim_end())
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test")).await
    }

    /// Nothing is left of what was sent: a new connection gets its answer, none stays open, and the end
    /// has nothing to wait for. `/next` is answered with 200 by the service.
    pub(crate) async fn unharmed(self) {
        let next = self.get("/next").await;
        assert!(next.starts_with("HTTP/1.1 200 OK | "), "{next}");
        self.all_closed().await;
        self.drain.begin();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("something still runs").unwrap();
    }

    pub(crate) async fn all_closed(&self) {
        let counting = async {
            while self.connections() != 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, counting).await.expect("a connection stays open");
    }

    pub(crate) fn connections(&self) -> usize {
        let counted = self.metrics.encode().unwrap();
        let line = counted.lines().find_map(|line| line.strip_prefix("sig_repo_connections "));
        line.unwrap().parse().unwrap()
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }
}

/// What comes until the end; a reset is an end, too.
pub(crate) async fn rest_of(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.expect("an answer or an end") {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
            Ok(count) => all.extend_from_slice(&piece[..count]),
        }
    }
}

pub(crate) fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Body::from(text.into()))
}
