//! What leaves: admitted content and plain answers, with their headers. It knows no rules.

use std::{
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use serde_json::json;

use crate::{
    cache::{BlobBody, ReadError},
    oci::{Digest, Manifest, MediaType, Tag},
    pull::{Admitted, Blob, Bounds, Content, Referrers, Served},
    sendfile::{Files, Sendable},
    upstream::{UpstreamBody, UpstreamError},
};

pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const SUPPORTS_SIGNATURES: HeaderName = HeaderName::from_static("x-registry-supports-signatures");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

const REGISTRY_2: HeaderValue = HeaderValue::from_static("registry/2.0");
/// A digest's bytes never change. A day, so that no cache has for long what is wanted to be gone.
const SHARED: HeaderValue = HeaderValue::from_static("public, max-age=86400, immutable");
const NEVER_CACHED: HeaderValue = HeaderValue::from_static("private, no-store");

/// What the body of an answer is made of.
#[derive(Debug)]
pub enum Body {
    Whole(Bytes),
    Upstream(Box<UpstreamBody>),
    Blob(Box<BlobBody>),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Blob(#[from] ReadError),
}

impl Body {
    pub(super) fn empty() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole(text.into())
    }
}

impl Sendable for Body {
    fn send_by(&mut self, files: &Files) {
        if let Self::Blob(body) = self {
            body.send_by(files);
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Upstream(body) => {
                Pin::new(body.as_mut()).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Blob(body) => {
                Pin::new(body.as_mut()).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Upstream(body) => body.is_end_stream(),
            Self::Blob(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Upstream(body) => body.size_hint(),
            Self::Blob(body) => body.size_hint(),
        }
    }
}

/// Distribution specification, "Determining Support"; and for podman, that `atomic` answers.
pub(super) fn base() -> Response<Body> {
    let mut response = json(&json!({}));
    support_signatures(&mut response);
    response
}

pub(super) fn support_signatures(response: &mut Response<Body>) {
    response.headers_mut().insert(SUPPORTS_SIGNATURES, HeaderValue::from_static("1"));
}

/// Distribution specification, "Extensions".
pub(super) fn extensions() -> Response<Body> {
    json(&json!({ "extensions": [
        {
            "name": "_oci",
            "url": "https://github.com/opencontainers/distribution-spec/blob/main/extensions/_oci.md",
            "description": "what extensions there are",
            "endpoints": ["_oci/ext/discover"],
        },
        {
            "name": "_atomic",
            "url": "https://github.com/containers/image/blob/main/docs/signature-protocols.md",
            "description": "OpenPGP signatures, read and written as podman, skopeo and CRI-O do",
            "endpoints": ["/extensions/v2/{name}/signatures/{digest}"],
        },
    ] }))
}

pub(super) fn created() -> Response<Body> {
    uncached(StatusCode::CREATED, Body::empty())
}

pub(super) fn too_old() -> Response<Body> {
    let text = "This client is too old for this registry: Docker 20.10 or newer is needed.\n";
    let mut response = uncached(StatusCode::NOT_FOUND, Body::from(text.to_owned()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = uncached(StatusCode::OK, Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The one way for a manifest to leave.
pub(super) fn manifest(admitted: &Admitted<Arc<Manifest>>) -> Response<Body> {
    let manifest = admitted.content();
    let mut response = Response::new(Body::Whole(manifest.bytes.clone()));
    let headers = response.headers_mut();
    headers.clone_from(manifest.headers(manifest_headers));
    if let Some(error) = admitted.stale() {
        warn_of_age(headers, error);
    }
    if let Some(text) = admitted.warning() {
        headers.append(header::WARNING, warning(text));
    }
    response
}

/// The client has it already, and may have it: RFC 9110, section 15.4.5.
pub(super) fn unchanged(mut response: Response<Body>) -> Response<Body> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    *response.body_mut() = Body::empty();
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

fn manifest_headers(manifest: &Manifest) -> HeaderMap {
    // Shared, so that an answer takes a reference to each.
    let shared = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).expect("the text is ASCII");
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(header::CACHE_CONTROL, NEVER_CACHED);
    headers.insert(API_VERSION, REGISTRY_2);
    headers.insert(header::CONTENT_TYPE, shared(manifest.media_type.to_string()));
    headers.insert(header::CONTENT_LENGTH, manifest.bytes.len().into());
    headers.insert(DOCKER_CONTENT_DIGEST, shared(manifest.digest.to_string()));
    headers.insert(header::ETAG, shared(format!("\"{}\"", manifest.digest)));
    headers
}

/// Bytes of a blob, or how long it is.
pub(super) fn content(admitted: &Admitted<Blob>, served: Served) -> Response<Body> {
    let digest = &admitted.content().digest;
    let mut response = match served.content {
        Content::Length(length) => blob_head(digest, length),
        Content::Bytes { size, range, body } => bytes(digest, Some(size), range, Body::Blob(body)),
        Content::Passing { size, range, body } => bytes(digest, size, range, Body::Upstream(body)),
        Content::Unsatisfiable { size } => {
            let mut response = uncached(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
            response.headers_mut().insert(header::CONTENT_RANGE, ascii(&format!("bytes */{size}")));
            response
        }
    };
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(error) = served.stale {
        warn_of_age(response.headers_mut(), &error);
    }
    response
}

/// The client has it already: RFC 9110, section 15.4.5.
pub(super) fn not_modified(digest: &Digest) -> Response<Body> {
    let mut response = uncached(StatusCode::NOT_MODIFIED, Body::empty());
    name_blob(response.headers_mut(), digest);
    response
}

/// Whether one of the client's entity tags is this content's.
pub(super) fn has_already(headers: &HeaderMap, digest: &Digest) -> bool {
    if !headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let own = etag(digest);
    let own = own.to_str().expect("the text is ASCII");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|known| known.to_str().ok());
    known.flat_map(|known| known.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == own
    })
}

/// The part that is asked for, if it is one part of this blob as the client knows it.
pub(super) fn wanted_part(headers: &HeaderMap, digest: &Digest) -> Option<Bounds> {
    if headers.get(header::IF_RANGE).is_some_and(|known| *known != etag(digest)) {
        return None;
    }
    byte_range(headers.get(header::RANGE)?)
}

fn bytes(digest: &Digest, size: Option<u64>, range: Option<Range<u64>>, body: Body) -> Response<Body> {
    let mut response = blob_head(digest, range.as_ref().map_or(size, |range| Some(range.end - range.start)));
    if let (Some(size), Some(range)) = (size, range) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let stated = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, ascii(&stated));
    }
    *response.body_mut() = body;
    response
}

/// A blob that we keep ourselves. It is small, so it is sent whole whatever range was asked for.
pub(super) fn held_blob(digest: &Digest, bytes: Bytes) -> Response<Body> {
    let mut response = blob_head(digest, Some(bytes.len() as u64));
    *response.body_mut() = Body::Whole(bytes);
    response
}

pub(super) fn blob_head(digest: &Digest, length: Option<u64>) -> Response<Body> {
    let mut response = uncached(StatusCode::OK, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    name_blob(headers, digest);
    response
}

/// Lets caches between us and clients keep a blob that is for everybody. Not one that is stale: they would make it older.
pub(super) fn for_caches(blob: &Blob, mut response: Response<Body>) -> Response<Body> {
    let is_content =
        [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    if blob.for_everybody && is_content && !response.headers().contains_key(header::WARNING) {
        response.headers_mut().insert(header::CACHE_CONTROL, SHARED);
    }
    response
}

fn name_blob(headers: &mut HeaderMap, digest: &Digest) {
    // One client may keep it; a cache between us would serve it past the gate.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(DOCKER_CONTENT_DIGEST, digest_value(digest));
    headers.insert(header::ETAG, etag(digest));
}

pub(super) fn tags(name: &str, tags: &[&Tag], next: Option<&str>) -> Response<Body> {
    let mut response = json(&json!({ "name": name, "tags": tags }));
    if let Some(link) = next.and_then(|query| next_page(name, "tags/list", query)) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

/// Distribution specification, "Listing Referrers".
pub(super) fn referrers(referrers: &Referrers, name: &str, subject: &Digest) -> Response<Body> {
    let manifests = &referrers.manifests;
    let index = json!({ "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": manifests });
    let mut response = uncached(StatusCode::OK, Body::from(index.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, ascii(MediaType::OCI_INDEX.as_str()));
    if referrers.filtered {
        headers.insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    let next = referrers.next.as_deref();
    if let Some(link) = next.and_then(|query| next_page(name, &format!("referrers/{subject}"), query)) {
        headers.insert(header::LINK, link);
    }
    response
}

/// An answer that no cache may keep, as all are unless they say otherwise.
pub(super) fn uncached(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NEVER_CACHED);
    headers.insert(API_VERSION, REGISTRY_2);
    response
}

/// Says that the upstream could not be asked: to caches as RFC 7234 section 5.5.1 has it, and in the one form
/// that registry clients show to people. Without the mark that our refusals have.
pub(super) fn warn_of_age(headers: &mut HeaderMap, error: &UpstreamError) {
    headers.append(header::WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    headers.append(header::WARNING, warning(&format!("served as it was last known: {error}")));
}

/// Distribution specification, "Warnings": `299 - "…"`.
pub(super) fn warning(text: &str) -> HeaderValue {
    let mut quoted = String::with_capacity(text.len() + 10);
    quoted.push_str("299 - \"");
    for c in text.chars().filter(|c| (' '..='~').contains(c)) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    ascii(&quoted)
}

pub(super) fn digest_value(digest: &Digest) -> HeaderValue {
    ascii(&digest.to_string())
}

/// One range of bytes; what is anything else is ignored, as RFC 9110 section 14.2 allows, and the whole
/// blob is sent.
fn byte_range(header: &HeaderValue) -> Option<Bounds> {
    let (first, last) = header.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let is_number = |text: &str| text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(first) || !is_number(last) {
        return None;
    }
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Some(Bounds::Within(first, last)),
        (Ok(_), Ok(_)) | (Err(_), Err(_)) => None,
        (Ok(first), Err(_)) => Some(Bounds::From(first)),
        (Err(_), Ok(length)) => Some(Bounds::Last(length)),
    }
}

fn next_page(name: &str, path: &str, query: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("</v2/{name}/{path}?{query}>; rel=\"next\"")).ok()
}

fn etag(digest: &Digest) -> HeaderValue {
    ascii(&format!("\"{digest}\""))
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("the text was made of printable ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 9110, section 14.1.2, one range of it.
    fn expected(text: &str) -> bool {
        let Some(range) = text.strip_prefix("bytes=") else { return false };
        let bounds: Vec<&str> = range.split('-').collect();
        let [first, last] = bounds[..] else { return false };
        let digits = |bound: &str| bound.len() <= 18 && bound.chars().all(|c| c.is_ascii_digit());
        match (digits(first) && digits(last), first, last) {
            (false, ..) | (_, "", "") => false,
            (_, "", _) | (_, _, "") => true,
            (_, first, last) => first.parse::<u128>().unwrap() <= last.parse::<u128>().unwrap(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_part_is_asked_for_by_one_range_of_bytes_and_nothing_else(
            text in prop_oneof!["bytes=[0-9]{0,3}-[0-9]{0,3}", "(bytes|Bytes|items)[ =]{1,2}[-+0-9, ]{0,24}", "bytes=[0-9]{15,22}-[0-9]{15,22}", "[ -~]{0,30}"],
        ) {
            prop_assert_eq!(byte_range(&text.parse().unwrap()).is_some(), expected(&text), "{}", text);
        }
    }

    #[test]
    fn a_range_of_other_bytes_than_ascii_is_none() {
        assert!(byte_range(&HeaderValue::from_bytes(b"bytes=0-\xff").unwrap()).is_none());
    }
}
