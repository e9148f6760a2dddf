//! `/extensions/v2/{name}/signatures/{digest}`: how podman, skopeo and CRI-O read and write OpenPGP
//! signatures where `/v2/` says `X-Registry-Supports-Signatures: 1`. They ask it at every pull, and a pull
//! whose question is not answered by a list has failed: what is not shown is a list without it.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    oci::{Digest, ErrorCode},
    pull::{OpenPgpError, SubmitError},
    store::Record,
    telemetry::Peer,
};

use super::{
    Parts, Registry,
    client::Client,
    face,
    push::Incoming,
    refusal, respond,
    respond::Body,
    route::{RouteError, SignaturesRoute, Target},
    unavailable, without_body_if_head,
};

/// A signature of the size that one may have, in base64 and JSON.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// What a client sends, and in a list receives, of one signature.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Atomic {
    schema_version: u32,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    content: String,
}

impl Registry {
    /// Answers what is asked under `/extensions`.
    pub async fn signatures<B: Incoming>(&self, request: Request<B>, peer: &Peer) -> Response<Body> {
        let parts = &*self.parts;
        let (head, body) = request.into_parts();
        let request = &Request::from_parts(head, ());
        let client = Client::of(request, peer, &parts.config);
        let response = match SignaturesRoute::parse(request, &parts.config.canonical) {
            _ if parts.config.challenges(&client.asker) => face::challenge(),
            Err(error) => parts.misrouted(&error, &client),
            Ok(SignaturesRoute { target, digest }) => match *request.method() {
                Method::GET | Method::HEAD => parts.list_signatures(&target, &digest, &client).await,
                Method::PUT => parts.put_signature(&target, digest, body, &client).await,
                _ => parts.misrouted(&RouteError::Method, &client),
            },
        };
        without_body_if_head(request, response)
    }
}

impl Parts {
    async fn list_signatures(&self, target: &Target<'_>, digest: &Digest, client: &Client) -> Response<Body> {
        let upstream = match self.puller.upstream_of(&target.repository) {
            Ok(upstream) => upstream,
            Err(refused) => return self.refused(target, None, &refused, client),
        };
        let visible = match self.puller.shows_artifacts_of(&target.repository, digest, &client.asker).await {
            Ok(true) => self.puller.shows_repository(&upstream, &target.repository, &client.asker).await,
            Ok(false) => Ok(false),
            Err(refused) => return refusal::blob(target, digest, &refused),
        };
        let records = match visible {
            Ok(true) => self.puller.openpgp_signatures(&target.repository, digest).await,
            Ok(false) => Ok(Vec::new()),
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(error) => return unavailable(&error),
        };
        match records {
            Ok(records) => respond::json(&json!({ "signatures": records.iter().map(listed).collect::<Vec<_>>() })),
            Err(error) => {
                tracing::error!("the store failed: {error}");
                refusal::error(ErrorCode::Unavailable, "the signature store did not answer")
            }
        }
    }

    /// As over the API, it is for everybody where nobody has an account.
    async fn put_signature<B: Incoming>(
        &self,
        target: &Target<'_>,
        digest: Digest,
        body: B,
        client: &Client,
    ) -> Response<Body> {
        let has_accounts = self.config.auth.is_some();
        if has_accounts && client.asker.is_anonymous() {
            let text =
                "auth-required: signatures are pushed with the credentials of an account, by the name to sign in under";
            return refusal::error(ErrorCode::Denied, text);
        }
        if let Err(refused) = self.puller.upstream_of(&target.repository) {
            return self.refused(target, None, &refused, client);
        }
        let signature = match read(body, &digest).await {
            Ok(signature) => signature,
            Err(expected) => return refusal::error(ErrorCode::ManifestInvalid, expected),
        };
        let kept = self.puller.keep_openpgp(&target.repository, digest, signature, &client.asker, has_accounts).await;
        match kept {
            Ok(()) => respond::created(),
            Err(error) => {
                if let OpenPgpError::Submit(SubmitError::Store(source)) = &error {
                    tracing::error!("the store failed a signature: {source}");
                }
                refusal::error(code(&error), &error.to_string())
            }
        }
    }
}

fn code(error: &OpenPgpError) -> ErrorCode {
    match error {
        OpenPgpError::Envelope(_)
        | OpenPgpError::Type
        | OpenPgpError::Subject { .. }
        | OpenPgpError::Repository { .. }
        | OpenPgpError::Submit(SubmitError::Ended) => ErrorCode::ManifestInvalid,
        OpenPgpError::Submit(SubmitError::Conflict(_)) => ErrorCode::Denied,
        OpenPgpError::Submit(SubmitError::NotExamined | SubmitError::Store(_)) => ErrorCode::Unavailable,
    }
}

/// The signature in a body; else what was expected of it.
async fn read<B: Incoming>(body: B, digest: &Digest) -> Result<Vec<u8>, &'static str> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
    let body = body.map_err(|_| "the body ended before its end, or is longer than 256 KiB")?.to_bytes();
    let atomic: Atomic =
        serde_json::from_slice(&body).map_err(|_| "expected JSON with schemaVersion, name, type and content")?;
    if atomic.schema_version != 2 || atomic.kind != "atomic" {
        return Err("expected a signature of schemaVersion 2 and of type atomic");
    }
    if atomic.name.split_once('@').is_none_or(|(named, _)| named != digest.to_string()) {
        return Err("expected a name of the digest in the path, @ and something of its own");
    }
    BASE64_STANDARD.decode(atomic.content).map_err(|_| "the content is not base64")
}

/// The name is of the content alone, so that it stays while other signatures come and go.
fn listed(record: &Record) -> Value {
    let id = hex::encode(&Digest::sha256(&record.signature).as_bytes()[..16]);
    json!({
        "schemaVersion": 2,
        "name": format!("{}@{id}", record.digest),
        "type": "atomic",
        "content": BASE64_STANDARD.encode(&record.signature),
    })
}
