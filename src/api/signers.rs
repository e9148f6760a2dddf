//! `/api/v1/signers`: the keys that are trusted, wherever they come from, and what the API adds and
//! revokes.

mod new_signer;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    audit::{Action, Event, Who},
    store::{RevocationRow, SignerRow},
    trust::{Signer, SignerId, SignerOrigin},
};

use super::{
    Api,
    body::read_json,
    json,
    problem::{Problem, ProblemKind, quoted},
    query::Query,
    time::{parse_rfc3339, whole_seconds},
};

pub use self::new_signer::NewSigner;
use self::new_signer::SignerCredential;

/// Someone trusted.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignerRecord {
    pub name: String,
    /// For a key the SHA-256 of its SubjectPublicKeyInfo, for an OpenPGP key that of its primary key's packet.
    #[schema(value_type = String, example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub id: SignerId,
    /// Which of the members of a new signer it has.
    #[schema(value_type = String, example = "public_key")]
    pub kind: &'static str,
    /// As its tools show it: of a key what `openssl pkey -pubin -outform DER | openssl dgst -sha256 -c` prints,
    /// of an OpenPGP key what `gpg` does.
    pub fingerprint: String,
    /// Of a key.
    #[schema(value_type = Option<String>, required = true, example = "ecdsa-p256")]
    pub algorithm: Option<&'static str>,
    /// The credential, in the member that `kind` names.
    #[serde(flatten)]
    #[schema(value_type = SignerCredential)]
    pub credential: Map<String, Value>,
    /// Where it comes from: a file of `TRUST_DIR`, or this API.
    #[schema(value_type = String, pattern = "^(file|api)$")]
    pub origin: SignerOrigin,
    #[schema(value_type = String, format = DateTime)]
    pub added: Timestamp,
    /// The first instant at which it counts.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub not_before: Option<Timestamp>,
    /// The first instant at which it no longer counts.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub not_after: Option<Timestamp>,
    /// Whether it is revoked at the time of the question.
    pub revoked: bool,
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub revoked_at: Option<Timestamp>,
    /// Whether what was signed before `revoked_at` counts on, on the word of a log or a timestamp authority.
    pub keeps_earlier: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SignerList {
    pub signers: Vec<SignerRecord>,
}

/// The trusted keys, of files and of the API.
#[utoipa::path(
    get,
    path = "/api/v1/signers",
    tag = "signers",
    responses(
        (status = 200, description = "Revoked ones are listed too", body = SignerList),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(uri.query(), &[])?;
    let now = api.clock.now();
    let signers = api.judge.trust().signers().iter().map(|signer| SignerRecord::new(signer, now)).collect();
    Ok(json(StatusCode::OK, &SignerList { signers }))
}

/// Trust a public key.
///
/// The same key again with another name or other times replaces them. A key that was revoked stays
/// revoked.
#[utoipa::path(
    post,
    path = "/api/v1/signers",
    tag = "signers",
    request_body = NewSigner,
    responses(
        (status = 201, description = "Trusted from the next request on", body = SignerRecord),
        (status = 200, description = "It was there already; name and times are now these", body = SignerRecord),
        (status = 400, description = "`malformed-body`, `invalid-field`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`auth-required`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`body-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`signer-revoked`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    request: Request,
) -> Result<Response, Problem> {
    api.require_auth("adding a signer")?;
    let new = NewSigner::parse(&read_json(request).await?)?;
    let id = new.credential.id();
    let _change = api.signer_changes.lock().await;
    if api.revocations()?.contains_key(&id) {
        let detail = format!("the signer {id} was revoked, which nothing undoes; use a new key or identity");
        return Err(Problem::new(ProblemKind::SignerRevoked, detail));
    }
    let text = id.to_string();
    let existing = api.store.signers()?.into_iter().find(|row| row.id == text);
    let row = SignerRow {
        id: text,
        name: new.name,
        added: existing.as_ref().map_or(api.clock.now(), |row| row.added),
        not_before: new.not_before,
        not_after: new.not_after,
        revoked: None,
        credential: new.credential.to_members(),
    };
    let status = if existing.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    if existing.as_ref() != Some(&row) {
        api.store.put_signer(row).await?;
        api.signers_changed(Action::SignerAdded, &who, id).await?;
    }
    let signer = api.signer(id, Some(SignerOrigin::Api));
    let signer =
        signer.ok_or_else(|| Problem::new(ProblemKind::InternalError, "the key was stored and is not in force"))?;
    Ok(json(status, &signer))
}

/// Revoke a key.
///
/// It counts for nothing from the next request on, whatever file holds it. Revoking it again can
/// only make it earlier.
#[utoipa::path(
    delete,
    path = "/api/v1/signers/{id}",
    tag = "signers",
    params(
        ("id" = String, Path, description = "The `id` of the signer"),
        ("at" = Option<String>, Query, description = "Revoked from then on (RFC 3339); now where it is left out"),
        ("keep_earlier" = Option<bool>, Query, description = "`true`: what was signed before counts on, on the word of a log or a timestamp authority"),
    ),
    responses(
        (status = 200, description = "Revoked", body = SignerRecord),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`auth-required`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    api.require_auth("revoking a signer")?;
    let text = id.map(|Path(text)| text).unwrap_or_default();
    let id: SignerId =
        text.parse().map_err(|error| Problem::parameter("id", format_args!("{} is none: {error}", quoted(&text))))?;
    let mut query = Query::parse(uri.query(), &["at", "keep_earlier"])?;
    let at = match query.take("at") {
        None => api.clock.now(),
        Some(text) => parse_rfc3339(&text).ok_or_else(|| {
            let detail = "is not a time of RFC 3339, as in 2024-05-20T10:30:00Z (a + in it is written %2B)";
            Problem::parameter("at", format_args!("{} {detail}", quoted(&text)))
        })?,
    };
    let keeps_earlier = match query.take("keep_earlier").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(text) => {
            return Err(Problem::parameter("keep_earlier", format_args!("{} is neither true nor false", quoted(text))));
        }
    };
    let revocation = RevocationRow { at, keeps_earlier };
    let _change = api.signer_changes.lock().await;
    let absent = || Problem::not_found(format_args!("signer {id}"));
    if api.signer(id, None).is_none() {
        return Err(absent());
    }
    // A second revocation may not give a revoked key a time in which it counts again.
    let before = api.revocations()?.get(&id).copied();
    let after = api.store.revoke_signer(id.to_string(), revocation).await?;
    if before != Some(after) {
        api.signers_changed(Action::SignerRevoked, &who, id).await?;
    }
    Ok(json(StatusCode::OK, &api.signer(id, None).ok_or_else(absent)?))
}

impl Api {
    /// The signer in force with this key, of one origin or of any.
    fn signer(&self, id: SignerId, origin: Option<SignerOrigin>) -> Option<SignerRecord> {
        let root = self.judge.trust();
        let mut of_key = root.signers().iter().filter(|signer| signer.id() == id);
        let found = of_key.find(|signer| origin.is_none_or(|origin| signer.origin == origin))?;
        Some(SignerRecord::new(found, self.clock.now()))
    }

    fn revocations(&self) -> Result<BTreeMap<SignerId, RevocationRow>, Problem> {
        let revocations = self.store.revocations()?;
        Ok(revocations.into_iter().filter_map(|(id, at)| Some((id.parse().ok()?, at))).collect())
    }

    /// Puts a change in force before it is answered, and records it.
    async fn signers_changed(&self, action: Action, who: &Who, id: SignerId) -> Result<(), Problem> {
        self.trusted.refresh().map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a change of the signers is stored and not in force"
            );
            Problem::new(ProblemKind::StoreUnavailable, "the change is stored, but not yet in force; try again")
        })?;
        let event = Event::new(self.clock.now(), action, who.clone());
        Ok(self.audit.record(Event { reference: Some(id.to_string()), ..event }).await?)
    }
}

impl SignerRecord {
    fn new(signer: &Signer, now: Timestamp) -> Self {
        let id = signer.id();
        Self {
            name: signer.name.clone(),
            id,
            kind: signer.credential.kind(),
            fingerprint: signer.credential.fingerprint(),
            algorithm: signer.credential.algorithm(),
            credential: signer.credential.to_members(),
            origin: signer.origin,
            added: whole_seconds(signer.added),
            not_before: signer.not_before,
            not_after: signer.not_after,
            revoked: signer.revoked.is_some_and(|revocation| revocation.at <= now),
            revoked_at: signer.revoked.map(|revocation| whole_seconds(revocation.at)),
            keeps_earlier: signer.revoked.is_some_and(|revocation| revocation.keeps_earlier),
        }
    }
}
