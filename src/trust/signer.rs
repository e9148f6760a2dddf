use jiff::Timestamp;
use serde::Serialize;

use super::{KeyId, PublicKey};

/// A key we believe, under the name and within the times that whoever added it gave.
#[derive(Debug, Clone)]
pub struct Signer {
    pub name: String,
    pub key: PublicKey,
    pub origin: SignerOrigin,
    pub added: Timestamp,
    /// The first instant at which the signer counts.
    pub not_before: Option<Timestamp>,
    /// The first instant at which the signer no longer counts.
    pub not_after: Option<Timestamp>,
    /// From this instant on the key counts for nothing, whatever other signer holds it too.
    pub revoked_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SignerOrigin {
    File,
    Api,
}

/// Who signed, as proven by the key that verified; never what a record says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct SignerIdentity {
    pub key_id: KeyId,
    pub name: String,
}
