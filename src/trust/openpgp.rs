//! OpenPGP simple signing, as podman's `signedBy`: an OpenPGP message (RFC 9580) around a claim.
//!
//! Of the format just what signs images is read: version 4 keys and signatures, by RSA, ECDSA over the
//! NIST curves and Ed25519, over SHA-2. Whatever else a message could be (encrypted, signed twice,
//! nested) is refused by its structure, before anything of it is believed. The cryptography is that of
//! every other key: `PublicKey` says which keys are too weak.
//!
//! All is judged as of now. A signature says itself when it was made, so a key that has expired or was
//! revoked counts for nothing any more, whatever time its signatures bear: who holds a revoked key can
//! write any.

mod armour;
mod certificate;
mod components;
mod key;
mod message;
mod packet;
mod signature;
#[cfg(test)]
mod tests;
mod verify;

pub use self::{
    certificate::{Fingerprint, OpenPgpKey},
    components::OpenPgpKeyError,
    packet::OpenPgpFlaw,
    verify::OpenPgpRejection,
};
pub(super) use self::{
    message::{SignedMessage, is_compressed},
    verify::verify,
};
