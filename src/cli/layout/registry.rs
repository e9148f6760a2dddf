//! A layout as the registry that it was taken from would answer, for the question that the server asks one.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
};

use anyhow::anyhow;
use bytes::Bytes;
use http::{Method, Response, header};
use http_body_util::Full;
use hyper::service::Service;
use serde_json::json;

use super::Layout;
use crate::{
    app::Received,
    oci::{Digest, ErrorCode, MediaType, Reference, Repository, Tag},
};

#[derive(Clone)]
pub(in crate::cli) struct LayoutRegistry {
    shown: Arc<Shown>,
}

struct Shown {
    layout: Layout,
    image: Digest,
    tag: Option<Tag>,
    /// Before the reference in each path; none but we know it, so that no other user of this machine reads here.
    prefix: String,
}

impl LayoutRegistry {
    /// Shows an image as this repository, under `path`, and what refers to it.
    pub(in crate::cli) fn new(
        layout: Layout,
        image: Digest,
        tag: Option<Tag>,
        repository: &Repository,
    ) -> anyhow::Result<Self> {
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| anyhow!("no randomness"))?;
        let prefix = format!("/{}/v2/{}/", hex::encode(secret), repository.path());
        Ok(Self { shown: Arc::new(Shown { layout, image, tag, prefix }) })
    }

    /// What comes before `/v2/`.
    pub(in crate::cli) fn path(&self) -> &str {
        self.shown.prefix.split("/v2/").next().unwrap_or_default()
    }
}

impl Shown {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return error(ErrorCode::Unsupported);
        }
        let answered = match path.strip_prefix(&self.prefix).and_then(|rest| rest.split_once('/')) {
            Some(("manifests", reference)) => self.manifest(reference),
            Some(("blobs", digest)) => self.blob(digest),
            Some(("referrers", digest)) => self.referrers(digest),
            _ => None,
        };
        answered.unwrap_or_else(|| error(ErrorCode::ManifestUnknown))
    }

    fn manifest(&self, reference: &str) -> Option<Response<Full<Bytes>>> {
        let digest = match reference.parse().ok()? {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) if self.tag.as_ref() == Some(&tag) => self.image,
            Reference::Tag(tag) => self.layout.tagged(&tag)?,
        };
        let manifest = self.layout.manifest(&digest).ok()??;
        Some(found(manifest.media_type.as_str(), Some(&digest), manifest.bytes))
    }

    fn blob(&self, digest: &str) -> Option<Response<Full<Bytes>>> {
        let digest = digest.parse().ok()?;
        let bytes = self.layout.blob(&digest, MAX_SIGNATURE_BYTES).ok()??;
        Some(found("application/octet-stream", Some(&digest), bytes))
    }

    fn referrers(&self, digest: &str) -> Option<Response<Full<Bytes>>> {
        let manifests = self.layout.referrers(&digest.parse().ok()?);
        let list = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
        Some(found(MediaType::OCI_INDEX.as_str(), None, list.to_string().into()))
    }
}

impl Service<Received> for LayoutRegistry {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn call(&self, Received { request, .. }: Received) -> Self::Future {
        ready(Ok(self.shown.answer(request.method(), request.uri().path())))
    }
}

fn found(content_type: &str, digest: Option<&Digest>, bytes: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::builder().header(header::CONTENT_TYPE, content_type);
    if let Some(digest) = digest {
        response = response.header("Docker-Content-Digest", digest.to_string());
    }
    response.body(Full::new(bytes)).expect("a media type and a digest are header values")
}

fn error(code: ErrorCode) -> Response<Full<Bytes>> {
    let body = json!({"errors": [{"code": code.code(), "message": "not in this layout", "detail": null}]});
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = code.status();
    response
}

/// More than any signature that is looked at.
const MAX_SIGNATURE_BYTES: u64 = 16 << 20;
