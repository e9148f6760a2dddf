//! One request and its answer as they are on the wire: HTTP/1.1 with the reason phrase, redirects followed as the
//! clients follow them. No credentials are sent, whoever asks for them, and nothing is sent but GET and HEAD.

use std::{io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{client::conn::http1, ext::ReasonPhrase};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::address::Address;
use crate::cli::roots::Roots;

/// What came back.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// As it was received; it may be empty.
    pub(super) phrase: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where it came from, if that is not where the question was sent.
    pub(super) redirected: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no connection within {} seconds", CONNECT_LIMIT.as_secs())]
    ConnectTimeout,
    #[error("no TLS: {0}")]
    Tls(io::Error),
    #[error("no TLS: {0}")]
    ServerName(#[from] InvalidDnsNameError),
    #[error("no answer in HTTP/1.1: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer's body ended early, or is longer than {BODY_MAX_BYTES} bytes")]
    Body,
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    #[error("a redirect to {0}, which no client can follow")]
    Redirect(String),
    #[error("more than {MAX_REDIRECTS} redirects")]
    Redirects,
}

/// What a client sends, as far as an answer may depend on it.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: String,
    pub(super) agent: &'a str,
}

/// Asks once, or as often as redirects say.
pub(super) async fn ask(
    roots: &Roots,
    address: &Address,
    question: &Question<'_>,
    limit: Duration,
) -> Result<Answer, ExchangeError> {
    timeout(limit, follow(roots, address, question)).await.map_err(|_| ExchangeError::Timeout(limit))?
}

/// Whether HTTP/2 would be spoken with a client that offers it.
pub(super) async fn chooses_http2(roots: &Roots, address: &Address) -> bool {
    let handshake = async {
        let stream = connect(address).await.ok()?;
        let stream = secure(Arc::new(roots.config(&[b"h2", b"http/1.1"])), address, stream).await.ok()?;
        Some(stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    };
    address.tls && timeout(CONNECT_LIMIT, handshake).await.ok().flatten() == Some(true)
}

async fn follow(roots: &Roots, address: &Address, question: &Question<'_>) -> Result<Answer, ExchangeError> {
    let mut url: Url =
        address.url(&question.path).parse().map_err(|_| ExchangeError::Redirect(question.path.clone()))?;
    let mut redirected = None;
    for _ in 0..=MAX_REDIRECTS {
        let origin = url[..url::Position::BeforePath].parse::<Address>();
        let origin = origin.map_err(|_| ExchangeError::Redirect(url.to_string()))?;
        let answer = once(roots, &origin, &url[url::Position::BeforePath..url::Position::AfterQuery], question).await?;
        let Some(location) = redirect(&answer) else { return Ok(Answer { redirected, ..answer }) };
        url = url.join(&location).map_err(|_| ExchangeError::Redirect(location))?;
        redirected = Some(url[..url::Position::BeforePath].to_owned());
    }
    Err(ExchangeError::Redirects)
}

/// The redirects that Go's client follows; all of the real clients are written in it.
fn redirect(answer: &Answer) -> Option<String> {
    let followed = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers.get(header::LOCATION).filter(|_| followed)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

async fn once(roots: &Roots, address: &Address, path: &str, question: &Question<'_>) -> Result<Answer, ExchangeError> {
    let request = Request::builder()
        .method(&question.method)
        .uri(path)
        .header(header::HOST, address.authority())
        .header(header::USER_AGENT, question.agent)
        .header(header::ACCEPT, ACCEPT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ExchangeError::Redirect(path.to_owned()))?;
    let stream = timeout(CONNECT_LIMIT, connect(address)).await.map_err(|_| ExchangeError::ConnectTimeout)??;
    if address.tls {
        // The real clients offer no protocol of their own choice here, and so speak HTTP/1.1.
        let stream = timeout(CONNECT_LIMIT, secure(Arc::new(roots.config(&[])), address, stream)).await;
        converse(stream.map_err(|_| ExchangeError::ConnectTimeout)??, request).await
    } else {
        converse(stream, request).await
    }
}

async fn connect(address: &Address) -> Result<TcpStream, ExchangeError> {
    let found = tokio::net::lookup_host((address.bare_host(), address.port)).await.map_err(ExchangeError::Resolve)?;
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in found {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(ExchangeError::Connect(failure))
}

async fn secure(
    config: Arc<ClientConfig>,
    address: &Address,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ExchangeError> {
    let name = ServerName::try_from(address.bare_host().to_owned())?;
    tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(ExchangeError::Tls)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = pin!(async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_MAX_BYTES).collect().await.map_err(|_| ExchangeError::Body)?;
        // hyper keeps a phrase only where it is not the usual one.
        let phrase = match head.extensions.get::<ReasonPhrase>() {
            Some(phrase) => String::from_utf8_lossy(phrase.as_bytes()).into_owned(),
            None => head.status.canonical_reason().unwrap_or_default().to_owned(),
        };
        let (status, headers, body) = (head.status, head.headers, body.to_bytes());
        Ok(Answer { status, phrase, headers, body, redirected: None })
    });
    // The connection is driven for as long as the exchange needs it; its own end says nothing.
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}

/// What clients accept as manifests.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// As many as Go's client follows.
const MAX_REDIRECTS: usize = 10;
/// More than any refusal, and than most error pages.
const BODY_MAX_BYTES: usize = 256 * 1024;
