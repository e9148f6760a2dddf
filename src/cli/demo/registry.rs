//! The registry that stands for Docker Hub: one repository, two images, no rules.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
};

use bytes::Bytes;
use http::{Method, Response, header};
use http_body_util::Full;
use hyper::service::Service;
use serde_json::json;

use super::images::{MANIFEST, SampleImage};
use crate::{
    app::Received,
    oci::{Digest, ErrorCode},
};

/// Where both images lie.
pub(super) const REPOSITORY: &str = "demo/greeter";

/// Serves what it is given, to everybody.
#[derive(Clone)]
pub(super) struct SampleRegistry {
    images: Arc<[SampleImage]>,
}

impl SampleRegistry {
    pub(super) fn new(images: Arc<[SampleImage]>) -> Self {
        Self { images }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return error(ErrorCode::Unsupported);
        }
        if path == "/v2/" {
            return found("application/json", None, Bytes::from_static(b"{}"));
        }
        let Some(rest) = path.strip_prefix("/v2/").and_then(|path| path.strip_prefix(REPOSITORY)) else {
            return error(ErrorCode::NameUnknown);
        };
        if rest == "/tags/list" {
            let tags: Vec<_> = self.images.iter().map(|image| image.tag).collect();
            return found("application/json", None, json!({"name": REPOSITORY, "tags": tags}).to_string().into());
        }
        if let Some(reference) = rest.strip_prefix("/manifests/") {
            let named = |image: &&SampleImage| image.tag == reference || image.digest.to_string() == reference;
            return match self.images.iter().find(named) {
                Some(image) => found(MANIFEST, Some(&image.digest), image.manifest.clone()),
                None => error(ErrorCode::ManifestUnknown),
            };
        }
        let digest = rest.strip_prefix("/blobs/").unwrap_or_default();
        let mut blobs = self.images.iter().flat_map(|image| &image.blobs);
        match blobs.find(|(held, _)| held.to_string() == digest) {
            Some((held, bytes)) => found("application/octet-stream", Some(held), bytes.clone()),
            None => error(ErrorCode::BlobUnknown),
        }
    }
}

impl Service<Received> for SampleRegistry {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, Received { request, .. }: Received) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

fn found(content_type: &'static str, digest: Option<&Digest>, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::builder().header(header::CONTENT_TYPE, content_type);
    if let Some(digest) = digest {
        response = response.header("Docker-Content-Digest", digest.to_string());
    }
    response.body(Full::new(bytes)).expect("a digest is a header value")
}

fn error(code: ErrorCode) -> Response<Full<Bytes>> {
    let body = json!({"errors": [{"code": code.code(), "message": "not in this sample", "detail": null}]});
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = code.status();
    response
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn it_serves_what_it_holds_and_nothing_else() {
        let image = SampleImage::new("preview-signed", "hello\n");
        let (digest, blob) = (image.digest, image.blobs[1].0);
        let registry = SampleRegistry::new(Arc::new([image]));
        let absent = Digest::sha256(b"absent");
        for (path, expected) in [
            ("/v2/".to_owned(), StatusCode::OK),
            ("/v2/demo/greeter/tags/list".to_owned(), StatusCode::OK),
            ("/v2/demo/greeter/manifests/preview-signed".to_owned(), StatusCode::OK),
            (format!("/v2/demo/greeter/manifests/{digest}"), StatusCode::OK),
            (format!("/v2/demo/greeter/blobs/{blob}"), StatusCode::OK),
            (format!("/v2/demo/greeter/manifests/{absent}"), StatusCode::NOT_FOUND),
            (format!("/v2/demo/greeter/blobs/{absent}"), StatusCode::NOT_FOUND),
            ("/v2/other/manifests/preview-signed".to_owned(), StatusCode::NOT_FOUND),
        ] {
            assert_eq!(registry.answer(&Method::GET, &path).status(), expected, "{path}");
        }
        let pushed = registry.answer(&Method::PUT, "/v2/demo/greeter/manifests/preview-signed");
        assert_eq!(pushed.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
