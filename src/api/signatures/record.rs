use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::time::whole_seconds,
    oci::{Digest, Repository, Tag, TagType},
    policy::Finding,
    pull::Judged,
    store::{Record, RecordId},
    trust::{Inconclusive, Outcome, Verified},
};

/// A stored signature, with its verification at the time of the question.
#[derive(Debug, Serialize, ToSchema)]
pub struct SignatureRecord {
    #[schema(value_type = String)]
    pub id: RecordId,
    #[schema(value_type = String)]
    pub digest: Digest,
    /// The one repository that it is for; null where it is for every one.
    #[schema(value_type = Option<String>, required = true, example = "docker.io/library/nginx")]
    pub repository: Option<Repository>,
    #[schema(value_type = String)]
    pub tag: Tag,
    #[schema(value_type = Option<String>, required = true, pattern = "^(preview|internal)$")]
    pub tag_type: Option<TagType>,
    #[schema(required = true)]
    pub environment: Option<String>,
    #[schema(example = "raw")]
    pub format: String,
    /// Who is said to have signed; who has is in `verified_by`.
    #[schema(required = true)]
    pub signer: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When this signature was first seen, under whatever tag; its life counts from here.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Timestamp,
    /// When it ends with the settings in force; null is never.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub expires_at: Option<Timestamp>,
    pub metadata: BTreeMap<String, String>,
    /// Whether it verifies under a trusted signer and has not expired.
    pub is_valid: bool,
    #[schema(value_type = String, pattern = "^(verified|rejected|unknown)$")]
    pub outcome: &'static str,
    /// Why it is not valid: one of a fixed list of codes.
    #[schema(value_type = Option<String>, required = true, example = "no-trusted-key")]
    pub reason: Option<&'static str>,
    /// The same in words.
    #[schema(required = true)]
    pub detail: Option<String>,
    #[schema(required = true)]
    pub verified_by: Option<VerifiedBy>,
}

/// The trusted signer who made a signature, and how that is known.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerifiedBy {
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub id: String,
    pub name: String,
    /// When it was signed, where somebody else than the signer vouches for that.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub signed_at: Option<Timestamp>,
    /// From the signature to what is trusted, a line for each link.
    pub evidence: Vec<String>,
}

impl SignatureRecord {
    pub(super) fn new(record: Record, judged: &Judged, finding: &Finding, ends: Option<Timestamp>) -> Self {
        let (outcome, reason, detail) = match finding {
            Finding::Verified(_) => ("verified", None, None),
            Finding::Rejected(rejection) => ("rejected", Some(rejection.code()), Some(rejection.to_string())),
            Finding::Unknown(unknown) => ("unknown", Some(unknown.code()), Some(unknown.to_string())),
        };
        let verified_by = match (finding, &judged.outcome) {
            (Finding::Verified(_), Outcome::Verified(verified)) => Some(VerifiedBy::from(verified)),
            _ => None,
        };
        Self {
            id: record.id,
            digest: record.digest,
            repository: record.repository,
            tag: record.tag,
            tag_type: record.tag_type,
            environment: record.environment,
            format: record.format,
            signer: record.signer,
            created_at: whole_seconds(record.created_at),
            first_seen: whole_seconds(judged.first_seen),
            expires_at: ends.map(whole_seconds),
            metadata: record.metadata,
            is_valid: verified_by.is_some(),
            outcome,
            reason,
            detail,
            verified_by,
        }
    }

    /// Whether the bytes of the image's manifest would tell more.
    pub(super) fn needs_manifest(&self) -> bool {
        self.reason == Some(Inconclusive::ManifestNotHeld.code())
    }
}

impl From<&Verified> for VerifiedBy {
    fn from(verified: &Verified) -> Self {
        let (signer, evidence) = (&verified.signer, &verified.evidence);
        Self {
            id: signer.id.to_string(),
            name: signer.name.clone(),
            signed_at: evidence.signed_at.map(whole_seconds),
            evidence: evidence.links.clone(),
        }
    }
}
