use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    EnvelopeError, Format, NotationRejection, OpenPgpRejection, SignerIdentity, SigstoreRejection,
    verifier::message::MAX_REHASHED,
};
use crate::oci::{Digest, Repository};

/// What looking at one signature found. "Could not tell" is never served as either of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Verified(Verified),
    Rejected(Rejection),
    Unknown(Inconclusive),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub signer: SignerIdentity,
    /// Stands for whoever made the signature: of a key its signer's id, else who the evidence says it was.
    pub identity: [u8; 32],
    /// Stands for what they are trusted by: the signer's id, or what a certificate authority vouches for.
    /// Two signatures count as one where either is the same.
    pub entry: [u8; 32],
    /// SHA-256 that stands for what was signed, the same for every signature of one key over the same
    /// bytes: of the payload or the digest string; for the manifest the image's own sha256 digest, or
    /// the SHA-256 of its sha512 digest's bytes, so that it does not depend on the manifest being held.
    pub payload_hash: [u8; 32],
    /// The strings in the payload's `optional`: labels that the signature covers.
    pub labels: BTreeMap<String, String>,
    /// The first instant at which this signature may no longer count.
    pub until: Option<Timestamp>,
    pub evidence: Evidence,
}

/// What a verified signature rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When it was made, as far as somebody other than its signer vouches for that.
    pub signed_at: Option<Timestamp>,
    /// From the signature to what is trusted, a line for each link, for whoever reads the API.
    pub links: Vec<String>,
}

/// Why a signature does not count. The names of signers are their administrators' text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no trusted key verifies the signature")]
    NoTrustedKey,
    #[error("it is over more than {} KiB, where only signatures over SHA-256 are looked at", MAX_REHASHED >> 10)]
    TooLarge,
    #[error("the signature is malformed")]
    Malformed,
    #[error("signatures of format {format} are not supported in this release")]
    Unsupported { format: Format },
    #[error("the signature is over {found}")]
    SubjectMismatch { found: Digest },
    #[error("the signed payload is not of the type that a signature of this format has")]
    PayloadType,
    #[error("the signature is for the repository {found}")]
    RepositoryMismatch { found: Repository },
    #[error("{0}")]
    OpenPgp(OpenPgpRejection),
    #[error("the signer '{name}' is revoked")]
    SignerRevoked { name: String },
    #[error("the signer '{name}' counts from {from} on")]
    SignerNotYetValid { name: String, from: Timestamp },
    #[error("the signer '{name}' expired at {since}")]
    SignerExpired { name: String, since: Timestamp },
    #[error("{0}")]
    Notation(#[from] NotationRejection),
    #[error("the signature has expired")]
    Expired,
    #[error("the signature was withdrawn")]
    Withdrawn,
    #[error("{0}")]
    Sigstore(#[from] SigstoreRejection),
}

/// Why nothing could be said about a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Inconclusive {
    #[error("the manifest's bytes are needed and not held")]
    ManifestNotHeld,
    #[error("the time for verifying signatures of this image is spent")]
    BudgetSpent,
    #[error("whether the signer's certificates were revoked could not be asked")]
    RevocationUnknown,
    #[error("the upstream registry did not answer")]
    UpstreamFailed,
    #[error("the signature store did not answer")]
    StoreFailed,
}

impl Outcome {
    /// The name of the outcome in the API, the audit and the metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Verified(_) => "verified",
            Self::Rejected(_) => "rejected",
            Self::Unknown(_) => "unknown",
        }
    }

    /// The reason's code; a verified signature needs none.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Verified(_) => None,
            Self::Rejected(rejection) => Some(rejection.code()),
            Self::Unknown(inconclusive) => Some(inconclusive.code()),
        }
    }

    /// The first instant at which time alone may turn this into something else; a change of the signers
    /// may do so earlier.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Verified(verified) => verified.until,
            Self::Rejected(Rejection::OpenPgp(rejection)) => rejection.until(),
            Self::Rejected(_) | Self::Unknown(_) => None,
        }
    }

    pub fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

impl Rejection {
    /// Every code there is, for whoever documents them, beside those of one format.
    pub const CODES: [&'static str; 12] = [
        "no-trusted-key",
        "too-large-to-hash",
        "malformed-signature",
        "unsupported-format",
        "subject-mismatch",
        "payload-type",
        "repository-mismatch",
        "signer-revoked",
        "signer-not-yet-valid",
        "signer-expired",
        "expired",
        "withdrawn",
    ];

    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTrustedKey => "no-trusted-key",
            Self::TooLarge => "too-large-to-hash",
            Self::Malformed => "malformed-signature",
            Self::Unsupported { .. } => "unsupported-format",
            Self::SubjectMismatch { .. } => "subject-mismatch",
            Self::PayloadType => "payload-type",
            Self::RepositoryMismatch { .. } => "repository-mismatch",
            Self::OpenPgp(rejection) => rejection.code(),
            Self::SignerRevoked { .. } => "signer-revoked",
            Self::SignerNotYetValid { .. } => "signer-not-yet-valid",
            Self::SignerExpired { .. } => "signer-expired",
            Self::Notation(rejection) => rejection.code(),
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
            Self::Sigstore(rejection) => rejection.code(),
        }
    }
}

/// A stored envelope is parsed again at each use, so it can turn out to be no envelope there too.
impl From<&EnvelopeError> for Rejection {
    fn from(error: &EnvelopeError) -> Self {
        match error {
            EnvelopeError::Unsupported { format } => Self::Unsupported { format: *format },
            EnvelopeError::Malformed { .. } => Self::Malformed,
        }
    }
}

impl Inconclusive {
    /// Every code there is, for whoever documents them.
    pub const CODES: [&'static str; 5] =
        ["manifest-not-held", "verifier-budget", "revocation-unknown", "upstream-failed", "store-failed"];

    pub fn code(self) -> &'static str {
        match self {
            Self::ManifestNotHeld => "manifest-not-held",
            Self::BudgetSpent => "verifier-budget",
            Self::RevocationUnknown => "revocation-unknown",
            Self::UpstreamFailed => "upstream-failed",
            Self::StoreFailed => "store-failed",
        }
    }
}
