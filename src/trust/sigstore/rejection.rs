use jiff::Timestamp;

use super::identity::Claim;

/// Why a signature with sigstore's evidence does not count; never any text of the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreRejection {
    #[error("the signature is over a blob that is neither the image's manifest nor its digest")]
    Blob,
    #[error("the signed statement speaks of no image")]
    NoSubject,
    #[error("the signed statement is an attestation, and not that somebody signed the image")]
    PredicateType,
    #[error("the signature is not by the key that it came with, or not over what it came with")]
    Signature,
    #[error("no trusted root is set up, which keyless signatures need")]
    NoRoot,
    #[error(
        "the certificate names no identity that a sigstore vouches for; such a signature counts by its key, if that \
         is trusted"
    )]
    NoIdentity,
    #[error("no certificate authority of a trusted root issued the certificate")]
    Chain,
    #[error("the certificate was issued outside the validity of its authority")]
    AuthorityTime,
    #[error("the certificate is not one for signing code")]
    CertificateUsage,
    #[error("the signature was made at {at}, when the certificate was not valid")]
    CertificateTime { at: Timestamp },
    #[error("the certificate lacks the timestamp of a certificate log, which the trusted root demands")]
    SctMissing,
    #[error("no certificate log of the trusted root has logged the certificate")]
    SctInvalid,
    #[error("the signature comes with neither a log's time nor a timestamp, so that its age is unknown")]
    TimeMissing,
    #[error("a timestamp by an authority of the trusted root is demanded, and there is none")]
    TimestampMissing,
    #[error("the timestamp is by no timestamp authority of the trusted root, and no log has a time")]
    TimestampAuthorityUnknown,
    #[error("a timestamp is not RFC 3161 in DER, or was not granted")]
    TimestampMalformed,
    #[error("a timestamp is of another signature")]
    TimestampMismatch,
    #[error("a timestamp was changed: it is not signed by the authority that it names")]
    TimestampInvalid,
    #[error("a timestamp is of {at}, when its authority was not valid")]
    TimestampTime { at: Timestamp },
    #[error("{found} of {needed} transparency logs that are demanded have the signature")]
    LogEntryMissing { needed: usize, found: usize },
    #[error("no log of the trusted root has the signature; the logs that are named are unknown")]
    LogUnknown,
    #[error("a log entry is about another {part} than the signature's")]
    LogEntryMismatch { part: EntryPart },
    #[error("a log entry lacks the proof that it is in the log, which is demanded")]
    InclusionProofMissing,
    #[error("a log entry's proof does not lead to what the log has signed")]
    InclusionProof,
    #[error("a log's checkpoint is not signed by the log, or contradicts the proof")]
    Checkpoint,
    #[error("a log's promise to include the entry was changed: the log has not signed it")]
    SignedEntryTimestamp,
    #[error("a log entry is of {at}, when the log's key was not valid or which is yet to come")]
    LogTime { at: Timestamp },
    #[error("the certificate's issuer of identities is not the one that is believed")]
    Issuer,
    #[error("the certificate's subject is not the one that is believed")]
    Identity,
    #[error("the certificate's {claim} is missing or not as demanded")]
    Claim { claim: Claim },
}

/// What a log entry and the signature that it came with must agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryPart {
    Payload,
    Signature,
    Key,
    Format,
}

impl SigstoreRejection {
    /// Every code there is, for whoever documents them.
    pub const CODES: [&'static str; 30] = [
        "blob-mismatch",
        "no-subject",
        "predicate-type",
        "signature-mismatch",
        "no-trusted-root",
        "identity-missing",
        "certificate-chain",
        "certificate-authority-time",
        "certificate-usage",
        "certificate-time",
        "sct-missing",
        "sct-invalid",
        "time-missing",
        "timestamp-missing",
        "timestamp-authority-unknown",
        "timestamp-malformed",
        "timestamp-mismatch",
        "timestamp-invalid",
        "timestamp-time",
        "log-entry-missing",
        "log-unknown",
        "log-entry-mismatch",
        "inclusion-proof-missing",
        "inclusion-proof-invalid",
        "checkpoint-invalid",
        "signed-entry-timestamp-invalid",
        "log-time",
        "issuer-mismatch",
        "identity-mismatch",
        "claim-mismatch",
    ];

    pub fn code(&self) -> &'static str {
        match self {
            Self::Blob => "blob-mismatch",
            Self::NoSubject => "no-subject",
            Self::PredicateType => "predicate-type",
            Self::Signature => "signature-mismatch",
            Self::NoRoot => "no-trusted-root",
            Self::NoIdentity => "identity-missing",
            Self::Chain => "certificate-chain",
            Self::AuthorityTime => "certificate-authority-time",
            Self::CertificateUsage => "certificate-usage",
            Self::CertificateTime { .. } => "certificate-time",
            Self::SctMissing => "sct-missing",
            Self::SctInvalid => "sct-invalid",
            Self::TimeMissing => "time-missing",
            Self::TimestampMissing => "timestamp-missing",
            Self::TimestampAuthorityUnknown => "timestamp-authority-unknown",
            Self::TimestampMalformed => "timestamp-malformed",
            Self::TimestampMismatch => "timestamp-mismatch",
            Self::TimestampInvalid => "timestamp-invalid",
            Self::TimestampTime { .. } => "timestamp-time",
            Self::LogEntryMissing { .. } => "log-entry-missing",
            Self::LogUnknown => "log-unknown",
            Self::LogEntryMismatch { .. } => "log-entry-mismatch",
            Self::InclusionProofMissing => "inclusion-proof-missing",
            Self::InclusionProof => "inclusion-proof-invalid",
            Self::Checkpoint => "checkpoint-invalid",
            Self::SignedEntryTimestamp => "signed-entry-timestamp-invalid",
            Self::LogTime { .. } => "log-time",
            Self::Issuer => "issuer-mismatch",
            Self::Identity => "identity-mismatch",
            Self::Claim { .. } => "claim-mismatch",
        }
    }
}

impl std::fmt::Display for EntryPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Payload => "payload",
            Self::Signature => "signature",
            Self::Key => "key",
            Self::Format => "format",
        })
    }
}
