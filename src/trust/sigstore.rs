//! Signatures with sigstore's evidence: by a key, or by an identity that a certificate authority
//! certified for some minutes and whose use a log or a timestamp authority witnessed.
//!
//! Everything is verified with what a [`SigstoreRoot`] holds; nothing is asked of any server.

mod bundle;
mod certificate;
mod changes;
mod checkpoint;
mod entry;
mod identity;
mod log;
mod members;
mod merkle;
mod rejection;
mod root;
mod sct;
mod statement;
#[cfg(test)]
mod tests;
mod verifier;
mod witnesses;

pub(super) use self::{bundle::Bundle, verifier::verify};
pub use self::{
    bundle::BundleFlaw,
    certificate::CertificateFlaw,
    changes::{RootChange, RootPart, Validity},
    identity::{Claim, Keyless, KeylessError, Matcher},
    members::MemberFlaw,
    rejection::{EntryPart, SigstoreRejection},
    root::{MAX_ROOT_BYTES, SigstoreRoot, SigstoreRootError},
    verifier::Demands,
};
