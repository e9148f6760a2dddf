//! What tells one signature from another.

use crate::{
    oci::Digest,
    store::Identity,
    trust::{Outcome, Verified},
};

/// What makes two signatures the same one: digest, key and signed payload once a key verifies it;
/// until then the digest and the signature in its normal form.
pub fn identities(digest: &Digest, normalised: [u8; 32], outcome: &Outcome) -> Vec<Identity> {
    let mut identities = vec![identity(b"signature", digest, &[&normalised])];
    if let Outcome::Verified(verified) = outcome {
        identities.push(verified_identity(digest, verified));
    }
    identities
}

pub(super) fn verified_identity(digest: &Digest, verified: &Verified) -> Identity {
    identity(b"verified", digest, &[&verified.identity, &verified.payload_hash])
}

fn identity(kind: &[u8], digest: &Digest, parts: &[&[u8]]) -> Identity {
    let mut text = [kind, b"\0", digest.algorithm().name().as_bytes(), b"\0", digest.as_bytes()].concat();
    for part in parts {
        text.extend_from_slice(part);
    }
    Identity(Digest::sha256(&text).as_bytes().try_into().expect("SHA-256 has 32 bytes"))
}
