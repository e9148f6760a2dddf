use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::Service};

use super::{Health, Limits};
use crate::telemetry::{Metrics, Surface, Transfer};

/// What stands around the service that answers: the process's own answers, the refusals of a drain,
/// the counting of requests, and a catch for panics.
#[derive(Debug)]
pub struct Layers<S> {
    inner: Arc<S>,
    health: Health,
    body_limit: Duration,
}

impl<S> Layers<S> {
    pub fn new(inner: S, health: Health, limits: &Limits) -> Self {
        Self { inner: Arc::new(inner), health, body_limit: limits.body }
    }
}

impl<S> Clone for Layers<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), health: self.health.clone(), body_limit: self.body_limit }
    }
}

impl<S, B> Service<Request<Incoming>> for Layers<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Counted<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let surface = Surface::of(request.uri().path());
        let transfer = self.health.drain().transfer();
        if let Some(own) = self.own_answer(surface, &request) {
            let response = self.finish(surface, transfer, own.map(Either::Left));
            return Box::pin(std::future::ready(Ok(response)));
        }
        let this = self.clone();
        Box::pin(async move {
            let limit = (!request.body().is_end_stream()).then_some(this.body_limit);
            let called = AssertUnwindSafe(async { this.inner.call(request).await }).catch_unwind();
            let answered = match limit {
                // A request with a body waits for the peer; one without waits for us alone.
                Some(limit) => match tokio::time::timeout(limit, called).await {
                    Ok(answered) => answered,
                    Err(_) => {
                        let late = problem(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time");
                        return Ok(this.finish(surface, transfer, closing(late).map(Either::Left)));
                    }
                },
                None => called.await,
            };
            let response = match answered {
                Ok(Ok(response)) => response.map(Either::Right),
                Ok(Err(never)) => match never {},
                Err(_panic) => {
                    this.metrics().panicked();
                    let failed =
                        problem(StatusCode::INTERNAL_SERVER_ERROR, "an error of this server; its log has more");
                    closing(failed).map(Either::Left)
                }
            };
            Ok(this.finish(surface, transfer, response))
        })
    }
}

impl<S> Layers<S> {
    fn metrics(&self) -> &Metrics {
        self.health.metrics()
    }

    /// The answers that need no part but this one.
    fn own_answer<B>(&self, surface: Surface, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if let Some(answer) = self.health.answer(request) {
            return Some(answer);
        }
        if hosts_disagree(request) {
            return Some(closing(problem(StatusCode::BAD_REQUEST, "a request names exactly one host")));
        }
        if coding_unknown(request) {
            let detail = "the only transfer coding here is chunked, once";
            return Some(closing(problem(StatusCode::NOT_IMPLEMENTED, detail)));
        }
        if *request.method() == Method::CONNECT {
            return Some(closing(problem(StatusCode::METHOD_NOT_ALLOWED, "this is no proxy")));
        }
        // The registry refuses by itself: its refusals must stop clients, which a 503 does not.
        (surface != Surface::Registry && self.health.drain().is_draining())
            .then(|| closing(problem(StatusCode::SERVICE_UNAVAILABLE, "shutting down")))
    }

    fn finish<B>(
        &self,
        surface: Surface,
        transfer: Option<Transfer>,
        response: Response<Either<Full<Bytes>, B>>,
    ) -> Response<Counted<B>> {
        self.metrics().request(surface, response.status());
        response.map(|body| Counted { body, _transfer: transfer })
    }
}

/// RFC 9112, section 3.2: without exactly one Host a hop before us may have read another request; so it
/// may where the request's target names another host than the header does.
fn hosts_disagree<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = request.uri().authority();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => true,
        (None, None) => request.version() == Version::HTTP_11,
        (Some(host), None) => {
            named.is_some_and(|named| !host.as_bytes().eq_ignore_ascii_case(named.as_str().as_bytes()))
        }
    }
}

/// RFC 9112, section 6.1: a body in a coding that one reader undoes and another leaves has two ends.
fn coding_unknown<B>(request: &Request<B>) -> bool {
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) => !coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => true,
    }
}

fn problem(status: StatusCode, detail: &'static str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or_default();
    let text =
        serde_json::json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    let mut response = Response::new(Full::from(text.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn closing<B>(mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A body that counts as a running transfer until it is sent or dropped.
#[derive(Debug)]
pub struct Counted<B> {
    body: Either<Full<Bytes>, B>,
    _transfer: Option<Transfer>,
}

impl<B> Body for Counted<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
