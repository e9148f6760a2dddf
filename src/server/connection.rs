use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use super::{BUFFER_BYTES, Config, HEAD_BYTES, stall::Stalling};
use crate::telemetry::{Metrics, Peer};

/// The open connections, as far as the exit waits for them.
#[derive(Debug)]
pub(super) struct Connections {
    closing: watch::Sender<bool>,
    /// Its receivers are the connections.
    open: watch::Sender<()>,
}

/// Held by a connection while it is open.
pub(super) struct Open {
    closing: watch::Receiver<bool>,
    metrics: Metrics,
    _open: Option<watch::Receiver<()>>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { closing: watch::Sender::new(false), open: watch::Sender::new(()) }
    }
}

impl Connections {
    /// A new connection; one that comes after `close` is served, and not waited for.
    pub(super) fn open(&self, metrics: Metrics) -> Open {
        let closing = *self.closing.borrow();
        metrics.connection_opened();
        Open { closing: self.closing.subscribe(), metrics, _open: (!closing).then(|| self.open.subscribe()) }
    }

    /// Asks every connection to end after the answer it is at, and waits until they have.
    pub(super) async fn close(&self) {
        self.closing.send_replace(true);
        self.open.closed().await;
    }
}

impl Open {
    async fn asked_to_close(&mut self) {
        // An error is a server that is gone, which asks for the same.
        drop(self.closing.wait_for(|closing| *closing).await);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connection_closed();
    }
}

/// Speaks with one peer until it leaves, misbehaves or is asked to go.
pub(super) async fn serve_connection<S, B>(
    stream: TcpStream,
    addr: SocketAddr,
    service: S,
    config: Arc<Config>,
    open: Open,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%addr, "cannot set TCP_NODELAY for {addr}: {error}");
    }
    let Some(tls) = &config.tls else { return speak(stream, addr, service, &config, open).await };
    match timeout(config.limits.head, handshake(tls, stream)).await {
        Ok(Ok(stream)) => speak(stream, addr, service, &config, open).await,
        Ok(Err(error)) => tracing::debug!(%addr, "no TLS with {addr}: {error}"),
        Err(_) => tracing::debug!(%addr, "no TLS with {addr}: it takes too long"),
    }
}

async fn handshake(tls: &super::Tls, mut stream: TcpStream) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        // A TLS record never begins with a letter; whoever set http:// for https:// is told.
        stream.write_all(PLAIN_ON_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a plain HTTP request"));
    }
    tls.acceptor().accept(stream).await
}

async fn speak<I, S, B>(stream: I, addr: SocketAddr, service: S, config: &Config, mut open: Open)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limits = &config.limits;
    let idle = Arc::new(AtomicBool::new(true));
    let io = TokioIo::new(Stalling::new(stream, Arc::clone(&idle), limits.head, limits.stall));
    let service = service_fn(move |mut request: Request<Incoming>| {
        idle.store(false, Ordering::Relaxed);
        let peer = Peer::resolve(addr, request.headers(), &config.trusted_proxies);
        request.extensions_mut().insert(peer);
        let answering = service.call(request);
        let answered = Answered(Arc::clone(&idle));
        async move {
            let response = answering.await?;
            Ok::<_, Infallible>(response.map(|body| Answering { body, _answered: answered }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = open.asked_to_close() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%addr, "connection of {addr} ended: {error}");
    }
}

/// Says when dropped that the request is answered, so that what arrives next is a new head.
struct Answered(Arc<AtomicBool>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Answering<B> {
    body: B,
    _answered: Answered,
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

const PLAIN_ON_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 51\r\n\
    Connection: close\r\n\r\nthis port speaks TLS: its URLs begin with https://\n";
