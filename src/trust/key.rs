#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::{
    digest::Digest as Hashed,
    signature::{self, ParsedPublicKey, VerificationAlgorithm},
};
use der::{Decode, Encode, pem, pem::LineEnding};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha512;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::{SignerId, curve::Curve, integers::two_integers};

/// A file of one public key is smaller; past it the file is something else.
pub const MAX_PEM_BYTES: usize = 16 << 10;

/// A key that signatures can be checked with: its algorithm and size are among those we accept.
#[derive(Clone)]
pub struct PublicKey(Arc<Parts>);

struct Parts {
    id: SignerId,
    der: Vec<u8>,
    algorithm: Algorithm,
    material: Material,
}

/// What decides which signatures a key can have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Ecdsa(Curve),
    Rsa { modulus_bits: usize },
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

enum Material {
    /// Parsed for each hash that is asked for, in the order of `Hash`: of most only one is.
    Hashing {
        algorithms: [&'static dyn VerificationAlgorithm; 3],
        parsed: [OnceLock<ParsedPublicKey>; 3],
    },
    Ed25519 {
        pure: ParsedPublicKey,
        prehashed: VerifyingKey,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a public key file has at most {MAX_PEM_BYTES} bytes")]
    TooLarge,
    #[error("this is a private key; give its public key, and treat the private one as disclosed")]
    PrivateKey,
    #[error("this is a certificate; only public keys (PUBLIC KEY) are supported in this release")]
    Certificate,
    #[error("only PEM of the kind PUBLIC KEY is accepted; `openssl pkey -pubin -pubout` writes it")]
    OtherPem,
    #[error("not PEM: one block from -----BEGIN PUBLIC KEY----- to -----END PUBLIC KEY----- is expected")]
    NotPem,
    #[error("one public key and nothing beside it is expected")]
    NotAlone,
    #[error("the PEM does not hold a public key in its canonical encoding")]
    Encoding,
    #[error("keys of this algorithm are not supported; ECDSA, RSA and Ed25519 are")]
    Algorithm,
    #[error("the curve is not P-256, P-384 or P-521")]
    Curve,
    #[error("an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, not {bits}")]
    RsaSize { bits: usize },
    #[error("the RSA public exponent is not an odd number from 3 to 2^32")]
    RsaExponent,
    #[error("the key is not a valid one of its algorithm")]
    Invalid,
}

impl PublicKey {
    /// Reads one `PUBLIC KEY` block, as `openssl pkey -pubout` and `cosign generate-key-pair` write it.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_PEM_BYTES {
            return Err(KeyError::TooLarge);
        }
        // Before all else: whoever puts a private key here must be told so, whatever stands beside it.
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::PrivateKey);
        }
        let text = text.trim();
        match text.matches("-----BEGIN ").count() {
            0 => return Err(KeyError::NotPem),
            1 if text.starts_with("-----BEGIN ") && text.ends_with("-----") => {}
            _ => return Err(KeyError::NotAlone),
        }
        let (label, der) = pem::decode_vec(text.as_bytes()).map_err(|_| KeyError::NotPem)?;
        match label {
            "PUBLIC KEY" => Self::from_der(der),
            "CERTIFICATE" | "TRUSTED CERTIFICATE" => Err(KeyError::Certificate),
            _ => Err(KeyError::OtherPem),
        }
    }

    pub(super) fn from_der(der: Vec<u8>) -> Result<Self, KeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(&der).map_err(|_| KeyError::Encoding)?;
        // One key in two encodings would have two ids, and revoking one would leave the other.
        if spki.to_der().map_err(|_| KeyError::Encoding)? != der {
            return Err(KeyError::Encoding);
        }
        let bits = spki.subject_public_key.as_bytes().ok_or(KeyError::Encoding)?;
        let parameters = spki.algorithm.parameters;
        let (algorithm, material) = match spki.algorithm.oid {
            EC_PUBLIC_KEY => {
                let curve = parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
                let curve = curve.and_then(Curve::of).ok_or(KeyError::Curve)?;
                // Uncompressed only, for the same reason.
                if bits.first() != Some(&0x04) {
                    return Err(KeyError::Encoding);
                }
                (Algorithm::Ecdsa(curve), Material::hashing(ecdsa(curve), own_hash(curve), bits)?)
            }
            RSA_ENCRYPTION => {
                if !parameters.is_some_and(|any| any.is_null()) {
                    return Err(KeyError::Encoding);
                }
                let modulus_bits = rsa_modulus_bits(bits)?;
                (Algorithm::Rsa { modulus_bits }, Material::hashing(RSA, Hash::Sha256, bits)?)
            }
            ED25519 => {
                let bytes = bits.try_into().map_err(|_| KeyError::Encoding)?;
                if parameters.is_some() {
                    return Err(KeyError::Encoding);
                }
                let prehashed = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Invalid)?;
                // Under a key of small order one signature verifies for many messages. Decoding takes
                // more than one spelling of some points; only the canonical one is a key's own.
                if prehashed.is_weak() || prehashed.to_edwards().compress().as_bytes() != bytes {
                    return Err(KeyError::Invalid);
                }
                let pure = ParsedPublicKey::new(&signature::ED25519, bits).map_err(|_| KeyError::Invalid)?;
                (Algorithm::Ed25519, Material::Ed25519 { pure, prehashed })
            }
            _ => return Err(KeyError::Algorithm),
        };
        Ok(Self(Arc::new(Parts { id: SignerId::of(&der), der, algorithm, material })))
    }

    pub fn id(&self) -> SignerId {
        self.0.id
    }

    pub fn to_pem(&self) -> String {
        pem::encode_string("PUBLIC KEY", LineEnding::LF, &self.0.der).expect("an accepted key has a PEM form")
    }

    pub fn algorithm(&self) -> &'static str {
        match self.0.algorithm {
            Algorithm::Ecdsa(Curve::P256) => "ecdsa-p256",
            Algorithm::Ecdsa(Curve::P384) => "ecdsa-p384",
            Algorithm::Ecdsa(Curve::P521) => "ecdsa-p521",
            Algorithm::Rsa { modulus_bits: 2048 } => "rsa-2048",
            Algorithm::Rsa { modulus_bits: 3072 } => "rsa-3072",
            Algorithm::Rsa { modulus_bits: 4096 } => "rsa-4096",
            Algorithm::Rsa { .. } => "rsa",
            Algorithm::Ed25519 => "ed25519",
        }
    }

    pub(super) fn kind(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Whether this ECDSA or RSA key made `signature` over what has this hash.
    pub(super) fn verifies_hash(&self, hash: Hash, hashed: &Hashed, signature: &[u8]) -> bool {
        match &self.0.material {
            Material::Hashing { .. } => {
                self.parsed(hash).is_some_and(|key| key.verify_digest_sig(hashed, signature).is_ok())
            }
            Material::Ed25519 { .. } => false,
        }
    }

    fn parsed(&self, hash: Hash) -> Option<&ParsedPublicKey> {
        let Material::Hashing { algorithms, parsed } = &self.0.material else { return None };
        if let Some(key) = parsed[hash as usize].get() {
            return Some(key);
        }
        let spki = SubjectPublicKeyInfoRef::from_der(&self.0.der).ok()?;
        let key = ParsedPublicKey::new(algorithms[hash as usize], spki.subject_public_key.as_bytes()?).ok()?;
        Some(parsed[hash as usize].get_or_init(|| key))
    }

    /// RSA with PSS, the hash's length of salt.
    pub(super) fn verifies_pss(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let spki = SubjectPublicKeyInfoRef::from_der(&self.0.der).ok();
        match (self.0.algorithm, spki.and_then(|spki| spki.subject_public_key.as_bytes())) {
            (Algorithm::Rsa { .. }, Some(key)) => {
                signature::UnparsedPublicKey::new(RSA_PSS[hash as usize], key).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }

    pub(super) fn verifies_ed25519(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0.material {
            Material::Ed25519 { pure, .. } => pure.verify_sig(message, signature).is_ok(),
            Material::Hashing { .. } => false,
        }
    }

    /// Ed25519ph with an empty context; `hasher` has been fed the message.
    pub(super) fn verifies_ed25519ph(&self, hasher: Sha512, signature: &[u8]) -> bool {
        match (&self.0.material, ed25519_dalek::Signature::from_slice(signature)) {
            (Material::Ed25519 { prehashed, .. }, Ok(signature)) => {
                prehashed.verify_prehashed_strict(hasher, None, &signature).is_ok()
            }
            (Material::Hashing { .. }, _) | (_, Err(_)) => false,
        }
    }
}

impl Hash {
    pub(super) fn algorithm(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Sha256 => &aws_lc_rs::digest::SHA256,
            Self::Sha384 => &aws_lc_rs::digest::SHA384,
            Self::Sha512 => &aws_lc_rs::digest::SHA512,
        }
    }

    pub(super) fn of(self, message: &[u8]) -> Hashed {
        aws_lc_rs::digest::digest(self.algorithm(), message)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for PublicKey {}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_pem())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pem = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_pem(&pem).map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm(), self.0.id)
    }
}

impl Material {
    /// Of a key that is one: parsed by the first algorithm, it is one for all.
    fn hashing(algorithms: [&'static dyn VerificationAlgorithm; 3], first: Hash, key: &[u8]) -> Result<Self, KeyError> {
        let parsed: [OnceLock<ParsedPublicKey>; 3] = Default::default();
        let key = ParsedPublicKey::new(algorithms[first as usize], key).map_err(|_| KeyError::Invalid)?;
        parsed[first as usize].get_or_init(|| key);
        Ok(Self::Hashing { algorithms, parsed })
    }
}

impl Curve {
    fn of(oid: ObjectIdentifier) -> Option<Self> {
        match oid {
            PRIME256V1 => Some(Self::P256),
            SECP384R1 => Some(Self::P384),
            SECP521R1 => Some(Self::P521),
            _ => None,
        }
    }
}

/// The hash that most sign over with a key on it.
fn own_hash(curve: Curve) -> Hash {
    match curve {
        Curve::P256 => Hash::Sha256,
        Curve::P384 => Hash::Sha384,
        Curve::P521 => Hash::Sha512,
    }
}

fn ecdsa(curve: Curve) -> [&'static dyn VerificationAlgorithm; 3] {
    match curve {
        Curve::P256 => {
            [&signature::ECDSA_P256_SHA256_ASN1, &signature::ECDSA_P256_SHA384_ASN1, &signature::ECDSA_P256_SHA512_ASN1]
        }
        Curve::P384 => {
            [&signature::ECDSA_P384_SHA256_ASN1, &signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA512_ASN1]
        }
        Curve::P521 => {
            [&signature::ECDSA_P521_SHA256_ASN1, &signature::ECDSA_P521_SHA384_ASN1, &signature::ECDSA_P521_SHA512_ASN1]
        }
    }
}

fn rsa_modulus_bits(key: &[u8]) -> Result<usize, KeyError> {
    let (modulus, exponent) = two_integers(key).ok_or(KeyError::Encoding)?;
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    // A long exponent makes every verification slow.
    match exponent {
        [] | [0 | 1] => Err(KeyError::RsaExponent),
        [.., last] if last % 2 == 0 => Err(KeyError::RsaExponent),
        bytes if bytes.len() > 4 => Err(KeyError::RsaExponent),
        _ => Ok(bits),
    }
}

const MIN_RSA_BITS: usize = 2048;
const MAX_RSA_BITS: usize = 4096;

const RSA: [&dyn VerificationAlgorithm; 3] = [
    &signature::RSA_PKCS1_2048_8192_SHA256,
    &signature::RSA_PKCS1_2048_8192_SHA384,
    &signature::RSA_PKCS1_2048_8192_SHA512,
];

const RSA_PSS: [&dyn VerificationAlgorithm; 3] =
    [&signature::RSA_PSS_2048_8192_SHA256, &signature::RSA_PSS_2048_8192_SHA384, &signature::RSA_PSS_2048_8192_SHA512];

pub(super) const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const PRIME256V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(super) const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
pub(super) const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(super) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
