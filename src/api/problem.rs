//! The errors of the API as `application/problem+json` (RFC 9457).
//!
//! The only place of the API that knows which failure is which status. A problem's text is for the
//! client: it never carries addresses, paths or keys; what the operator needs goes to the log.

use std::{fmt::Display, time::Duration};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use crate::store::StoreError;

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What happened, in a form that stays: `urn:sig-repo:problem:` and a word.
    #[serde(rename = "type", serialize_with = "as_urn")]
    #[schema(value_type = String, example = "urn:sig-repo:problem:invalid-field")]
    kind: ProblemKind,
    /// The same for people.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 400)]
    status: u16,
    /// What was wrong this time, and what was expected.
    detail: String,
    /// The field of the body, or the parameter of the query, that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Seconds after which it may be tried again.
    #[serde(skip)]
    retry_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    MalformedBody,
    InvalidField,
    InvalidParameter,
    NotAuthenticated,
    TooManyAttempts,
    AuthRequired,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    Withdrawn,
    Expired,
    SignerRevoked,
    TooManyUnverified,
    BodyTooLarge,
    UnsupportedMediaType,
    NoCache,
    TagTypeContradiction,
    UnsupportedEnvelope,
    InternalError,
    StoreUnavailable,
}

/// The longest piece of a client's own text that an error repeats.
const MAX_QUOTED_CHARS: usize = 80;

impl ProblemKind {
    fn word_status_title(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::MalformedBody => ("malformed-body", StatusCode::BAD_REQUEST, "The body is not what was expected"),
            Self::InvalidField => ("invalid-field", StatusCode::BAD_REQUEST, "A field of the body is wrong"),
            Self::InvalidParameter => ("invalid-parameter", StatusCode::BAD_REQUEST, "A parameter is wrong"),
            Self::NotAuthenticated => ("not-authenticated", StatusCode::UNAUTHORIZED, "User and password are needed"),
            Self::TooManyAttempts => {
                ("too-many-attempts", StatusCode::TOO_MANY_REQUESTS, "Too many wrong passwords came from there")
            }
            Self::AuthRequired => ("auth-required", StatusCode::FORBIDDEN, "Only with authentication turned on"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This cannot be done with it")
            }
            Self::BodyTimeout => ("body-timeout", StatusCode::REQUEST_TIMEOUT, "The body did not come in time"),
            Self::Withdrawn => ("withdrawn", StatusCode::CONFLICT, "This signature was withdrawn"),
            Self::Expired => ("expired", StatusCode::CONFLICT, "This signature has expired"),
            Self::SignerRevoked => ("signer-revoked", StatusCode::CONFLICT, "This key was revoked"),
            Self::TooManyUnverified => {
                ("too-many-unverified", StatusCode::CONFLICT, "Too many signatures that nothing verifies")
            }
            Self::BodyTooLarge => ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::UnsupportedMediaType => {
                ("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
            }
            Self::NoCache => ("no-cache", StatusCode::CONFLICT, "Nothing is kept here"),
            Self::TagTypeContradiction => {
                ("tag-type-contradiction", StatusCode::UNPROCESSABLE_ENTITY, "Tag and tag type contradict each other")
            }
            Self::UnsupportedEnvelope => {
                ("unsupported-envelope", StatusCode::UNPROCESSABLE_ENTITY, "This signature format is not supported")
            }
            Self::InternalError => ("internal-error", StatusCode::INTERNAL_SERVER_ERROR, "Something failed here"),
            Self::StoreUnavailable => {
                ("store-unavailable", StatusCode::SERVICE_UNAVAILABLE, "The store does not answer")
            }
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let (_, status, title) = kind.word_status_title();
        Self { kind, title, status: status.as_u16(), detail: detail.into(), field: None, retry_after: None }
    }

    /// A field of the body that is wrong: what it was and what was expected.
    pub(crate) fn field(field: impl Into<String>, detail: impl Display) -> Self {
        Self::about(ProblemKind::InvalidField, field, detail)
    }

    /// A parameter of the query or the path that is wrong.
    pub(crate) fn parameter(name: impl Into<String>, detail: impl Display) -> Self {
        Self::about(ProblemKind::InvalidParameter, name, detail)
    }

    pub(crate) fn about(kind: ProblemKind, field: impl Into<String>, detail: impl Display) -> Self {
        let field = field.into();
        Self { field: Some(field.clone()), ..Self::new(kind, format!("{field}: {detail}")) }
    }

    /// Credentials that were not looked at.
    pub(crate) fn too_many_attempts(retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        let detail = format!("too many wrong passwords came from your address; try again in {seconds} seconds");
        Self { retry_after: Some(seconds), ..Self::new(ProblemKind::TooManyAttempts, detail) }
    }

    pub(crate) fn not_found(what: impl Display) -> Self {
        Self::new(ProblemKind::NotFound, format!("there is no {what}"))
    }
}

/// A client's text for an error message: escaped and cut.
pub(crate) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    let rest = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{rest}")
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::Cursor) {
            return Self::parameter("cursor", "is not a place in this list");
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed a request of the API");
        Self::new(ProblemKind::StoreUnavailable, "the store could not answer, so nothing was done; try again later")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (_, status, _) = self.kind.word_status_title();
        // A struct of strings and a number always serializes.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == ProblemKind::NotAuthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sig-repo\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

fn as_urn<S: Serializer>(kind: &ProblemKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("urn:sig-repo:problem:{}", kind.word_status_title().0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_its_type_field_and_reason() {
        let problem = Problem::field("tag", "\"a b\" is not a tag");
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            serde_json::json!({
                "type": "urn:sig-repo:problem:invalid-field",
                "title": "A field of the body is wrong",
                "status": 400,
                "detail": "tag: \"a b\" is not a tag",
                "field": "tag",
            })
        );
    }

    #[test]
    fn hostile_text_is_escaped_and_cut() {
        assert_eq!(quoted("a\nb\u{1b}[31m"), r#""a\nb\u{1b}[31m""#);
        assert_eq!(quoted(&"x".repeat(100_000)).chars().count(), MAX_QUOTED_CHARS + 3);
    }
}
