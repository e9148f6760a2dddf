//! `GET /api/v1/audit`: what happened, newest first.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{
    Api,
    cursor::Cursor,
    json,
    problem::{Problem, ProblemKind},
    query::Query,
};

/// Events of the audit.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventList {
    /// Newest first. Each has at least `at`, `action`, `address` and `count`.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Box<RawValue>>,
    /// The `cursor` that goes on from here; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

const SCOPE: &str = "audit";

/// What was submitted, withdrawn, changed, refused and served.
///
/// The same decision for the same client, repository and digest within a minute is one event with a
/// `count`.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "audit",
    params(
        ("limit" = Option<usize>, Query, description = "How many, 1 to 1000", example = 100),
        ("cursor" = Option<String>, Query, description = "`next` of the answer before"),
    ),
    responses(
        (status = 200, description = "Events, newest first", body = EventList),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    let mut query = Query::parse(uri.query(), &["limit", "cursor"])?;
    let (limit, after) = (query.limit()?, query.position(SCOPE)?);
    let page = api.audit.page(after.as_deref(), limit)?;
    let events = page.items.into_iter().map(|row| RawValue::from_string(String::from_utf8(row).ok()?).ok());
    let events = events.collect::<Option<_>>().ok_or_else(|| {
        tracing::error!("a row of the audit is not JSON");
        Problem::new(ProblemKind::InternalError, "an event could not be read")
    })?;
    let next = page.next.map(|position| Cursor::new(SCOPE).write(&position));
    Ok(json(StatusCode::OK, &EventList { events, next }))
}
