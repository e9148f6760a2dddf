use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Repository, Tag, TagType};

use super::schema::{RecordKey, base64_bytes};

/// Names one record for ever; opaque to whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordId(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a record")]
pub struct RecordIdError;

/// What makes two signatures one, whatever their bytes: a hash that the caller computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub [u8; 32]);

/// What the store knows of an identity; it outlives every record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityRow {
    pub first_seen: Timestamp,
    pub withdrawn: bool,
}

/// A signature as it was submitted. Nothing in it has been verified: that is done at each use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: RecordId,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    pub tag: Tag,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_type: Option<TagType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether it came as an artifact of the digest, and so speaks for the digest whatever its tag.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_digest: bool,
    /// The name of the envelope's format, for lists; the envelope is recognised again at each use.
    pub format: String,
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_bytes::option")]
    pub payload: Option<Vec<u8>>,
    /// What stands beside the signature to show who made it and when, by cosign's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who is said to have signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// The earliest moment at which the identity was met, here or upstream; a life counts from it.
    pub first_seen: Timestamp,
    /// Whether the submitter's role covered the labels.
    pub granted: bool,
    pub identities: Vec<Identity>,
    /// The account, or the address where there is none.
    pub submitted_by: String,
}

impl Record {
    /// Whether it verified when it was submitted: it has the identity of its key beside that of its bytes.
    pub fn verified_before(&self) -> bool {
        self.identities.len() > 1
    }

    /// What came with it, in bytes.
    pub fn size(&self) -> usize {
        let annotations = self.annotations.iter().map(|(name, text)| name.len() + text.len());
        self.signature.len() + self.payload.as_ref().map_or(0, Vec::len) + annotations.sum::<usize>()
    }
}

/// A record that is yet to be: the store gives it an id and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub digest: Digest,
    pub repository: Option<Repository>,
    pub tag: Tag,
    pub tag_type: Option<TagType>,
    pub environment: Option<String>,
    pub of_digest: bool,
    pub format: String,
    pub signature: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    pub annotations: BTreeMap<String, String>,
    pub signer: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub expires_at: Option<Timestamp>,
    /// When it was met elsewhere, where somebody may say that; it makes a life no longer.
    pub first_seen: Option<Timestamp>,
    pub granted: bool,
    /// At least one; all of them name this one signature and are linked for ever.
    pub identities: Vec<Identity>,
    pub submitted_by: String,
}

/// What the rules in force say about one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmitRules {
    /// The life of a preview signature; `None` where none is set.
    pub life: Option<Duration>,
    /// Whether the submitter may give a known signature other labels.
    pub may_promote: bool,
    /// Whether the signature verifies now. One that does not counts against its submitter.
    pub verified: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    Created(Record),
    /// The same signature with the same labels is there already; nothing changed.
    Existing(Record),
    Withdrawn,
    Expired,
    PromotionRefused,
    /// The submitter has as many unverified records of this digest as one may have.
    TooMany,
}

/// A part of a list, and where the next part begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Opaque; give it back as `after`. `None` at the end of the list.
    pub next: Option<Vec<u8>>,
}

/// A signer as it was added over the API; the store does not look into its credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignerRow {
    pub id: String,
    pub name: String,
    pub added: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
    /// Filled from the revocations when it is read.
    #[serde(skip)]
    pub revoked: Option<RevocationRow>,
    #[serde(flatten)]
    pub credential: serde_json::Map<String, serde_json::Value>,
}

/// That a credential counts no more since a time; whether what was signed before counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationRow {
    pub at: Timestamp,
    pub keeps_earlier: bool,
}

impl RevocationRow {
    /// The stricter of both: a revocation gives nothing back.
    pub(super) fn and(self, other: Self) -> Self {
        Self { at: self.at.min(other.at), keeps_earlier: self.keeps_earlier && other.keeps_earlier }
    }
}

impl fmt::Display for RevocationRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.at, if self.keeps_earlier { KEEPS_EARLIER } else { "" })
    }
}

impl FromStr for RevocationRow {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let at = text.strip_suffix(KEEPS_EARLIER);
        Ok(Self { at: at.unwrap_or(text).parse()?, keeps_earlier: at.is_some() })
    }
}

const KEEPS_EARLIER: &str = " keeps-earlier";

impl RecordId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<RecordKey> for RecordId {
    fn from(key: RecordKey) -> Self {
        Self(hex::encode(key.0))
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if canonical { Ok(Self(text.to_owned())) } else { Err(RecordIdError) }
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.as_bytes(), &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}
