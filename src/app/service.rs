use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
};

use axum::Router;
use futures_util::future;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Either;
use tower::ServiceExt;

use crate::{
    registry::{self, Registry},
    server::Received,
};

/// One port, told apart by the path: the registry's own, and the API's.
#[derive(Clone)]
pub(super) struct Service {
    registry: Registry,
    api: Router,
}

type Body = Either<registry::Body, axum::body::Body>;

type Waiting = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl Service {
    pub(super) fn new(registry: Registry, api: Router) -> Self {
        Self { registry, api }
    }
}

impl hyper::service::Service<Received> for Service {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = future::Either<Ready<Result<Self::Response, Infallible>>, Waiting>;

    fn call(&self, Received { mut request, peer }: Received) -> Self::Future {
        let path = request.uri().path();
        let under = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if under("/v2") || under("/v1") {
            if let Some(response) = self.registry.answer_at_once(&request, &peer) {
                return future::Either::Left(ready(Ok(response.map(Either::Left))));
            }
            let registry = self.registry.clone();
            future::Either::Right(Box::pin(async move { Ok(registry.answer(request, &peer).await.map(Either::Left)) }))
        } else if under("/extensions") {
            let registry = self.registry.clone();
            future::Either::Right(Box::pin(
                async move { Ok(registry.signatures(request, &peer).await.map(Either::Left)) },
            ))
        } else if under("/api") {
            let api = self.api.clone();
            request.extensions_mut().insert(peer);
            future::Either::Right(Box::pin(async move {
                Ok(api.oneshot(request.map(axum::body::Body::new)).await?.map(Either::Right))
            }))
        } else {
            future::Either::Left(ready(Ok(about())))
        }
    }
}

/// What stands at every other path.
const ABOUT: &str =
    "sig-repo: a registry mirror under /v2/, signatures under /api/v1/ (described by /api/v1/openapi.json)\n";

fn about() -> Response<Body> {
    let mut response = Response::new(Either::Right(axum::body::Body::from(ABOUT)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
