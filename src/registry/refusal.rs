//! How "no" is said so that it stays said.
//!
//! A client that has another endpoint to try takes every ordinary error as a reason to try it. The
//! forms here are those at which real clients stop; each row is pinned by a test against the client.
//! The form may depend on the User-Agent, the decision never does.

use http::{HeaderValue, Response, StatusCode, header};
use hyper::ext::ReasonPhrase;
use serde_json::json;

use crate::{
    oci::{Digest, ErrorCode, MediaType, Reference},
    policy::Reason,
    pull::Refused,
};

use super::{
    client::{Client, Family},
    respond::{self, Body},
    route::{Mode, Target},
};

/// What ends the endpoint loop of classic dockerd: it looks for this text in any error.
const ENDS_DOCKER: &str = " (no such process)";

/// Longer messages are cut: a status line has its limits.
const MAX_MESSAGE: usize = 512;

/// What a refusal says: one line of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message(String);

impl Message {
    pub(super) fn refused(image: &str, reason: &Reason, statement: &str) -> Self {
        Self::printable(&format!("sig-repo: {image} refused: {reason} (policy {statement})"))
    }

    fn printable(text: &str) -> Self {
        Self(text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).take(MAX_MESSAGE).collect())
    }

    fn ending_docker(&self) -> String {
        format!("{}{ENDS_DOCKER}", self.0)
    }
}

/// The refusal of a manifest, in the form that stops this client.
pub(super) fn manifest(
    message: &Message,
    mode: Mode,
    client: &Client,
    reference: Option<&Reference>,
) -> Response<Body> {
    let mut response = match (mode, client.family, client.head) {
        (Mode::Direct, ..) => denied(message),
        (Mode::MirrorNs, _, true) => multiple_choices(message),
        (Mode::MirrorNs, _, false) => mismatch(message),
        (Mode::Mirror, Family::NoMirrors, _) => denied(message),
        (Mode::Mirror, Family::Containers, true) => denied(message),
        (Mode::Mirror, Family::Containers, false) => mismatch(message),
        // A hop may drop the phrase that stops dockerd; the status and the body of the other form survive.
        (Mode::Mirror, Family::Docker, _) if !client.behind_hop => no_such_process(message),
        (Mode::Mirror, Family::Docker | Family::Other, _) => multiple_choices(message),
    };
    let headers = response.headers_mut();
    headers.insert(header::WARNING, respond::warning(&message.0));
    if let Some(Reference::Digest(digest)) = reference {
        headers.insert(respond::DOCKER_CONTENT_DIGEST, respond::digest_value(digest));
    }
    response
}

/// The refusal of a blob or a list. It stops nobody and need not: the manifest is the gate.
pub(super) fn blob(target: &Target<'_>, digest: &Digest, refused: &Refused) -> Response<Body> {
    match &refused.reason {
        Reason::Absent | Reason::Invisible => {
            error(ErrorCode::BlobUnknown, "no admitted image of this repository names this blob")
        }
        reason => {
            let image = target.image(Some(&Reference::Digest(*digest)));
            denied(&Message::refused(&image, reason, &refused.statement.name))
        }
    }
}

pub(super) fn error(code: ErrorCode, message: &str) -> Response<Body> {
    errors(code.status(), code.code(), &Message::printable(message))
}

/// An error that is none of the specification's codes.
pub(super) fn status(status: StatusCode, message: &str) -> Response<Body> {
    errors(status, "UNKNOWN", &Message::printable(message))
}

/// `403 M`: everybody prints it, and whoever has nowhere else to go stops.
fn denied(message: &Message) -> Response<Body> {
    with_phrase(errors(StatusCode::FORBIDDEN, ErrorCode::Denied.code(), message), &message.0)
}

/// `500 M (no such process)`: classic dockerd stops at the phrase, not at the status.
fn no_such_process(message: &Message) -> Response<Body> {
    let message = Message(message.ending_docker());
    with_phrase(errors(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Denied.code(), &message), &message.0)
}

/// `300 M` without a Location: a redirect that leads nowhere ends the host loop of containerd and
/// BuildKit; dockerd behind a hop stops at the body's media type.
fn multiple_choices(message: &Message) -> Response<Body> {
    let response = made_up_manifest(StatusCode::MULTIPLE_CHOICES, &MediaType::OCI_MANIFEST, message);
    with_phrase(response, &message.0)
}

/// A 200 whose body is no manifest: podman and skopeo stop at nothing else, containerd stops at it
/// on GET.
fn mismatch(message: &Message) -> Response<Body> {
    made_up_manifest(StatusCode::OK, &MediaType::DOCKER_MANIFEST, message)
}

fn made_up_manifest(status: StatusCode, content_type: &MediaType, message: &Message) -> Response<Body> {
    let body = json!({ "schemaVersion": 2, "mediaType": message.ending_docker() });
    let mut response = respond::uncached(status, Body::from(body.to_string()));
    let content_type = HeaderValue::from_str(content_type.as_str()).expect("media types are ASCII");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn errors(status: StatusCode, code: &str, message: &Message) -> Response<Body> {
    let body = json!({ "errors": [{ "code": code, "message": message.0, "detail": null }] });
    let mut response = respond::uncached(status, Body::from(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn with_phrase(mut response: Response<Body>, phrase: &str) -> Response<Body> {
    let phrase = ReasonPhrase::try_from(phrase.as_bytes()).expect("a message is printable ASCII");
    response.extensions_mut().insert(phrase);
    response
}
