use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use hyper::service::Service;
use tokio::time::{Sleep, sleep};

use super::{Health, Limits, Received};
use crate::{
    sendfile::{Files, Sendable},
    telemetry::{Surface, Transfer},
};

/// What stands around the service that answers: the process's own answers, the refusals of a drain,
/// the counting of requests, and a catch for panics.
#[derive(Debug)]
pub struct Layers<S> {
    inner: Arc<S>,
    around: Arc<Around>,
}

#[derive(Debug)]
struct Around {
    health: Health,
    body_limit: Duration,
}

/// An answer on its way. Most are there at once, so it costs no allocation until it has to wait.
pub struct Answering<F, B> {
    around: Arc<Around>,
    surface: Surface,
    transfer: Option<Transfer>,
    stage: Stage<F, B>,
}

enum Stage<F, B> {
    Answered(Option<Response<Either<Full<Bytes>, B>>>),
    /// A request with a body waits for the peer, up to a limit; one without waits for us alone.
    Called(F, Option<Pin<Box<Sleep>>>),
}

impl<S> Layers<S> {
    pub fn new(inner: S, health: Health, limits: &Limits) -> Self {
        Self { inner: Arc::new(inner), around: Arc::new(Around { health, body_limit: limits.body }) }
    }
}

impl<S> Clone for Layers<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), around: Arc::clone(&self.around) }
    }
}

impl<S, B> Service<Received> for Layers<S>
where
    S: Service<Received, Response = Response<B>, Error = Infallible>,
    S::Future: Unpin,
    B: Unpin,
{
    type Response = Response<Counted<B>>;
    type Error = Infallible;
    type Future = Answering<S::Future, B>;

    fn call(&self, received: Received) -> Self::Future {
        let around = Arc::clone(&self.around);
        let request = &received.request;
        let surface = Surface::of(request.uri().path());
        let transfer = around.health.drain().transfer();
        let stage = match around.own_answer(surface, request) {
            Some(own) => Stage::Answered(Some(own.map(Either::Left))),
            None => {
                let limit = (!request.body().is_end_stream()).then(|| Box::pin(sleep(around.body_limit)));
                match catch_unwind(AssertUnwindSafe(|| self.inner.call(received))) {
                    Ok(called) => Stage::Called(called, limit),
                    Err(_panic) => Stage::Answered(Some(around.panicked().map(Either::Left))),
                }
            }
        };
        Answering { around, surface, transfer, stage }
    }
}

impl<F, B> Future for Answering<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Unpin,
{
    type Output = Result<Response<Counted<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = match &mut this.stage {
            Stage::Answered(response) => response.take().expect("an answer is taken once"),
            Stage::Called(called, limit) => match catch_unwind(AssertUnwindSafe(|| Pin::new(called).poll(cx))) {
                Ok(Poll::Ready(Ok(response))) => response.map(Either::Right),
                Ok(Poll::Ready(Err(never))) => match never {},
                Ok(Poll::Pending) => {
                    let Some(limit) = limit else { return Poll::Pending };
                    ready!(limit.as_mut().poll(cx));
                    let late = problem(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time");
                    closing(late).map(Either::Left)
                }
                Err(_panic) => this.around.panicked().map(Either::Left),
            },
        };
        this.around.health.metrics().request(this.surface, response.status());
        let transfer = this.transfer.take();
        Poll::Ready(Ok(response.map(|body| Counted { body, _transfer: transfer })))
    }
}

impl Around {
    /// The answers that need no part but this one.
    fn own_answer<B>(&self, surface: Surface, request: &Request<B>) -> Option<Response<Full<Bytes>>> {
        if surface == Surface::Health
            && let Some(answer) = self.health.answer(request)
        {
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

    fn panicked(&self) -> Response<Full<Bytes>> {
        self.health.metrics().panicked();
        closing(problem(StatusCode::INTERNAL_SERVER_ERROR, "an error of this server; its log has more"))
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

impl<B: Sendable> Sendable for Counted<B> {
    fn send_by(&mut self, files: &Files) {
        self.body.send_by(files);
    }
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
