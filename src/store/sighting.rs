use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Repository, Tag};

use super::schema::base64_bytes;

/// What one pull saw of one digest in one repository. It is remembered whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub repository: Repository,
    pub digest: Digest,
    /// The manifest's bytes and media type, where the digest is one of a manifest.
    pub manifest: Option<(Bytes, String)>,
    /// The tag under which it was seen, and whether that tag is of an enforced class.
    pub tag: Option<(Tag, bool)>,
    /// What the manifest names: manifests of an index; config and layers of an image.
    pub children: Vec<Digest>,
    pub at: Timestamp,
}

/// A manifest's bytes as they came, under the digest that they were hashed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldManifest {
    pub bytes: Bytes,
    pub media_type: String,
}

/// A signature that was found upstream, as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEnvelope {
    #[serde(with = "base64_bytes")]
    pub signature: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_bytes::option")]
    pub payload: Option<Vec<u8>>,
    /// What stands beside the signature, as in a record.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub format: String,
    pub first_seen: Timestamp,
}

/// One event of the audit log; the store does not look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    pub at: Timestamp,
    pub json: Vec<u8>,
}

/// Where events go, and so how long they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditKind {
    /// Changes, and everything about internal images: kept with the records, never evicted.
    Durable,
    /// Other pulls: bounded, the oldest give way.
    Pulls,
}
