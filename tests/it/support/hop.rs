use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, ext::ReasonPhrase, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, task::JoinHandle};

/// Something that stands between clients and a mirror, and does this to each answer.
pub(crate) struct Hop {
    pub(crate) addr: SocketAddr,
    /// In PEM form, where it speaks TLS.
    pub(crate) certificate: Option<String>,
    serving: JoinHandle<()>,
}

/// What a hop makes of an answer; the request is the client's.
type Spoil = Arc<dyn Fn(&Request<()>, Answered) -> Answered + Send + Sync>;
pub(crate) type Answered = Response<Full<Bytes>>;

impl Hop {
    pub(crate) async fn before(
        mirror: SocketAddr,
        spoil: impl Fn(&Request<()>, Answered) -> Answered + Send + Sync + 'static,
    ) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), mirror, spoil).await
    }

    /// Where clients have been told that it is.
    pub(crate) async fn at(
        addr: SocketAddr,
        mirror: SocketAddr,
        spoil: impl Fn(&Request<()>, Answered) -> Answered + Send + Sync + 'static,
    ) -> Self {
        Self::open(addr, mirror, Arc::new(spoil), None).await
    }

    /// With TLS in front that takes HTTP/2 from whoever offers it.
    pub(crate) async fn with_http2_before(mirror: SocketAddr) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], made.signing_key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut hop =
            Self::open(([127, 0, 0, 1], 0).into(), mirror, Arc::new(|_, answer| answer), Some(Arc::new(tls).into()))
                .await;
        hop.certificate = Some(made.cert.pem());
        hop
    }

    async fn open(addr: SocketAddr, mirror: SocketAddr, spoil: Spoil, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (spoil, tls) = (spoil.clone(), tls.clone());
                #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
                tokio::spawn(async move {
                    let service = service_fn(move |request| forward(mirror, spoil.clone(), request));
                    match tls {
                        None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
                        }
                    }
                });
            }
        });
        Self { addr, certificate: None, serving }
    }
}

impl Hop {
    /// From then on nobody listens there.
    pub(crate) async fn close(mut self) {
        self.serving.abort();
        assert!((&mut self.serving).await.unwrap_err().is_cancelled());
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn forward(mirror: SocketAddr, spoil: Spoil, request: Request<Incoming>) -> hyper::Result<Answered> {
    let (mut head, _) = request.into_parts();
    let asked = Request::from_parts(head.clone(), ());
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = Uri::try_from(format!("http://{mirror}{path}")).unwrap();
    head.headers.remove(header::CONNECTION);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
    let answer = match client.request(Request::from_parts(head, Full::<Bytes>::default())).await {
        Ok(answer) => {
            let (head, body) = answer.into_parts();
            Response::from_parts(head, Full::new(body.collect().await?.to_bytes()))
        }
        Err(_) => page(StatusCode::BAD_GATEWAY),
    };
    Ok(spoil(&asked, answer))
}

pub(crate) fn pass(_: &Request<()>, answer: Answered) -> Answered {
    answer
}

pub(crate) fn lose_the_phrase(_: &Request<()>, mut answer: Answered) -> Answered {
    answer.extensions_mut().remove::<ReasonPhrase>();
    answer
}

/// An error page of the hop's own in the place of everything from 300 on, as `proxy_intercept_errors` has it.
pub(crate) fn put_error_pages(_: &Request<()>, answer: Answered) -> Answered {
    if answer.status().as_u16() < 300 { answer } else { page(answer.status()) }
}

pub(crate) fn ask_for_a_login(_: &Request<()>, _: Answered) -> Answered {
    let mut answer = page(StatusCode::UNAUTHORIZED);
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, "Basic realm=\"team\"".parse().unwrap());
    answer
}

/// A page of nothing in particular.
pub(crate) fn page(status: StatusCode) -> Answered {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "text/html".parse().unwrap());
    let mut answer = Response::new(Full::from(format!("<html>{status}</html>")));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
