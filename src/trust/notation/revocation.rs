//! Whether certificates were revoked. Nobody is asked here: what a service answered is checked, and kept
//! as long as it says.

mod crl;
mod ocsp;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::certificate::Certificate;
use crate::trust::{KeyError, scheme::SchemeError};

/// A certificate that says where to ask about it, and who answers for it: the one that issued it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationCheck {
    certificate: Certificate,
    issuer: Certificate,
}

/// A certificate as the one that this issuer issued: another with the same name and key answers for
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationId([u8; 32], [u8; 32]);

/// What was answered, checked already: immutable, replaced whole.
#[derive(Debug, Clone, Default)]
pub struct Revocations(BTreeMap<RevocationId, Status>);

/// An answer of a service that may give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    revoked: Option<Revoked>,
    /// The first instant that it is for, and the first that it is no longer for.
    from: Timestamp,
    until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Revoked {
    /// Since when the key is not its holder's alone: what was signed before is true still.
    invalid_since: Option<Timestamp>,
}

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good { until: Timestamp },
    Revoked,
    Unknown,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevocationFlaw {
    #[error("the answer has more than {MAX_OCSP_BYTES} bytes")]
    OcspTooLarge,
    #[error("the list has more than {MAX_CRL_BYTES} bytes")]
    CrlTooLarge,
    #[error("it is not in DER as its specification has it")]
    Encoding,
    #[error("the service answers that it cannot answer")]
    Refused,
    #[error("the service does not know the certificate")]
    UnknownCertificate,
    #[error("it is about another certificate")]
    OtherCertificate,
    #[error("it is not of the certificate's issuer, nor of a service that the issuer named")]
    Signer,
    #[error("the service's own certificate may be revoked too")]
    SignerMayBeRevoked,
    #[error("{0}")]
    Scheme(#[from] SchemeError),
    #[error("{0}")]
    Key(#[from] KeyError),
    #[error("its signature is false")]
    Signature,
    #[error("it is not, or no longer, for this time")]
    Stale,
    #[error("it is about some certificates only, and this is not one of them")]
    Scope,
    #[error("the list of changes does not belong to the list")]
    Delta,
}

/// An answer about one certificate has a few KiB.
pub const MAX_OCSP_BYTES: usize = 64 << 10;
pub const MAX_CRL_BYTES: usize = 4 << 20;

impl RevocationCheck {
    /// None where the certificate names no place to ask: then it cannot be revoked.
    pub(super) fn of(certificate: &Certificate, issuer: &Certificate) -> Option<Self> {
        let places = &certificate.extensions;
        let can_be_asked = !places.ocsp.is_empty() || !places.crl.is_empty();
        can_be_asked.then(|| Self { certificate: certificate.clone(), issuer: issuer.clone() })
    }

    pub fn id(&self) -> RevocationId {
        RevocationId(self.certificate.fingerprint(), self.issuer.fingerprint())
    }

    /// Where its OCSP services are, in the order in which to ask them.
    pub fn ocsp_urls(&self) -> &[String] {
        &self.certificate.extensions.ocsp
    }

    /// Where the lists of what its issuer revoked are.
    pub fn crl_urls(&self) -> &[String] {
        &self.certificate.extensions.crl
    }

    /// The question, in DER.
    pub fn ocsp_request(&self) -> Vec<u8> {
        ocsp::request(&self.certificate, &self.issuer)
    }

    pub fn ocsp_status(&self, answer: &[u8], now: Timestamp) -> Result<Status, RevocationFlaw> {
        ocsp::status(&self.certificate, &self.issuer, answer, now)
    }

    /// Where the changes since a list are, if it says that there are any.
    pub fn delta_urls(&self, list: &[u8]) -> Result<Vec<String>, RevocationFlaw> {
        crl::delta_urls(list)
    }

    pub fn crl_status(&self, list: &[u8], delta: Option<&[u8]>, now: Timestamp) -> Result<Status, RevocationFlaw> {
        crl::status(&self.certificate, &self.issuer, list, delta, now)
    }
}

impl Revocations {
    /// These, and what else was answered since.
    pub fn with(&self, answers: impl IntoIterator<Item = (RevocationId, Status)>, now: Timestamp) -> Self {
        let mut all = self.0.clone();
        all.retain(|_, status| now < status.until);
        all.extend(answers);
        while all.len() > MAX_KEPT {
            all.pop_first();
        }
        Self(all)
    }

    /// What is known of a certificate at `now`. One that was revoked is good for what was there, on an
    /// authentic word, before its key was in other hands.
    pub(super) fn standing(&self, check: &RevocationCheck, authentic: Option<Timestamp>, now: Timestamp) -> Standing {
        let Some(status) = self.0.get(&check.id()).filter(|status| status.is_for(now)) else {
            return Standing::Unknown;
        };
        let good = Standing::Good { until: status.until };
        match (status.revoked, authentic) {
            (None, _) => good,
            (Some(Revoked { invalid_since: Some(since) }), Some(signed)) if signed < since => good,
            (Some(_), _) => Standing::Revoked,
        }
    }
}

impl Status {
    /// Checks the window that an answer gives itself. An answer without an end says that there is a newer
    /// one at any time, and holds for a short while.
    fn new(
        revoked: Option<Revoked>,
        from: Timestamp,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Self, RevocationFlaw> {
        let after = |at: Timestamp, span| at.checked_add(span).unwrap_or(Timestamp::MAX);
        let status = Self { revoked, from, until: until.unwrap_or_else(|| after(from, WITHOUT_END)) };
        if status.is_for(now) { Ok(status) } else { Err(RevocationFlaw::Stale) }
    }

    fn is_for(&self, now: Timestamp) -> bool {
        // Two clocks are never quite the same.
        let soon = now.checked_add(SKEW).unwrap_or(Timestamp::MAX);
        self.from <= soon && now < self.until
    }

    pub fn until(&self) -> Timestamp {
        self.until
    }
}

/// Some hundred bytes each. What is dropped is asked again.
const MAX_KEPT: usize = 16 << 10;
const SKEW: SignedDuration = SignedDuration::from_mins(5);
const WITHOUT_END: SignedDuration = SignedDuration::from_mins(10);
