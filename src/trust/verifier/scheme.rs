use super::message::Message;
use crate::trust::{
    PublicKey,
    key::{Algorithm, Hash},
};

/// Whether this key made `signature` over `message`, in whatever way a key of its algorithm signs. None
/// where the message's bytes are needed and not held.
pub(in crate::trust) fn signed_by(key: &PublicKey, message: &Message<'_>, signature: &[u8]) -> Option<bool> {
    let mut answer = Some(false);
    for scheme in Scheme::ALL.into_iter().filter(|scheme| scheme.fits(key.kind())) {
        match scheme.verifies(key, message, signature) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => answer = None,
        }
    }
    answer
}

/// The ways in which a key of each algorithm signs, the likelier first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scheme {
    Hashed(Hash),
    Ed25519,
    Ed25519ph,
}

impl Scheme {
    pub(super) const ALL: [Self; 5] = [
        Self::Hashed(Hash::Sha256),
        Self::Hashed(Hash::Sha384),
        Self::Hashed(Hash::Sha512),
        Self::Ed25519,
        Self::Ed25519ph,
    ];

    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::Hashed(_), Algorithm::Ecdsa(_) | Algorithm::Rsa { .. }) => true,
            (Self::Ed25519 | Self::Ed25519ph, Algorithm::Ed25519) => true,
            (Self::Hashed(_), Algorithm::Ed25519) => false,
            (Self::Ed25519 | Self::Ed25519ph, Algorithm::Ecdsa(_) | Algorithm::Rsa { .. }) => false,
        }
    }

    /// None where the message's bytes are needed and not held.
    pub(super) fn verifies(self, key: &PublicKey, message: &Message<'_>, signature: &[u8]) -> Option<bool> {
        match self {
            Self::Hashed(hash) => Some(key.verifies_hash(hash, &message.hashed(hash)?, signature)),
            Self::Ed25519 => Some(key.verifies_ed25519(message.bytes()?, signature)),
            Self::Ed25519ph => Some(key.verifies_ed25519ph(message.prehashed()?, signature)),
        }
    }
}
