//! The timestamps of signatures (RFC 3161), as the Notary Project believes them.

use std::sync::Arc;

use der::Encode;
use jiff::Timestamp;

use super::{
    certificate::{Certificate, CertificateFlaw},
    chain::{self, ChainFlaw, Purpose},
    envelope::MAX_CERTIFICATES,
};
use crate::trust::{
    PublicKey,
    timestamp::{TimestampToken, TokenFlaw},
};

/// What a token that is true and of a trusted authority says.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// The bounds of the authority's own accuracy.
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
    pub(super) chain: Vec<Certificate>,
}

/// What is wrong with a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampFlaw {
    #[error("the signature has no timestamp, and the trust policy demands one")]
    Missing,
    #[error("{0}")]
    Token(#[from] TokenFlaw),
    #[error("the certificate that it is signed with is not in it")]
    NoCertificate,
    #[error("{0}")]
    Certificate(#[from] CertificateFlaw),
    #[error("it brings more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    #[error("it is for another signature")]
    Imprint,
    #[error("no root of the statement's tsa stores vouches for it")]
    Untrusted,
    #[error("its authority's chain: {0}")]
    Chain(#[from] ChainFlaw),
    #[error("its authority's certificates were not valid at the time that it states")]
    AuthorityNotValid,
    #[error("the signer's certificates were not all valid at {at}, when the signature was stamped")]
    Outside { at: Timestamp },
    #[error("a certificate of its authority is revoked")]
    Revoked,
}

/// Reads a token for `signature` and finds the way from its signer to one of `roots`.
pub(super) fn verify(token: &[u8], signature: &[u8], roots: &[Arc<Certificate>]) -> Result<Stamp, TimestampFlaw> {
    let token = TimestampToken::parse(token)?;
    if !token.is_over(signature) {
        return Err(TimestampFlaw::Imprint);
    }
    let certificates = certificates(&token)?;
    let chain = chain_to(roots, signer(&token, &certificates)?, certificates)?;
    chain::check(&chain, Purpose::Timestamping, chain.len() - 1)?;
    if !chain.iter().all(|certificate| certificate.is_valid_at(token.time())) {
        return Err(TimestampFlaw::AuthorityNotValid);
    }
    let (earliest, latest) = token.bounds();
    Ok(Stamp { earliest, latest, chain })
}

impl Stamp {
    /// Whether the signature was there while each of these certificates was valid.
    pub(super) fn lies_within(&self, chain: &[Certificate]) -> bool {
        chain.iter().all(|certificate| certificate.not_before <= self.earliest && self.latest <= certificate.not_after)
    }
}

fn certificates(token: &TimestampToken) -> Result<Vec<Certificate>, TimestampFlaw> {
    if token.certificates().len() > MAX_CERTIFICATES {
        return Err(TimestampFlaw::TooManyCertificates);
    }
    let certificate = |certificate: &x509_cert::Certificate| {
        // Read by strict DER, written back it is what it was.
        let der = certificate.to_der().map_err(|_| TokenFlaw::Encoding)?;
        Ok(Certificate::from_der(&der)?)
    };
    token.certificates().iter().map(certificate).collect()
}

/// The certificate that signed, among those that came along. Another of its name may lie beside it.
fn signer(token: &TimestampToken, certificates: &[Certificate]) -> Result<Certificate, TimestampFlaw> {
    for certificate in certificates.iter().filter(|certificate| token.names(certificate.parsed())) {
        let key = certificate.key().map_err(|error| ChainFlaw::Key { at: 0, error })?;
        match token.check_signer(certificate.der(), &key) {
            Ok(()) => return Ok(certificate.clone()),
            Err(TokenFlaw::OtherCertificate) => {}
            Err(flaw) => return Err(flaw.into()),
        }
    }
    Err(TimestampFlaw::NoCertificate)
}

/// Follows issuers to a root of ours, through certificates that the token brought.
fn chain_to(
    roots: &[Arc<Certificate>],
    signer: Certificate,
    mut others: Vec<Certificate>,
) -> Result<Vec<Certificate>, TimestampFlaw> {
    let mut chain = vec![signer];
    let mut checks_left = MAX_CHECKS;
    let mut issued = |by: &Certificate, certificate: &Certificate| {
        if by.subject() != certificate.issuer() || checks_left == 0 {
            return false;
        }
        checks_left -= 1;
        let signed = |key: PublicKey| certificate.is_signed_by(&key).unwrap_or(false);
        by.key().is_ok_and(signed)
    };
    loop {
        let last = chain.last().expect("a chain begins with its signer");
        if roots.iter().any(|root| **root == *last) {
            return Ok(chain);
        }
        if let Some(root) = roots.iter().find(|root| issued(root, last)) {
            chain.push(Certificate::clone(root));
            return Ok(chain);
        }
        let next = others.iter().position(|other| other != last && issued(other, last));
        chain.push(others.swap_remove(next.ok_or(TimestampFlaw::Untrusted)?));
    }
}

impl TimestampFlaw {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing => "notation-timestamp-missing",
            Self::Untrusted | Self::Chain(_) | Self::AuthorityNotValid => "notation-timestamp-authority",
            Self::Outside { .. } => "notation-timestamp-outside",
            Self::Revoked => "notation-timestamp-revoked",
            Self::Token(_) | Self::NoCertificate | Self::Certificate(_) | Self::TooManyCertificates | Self::Imprint => {
                "notation-timestamp"
            }
        }
    }
}

/// Signatures that may be checked on the way to a root: certificates of one name could make it any number.
const MAX_CHECKS: usize = 8;
