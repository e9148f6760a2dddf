use jiff::Timestamp;

use super::{attributes::AttributeFlaw, chain::ChainFlaw, timestamp::TimestampFlaw};

/// Why an envelope of the Notary Project does not count. Statements are named by their author's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationRejection {
    #[error("no statement of a notation trust policy is for this repository")]
    Scope,
    #[error("the trust policy's statement '{statement}' skips verification, so no signature counts by it")]
    Skipped { statement: String },
    #[error("{0}")]
    Attribute(#[from] AttributeFlaw),
    #[error("the signature is over a manifest of {signed} bytes, and this one has {actual}")]
    Size { signed: u64, actual: u64 },
    #[error("the signature is over a manifest of another media type; this one is {actual}")]
    MediaType { actual: String },
    #[error("no certificate of the chain is in a {store} store of the trust policy's statement '{statement}'")]
    Store { statement: String, store: &'static str },
    #[error("{0}")]
    Chain(#[from] ChainFlaw),
    #[error("the signature's algorithm is not that of the signer's key")]
    Algorithm,
    #[error("the signature is false: what was signed, or the signature, is not as it was")]
    Signature,
    #[error("the signer's subject is none of the trusted identities of the trust policy's statement '{statement}'")]
    Identity { statement: String },
    #[error("the signature itself expired at {since}")]
    Expired { since: Timestamp },
    #[error("a certificate of the chain expired at {since}, and no timestamp shows that the signature is older")]
    CertificateExpired { since: Timestamp },
    #[error("a certificate of the chain is valid from {from} on")]
    CertificateNotYetValid { from: Timestamp },
    #[error("the signing authority states {at}, when not all certificates of the chain were valid")]
    SigningTime { at: Timestamp },
    #[error("the timestamp: {0}")]
    Timestamp(#[from] TimestampFlaw),
    #[error("certificate {at} of the chain is revoked")]
    Revoked { at: usize },
}

impl NotationRejection {
    /// Every code there is, for whoever documents them.
    pub const CODES: [&'static str; 28] = [
        "notation-scope",
        "notation-skipped",
        "notation-content-type",
        "notation-algorithm",
        "notation-signing-scheme",
        "notation-critical-attribute",
        "notation-attribute",
        "notation-size",
        "notation-media-type",
        "notation-store",
        "notation-chain",
        "notation-certificate-algorithm",
        "notation-certificate-key",
        "notation-basic-constraints",
        "notation-key-usage",
        "notation-extended-key-usage",
        "notation-signature",
        "notation-identity",
        "notation-expired",
        "notation-certificate-expired",
        "notation-certificate-not-yet-valid",
        "notation-signing-time",
        "notation-timestamp-missing",
        "notation-timestamp",
        "notation-timestamp-authority",
        "notation-timestamp-outside",
        "notation-timestamp-revoked",
        "notation-revoked",
    ];

    pub fn code(&self) -> &'static str {
        match self {
            Self::Scope => "notation-scope",
            Self::Skipped { .. } => "notation-skipped",
            Self::Attribute(flaw) => flaw.code(),
            Self::Size { .. } => "notation-size",
            Self::MediaType { .. } => "notation-media-type",
            Self::Store { .. } => "notation-store",
            Self::Chain(flaw) => flaw.code(),
            Self::Algorithm => "notation-algorithm",
            Self::Signature => "notation-signature",
            Self::Identity { .. } => "notation-identity",
            Self::Expired { .. } => "notation-expired",
            Self::CertificateExpired { .. } => "notation-certificate-expired",
            Self::CertificateNotYetValid { .. } => "notation-certificate-not-yet-valid",
            Self::SigningTime { .. } => "notation-signing-time",
            Self::Timestamp(flaw) => flaw.code(),
            Self::Revoked { .. } => "notation-revoked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{KeyError, SchemeError};

    #[test]
    fn every_reason_has_a_code_that_is_listed() {
        let (statement, at) = (|| "release".to_owned(), Timestamp::UNIX_EPOCH);
        let reasons: [NotationRejection; 36] = [
            NotationRejection::Scope,
            NotationRejection::Skipped { statement: statement() },
            AttributeFlaw::ContentType.into(),
            AttributeFlaw::Algorithm.into(),
            AttributeFlaw::SigningScheme.into(),
            AttributeFlaw::Critical.into(),
            AttributeFlaw::NotCritical { name: "a" }.into(),
            AttributeFlaw::Attribute { name: "a" }.into(),
            AttributeFlaw::ExpiryBeforeSigning.into(),
            NotationRejection::Size { signed: 1, actual: 2 },
            NotationRejection::MediaType { actual: "a/b".into() },
            NotationRejection::Store { statement: statement(), store: "ca" },
            ChainFlaw::NoRoot.into(),
            ChainFlaw::RootWithin { at: 1 }.into(),
            ChainFlaw::NotIssued { at: 1 }.into(),
            ChainFlaw::Scheme { at: 1, error: SchemeError::Weak }.into(),
            ChainFlaw::Key { at: 1, error: KeyError::Algorithm }.into(),
            ChainFlaw::SignerKey.into(),
            ChainFlaw::NotAuthority { at: 1 }.into(),
            ChainFlaw::SignerIsAuthority.into(),
            ChainFlaw::PathLength { at: 1 }.into(),
            ChainFlaw::KeyUsage { at: 1, expected: "keyCertSign" }.into(),
            ChainFlaw::ExtendedKeyUsage { purpose: "timestamps" }.into(),
            NotationRejection::Algorithm,
            NotationRejection::Signature,
            NotationRejection::Identity { statement: statement() },
            NotationRejection::Expired { since: at },
            NotationRejection::CertificateExpired { since: at },
            NotationRejection::CertificateNotYetValid { from: at },
            NotationRejection::SigningTime { at },
            TimestampFlaw::Missing.into(),
            TimestampFlaw::Imprint.into(),
            TimestampFlaw::Untrusted.into(),
            TimestampFlaw::Outside { at }.into(),
            TimestampFlaw::Revoked.into(),
            NotationRejection::Revoked { at: 0 },
        ];
        let mut codes: Vec<_> = reasons.iter().map(NotationRejection::code).collect();
        codes.sort_unstable();
        codes.dedup();
        let mut listed = NotationRejection::CODES.to_vec();
        listed.sort_unstable();
        assert_eq!(codes, listed);
    }
}
