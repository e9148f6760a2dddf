//! Connects, and looks at the address while doing so: a name checked earlier could by now mean
//! another address. Where a proxy connects in our place, what can be told of the host is looked at.

use std::{
    collections::BTreeSet,
    fmt, io,
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

use super::{
    ProxyRefusal,
    addresses::Reach,
    proxies::{Proxies, Proxy},
    tls::Tls,
    tunnel::{self, NoTunnel},
};

/// A host and a port, as a URL says them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
}

/// The connector of one upstream: TCP to checked addresses or to a proxy, TLS over it for https.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Way>,
    /// For those who are shown who we are.
    own: Option<(Arc<BTreeSet<Endpoint>>, HttpsConnector<Way>)>,
    limit: Duration,
}

/// The way to a host, straight or through a proxy.
#[derive(Clone)]
struct Way {
    /// The endpoints that may have addresses which are not public.
    own: Arc<BTreeSet<Endpoint>>,
    proxies: Arc<Proxies>,
    tls: rustls::ClientConfig,
}

#[derive(Clone)]
struct Tcp {
    own: Arc<BTreeSet<Endpoint>>,
    /// Whether requests name the host, as a proxy needs them that is to pass them on.
    names_host: bool,
}

/// A connection that knows whether it has carried an answer before.
pub(super) struct Tracked {
    io: TokioIo<TcpStream>,
    used: Used,
    names_host: bool,
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
    #[error(transparent)]
    Proxy(#[from] NoTunnel),
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, ConnectError>> + Send>>;

impl Endpoint {
    /// Of an http or https URL.
    pub(super) fn of(url: &Url) -> Option<Self> {
        Some(Self { host: bare(url.host_str()?).to_owned(), port: url.port_or_known_default()? })
    }

    pub(super) fn of_uri(uri: &Uri) -> Option<Self> {
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        Some(Self { host: bare(uri.host()?).to_owned(), port })
    }

    /// A name, or an address without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// As a request for a tunnel says it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Connector {
    pub(super) fn new(tls: Tls, own: BTreeSet<Endpoint>, proxies: Arc<Proxies>, limit: Duration) -> Self {
        let way = Way { own: Arc::new(own), proxies, tls: tls.with_all.clone() };
        let own = tls.with_own.map(|(hosts, tls)| (Arc::new(hosts), tls_over(way.clone(), tls)));
        Self { https: tls_over(way, tls.with_all), own, limit }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<MaybeHttpsStream<Tracked>>;
    type Error = ConnectError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = Endpoint::of_uri(&uri);
        let own = self.own.as_mut().filter(|(hosts, _)| endpoint.is_some_and(|endpoint| hosts.contains(&endpoint)));
        let connecting = match own {
            Some((_, https)) => https.call(uri),
            None => self.https.call(uri),
        };
        let limit = self.limit;
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

impl Service<Uri> for Way {
    type Response = MaybeHttpsStream<Tracked>;
    type Error = ConnectError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let endpoint = Endpoint::of_uri(&uri);
        let proxy =
            endpoint.as_ref().and_then(|endpoint| Some((endpoint, self.proxies.of(uri.scheme_str(), endpoint)?)));
        let Some((endpoint, proxy)) = proxy else {
            let connecting = Tcp { own: Arc::clone(&self.own), names_host: false }.call(uri);
            return Box::pin(async { connecting.await.map(MaybeHttpsStream::Http) });
        };
        let (endpoint, proxy, tls) = (endpoint.clone(), proxy.clone(), self.tls.clone());
        let (own, is_tunnel) = (self.own.contains(&endpoint), uri.scheme_str() == Some("https"));
        Box::pin(async move {
            check_from_afar(&endpoint, own).await?;
            let connection = to_proxy(&proxy, tls, !is_tunnel).await?;
            match is_tunnel {
                true => Ok(tunnel::open(connection, &endpoint.to_string(), proxy.authorization.as_ref()).await?),
                false => Ok(connection),
            }
        })
    }
}

/// The proxy's own address is what the operator says it is.
async fn to_proxy(
    proxy: &Proxy,
    tls: rustls::ClientConfig,
    names_host: bool,
) -> Result<MaybeHttpsStream<Tracked>, ConnectError> {
    let own = Arc::new(BTreeSet::from([proxy.endpoint.clone()]));
    let connected = tls_over(Tcp { own, names_host }, tls).call(proxy.uri.clone()).await;
    let unreachable = |error| NoTunnel { reason: ProxyRefusal::Unreachable, source: Some(error) };
    connected.map_err(|error| unreachable(error).into())
}

fn tls_over<T>(below: T, tls: rustls::ClientConfig) -> HttpsConnector<T> {
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(below)
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
        let names_host = self.names_host;
        Box::pin(async move {
            let no_host = || ConnectError::Resolve(io::ErrorKind::InvalidInput.into());
            let addresses = allowed(resolve(&endpoint.ok_or_else(no_host)?).await?, own)?;
            let stream = first_of(addresses).await.map_err(ConnectError::Tcp)?;
            stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
            Ok(Tracked { io: TokioIo::new(stream), used: Used::default(), names_host })
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

/// What can be told of a host that a proxy is to look up: an address speaks for itself, and a name is looked
/// up here too. Where nothing is known of it here, the proxy has the last word.
async fn check_from_afar(endpoint: &Endpoint, own: bool) -> Result<(), ConnectError> {
    let may = |address: IpAddr| match Reach::of(address) {
        Reach::Public => true,
        Reach::Private => own,
        Reach::Metadata => false,
    };
    let is_allowed = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => may(address),
        Err(_) if own => true,
        Err(_) if is_local_name(&endpoint.host) => false,
        Err(_) => match timeout(LOOK_UP, resolve(endpoint)).await {
            Ok(Ok(found)) => found.iter().all(|address| may(address.ip())),
            Ok(Err(_)) | Err(_) => true,
        },
    };
    if is_allowed { Ok(()) } else { Err(ConnectError::PrivateAddress) }
}

/// Names that no public registry has: those without a dot, and below the domains that are set aside for
/// networks of one's own (RFC 6761, 6762, 8375; `.internal` by ICANN).
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.rsplit_once('.') {
        None => true,
        Some((_, last)) => matches!(last, "localhost" | "local" | "internal") || host.ends_with(".home.arpa"),
    }
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
        self.io.connected().extra(self.used.clone()).proxy(self.names_host)
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
/// Networks whose way out is a proxy may have no names of what lies beyond it.
const LOOK_UP: Duration = Duration::from_secs(1);

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

    #[tokio::test]
    async fn the_next_address_is_tried_when_one_fails_or_keeps_us_waiting() {
        let refused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let good = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = socket.listen(1).unwrap();
        // Nobody accepts here, and once the queue is full the system answers nothing more.
        let mut waiting = Vec::new();
        while let Ok(stream) = timeout(NEXT_ADDRESS_AFTER, TcpStream::connect(full.local_addr().unwrap())).await {
            waiting.push(stream.unwrap());
        }
        let [full, good] = [&full, &good].map(|listener| listener.local_addr().unwrap());
        for addresses in [vec![good], vec![refused, good], vec![full, good], vec![full, refused, full, good]] {
            let connected = timeout(Duration::from_secs(10), first_of(addresses)).await.unwrap().unwrap();
            assert_eq!(connected.peer_addr().unwrap(), good);
        }
        assert_eq!(first_of(vec![refused, refused]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_host_that_a_proxy_looks_up_is_checked_as_far_as_it_can_be() {
        for (host, own, allowed) in [
            ("http://8.8.8.8", false, true),
            ("http://10.1.2.3", false, false),
            ("http://10.1.2.3", true, true),
            ("http://[::1]:5000", false, false),
            ("http://169.254.169.254", true, false),
            ("http://[::ffff:169.254.169.254]", true, false),
            ("http://localhost:5000", false, false),
            ("http://registry:5000", false, false),
            ("http://registry:5000", true, true),
            ("http://metadata.google.internal", false, false),
            ("http://printer.local.", false, false),
            ("http://nas.home.arpa", false, false),
            ("http://no-such-name.invalid", false, true),
        ] {
            let checked = check_from_afar(&Endpoint::of(&host.parse().unwrap()).unwrap(), own).await;
            match allowed {
                true => checked.unwrap(),
                false => assert!(matches!(checked, Err(ConnectError::PrivateAddress)), "{host} {own}"),
            }
        }
    }

    #[test]
    fn endpoints_of_a_url_and_of_a_request_are_the_same() {
        for text in ["https://a.example/x", "http://a.example:8080/", "https://[::1]:5000/v2/", "http://[fe80::1]/"] {
            let of_url = Endpoint::of(&text.parse().unwrap()).unwrap();
            assert_eq!(Endpoint::of_uri(&text.parse().unwrap()), Some(of_url), "{text}");
        }
    }
}
