use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, value::RawValue};

use super::{Keyless, NotationCredential, OpenPgpKey, PublicKey};

/// Someone we believe, under the name and within the times that whoever added them gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub name: String,
    pub credential: Credential,
    pub origin: SignerOrigin,
    pub added: Timestamp,
    /// The first instant at which the signer counts.
    pub not_before: Option<Timestamp>,
    /// The first instant at which the signer no longer counts.
    pub not_after: Option<Timestamp>,
    /// What was taken back, whatever other signer has the same credential.
    pub revoked: Option<Revocation>,
}

/// That a credential counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// From this instant on it counts for nothing.
    pub at: Timestamp,
    /// But for what was signed before, on the word of somebody other than the signer.
    pub keeps_earlier: bool,
}

/// What proves that a signature is a signer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    PublicKey(PublicKey),
    #[serde(rename = "openpgp")]
    OpenPgp(OpenPgpKey),
    Keyless(Keyless),
    Notation(NotationCredential),
}

/// Why something is not a credential; nothing of what was given is repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CredentialError(String);

/// Why some members do not hold one credential.
#[derive(Debug, thiserror::Error)]
pub enum NotOneCredential {
    #[error("a credential is missing: one of {kinds}", kinds = Credential::KINDS.join(", "))]
    Missing,
    #[error("{0} and {1} stand side by side; a signer has one credential")]
    Two(&'static str, &'static str),
    #[error("{kind}: {error}")]
    Invalid { kind: &'static str, error: CredentialError },
}

/// Names a credential, as `sha256:` and hexadecimal digits: for a key the SHA-256 of its
/// SubjectPublicKeyInfo, for an OpenPGP key that of what its fingerprint is the SHA-1 of, for an identity
/// that of all that is demanded of a certificate.
///
/// Credentials are accepted in one encoding only, so one credential has one id. An OpenPGP key keeps it
/// whatever its owner adds to the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignerId([u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a signer is sha256: and 64 lower-case hexadecimal digits")]
pub struct SignerIdError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignerOrigin {
    File,
    Api,
}

/// Who signed, as proven by the credential that verified; never what a record says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SignerIdentity {
    pub id: SignerId,
    pub name: String,
}

impl Revocation {
    /// Whether a signature counts no more at `now`; `signed_at` is when it was there, if that is authenticated.
    pub(super) fn holds(self, now: Timestamp, signed_at: Option<Timestamp>) -> bool {
        self.at <= now && self.concerns(signed_at)
    }

    /// Whether a signature will count no more, once it holds.
    pub(super) fn concerns(self, signed_at: Option<Timestamp>) -> bool {
        !(self.keeps_earlier && signed_at.is_some_and(|signed| signed < self.at))
    }
}

impl Signer {
    pub fn id(&self) -> SignerId {
        self.credential.id()
    }
}

impl Credential {
    /// The kinds, by the names of the members that hold them.
    pub const KINDS: [&'static str; 4] = ["public_key", "openpgp", "keyless", "notation"];

    /// The one that these members hold; others may stand beside it.
    pub fn among(members: &BTreeMap<String, Box<RawValue>>) -> Result<Self, NotOneCredential> {
        let mut given = Self::KINDS.into_iter().filter_map(|kind| Some((kind, members.get(kind)?)));
        let (kind, value) = given.next().ok_or(NotOneCredential::Missing)?;
        match given.next() {
            Some((other, _)) => Err(NotOneCredential::Two(kind, other)),
            None => Self::of_kind(kind, value).map_err(|error| NotOneCredential::Invalid { kind, error }),
        }
    }

    /// Reads what stands in the member of one of these names.
    fn of_kind(kind: &str, value: &RawValue) -> Result<Self, CredentialError> {
        serde_json::from_str(&format!("{{\"{kind}\":{value}}}")).map_err(CredentialError::from)
    }

    /// Reads an object that has one such member.
    pub fn from_members(members: Map<String, Value>) -> Result<Self, CredentialError> {
        serde_json::from_value(members.into()).map_err(CredentialError::from)
    }

    pub fn to_members(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(members)) => members,
            other => unreachable!("a credential is written as an object, not {other:?}"),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::PublicKey(_) => Self::KINDS[0],
            Self::OpenPgp(_) => Self::KINDS[1],
            Self::Keyless(_) => Self::KINDS[2],
            Self::Notation(_) => Self::KINDS[3],
        }
    }

    pub fn id(&self) -> SignerId {
        match self {
            Self::PublicKey(key) => key.id(),
            Self::OpenPgp(key) => key.id(),
            Self::Keyless(keyless) => SignerId::of(&keyless.canonical()),
            Self::Notation(statement) => SignerId::of(&statement.canonical()),
        }
    }

    /// The name that its own tools have for it; for a key the id, as openssl prints it.
    pub fn fingerprint(&self) -> String {
        match self {
            Self::PublicKey(_) | Self::Notation(_) => {
                self.id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
            }
            Self::OpenPgp(key) => key.fingerprint().to_string(),
            Self::Keyless(_) => self.id().to_string(),
        }
    }

    /// Of a key.
    pub fn algorithm(&self) -> Option<&'static str> {
        match self {
            Self::PublicKey(key) => Some(key.algorithm()),
            Self::OpenPgp(key) => Some(key.algorithm()),
            Self::Keyless(_) | Self::Notation(_) => None,
        }
    }

    /// The first instant after `after` at which the credential itself begins or ceases to count.
    pub(super) fn next_change(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::PublicKey(_) | Self::Keyless(_) | Self::Notation(_) => None,
            Self::OpenPgp(key) => key.next_change(after),
        }
    }
}

impl From<serde_json::Error> for CredentialError {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // Of a value of the wrong type the reader's own words would repeat the value.
        match text.split(" at line ").next() {
            Some(text) if !text.starts_with("invalid ") => Self(text.to_owned()),
            _ => Self("is not of the form that is expected there".to_owned()),
        }
    }
}

impl SignerId {
    /// The id of what is written so, and in no other way.
    pub(super) fn of(canonical: &[u8]) -> Self {
        Self(digest(&SHA256, canonical).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for SignerId {
    type Err = SignerIdError;

    fn from_str(text: &str) -> Result<Self, SignerIdError> {
        let encoded = text.strip_prefix("sha256:").ok_or(SignerIdError)?;
        if encoded.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(SignerIdError);
        }
        let mut id = [0; 32];
        hex::decode_to_slice(encoded, &mut id).map_err(|_| SignerIdError)?;
        Ok(Self(id))
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SignerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
