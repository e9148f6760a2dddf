//! `/api/v1/archive`: signatures as they were submitted, so that they can be submitted again elsewhere.

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::Who,
    oci::{Digest, Repository, Tag, TagType},
    pull::end_of_life,
    store::{Record, RecordId},
    trust::EVIDENCE_ANNOTATIONS,
};

use super::{
    Api, json,
    problem::{Problem, quoted},
    query::Query,
    signatures::tag_type,
};

/// Signatures with all that came with them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Archive {
    /// In the order in which they were submitted.
    pub signatures: Vec<ArchivedSignature>,
    /// The `cursor` that goes on from here; null at the end. A part may be empty before the end.
    #[schema(value_type = Option<String>, required = true)]
    pub next: Option<RecordId>,
}

/// A signature with the fields that it is submitted with, and what became of it here.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArchivedSignature {
    #[schema(value_type = String)]
    pub id: RecordId,
    #[schema(value_type = String)]
    pub image_digest: Digest,
    #[schema(value_type = Option<String>, required = true)]
    pub repository: Option<Repository>,
    #[schema(value_type = String)]
    pub tag: Tag,
    #[schema(value_type = Option<String>, required = true)]
    pub tag_type: Option<TagType>,
    #[schema(required = true)]
    pub environment: Option<String>,
    pub format: String,
    #[schema(content_encoding = "base64")]
    pub signature: String,
    #[schema(required = true, content_encoding = "base64")]
    pub payload: Option<String>,
    #[schema(required = true)]
    pub certificate: Option<String>,
    #[schema(required = true)]
    pub chain: Option<String>,
    #[schema(required = true)]
    pub bundle: Option<String>,
    #[schema(required = true)]
    pub rfc3161timestamp: Option<String>,
    #[schema(required = true)]
    pub signer: Option<String>,
    pub metadata: std::collections::BTreeMap<String, String>,
    /// The end that it was submitted with.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Timestamp,
    /// When it ends with the settings in force here; null is never.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub ends_at: Option<Timestamp>,
}

/// The signatures themselves.
///
/// What was withdrawn or removed is not among them; what has expired is until it is removed.
#[utoipa::path(
    get,
    path = "/api/v1/archive",
    tag = "signatures",
    params(
        ("digest" = Option<String>, Query, description = "Only those of this image"),
        ("repository" = Option<String>, Query, description = "Only those that are narrowed to this repository"),
        ("type" = Option<String>, Query, description = "`preview` or `internal`; all types where it is left out"),
        ("limit" = Option<usize>, Query, description = "How many, 1 to 1000", example = 100),
        ("cursor" = Option<String>, Query, description = "`next` of the answer before, or the `id` of a signature"),
    ),
    responses(
        (status = 200, description = "The next of them", body = Archive),
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
    let mut query = Query::parse(uri.query(), &["digest", "repository", "type", "limit", "cursor"])?;
    let digest = query.take("digest").map(|text| {
        text.parse::<Digest>()
            .map_err(|error| Problem::parameter("digest", format_args!("{} is none: {error}", quoted(&text))))
    });
    let digest = digest.transpose()?;
    let repository = query.take("repository").map(|text| {
        Repository::parse(&text, &api.config.canonical)
            .map_err(|error| Problem::parameter("repository", format_args!("{} is none: {error}", quoted(&text))))
    });
    let repository = repository.transpose()?;
    let class = query.take("type").map(|text| tag_type(&text)).transpose();
    let class = class.map_err(|detail| Problem::parameter("type", detail))?;
    let limit = query.limit()?;
    let after = query.take("cursor").map(|text| {
        text.parse::<RecordId>().map_err(|_| Problem::parameter("cursor", "is not `next` of an answer, nor an id"))
    });
    let after = after.transpose()?;
    let wanted = |record: &Record| {
        digest.is_none_or(|digest| record.digest == digest)
            && repository.as_ref().is_none_or(|repository| record.repository.as_ref() == Some(repository))
            && class.is_none_or(|class| record.tag_type.or(record.tag.stated_type()) == Some(class))
    };
    let (records, next) = api.store.archive_page(digest.as_ref(), after.as_ref(), limit, wanted)?;
    api.audit_internal_query(&who, &records, digest).await?;
    let signatures = records.into_iter().map(|record| api.archived(record)).collect();
    Ok(json(StatusCode::OK, &Archive { signatures, next }))
}

impl Api {
    fn archived(&self, mut record: Record) -> ArchivedSignature {
        let is_preview = record.tag_type.or(record.tag.stated_type()) == Some(TagType::Preview);
        let life = self.config.preview_ttl.filter(|_| is_preview).map(|ttl| end_of_life(record.first_seen, ttl));
        let ends_at = [record.expires_at, life].into_iter().flatten().min();
        let [certificate, chain, bundle, rfc3161timestamp] =
            EVIDENCE_ANNOTATIONS.map(|name| record.annotations.remove(name));
        ArchivedSignature {
            id: record.id,
            image_digest: record.digest,
            repository: record.repository,
            tag: record.tag,
            tag_type: record.tag_type,
            environment: record.environment,
            format: record.format,
            signature: BASE64_STANDARD.encode(record.signature),
            payload: record.payload.map(|payload| BASE64_STANDARD.encode(payload)),
            certificate,
            chain,
            bundle,
            rfc3161timestamp,
            signer: record.signer,
            metadata: record.metadata,
            expires_at: record.expires_at,
            created_at: record.created_at,
            first_seen: record.first_seen,
            ends_at,
        }
    }
}
