use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, digest};
use der::{
    Encode,
    asn1::{AnyRef, BitStringRef},
};
use jiff::Timestamp;
use spki::{AlgorithmIdentifierRef, ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::{
    certificate::Fingerprint,
    packet::{OpenPgpFlaw, Reader},
};
use crate::trust::{
    SignerId,
    integers::sequence_of_two,
    key::{EC_PUBLIC_KEY, ED25519, KeyError, PRIME256V1, PublicKey, RSA_ENCRYPTION, SECP384R1, SECP521R1},
};

/// RFC 9580, section 5.5.2: a public key or subkey of version 4.
#[derive(Debug, Clone)]
pub(super) struct Key {
    body: Vec<u8>,
    pub(super) fingerprint: Fingerprint,
    pub(super) created: Timestamp,
    /// An error where the key cannot sign, or is too weak to.
    pub(super) public: Result<PublicKey, KeyError>,
}

impl Key {
    pub(super) fn parse(body: &[u8]) -> Result<Self, OpenPgpFlaw> {
        let mut reader = Reader(body);
        let ([VERSION], created) = (reader.array()?, reader.u32()?) else { return Err(OpenPgpFlaw::Version) };
        // What is hashed of a key says its length in two octets.
        if body.len() > usize::from(u16::MAX) {
            return Err(OpenPgpFlaw::Packet);
        }
        let [algorithm] = reader.array()?;
        Ok(Self {
            fingerprint: fingerprint(body),
            created: seconds(created),
            public: public_key(algorithm, reader)?,
            body: body.to_vec(),
        })
    }

    pub(super) fn id(&self) -> SignerId {
        SignerId::of(&[&prefix(&self.body)[..], &self.body].concat())
    }

    /// Section 5.2.4: a key, as a signature that speaks about it hashes it.
    pub(super) fn hash_into(&self, hasher: &mut Context) {
        hasher.update(&prefix(&self.body));
        hasher.update(&self.body);
    }
}

fn prefix(body: &[u8]) -> [u8; 3] {
    let [.., high, low] = body.len().to_be_bytes();
    [0x99, high, low]
}

fn fingerprint(body: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 20];
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[&prefix(body)[..], body].concat());
    fingerprint.copy_from_slice(hash.as_ref());
    Fingerprint(fingerprint)
}

fn public_key(algorithm: u8, mut reader: Reader<'_>) -> Result<Result<PublicKey, KeyError>, OpenPgpFlaw> {
    let reader = &mut reader;
    let der = match algorithm {
        RSA | RSA_SIGN_ONLY => {
            let (modulus, exponent) = (reader.mpi()?, reader.mpi()?);
            spki(RSA_ENCRYPTION, Some(AnyRef::NULL), &sequence_of_two(modulus, exponent))
        }
        ECDSA => {
            let curve = match curve(reader)? {
                P256 => PRIME256V1,
                P384 => SECP384R1,
                P521 => SECP521R1,
                _ => return Ok(Err(KeyError::Curve)),
            };
            spki(EC_PUBLIC_KEY, Some(AnyRef::from(&curve)), reader.mpi()?)
        }
        EDDSA_LEGACY => match (curve(reader)?, reader.mpi()?) {
            (ED25519_LEGACY, [0x40, point @ ..]) => spki(ED25519, None, point),
            (ED25519_LEGACY, _) => return Ok(Err(KeyError::Encoding)),
            _ => return Ok(Err(KeyError::Curve)),
        },
        ED25519_NATIVE => spki(ED25519, None, &reader.array::<32>()?),
        _ => return Ok(Err(KeyError::Algorithm)),
    };
    reader.end()?;
    Ok(PublicKey::from_der(der))
}

/// The object identifier of a curve, as its length and what DER has after tag and length.
fn curve<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], OpenPgpFlaw> {
    let [length] = reader.array()?;
    reader.take(usize::from(length))
}

fn spki(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, key: &[u8]) -> Vec<u8> {
    let algorithm = AlgorithmIdentifierRef { oid, parameters };
    let subject_public_key = BitStringRef::from_bytes(key).expect("a packet is shorter than DER can say");
    SubjectPublicKeyInfoRef { algorithm, subject_public_key }.to_der().expect("a packet is shorter than DER can say")
}

pub(super) fn seconds(number: u32) -> Timestamp {
    Timestamp::from_second(number.into()).expect("32 bits of seconds are a time")
}

pub(super) const VERSION: u8 = 4;

pub(super) const RSA: u8 = 1;
pub(super) const RSA_SIGN_ONLY: u8 = 3;
pub(super) const ECDSA: u8 = 19;
pub(super) const EDDSA_LEGACY: u8 = 22;
pub(super) const ED25519_NATIVE: u8 = 27;

/// Section 9.2: the curves' object identifiers.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
const ED25519_LEGACY: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];
