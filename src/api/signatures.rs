//! `/api/v1/signatures`: submit, list and withdraw.

mod record;
mod submission;

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{Action, Event, Who},
    oci::{Digest, TagType},
    pull::{Conflict, NewRecord, Signed, SubmitError},
    store::{Record, RecordId},
    trust::{EnvelopeError, Flaw, Format},
};

use super::{
    Api,
    body::read_json,
    cursor::Cursor,
    json,
    problem::{Problem, ProblemKind, quoted},
    query::Query,
};

pub use self::record::SignatureRecord;
pub use self::submission::NewSignature;
pub(super) use self::submission::{environment, tag_type, time};

/// The signatures of one image.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignatureList {
    #[schema(value_type = String)]
    pub digest: Digest,
    /// In the order in which they were submitted.
    pub signatures: Vec<SignatureRecord>,
    /// The `cursor` that goes on from here; null at the end.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// Submit a signature.
///
/// The same signature again is answered with what is there already and extends nothing. The same
/// signature with another tag, type, environment or repository is a promotion, which needs
/// authentication to be on.
#[utoipa::path(
    post,
    path = "/api/v1/signatures",
    tag = "signatures",
    request_body = NewSignature,
    responses(
        (status = 201, description = "Stored durably; with its verification as it stands now", body = SignatureRecord),
        (status = 200, description = "It was there already; nothing changed", body = SignatureRecord),
        (status = 400, description = "`malformed-body`, `invalid-field`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`auth-required`: a promotion, or `first_seen`, with authentication off", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`withdrawn`, `expired`, `too-many-unverified`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`tag-type-contradiction`, `unsupported-envelope`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`: nothing was stored", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn submit(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Response, Problem> {
    let body = read_json(request).await?;
    let new = NewSignature::parse(&body, &api.config.canonical)?;
    let signed = new.signed();
    let format = recognised(&signed)?;
    if let Some(first_seen) = new.first_seen {
        api.require_auth("saying when a signature was first seen")?;
        if first_seen > api.clock.now() {
            return Err(Problem::field("first_seen", "is in the future"));
        }
    }
    let new = NewRecord {
        of_digest: new.is_of_digest(),
        digest: new.image_digest,
        repository: new.repository,
        tag: new.tag,
        tag_type: new.tag_type,
        environment: new.environment,
        format,
        signed,
        signer: new.signer,
        metadata: new.metadata,
        expires_at: new.expires_at,
        first_seen: new.first_seen,
    };
    let (record, created) = api.puller.submit(new, &who, api.config.auth.is_some()).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let manifest = api.held_manifest(&record.digest)?;
    Ok(json(status, &api.described(record, manifest).await?))
}

/// The signatures of an image.
///
/// Expired ones are listed until they are removed.
#[utoipa::path(
    get,
    path = "/api/v1/signatures",
    tag = "signatures",
    params(
        ("digest" = String, Query, description = "The digest of the image's manifest or index"),
        ("limit" = Option<usize>, Query, description = "How many, 1 to 1000", example = 100),
        ("cursor" = Option<String>, Query, description = "`next` of the answer before"),
    ),
    responses(
        (status = 200, description = "`is_valid` is computed at the time of the question", body = SignatureList),
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
    let mut query = Query::parse(uri.query(), &["digest", "limit", "cursor"])?;
    let text = query.take("digest").ok_or_else(|| {
        Problem::parameter("digest", "is missing, expected the digest of an image, as in ?digest=sha256:…")
    })?;
    let digest: Digest = text
        .parse()
        .map_err(|error| Problem::parameter("digest", format_args!("{} is none: {error}", quoted(&text))))?;
    let scope = format!("signatures {digest}");
    let (limit, after) = (query.limit()?, query.position(&scope)?);
    let page = api.store.records_page(&digest, after.as_deref(), limit)?;
    api.audit_internal_query(&who, &page.items, Some(digest)).await?;
    let mut manifest = api.held_manifest(&digest)?;
    let mut asked = manifest.is_some();
    let mut signatures = Vec::with_capacity(page.items.len());
    for record in page.items {
        let mut described = api.described(record.clone(), manifest.clone()).await?;
        if described.needs_manifest() && !asked {
            // Once for the whole list, whatever the answer is.
            asked = described.repository.is_some();
            manifest = api.puller.awaited_subject(described.repository.as_ref(), &digest, who.account.is_none()).await;
            if manifest.is_some() {
                described = api.described(record, manifest.clone()).await?;
            }
        }
        signatures.push(described);
    }
    let next = page.next.map(|position| Cursor::new(&scope).write(&position));
    Ok(json(StatusCode::OK, &SignatureList { digest, signatures, next }))
}

/// Withdraw a signature.
///
/// It never counts again, under whatever tag, and submitting it again is refused.
#[utoipa::path(
    delete,
    path = "/api/v1/signatures/{id}",
    tag = "signatures",
    params(("id" = String, Path, description = "The `id` of the record")),
    responses(
        (status = 204, description = "Withdrawn"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`auth-required`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn withdraw(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    api.require_auth("withdrawing a signature")?;
    let absent = || Problem::not_found("signature of this id");
    let id: RecordId = id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(absent)?;
    let record = api.store.record(&id)?.ok_or_else(absent)?;
    let manifest = api.held_manifest(&record.digest)?;
    // A key may verify it now that was not known when it was submitted: that identity goes with it.
    let (_, identities) =
        api.judge.submission(record.digest, record.repository.clone(), Signed::from(&record), manifest).await;
    let record = api.store.withdraw(&id, identities).await?.ok_or_else(absent)?;
    api.audit.record(Event::of_record(api.clock.now(), Action::Withdrawn, &who, &record)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Api {
    /// Records that internal images were asked about, before the answer leaves.
    pub(super) async fn audit_internal_query(
        &self,
        who: &Who,
        records: &[Record],
        digest: Option<Digest>,
    ) -> Result<(), Problem> {
        let is_internal = |record: &&Record| record.tag_type.or(record.tag.stated_type()) == Some(TagType::Internal);
        if let Some(first) = records.iter().find(is_internal) {
            let count = records.iter().filter(is_internal).count() as u64;
            let event = Event::of_record(self.clock.now(), Action::InternalQueried, who, first);
            self.audit.record(Event { digest, count, ..event }).await?;
        }
        Ok(())
    }

    /// The record with its verification as it stands now; `manifest` is its image's, where it is held.
    pub(super) async fn described(&self, record: Record, manifest: Option<Bytes>) -> Result<SignatureRecord, Problem> {
        let judged = self.judge.record(&record, manifest).await?;
        let finding = judged.finding(None, self.config.preview_ttl, self.clock.now());
        Ok(SignatureRecord::new(record, &judged, &finding, judged.ends(None, self.config.preview_ttl)))
    }
}

/// The format to keep a submission under.
fn recognised(signed: &Signed) -> Result<Format, Problem> {
    match signed.recognise() {
        Ok(envelope) => Ok(envelope.format()),
        Err(EnvelopeError::Unsupported { format }) => {
            let detail = format!(
                "this is a signature of format {format}, which this release does not verify; nothing was stored"
            );
            Err(Problem::about(ProblemKind::UnsupportedEnvelope, "signature", detail))
        }
        // Bytes that are no signature of any kind look like a raw one that no key verifies. They are kept
        // and answer `malformed-signature`, as whoever tries the API with made-up bytes expects.
        Err(EnvelopeError::Malformed { flaw: Flaw::NotASignature }) => Ok(Format::Raw),
        Err(EnvelopeError::Malformed { flaw: flaw @ (Flaw::Empty | Flaw::TooLarge) }) => {
            Err(Problem::field("signature", flaw.to_string()))
        }
        Err(EnvelopeError::Malformed { flaw: flaw @ (Flaw::Bundle(_) | Flaw::Evidence(_)) }) => {
            Err(Problem::field("signature", flaw.to_string()))
        }
        // Some formats hold the payload within the signature.
        Err(EnvelopeError::Malformed { flaw }) => {
            let field = if signed.payload.is_some() { "payload" } else { "signature" };
            Err(Problem::field(field, flaw.to_string()))
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Ended => Self::field("expires_at", "is in the past, so that the signature would never count"),
            SubmitError::NotExamined => {
                let detail = "the signature could not be examined, so nothing was stored";
                Self::new(ProblemKind::InternalError, detail)
            }
            SubmitError::Conflict(conflict) => {
                let kind = match conflict {
                    Conflict::Withdrawn => ProblemKind::Withdrawn,
                    Conflict::Expired => ProblemKind::Expired,
                    Conflict::Promotion => ProblemKind::AuthRequired,
                    Conflict::TooMany => ProblemKind::TooManyUnverified,
                };
                Self::new(kind, conflict.to_string())
            }
            SubmitError::Store(error) => error.into(),
        }
    }
}
