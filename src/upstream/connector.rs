//! Connects, and looks at the address while doing so: a name checked earlier could by now mean
//! another address.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tower::Service;
use url::Url;

use super::addresses::Reach;

/// A host and a port, as a URL says them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
}

/// The connector of one upstream: TCP to checked addresses, TLS over it for https.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Tcp>,
    limit: Duration,
}

#[derive(Clone)]
pub(super) struct Tcp {
    /// The endpoints that may have addresses which are not public.
    own: Arc<BTreeSet<Endpoint>>,
}

/// A connection that knows whether it has carried an answer before.
pub(super) struct Tracked {
    io: TokioIo<TcpStream>,
    used: Used,
}

/// Found in the extensions of answers and of errors.
#[derive(Clone, Default)]
pub(super) struct Used(Arc<AtomicBool>);

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("no connection within the time limit")]
    Timeout,
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("the name leads to addresses that are not public only")]
    PrivateAddress,
    #[error("no address accepts a connection: {0}")]
    Tcp(io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(Box<dyn std::error::Error + Send + Sync>),
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

impl Endpoint {
    /// Of an http or https URL.
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(Self { host: bare(url.host_str()?).to_owned(), port: url.port_or_known_default()? })
    }

    fn of_uri(uri: &Uri) -> Option<Self> {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Some(Self { host: bare(uri.host()?).to_owned(), port })
    }
}

impl Connector {
    pub(super) fn new(tls: rustls::ClientConfig, own: BTreeSet<Endpoint>, limit: Duration) -> Self {
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Self { https: https.wrap_connector(Tcp { own: Arc::new(own) }), limit }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Tracked>;
    type Error = ConnectError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, limit) = (self.https.call(uri), self.limit);
        Box::pin(async move {
            let connected = timeout(limit, connecting).await.map_err(|_| ConnectError::Timeout)?;
            // What is no error of the TCP connection below comes from the handshake above it.
            connected.map_err(|error| match error.downcast::<ConnectError>() {
                Ok(error) => *error,
                Err(error) => ConnectError::Tls(error),
            })
        })
    }
}

impl Service<Uri> for Tcp {
    type Response = Tracked;
    type Error = ConnectError;
    type Future = Connecting<Tracked>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = Endpoint::of_uri(&uri);
        let own = endpoint.as_ref().is_some_and(|endpoint| self.own.contains(endpoint));
        Box::pin(async move {
            let no_host = || ConnectError::Resolve(io::ErrorKind::InvalidInput.into());
            let addresses = allowed(resolve(&endpoint.ok_or_else(no_host)?).await?, own)?;
            let stream = first_of(addresses).await.map_err(ConnectError::Tcp)?;
            stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
            Ok(Tracked { io: TokioIo::new(stream), used: Used::default() })
        })
    }
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![(address, endpoint.port).into()]);
    }
    let found = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port)).await;
    Ok(found.map_err(ConnectError::Resolve)?.collect())
}

/// The addresses that may be connected to, IPv6 and IPv4 in turns so that neither keeps the other
/// waiting.
fn allowed(found: Vec<SocketAddr>, own: bool) -> Result<Vec<SocketAddr>, ConnectError> {
    if found.is_empty() {
        return Err(ConnectError::Resolve(io::ErrorKind::NotFound.into()));
    }
    let may = |address: &SocketAddr| match Reach::of(address.ip()) {
        Reach::Public => true,
        Reach::Private => own,
        Reach::Metadata => false,
    };
    let (six, four): (Vec<_>, Vec<_>) = found.into_iter().filter(may).partition(SocketAddr::is_ipv6);
    let mut turns = Vec::with_capacity(MAX_ADDRESSES);
    for turn in 0..six.len().max(four.len()) {
        turns.extend(six.get(turn).into_iter().chain(four.get(turn)).copied());
    }
    turns.truncate(MAX_ADDRESSES);
    if turns.is_empty() { Err(ConnectError::PrivateAddress) } else { Ok(turns) }
}

/// RFC 8305 in short: the next address is tried when one fails or keeps us waiting.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(TcpStream::connect(address));
        } else if attempts.is_empty() {
            return Err(failure);
        }
        while !attempts.is_empty() {
            let finished = tokio::select! {
                finished = attempts.next() => finished,
                () = sleep(NEXT_ADDRESS_AFTER), if waiting.len() > 0 => None,
            };
            match finished {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => {}
            }
            if waiting.len() > 0 {
                break;
            }
        }
    }
}

/// A host without the brackets that URLs put around IPv6 addresses.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Used {
    /// Marks the connection, and says whether it was marked before.
    pub(super) fn mark(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connection for Tracked {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.used.clone())
    }
}

impl Read for Tracked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Tracked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

/// A name may have many addresses, and a hostile one any number.
const MAX_ADDRESSES: usize = 8;
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|address| (address.parse::<IpAddr>().unwrap(), 443).into()).collect()
    }

    #[test]
    fn only_checked_addresses_are_connected_to() {
        let mixed = addresses("127.0.0.1 8.8.8.8 ::1 1.1.1.1 2606:4700::1111 169.254.169.254");
        assert_eq!(allowed(mixed.clone(), false).unwrap(), addresses("2606:4700::1111 8.8.8.8 1.1.1.1"));
        assert_eq!(allowed(mixed, true).unwrap(), addresses("::1 127.0.0.1 2606:4700::1111 8.8.8.8 1.1.1.1"));
        let private = allowed(addresses("10.0.0.1 ::ffff:127.0.0.1"), false);
        assert!(matches!(private, Err(ConnectError::PrivateAddress)));
        let metadata = allowed(addresses("169.254.169.254 fe80::1 ::ffff:169.254.169.254"), true);
        assert!(matches!(metadata, Err(ConnectError::PrivateAddress)));
        assert!(matches!(allowed(Vec::new(), true), Err(ConnectError::Resolve(_))));
    }

    #[test]
    fn endpoints_of_a_url_and_of_a_request_are_the_same() {
        for text in ["https://a.example/x", "http://a.example:8080/", "https://[::1]:5000/v2/", "http://[fe80::1]/"] {
            let of_url = Endpoint::of(&text.parse().unwrap()).unwrap();
            assert_eq!(Endpoint::of_uri(&text.parse().unwrap()), Some(of_url), "{text}");
        }
    }
}
