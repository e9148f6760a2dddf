//! `/api/v1/tags`: what is signed, by type and environment.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::Who,
    oci::{Digest, Tag},
};

use super::{
    Api,
    cursor::Cursor,
    json,
    problem::Problem,
    query::Query,
    signatures::{SignatureRecord, environment, tag_type},
};

/// Tags that have a signature.
#[derive(Debug, Serialize, ToSchema)]
pub struct TagList {
    /// In order of type, environment and tag; one entry for each signature.
    pub tags: Vec<TagEntry>,
    /// The `cursor` that goes on from here; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct TagEntry {
    #[schema(value_type = String)]
    pub tag: Tag,
    #[schema(value_type = String)]
    pub digest: Digest,
    pub record: SignatureRecord,
}

/// Tags that have a signature.
#[utoipa::path(
    get,
    path = "/api/v1/tags",
    tag = "tags",
    params(
        ("type" = Option<String>, Query, description = "`preview` or `internal`; all types where it is left out"),
        ("environment" = Option<String>, Query, description = "Only those of this environment", example = "test-prod"),
        ("limit" = Option<usize>, Query, description = "How many, 1 to 1000", example = 100),
        ("cursor" = Option<String>, Query, description = "`next` of the answer before"),
    ),
    responses(
        (status = 200, description = "`is_valid` is computed at the time of the question", body = TagList),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut query = Query::parse(uri.query(), &["type", "environment", "limit", "cursor"])?;
    let class = query.take("type").map(|text| tag_type(&text)).transpose();
    let class = class.map_err(|detail| Problem::parameter("type", detail))?;
    let environment = query.take("environment").map(environment).transpose();
    let environment = environment.map_err(|detail| Problem::parameter("environment", detail))?;
    let scope = format!("tags {class:?} {environment:?}");
    let (limit, after) = (query.limit()?, query.position(&scope)?);
    let page = api.store.tags_page(class, environment.as_deref(), after.as_deref(), limit)?;
    api.audit_internal_query(&who, &page.items, None).await?;
    let mut tags = Vec::with_capacity(page.items.len());
    for record in page.items {
        let (tag, digest) = (record.tag.clone(), record.digest);
        let manifest = api.held_manifest(&digest)?;
        tags.push(TagEntry { tag, digest, record: api.described(record, manifest).await? });
    }
    let next = page.next.map(|position| Cursor::new(&scope).write(&position));
    Ok(json(StatusCode::OK, &TagList { tags, next }))
}
