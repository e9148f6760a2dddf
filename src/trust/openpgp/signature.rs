use std::time::Duration;

use aws_lc_rs::digest::{Algorithm as HashFunction, Context, SHA256, SHA384, SHA512};
use jiff::Timestamp;

use super::{
    certificate::Fingerprint,
    key::{ECDSA, ED25519_NATIVE, EDDSA_LEGACY, RSA, RSA_SIGN_ONLY, VERSION, seconds},
    packet::{OpenPgpFlaw, Reader, length},
};
use crate::trust::{
    envelope::RawSignature,
    integers::sequence_of_two,
    key::{Algorithm, Hash, PublicKey},
};

/// RFC 9580, section 5.2.3: a signature of version 4, and what of its subpackets means something here.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) kind: u8,
    pub(super) algorithm: u8,
    pub(super) hash_id: u8,
    pub(super) created: Timestamp,
    /// The first instant at which it no longer counts.
    pub(super) expires: Option<Timestamp>,
    pub(super) issuer: Issuer,
    /// How long after its creation the key expires that this signature is about.
    pub(super) key_life: Option<Duration>,
    pub(super) key_flags: Option<u8>,
    /// Who else may revoke the key that this signature is about.
    pub(super) revokers: Vec<Fingerprint>,
    pub(super) embedded: Option<Box<Signature>>,
    /// It says of something that whoever does not understand it has not understood the signature.
    pub(super) is_critical: bool,
    /// What of the packet the signature covers itself.
    hashed: Vec<u8>,
    value: Value,
}

/// Who says to have signed: a hint where to look, and no more than that.
#[derive(Debug, Clone, Default)]
pub(super) struct Issuer {
    fingerprint: Option<Fingerprint>,
    key_id: Option<[u8; 8]>,
}

#[derive(Debug, Clone)]
enum Value {
    Rsa(Vec<u8>),
    /// As DER.
    Ecdsa(Vec<u8>),
    Ed25519([u8; 64]),
    /// By an algorithm that no key has that we accept.
    Other,
}

impl Signature {
    pub(super) fn parse(body: &[u8]) -> Result<Self, OpenPgpFlaw> {
        Self::parse_within(body, 1)
    }

    fn parse_within(body: &[u8], embeddable: usize) -> Result<Self, OpenPgpFlaw> {
        let mut reader = Reader(body);
        let [version] = reader.array()?;
        if version != VERSION {
            return Err(OpenPgpFlaw::Version);
        }
        let [kind, algorithm, hash_id] = reader.array()?;
        let length = reader.u16()?;
        let hashed = reader.take(length.into())?;
        let covered = &body[..body.len() - reader.0.len()];
        let length = reader.u16()?;
        let unhashed = reader.take(length.into())?;
        // The beginning of the hash, which proves nothing.
        reader.array::<2>()?;
        let mut read = Subpackets { embeddable, ..Subpackets::default() };
        read.hashed(hashed)?;
        read.unhashed(unhashed)?;
        let created = read.created.ok_or(OpenPgpFlaw::Time)?;
        Ok(Self {
            kind,
            algorithm,
            hash_id,
            created,
            expires: read.life.map(|life| created + life),
            issuer: read.issuer,
            key_life: read.key_life,
            key_flags: read.key_flags,
            revokers: read.revokers,
            embedded: read.embedded,
            is_critical: read.is_critical,
            hashed: covered.to_vec(),
            value: Value::parse(algorithm, reader)?,
        })
    }

    /// Whether the hash is one of those that nobody can make two messages for.
    pub(super) fn is_strongly_hashed(&self) -> bool {
        self.hash().is_some()
    }

    /// Whether `key` made this signature, by a strong hash, over what `subject` feeds.
    pub(super) fn verifies(&self, key: &PublicKey, subject: impl FnOnce(&mut Context)) -> bool {
        let Some((hash, function)) = self.hash() else { return false };
        let mut context = Context::new(function);
        subject(&mut context);
        context.update(&self.hashed);
        // Section 5.2.4: how much of the signature has been hashed.
        context.update(&[VERSION, 0xff]);
        context.update(&u32::try_from(self.hashed.len()).expect("two octets say its length").to_be_bytes());
        let hashed = context.finish();
        match (&self.value, key.kind()) {
            (Value::Rsa(number), Algorithm::Rsa { modulus_bits }) => padded(number, modulus_bits.div_ceil(8))
                .is_some_and(|signature| key.verifies_hash(hash, &hashed, &signature)),
            (Value::Ecdsa(signature), Algorithm::Ecdsa(_)) => key.verifies_hash(hash, &hashed, signature),
            (Value::Ed25519(signature), Algorithm::Ed25519) => key.verifies_ed25519(hashed.as_ref(), signature),
            (Value::Rsa(_) | Value::Ecdsa(_) | Value::Ed25519(_) | Value::Other, _) => false,
        }
    }

    /// Feeds what is the same in every encoding of this signature that verifies.
    pub(super) fn normalise_into(&self, hasher: &mut Context) {
        hasher.update(b"openpgp");
        hasher.update(&self.hashed);
        match &self.value {
            Value::Ecdsa(signature) => match RawSignature::der(signature) {
                Some(signature) => signature.normalise_into(hasher),
                None => hasher.update(signature),
            },
            Value::Rsa(number) => hasher.update(number),
            Value::Ed25519(signature) => hasher.update(signature),
            Value::Other => {}
        }
    }

    fn hash(&self) -> Option<(Hash, &'static HashFunction)> {
        match self.hash_id {
            8 => Some((Hash::Sha256, &SHA256)),
            9 => Some((Hash::Sha384, &SHA384)),
            10 => Some((Hash::Sha512, &SHA512)),
            _ => None,
        }
    }
}

impl Issuer {
    /// Whether this names the key, or no key at all.
    pub(super) fn may_be(&self, fingerprint: Fingerprint) -> bool {
        match (self.fingerprint, self.key_id) {
            (Some(named), _) => named == fingerprint,
            (None, Some(named)) => named == fingerprint.key_id(),
            (None, None) => true,
        }
    }
}

impl Value {
    fn parse(algorithm: u8, mut reader: Reader<'_>) -> Result<Self, OpenPgpFlaw> {
        let value = match algorithm {
            RSA | RSA_SIGN_ONLY => Self::Rsa(reader.mpi()?.to_vec()),
            ECDSA => Self::Ecdsa(sequence_of_two(reader.mpi()?, reader.mpi()?)),
            EDDSA_LEGACY => {
                let half = |number| padded(number, 32).ok_or(OpenPgpFlaw::Signature);
                let (r, s) = (half(reader.mpi()?)?, half(reader.mpi()?)?);
                Self::Ed25519([r, s].concat().try_into().expect("two halves of 32"))
            }
            ED25519_NATIVE => Self::Ed25519(reader.array()?),
            _ => return Ok(Self::Other),
        };
        reader.end()?;
        Ok(value)
    }
}

/// A big-endian number at a fixed width, where it fits.
fn padded(number: &[u8], width: usize) -> Option<Vec<u8>> {
    let zeros = width.checked_sub(number.len())?;
    Some([&vec![0; zeros][..], number].concat())
}

/// What is gathered from the subpackets, section 5.2.3.7.
#[derive(Default)]
struct Subpackets {
    created: Option<Timestamp>,
    life: Option<Duration>,
    key_life: Option<Duration>,
    key_flags: Option<u8>,
    issuer: Issuer,
    revokers: Vec<Fingerprint>,
    embedded: Option<Box<Signature>>,
    is_critical: bool,
    embeddable: usize,
}

impl Subpackets {
    fn hashed(&mut self, area: &[u8]) -> Result<(), OpenPgpFlaw> {
        let (mut created, mut life, mut key_life, mut key_flags) = (None, None, None, None);
        for subpacket in subpackets(area) {
            let (kind, is_critical, body) = subpacket?;
            match kind {
                CREATED => once(&mut created, seconds(number(body)?))?,
                EXPIRES => once(&mut life, number(body)?)?,
                KEY_EXPIRES => once(&mut key_life, number(body)?)?,
                KEY_FLAGS => once(&mut key_flags, body.first().copied().unwrap_or(0))?,
                REVOKER => self.revokers.extend(body.get(2..).and_then(fingerprint)),
                ISSUER | ISSUER_FINGERPRINT | EMBEDDED => self.either(kind, body)?,
                _ => self.is_critical |= is_critical && !WITHOUT_MEANING_HERE.contains(&kind),
            }
        }
        let life_of = |life: Option<u32>| life.filter(|life| *life > 0).map(|life| Duration::from_secs(life.into()));
        (self.created, self.life, self.key_life, self.key_flags) =
            (created, life_of(life), life_of(key_life), key_flags);
        Ok(())
    }

    /// Of what is not covered by the signature, just what proves itself or is a hint.
    fn unhashed(&mut self, area: &[u8]) -> Result<(), OpenPgpFlaw> {
        for subpacket in subpackets(area) {
            let (kind, _, body) = subpacket?;
            self.either(kind, body)?;
        }
        Ok(())
    }

    fn either(&mut self, kind: u8, body: &[u8]) -> Result<(), OpenPgpFlaw> {
        match kind {
            ISSUER => {
                let key_id = body.try_into().map_err(|_| OpenPgpFlaw::Signature)?;
                self.issuer.key_id.get_or_insert(key_id);
            }
            // Of a key of another version, which is none of ours: the fingerprint is of another length.
            ISSUER_FINGERPRINT => {
                let named = body.get(1..).and_then(fingerprint).unwrap_or(Fingerprint([0; 20]));
                self.issuer.fingerprint.get_or_insert(named);
            }
            EMBEDDED if self.embeddable > 0 && self.embedded.is_none() => {
                self.embedded = Signature::parse_within(body, self.embeddable - 1).ok().map(Box::new);
            }
            _ => {}
        }
        Ok(())
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), OpenPgpFlaw> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(OpenPgpFlaw::Time),
    }
}

fn number(body: &[u8]) -> Result<u32, OpenPgpFlaw> {
    body.try_into().map(u32::from_be_bytes).map_err(|_| OpenPgpFlaw::Signature)
}

fn fingerprint(bytes: &[u8]) -> Option<Fingerprint> {
    bytes.try_into().ok().map(Fingerprint)
}

/// The subpackets of an area: kind, whether critical, body.
fn subpackets(area: &[u8]) -> impl Iterator<Item = Result<(u8, bool, &[u8]), OpenPgpFlaw>> {
    let mut reader = Reader(area);
    std::iter::from_fn(move || {
        let [first] = reader.array().ok()?;
        let mut subpacket = || {
            let length = length(first, &mut reader)?;
            let mut reader = Reader(reader.take(length)?);
            let [kind] = reader.array()?;
            Ok((kind & 0x7f, kind & 0x80 != 0, reader.0))
        };
        let subpacket = subpacket();
        if subpacket.is_err() {
            reader.0 = &[];
        }
        Some(subpacket)
    })
}

const CREATED: u8 = 2;
const EXPIRES: u8 = 3;
const KEY_EXPIRES: u8 = 9;
const REVOKER: u8 = 12;
const ISSUER: u8 = 16;
const KEY_FLAGS: u8 = 27;
const EMBEDDED: u8 = 32;
const ISSUER_FINGERPRINT: u8 = 33;

/// Preferences, addresses and remarks, which change nothing of whether a signature counts: exportable,
/// revocable, preferred algorithms, key server, primary user id, policy, signer's user id, reason for
/// revocation, features.
const WITHOUT_MEANING_HERE: [u8; 13] = [4, 7, 11, 21, 22, 23, 24, 25, 26, 28, 29, 30, 34];

/// Section 5.2.1: what a signature is about.
pub(super) const BINARY_DOCUMENT: u8 = 0x00;
pub(super) const SUBKEY_BINDING: u8 = 0x18;
pub(super) const PRIMARY_KEY_BINDING: u8 = 0x19;
pub(super) const DIRECT_KEY: u8 = 0x1f;
pub(super) const KEY_REVOCATION: u8 = 0x20;
pub(super) const SUBKEY_REVOCATION: u8 = 0x28;
pub(super) const CERTIFICATION_REVOCATION: u8 = 0x30;

pub(super) fn is_certification(kind: u8) -> bool {
    (0x10..=0x13).contains(&kind)
}
