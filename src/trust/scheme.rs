//! How certificates, timestamps, OCSP answers and revocation lists name the way in which they are signed.

use der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier};
use spki::{AlgorithmIdentifierOwned, AlgorithmIdentifierRef};

use crate::trust::{
    PublicKey,
    curve::Curve,
    integers::sequence_of_two,
    key::{Algorithm, Hash},
};

/// How a signature was made: by certificates, timestamps, OCSP answers and revocation lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    RsaPkcs1(Hash),
    RsaPss(Hash),
    Ecdsa(Hash),
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    #[error("it is signed with MD5 or SHA-1")]
    Weak,
    #[error("it is signed in a way that is not known")]
    Unknown,
}

impl Scheme {
    pub(super) fn of(algorithm: &AlgorithmIdentifierOwned) -> Result<Self, SchemeError> {
        match algorithm.oid {
            SHA256_WITH_RSA => Ok(Self::RsaPkcs1(Hash::Sha256)),
            SHA384_WITH_RSA => Ok(Self::RsaPkcs1(Hash::Sha384)),
            SHA512_WITH_RSA => Ok(Self::RsaPkcs1(Hash::Sha512)),
            ECDSA_WITH_SHA256 => Ok(Self::Ecdsa(Hash::Sha256)),
            ECDSA_WITH_SHA384 => Ok(Self::Ecdsa(Hash::Sha384)),
            ECDSA_WITH_SHA512 => Ok(Self::Ecdsa(Hash::Sha512)),
            ED25519 => Ok(Self::Ed25519),
            RSASSA_PSS => {
                let parameters = algorithm.parameters.as_ref().map(AnyRef::from);
                parameters.and_then(pss_hash).map(Self::RsaPss).ok_or(SchemeError::Unknown)
            }
            MD5_WITH_RSA | SHA1_WITH_RSA | ECDSA_WITH_SHA1 => Err(SchemeError::Weak),
            _ => Err(SchemeError::Unknown),
        }
    }

    /// In CMS the hash may be named beside a bare `rsaEncryption`.
    pub(super) fn of_signer(
        algorithm: &AlgorithmIdentifierOwned,
        hash: &AlgorithmIdentifierOwned,
    ) -> Result<Self, SchemeError> {
        let hash = hash_of(hash.oid)?;
        let scheme = match algorithm.oid {
            RSA_ENCRYPTION => Self::RsaPkcs1(hash),
            _ => Self::of(algorithm)?,
        };
        match scheme {
            Self::RsaPkcs1(used) | Self::RsaPss(used) | Self::Ecdsa(used) if used != hash => Err(SchemeError::Unknown),
            scheme => Ok(scheme),
        }
    }

    /// The one way in which a key may sign an envelope: by its algorithm and size.
    pub(super) fn of_signing_key(key: &PublicKey) -> Option<Self> {
        match key.kind() {
            Algorithm::Rsa { modulus_bits: 2048 } => Some(Self::RsaPss(Hash::Sha256)),
            Algorithm::Rsa { modulus_bits: 3072 } => Some(Self::RsaPss(Hash::Sha384)),
            Algorithm::Rsa { modulus_bits: 4096 } => Some(Self::RsaPss(Hash::Sha512)),
            Algorithm::Ecdsa(Curve::P256) => Some(Self::Ecdsa(Hash::Sha256)),
            Algorithm::Ecdsa(Curve::P384) => Some(Self::Ecdsa(Hash::Sha384)),
            Algorithm::Ecdsa(Curve::P521) => Some(Self::Ecdsa(Hash::Sha512)),
            Algorithm::Rsa { .. } | Algorithm::Ed25519 => None,
        }
    }

    /// Whether `key` made `signature` over `message`; ECDSA as DER.
    pub(super) fn verifies(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match (self, key.kind()) {
            (Self::RsaPkcs1(hash), Algorithm::Rsa { .. }) | (Self::Ecdsa(hash), Algorithm::Ecdsa(_)) => {
                key.verifies_hash(hash, &hash.of(message), signature)
            }
            (Self::RsaPss(hash), Algorithm::Rsa { .. }) => key.verifies_pss(hash, message, signature),
            (Self::Ed25519, Algorithm::Ed25519) => key.verifies_ed25519(message, signature),
            _ => false,
        }
    }

    /// Like `verifies`, with ECDSA's two numbers side by side, as JOSE and COSE have them.
    pub(super) fn verifies_fixed(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        match key.kind() {
            Algorithm::Ecdsa(curve) if signature.len() == 2 * curve.order().len() => {
                let (r, s) = signature.split_at(curve.order().len());
                self.verifies(key, message, &sequence_of_two(r, s))
            }
            Algorithm::Ecdsa(_) => false,
            Algorithm::Rsa { .. } | Algorithm::Ed25519 => self.verifies(key, message, signature),
        }
    }
}

pub(super) fn hash_of(oid: ObjectIdentifier) -> Result<Hash, SchemeError> {
    match oid {
        SHA256 => Ok(Hash::Sha256),
        SHA384 => Ok(Hash::Sha384),
        SHA512 => Ok(Hash::Sha512),
        MD5 | SHA1 => Err(SchemeError::Weak),
        _ => Err(SchemeError::Unknown),
    }
}

/// RFC 4055, section 3.1. One hash for all, and a salt of its length: what everybody writes.
fn pss_hash(parameters: AnyRef<'_>) -> Option<Hash> {
    let sequence = parameters.sequence(|reader| {
        let hash = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(reader, der::TagNumber::N0)?;
        let mask = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(reader, der::TagNumber::N1)?;
        let salt = ContextSpecific::<u16>::decode_explicit(reader, der::TagNumber::N2)?;
        let trailer = ContextSpecific::<u8>::decode_explicit(reader, der::TagNumber::N3)?;
        Ok((hash, mask, salt, trailer))
    });
    let (hash, mask, salt, trailer) = sequence.ok()?;
    let hash = hash_of(hash?.value.oid).ok()?;
    let mask = mask?.value;
    let inner = mask.parameters.and_then(|any| any.decode_as::<AlgorithmIdentifierRef<'_>>().ok())?;
    let is_usual = mask.oid == MGF1
        && hash_of(inner.oid) == Ok(hash)
        && usize::from(salt?.value) == hash.algorithm().output_len()
        && trailer.is_none_or(|trailer| trailer.value == 1);
    is_usual.then_some(hash)
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const MD5_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA1_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");
const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_WITH_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const MD5: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.2.5");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
