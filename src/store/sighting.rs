use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256, digest};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Repository, Tag};

use super::{Identity, schema::base64_bytes};

/// What one pull saw of one digest in one repository. It is remembered whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub repository: Repository,
    pub digest: Digest,
    /// The manifest's bytes and media type, where the digest is one of a manifest.
    pub manifest: Option<(Bytes, String)>,
    /// The tag under which it was seen, and whether that tag is of an enforced class.
    pub tag: Option<(Tag, bool)>,
    /// When the upstream named the digest for the tag, where it has just done so.
    pub confirmed: Option<Timestamp>,
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

/// A page of the list of a repository's tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagPage {
    pub tags: Vec<String>,
    /// The query that asks for the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
    /// The identity that it had when it verified. Of several with one identity the first keeps it, since nobody
    /// has signed what stands beside a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Identity>,
}

/// What tells one signature that was found for a digest from another, whenever it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FoundId(pub(super) [u8; 16]);

impl FoundEnvelope {
    pub fn id(&self) -> FoundId {
        let mut whole = Context::new(&SHA256);
        let mut feed = |part: &[u8]| whole.update(digest(&SHA256, part).as_ref());
        feed(self.format.as_bytes());
        feed(&self.signature);
        feed(self.payload.as_deref().unwrap_or_default());
        for (name, value) in &self.annotations {
            feed(name.as_bytes());
            feed(value.as_bytes());
        }
        FoundId(*whole.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
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
