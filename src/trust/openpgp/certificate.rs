use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{OpenPgpRejection, key::Key, signature::Signature};
use crate::trust::{PublicKey, SignerId};

/// What names a key of version 4: what `gpg` shows, and never what we go by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub(super) [u8; 20]);

/// An OpenPGP public key: a primary key with the user ids and subkeys that it has itself bound to it.
///
/// Those bindings, and revocations, have been verified; what they mean depends on the time.
#[derive(Clone)]
pub struct OpenPgpKey(Arc<Certificate>);

pub(super) struct Certificate {
    pub(super) id: SignerId,
    /// Its packets, as they were read.
    pub(super) bytes: Vec<u8>,
    pub(super) user_ids: Vec<String>,
    pub(super) primary: BoundKey,
    pub(super) subkeys: Vec<BoundKey>,
}

/// A primary key or subkey, and what its owner says of it.
pub(super) struct BoundKey {
    pub(super) key: Key,
    pub(super) is_revoked: bool,
    pub(super) bindings: Vec<Binding>,
}

/// What a self-signature says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) created: Timestamp,
    pub(super) expires: Option<Timestamp>,
    pub(super) key_expires: Option<Timestamp>,
    pub(super) may_sign: bool,
}

impl OpenPgpKey {
    pub(super) fn new(certificate: Certificate) -> Self {
        Self(Arc::new(certificate))
    }

    /// Stands for the primary key, whatever is bound to it: its SHA-256.
    pub fn id(&self) -> SignerId {
        self.0.id
    }

    pub fn fingerprint(&self) -> Fingerprint {
        self.0.primary.key.fingerprint
    }

    /// The user ids that the key says are its own: labels, in the order in which they stand.
    pub fn user_ids(&self) -> &[String] {
        &self.0.user_ids
    }

    /// The algorithm of the primary key.
    pub fn algorithm(&self) -> &'static str {
        self.0.primary.key.public.as_ref().map_or("unknown", PublicKey::algorithm)
    }

    pub fn to_armoured(&self) -> String {
        let base64 = STANDARD.encode(&self.0.bytes);
        let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN PGP {LABEL}-----\n\n{}\n-----END PGP {LABEL}-----\n", lines.join("\n"))
    }

    /// The first instant after `after` at which something of this key begins or ceases to count.
    pub fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        self.keys()
            .flat_map(|bound| {
                let bindings = bound.bindings.iter();
                let instants = bindings.flat_map(|at| [Some(at.created), at.expires, at.key_expires]);
                instants.flatten().chain([bound.key.created])
            })
            .filter(|change| *change > after)
            .min()
    }

    /// The key, and every subkey, that may have made this signature.
    pub(super) fn issuers(&self, signature: &Signature) -> impl Iterator<Item = &BoundKey> {
        self.keys().filter(|bound| signature.issuer.may_be(bound.key.fingerprint))
    }

    /// Whether one of this certificate's keys counts for signing at `now`, and until when.
    pub(super) fn standing(&self, bound: &BoundKey, now: Timestamp) -> Result<Option<Timestamp>, OpenPgpRejection> {
        // A subkey is worth nothing without the key that it is bound to.
        let (_, until) = self.0.primary.standing(now)?;
        let (binding, until_of_subkey) = bound.standing(now)?;
        if !binding.may_sign {
            return Err(OpenPgpRejection::KeyUsage { key: bound.key.fingerprint });
        }
        Ok([until, until_of_subkey].into_iter().flatten().min())
    }

    fn keys(&self) -> impl Iterator<Item = &BoundKey> {
        [&self.0.primary].into_iter().chain(&self.0.subkeys)
    }
}

impl BoundKey {
    /// The self-signature in force, and how long it all holds.
    fn standing(&self, now: Timestamp) -> Result<(&Binding, Option<Timestamp>), OpenPgpRejection> {
        let key = self.key.fingerprint;
        // Whatever the reason for it and the time that it bears.
        if self.is_revoked {
            return Err(OpenPgpRejection::KeyRevoked { key });
        }
        if self.key.created > now {
            return Err(OpenPgpRejection::KeyNotYetValid { key, from: self.key.created });
        }
        // The owner's last word; of two in one second the one that grants less.
        let binding = self
            .bindings
            .iter()
            .filter(|binding| binding.created <= now && binding.expires.is_none_or(|since| now < since))
            .max_by_key(|binding| {
                let ends = binding.key_expires.unwrap_or(Timestamp::MAX);
                (binding.created, !binding.may_sign, std::cmp::Reverse(ends))
            })
            .ok_or(OpenPgpRejection::KeyUnbound { key })?;
        match binding.key_expires {
            Some(since) if since <= now => Err(OpenPgpRejection::KeyExpired { key, since }),
            _ => Ok((binding, [binding.expires, binding.key_expires].into_iter().flatten().min())),
        }
    }
}

impl PartialEq for OpenPgpKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for OpenPgpKey {}

impl Serialize for OpenPgpKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_armoured())
    }
}

impl<'de> Deserialize<'de> for OpenPgpKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let [key] = Self::parse_all(text.as_bytes())
            .map_err(D::Error::custom)?
            .try_into()
            .map_err(|_| D::Error::custom("more than one OpenPGP key; each is a signer of its own"))?;
        Ok(key)
    }
}

impl fmt::Debug for OpenPgpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPgpKey({} {})", self.algorithm(), self.fingerprint())
    }
}

impl Fingerprint {
    pub(super) fn key_id(self) -> [u8; 8] {
        *self.0.last_chunk().expect("20 octets end with 8")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) const LABEL: &str = "PUBLIC KEY BLOCK";
