use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    BUFFER_BYTES, Config, HEAD_BYTES, Received,
    places::Place,
    stall::{Stalling, now},
    wire::{Socket, Wire},
};
use crate::{
    sendfile::Sendable,
    telemetry::{Metrics, Peer, network},
};

/// The open connections, as far as the exit waits for them.
#[derive(Debug)]
pub(super) struct Connections {
    wish: watch::Sender<Wish>,
    /// Its receivers are the connections.
    open: watch::Sender<()>,
}

/// What the listener wants of every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Stay,
    /// Others wait for a place, of all or of those of one address. Said again and again while they do.
    GiveWay {
        of: Option<IpAddr>,
    },
    Close,
}

/// Held by a connection while it is open.
pub(super) struct Open {
    wish: watch::Receiver<Wish>,
    network: IpAddr,
    metrics: Metrics,
    _open: Option<watch::Receiver<()>>,
    _place: Place,
}

impl Default for Connections {
    fn default() -> Self {
        Self { wish: watch::Sender::new(Wish::Stay), open: watch::Sender::new(()) }
    }
}

impl Connections {
    /// A new connection; one that comes after `close` is served, and not waited for.
    pub(super) fn open(&self, address: IpAddr, metrics: Metrics, place: Place) -> Open {
        let closing = *self.wish.borrow() == Wish::Close;
        metrics.connection_opened();
        let open = (!closing).then(|| self.open.subscribe());
        // What was wished before is no concern of the new one.
        Open { wish: self.wish.subscribe(), network: network(address), metrics, _open: open, _place: place }
    }

    /// Asks the connections on which nothing was asked since this was last said to end: all, or those of an address.
    pub(super) fn give_way(&self, of: Option<IpAddr>) {
        self.wish.send_if_modified(|wish| {
            let is_open = *wish != Wish::Close;
            if is_open {
                *wish = Wish::GiveWay { of };
            }
            is_open
        });
    }

    /// Asks every connection to end after the answer it is at, and waits until they have.
    pub(super) async fn close(&self) {
        self.wish.send_replace(Wish::Close);
        self.open.closed().await;
    }
}

impl Open {
    /// Waits for the next wish. An error is a server that is gone, which asks for the end.
    async fn wish(&mut self) -> Wish {
        match self.wish.changed().await {
            Ok(()) => match *self.wish.borrow_and_update() {
                Wish::GiveWay { of: Some(other) } if other != self.network => Wish::Stay,
                wish => wish,
            },
            Err(_) => Wish::Close,
        }
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
    mut open: Open,
) where
    S: Service<Received, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Sendable + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%addr, "cannot set TCP_NODELAY for {addr}: {error}");
    }
    let Some(tls) = &config.tls else {
        return if asks(&stream, &mut Silence::from_now(&config), &mut open).await {
            attend(stream, addr, service, &config, open).await
        };
    };
    match timeout(config.limits.head, Box::pin(handshake(tls, stream))).await {
        Ok(Ok(stream)) => Box::pin(attend(stream, addr, service, &config, open)).await,
        Ok(Err(error)) => tracing::debug!(%addr, "no TLS with {addr}: {error}"),
        Err(_) => tracing::debug!(%addr, "no TLS with {addr}: it takes too long"),
    }
}

/// Answers, and lets go in between of what answering takes: silence costs next to nothing.
async fn attend<I, S, B>(stream: I, addr: SocketAddr, service: S, config: &Config, mut open: Open)
where
    I: Socket,
    S: Service<Received, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Sendable + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut wire = Wire::new(stream, Bytes::new());
    let mut silence = Silence::from_now(config);
    // In a box, so that a connection on which nothing is asked holds no room for it.
    while let Some(Rested { mut stream, ahead, asked, warned }) =
        Box::pin(speak(wire, addr, &service, config, &mut open)).await
    {
        if asked {
            silence = Silence::from_now(config);
        }
        silence.warned |= warned;
        if ahead.is_empty() && !asks(stream.tcp(), &mut silence, &mut open).await {
            // What is encrypted has an end of its own, without which it counts as cut off.
            if let Ok(Err(error)) = timeout(FAREWELL, stream.shutdown()).await {
                tracing::debug!(%addr, "no end of the connection of {addr}: {error}");
            }
            break;
        }
        wire = Wire::new(stream, ahead);
    }
}

/// A stream on which nothing is asked.
struct Rested<I> {
    stream: I,
    /// What was read of a next request.
    ahead: Bytes,
    /// Whether anything was asked since it was taken up. Not every byte is of a request, over TLS.
    asked: bool,
    /// Whether others were waiting for a place since then.
    warned: bool,
}

/// How long nothing was asked on a connection.
struct Silence {
    until: Instant,
    /// Whether others were waiting for a place already.
    warned: bool,
}

impl Silence {
    fn from_now(config: &Config) -> Self {
        Self { until: now() + config.limits.idle, warned: false }
    }
}

/// Waits for the first byte of a request, before anything is set up to read it.
async fn asks(stream: &TcpStream, silence: &mut Silence, open: &mut Open) -> bool {
    let Silence { until, warned } = silence;
    let giving_way = async {
        loop {
            match open.wish().await {
                Wish::GiveWay { .. } if !*warned => *warned = true,
                Wish::Stay => {}
                Wish::GiveWay { .. } | Wish::Close => return,
            }
        }
    };
    let mut first = [0];
    tokio::select! {
        biased;
        () = sleep_until(*until) => false,
        peeked = stream.peek(&mut first) => peeked.is_ok(),
        () = giving_way => false,
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

/// Answers what is asked. The stream comes back if nothing was asked for a while.
async fn speak<I, S, B>(
    wire: Wire<I>,
    addr: SocketAddr,
    service: &S,
    config: &Config,
    open: &mut Open,
) -> Option<Rested<I>>
where
    I: Socket,
    S: Service<Received, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + Sendable + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let asked = Asked::default();
    let files = &wire.files();
    let io = TokioIo::new(Stalling::new(wire, asked.clone(), config.limits));
    let begun = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let answered = begun.begin(!request.body().is_end_stream());
        let peer = Peer::resolve(addr, request.headers(), &config.trusted_proxies);
        let answering = service.call(Received { request, peer });
        async move {
            let mut response = answering.await?;
            if let Some(files) = files {
                response.body_mut().send_by(files);
            }
            Ok::<_, Infallible>(response.map(|body| Answering { body, _answered: answered }))
        }
    });
    let mut connection = http1::Builder::new()
        // The stream has limits of its own, which cost nothing while nobody waits.
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, service);
    let mut idle_since = None;
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut connection => break ended,
            wish = open.wish() => match wish {
                Wish::Stay => {}
                Wish::GiveWay { .. } => {
                    let idle = asked.idle();
                    if idle.is_some() && idle == idle_since {
                        tracing::debug!(%addr, "{addr} asks nothing while others wait: its connection ends");
                        return None;
                    }
                    idle_since = idle;
                }
                Wish::Close => {
                    Pin::new(&mut connection).graceful_shutdown();
                    if let Err(error) = connection.await {
                        tracing::debug!(%addr, "connection of {addr} ended: {error}");
                    }
                    return None;
                }
            },
        }
    };
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    let rested = io.into_inner().rested();
    if let (None, Err(error)) = (&rested, ended) {
        tracing::debug!(%addr, "connection of {addr} ended: {error}");
    }
    // An empty one still holds its memory.
    let ahead = if read_buf.is_empty() { Bytes::new() } else { read_buf };
    let warned = idle_since.is_some() && idle_since == asked.idle();
    rested.map(|wire| Rested { stream: wire.into_stream(), ahead, asked: asked.count() > 0, warned })
}

/// Counts the requests of a connection: up where one begins, and up again where it is answered, so that
/// an even number is a connection on which nothing is asked, or half a head.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Requests>);

#[derive(Default)]
struct Requests {
    count: AtomicUsize,
    /// Whether the last one had a body, of which some may still be to come.
    with_body: AtomicBool,
}

impl Asked {
    fn begin(&self, with_body: bool) -> Answered {
        self.0.with_body.store(with_body, Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Answered(Arc::clone(&self.0))
    }

    pub(super) fn count(&self) -> usize {
        self.0.count.load(Ordering::Relaxed)
    }

    /// The same number twice is a connection that was idle all the while.
    pub(super) fn idle(&self) -> Option<usize> {
        Some(self.count()).filter(|count| count.is_multiple_of(2))
    }

    /// Whether what comes next can be nothing but another request.
    pub(super) fn is_between(&self) -> bool {
        self.idle().is_some() && !self.0.with_body.load(Ordering::Relaxed)
    }
}

/// Says when dropped that the request is answered, so that what arrives next is a new head.
struct Answered(Arc<Requests>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
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

/// For the last word of a connection on which nothing is asked.
const FAREWELL: Duration = Duration::from_secs(1);

const PLAIN_ON_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 51\r\n\
    Connection: close\r\n\r\nthis port speaks TLS: its URLs begin with https://\n";
