//! What the two forms of an envelope have in common: a payload and attributes that are signed, a chain
//! of certificates and perhaps a timestamp that are not.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};

use super::{
    attributes::{AttributeFlaw, Attributes},
    certificate::{Certificate, CertificateFlaw},
    cose::{self, MAX_ITEMS},
    jws,
    payload::Target,
};
use crate::trust::{Format, JsonFlaw, curve::Curve, key::Algorithm, timestamp::MAX_TOKEN_BYTES};

/// An envelope with its certificates and a timestamp has a few KiB; what is larger is made to be slow.
pub(super) const MAX_ENVELOPE_BYTES: usize = 128 << 10;

/// The chain of one signer, and what a timestamp brings along. Each costs a check, which on P-521 takes 0.4 ms.
pub(super) const MAX_CERTIFICATES: usize = 8;

/// An envelope that is well formed. What it says counts only once it has been verified.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Envelope {
    pub(super) format: Format,
    /// The bytes that the signature is over: protected header and payload, in the form's own way.
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// What is signed, or why it is nothing that we may act on.
    pub(super) statement: Result<Signed, AttributeFlaw>,
    /// The signer's certificate first, a root last; one at least.
    pub(super) chain: Vec<Certificate>,
    pub(super) timestamp: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) attributes: Attributes,
    pub(super) target: Target,
}

/// The parts of an envelope, as its form has them.
pub(super) struct Parts {
    pub(super) signed: Vec<u8>,
    pub(super) signature: Vec<u8>,
    pub(super) attributes: Result<Attributes, AttributeFlaw>,
    pub(super) payload: Vec<u8>,
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) timestamp: Option<Vec<u8>>,
}

/// Why bytes are not an envelope of the Notary Project; never any text of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotationFlaw {
    #[error("an envelope has at most {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge,
    #[error("{part}: {flaw}")]
    Json { part: &'static str, flaw: JsonFlaw },
    #[error("{part} lacks {name:?}, or it is of another kind")]
    Member { part: &'static str, name: &'static str },
    #[error("only payload, protected, header and signature may stand in the envelope: flattened JSON is expected")]
    UnknownMember,
    #[error("{name:?} is not base64 in its one strict form")]
    Base64 { name: &'static str },
    #[error("not a tagged COSE_Sign1 message")]
    Cose,
    #[error("a COSE message and its protected header have at most {MAX_ITEMS} values each")]
    TooManyItems,
    #[error("the signature is empty")]
    NoSignature,
    #[error("1 to {MAX_CERTIFICATES} certificates are expected")]
    Certificates,
    #[error(transparent)]
    Certificate(#[from] CertificateFlaw),
    #[error("a timestamp has at most {MAX_TOKEN_BYTES} bytes")]
    TimestampTooLarge,
    #[error("the payload's targetArtifact lacks {name:?}, or it is of another kind")]
    Target { name: &'static str },
}

impl Envelope {
    pub(in crate::trust) fn jws(bytes: &[u8]) -> Result<Self, NotationFlaw> {
        Self::of(Format::NotationJws, bytes, jws::parse)
    }

    pub(in crate::trust) fn cose(bytes: &[u8]) -> Result<Self, NotationFlaw> {
        Self::of(Format::NotationCose, bytes, cose::parse)
    }

    fn of(
        format: Format,
        bytes: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<Parts, NotationFlaw>,
    ) -> Result<Self, NotationFlaw> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(NotationFlaw::TooLarge);
        }
        let parts = parse(bytes)?;
        if parts.signature.is_empty() {
            return Err(NotationFlaw::NoSignature);
        }
        if parts.chain.is_empty() || parts.chain.len() > MAX_CERTIFICATES {
            return Err(NotationFlaw::Certificates);
        }
        if parts.timestamp.as_ref().is_some_and(|token| token.len() > MAX_TOKEN_BYTES) {
            return Err(NotationFlaw::TimestampTooLarge);
        }
        let statement = match parts.attributes {
            Ok(attributes) => Ok(Signed { attributes, target: Target::parse(&parts.payload)? }),
            Err(flaw) => Err(flaw),
        };
        let chain = parts.chain.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>()?;
        let Parts { signed, signature, timestamp, .. } = parts;
        Ok(Self { format, signed, signature, statement, chain, timestamp })
    }

    pub(in crate::trust) fn format(&self) -> Format {
        self.format
    }

    /// Feeds what is the same in every variant of this envelope that verifies. Certificates and
    /// timestamp are not signed, but belong to it: with others it may be worthless, and must not stand
    /// for the true one.
    pub(in crate::trust) fn normalise_into(&self, hasher: &mut Context) {
        hasher.update(self.format.as_str().as_bytes());
        let mut part = |bytes: &[u8]| hasher.update(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref());
        part(&self.signed);
        part(&self.normal_signature());
        for certificate in &self.chain {
            part(certificate.der());
        }
        if let Some(token) = &self.timestamp {
            part(token);
        }
    }

    /// ECDSA's two values of `s` are one signature.
    fn normal_signature(&self) -> Vec<u8> {
        let low = |curve: Curve| {
            let (r, s) = self.signature.split_at_checked(curve.order().len())?;
            Some([curve.scalar(r)?, curve.low(curve.scalar(s)?)].concat())
        };
        let curve = match self.chain.first().and_then(|leaf| leaf.key().ok()).map(|key| key.kind()) {
            Some(Algorithm::Ecdsa(curve)) => Some(curve),
            Some(Algorithm::Rsa { .. } | Algorithm::Ed25519) | None => None,
        };
        curve.and_then(low).unwrap_or_else(|| self.signature.clone())
    }

    pub(in crate::trust) fn thumbprints(&self) -> Vec<[u8; 32]> {
        self.chain.iter().map(Certificate::fingerprint).collect()
    }

    /// What the signer says of the image, and the signature covers.
    pub(in crate::trust) fn labels(&self) -> BTreeMap<String, String> {
        self.statement.as_ref().map(|signed| signed.target.labels.clone()).unwrap_or_default()
    }

    /// Stands for all that was signed: a signature made anew, with another time, is another one.
    pub(in crate::trust) fn signed_hash(&self) -> [u8; 32] {
        aws_lc_rs::digest::digest(&SHA256, &self.signed).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}
