//! Writing to a registry: distribution specification, "Push".
//!
//! It is for a command that was told to. Nothing that serves has a [`Pusher`], and what mirrors has no way
//! to become one: a mirror sends nothing upstream.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response::Parts};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    Config, Context, UpstreamError, UpstreamSetupError,
    body::{collect, discard},
    presets,
    requests::{Ask, Requests, Trail, Written},
    tokens::Access,
};
use crate::{
    clock::Clock,
    oci::{Digest, Manifest, Reference, Repository},
};

/// What writes to one registry, at its first address only.
pub struct Pusher {
    requests: Requests,
}

/// What a registry said to a manifest that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// It lists the manifest among the referrers of its subject by itself (`OCI-Subject`); where it does not,
    /// the fallback tag is the work of whoever pushes.
    pub listed: bool,
}

impl Pusher {
    /// Of the registry with this name; none where it is neither among these nor ready by name. Connects to
    /// nothing.
    pub fn of(config: Config, name: &str, clock: Clock) -> Result<Option<Self>, UpstreamSetupError> {
        let Config { default, others, docker_config, helper_environment, proxies, limits } = config;
        let mut known = std::iter::once(default).chain(others).chain(presets::all());
        let Some(upstream) = known.find(|upstream| upstream.name.as_str() == name) else { return Ok(None) };
        let on_call = Arc::new(|_: &'static str, _: &'static str| {});
        let context = Context::new(docker_config, helper_environment, proxies, limits, clock, on_call);
        Ok(Some(Self { requests: upstream.requests(Access::PullAndPush, &context)? }))
    }

    /// Writes a blob, unless it is there already.
    pub async fn blob(&self, repository: &Repository, bytes: Bytes) -> Result<(), UpstreamError> {
        let digest = Digest::sha256(&bytes);
        if self.has_blob(repository, &digest, &bytes).await? {
            return Ok(());
        }
        let place = self.requests.primary();
        let begin = Ask::with(Method::POST, repository, UPLOADS.to_owned(), None);
        let mut trail = Trail::to(place, &begin);
        let begun = self.write(&begin, &mut trail, &[StatusCode::ACCEPTED]).await?;
        if !begun.headers.contains_key(header::LOCATION) {
            return Err(UpstreamError::Malformed { what: "location" });
        }
        trail.go_on(place, &begun.headers)?;
        // Beside what stands there, which is the registry's own.
        trail.url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let written = Some(Written { media_type: OCTETS, bytes: bytes.clone() });
        let end = Ask::with(Method::PUT, repository, UPLOADS.to_owned(), written);
        let head = self.write(&end, &mut trail, &WRITTEN).await?;
        check_stated(&head.headers, &bytes)
    }

    /// Writes a manifest under a tag or its digest; what it names has to be there.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<Pushed, UpstreamError> {
        let media_type = HeaderValue::from_str(manifest.media_type.as_str()).expect("media types are printable ASCII");
        let written = Some(Written { media_type, bytes: manifest.bytes.clone() });
        let ask = Ask::with(Method::PUT, repository, format!("manifests/{reference}"), written);
        let head = self.write(&ask, &mut Trail::to(self.requests.primary(), &ask), &WRITTEN).await?;
        check_stated(&head.headers, &manifest.bytes)?;
        let subject = head.headers.get("oci-subject").and_then(|subject| subject.to_str().ok()?.parse::<Digest>().ok());
        Ok(Pushed { listed: subject.is_some() && subject == manifest.subject.as_ref().map(|subject| subject.digest) })
    }

    async fn has_blob(&self, repository: &Repository, digest: &Digest, bytes: &[u8]) -> Result<bool, UpstreamError> {
        let ask = Ask::with(Method::HEAD, repository, format!("blobs/{digest}"), None);
        let place = self.requests.primary();
        let answer = self.requests.send_along(place, &ask, &mut Trail::to(place, &ask), None).await?;
        match answer.status() {
            StatusCode::OK => check_stated(answer.headers(), bytes).map(|()| true),
            // Of a registry that knows no HEAD, it is not known.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(false),
            status => Err(self.requests.failure_of(status, answer.headers())),
        }
    }

    async fn write(&self, ask: &Ask<'_>, trail: &mut Trail, expected: &[StatusCode]) -> Result<Parts, UpstreamError> {
        let answer = self.requests.send_along(self.requests.primary(), ask, trail, None).await?;
        let (head, body) = answer.into_parts();
        if !expected.contains(&head.status) {
            return Err(self.refusal(&head, body).await);
        }
        discard(body).await;
        Ok(head)
    }

    /// The reasons that the registry gives are for the log alone.
    async fn refusal(&self, head: &Parts, body: Incoming) -> UpstreamError {
        let body = collect(body, "refusal", MAX_REFUSAL_BYTES, self.requests.limits()).await.unwrap_or_default();
        let (name, status, reasons) = (self.requests.name(), head.status.as_u16(), reasons(&body));
        tracing::debug!(upstream = %name, status, "{name} does not take what is pushed: {reasons}");
        self.requests.failure_of(head.status, &head.headers)
    }
}

/// Where the registry says which digest it holds, it must be that of the bytes.
fn check_stated(headers: &HeaderMap, bytes: &[u8]) -> Result<(), UpstreamError> {
    let Some(stated) = headers.get("docker-content-digest") else { return Ok(()) };
    let stated = stated.to_str().ok().and_then(|stated| stated.parse::<Digest>().ok());
    if stated.is_some_and(|stated| stated.matches(bytes)) { Ok(()) } else { Err(UpstreamError::WrongDigest) }
}

/// Distribution specification, "Error Codes": what of them is fit for a line of the log.
fn reasons(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Wire {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Wire { errors }) = serde_json::from_slice(body) else { return "it gives no reasons".to_owned() };
    let shown = |text: &str| text.chars().take(MAX_SHOWN).collect::<String>();
    let lines = errors.iter().take(MAX_REASONS);
    let lines = lines.map(|reason| format!("{:?} {:?}", shown(&reason.code), shown(&reason.message)));
    lines.collect::<Vec<_>>().join(", ")
}

const UPLOADS: &str = "blobs/uploads/";
/// What registries answer to a PUT that they have taken.
const WRITTEN: [StatusCode; 2] = [StatusCode::CREATED, StatusCode::ACCEPTED];
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const MAX_REFUSAL_BYTES: usize = 16 << 10;
const MAX_REASONS: usize = 3;
/// Characters of a code or a message.
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_few_short_and_on_one_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"not\nyours \u001b[2J"}]}"#,
                r#""DENIED" "not\nyours \u{1b}[2J""#,
            ),
            (r#"{"errors":[{"code":"A"},{"code":"B"},{"code":"C"},{"code":"D"}]}"#, r#""A" "", "B" "", "C" """#),
            ("<html>", "it gives no reasons"),
        ] {
            assert_eq!(reasons(body.as_bytes()), expected);
        }
        let long = format!(r#"{{"errors":[{{"code":"A","message":"{}"}}]}}"#, "x".repeat(1000));
        assert_eq!(reasons(long.as_bytes()).len(), r#""A" """#.len() + MAX_SHOWN);
    }
}
