use serde::Deserialize;

use super::super::{
    PublicKey, SignerId,
    curve::Curve,
    key::{Algorithm, Hash},
};

/// A key as a root describes it. Its id is whatever the root says: who tells keys apart looks at
/// [`Self::read`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct KeyDescription {
    keytype: String,
    scheme: String,
    keyval: KeyValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct KeyValue {
    public: String,
}

/// A key of one of the two kinds that sigstore's repositories have had.
pub(super) struct Key(PublicKey);

impl KeyDescription {
    /// None where the key is of another kind, or none at all: it must not take the others along, and
    /// makes no signature that counts.
    pub(super) fn read(&self) -> Option<Key> {
        let public = self.keyval.public.trim();
        let key = match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => of_pem_or_hex(public, P256_PREFIX, 65),
            ("ed25519", "ed25519") => of_pem_or_hex(public, ED25519_PREFIX, 32),
            _ => None,
        }?;
        let is_of_scheme = match key.kind() {
            Algorithm::Ecdsa(Curve::P256) => self.scheme != "ed25519",
            Algorithm::Ed25519 => self.scheme == "ed25519",
            Algorithm::Ecdsa(Curve::P384 | Curve::P521) | Algorithm::Rsa { .. } => false,
        };
        is_of_scheme.then_some(Key(key))
    }
}

impl Key {
    /// Of the key itself, under whatever ids it goes.
    pub(super) fn id(&self) -> SignerId {
        self.0.id()
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.0.kind() {
            Algorithm::Ed25519 => self.0.verifies_ed25519(message, signature),
            _ => self.0.verifies_hash(Hash::Sha256, &Hash::Sha256.of(message), signature),
        }
    }
}

/// PEM, or the bytes of the key alone: of Ed25519 always, of P-256 in the first roots of sigstore.
fn of_pem_or_hex(public: &str, prefix: &str, length: usize) -> Option<PublicKey> {
    if public.starts_with("-----BEGIN") {
        return PublicKey::from_pem(public).ok();
    }
    let bytes = hex::decode(public).ok().filter(|bytes| bytes.len() == length)?;
    let der = hex::decode(prefix).expect("a constant in hexadecimal digits").into_iter().chain(bytes).collect();
    PublicKey::from_der(der).ok()
}

/// SubjectPublicKeyInfo up to the key's own bytes.
const P256_PREFIX: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
const ED25519_PREFIX: &str = "302a300506032b6570032100";
