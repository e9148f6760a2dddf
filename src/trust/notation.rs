//! Signatures of the Notary Project: envelopes in JWS and COSE, judged by the statements of a trust
//! policy as the notation CLI has it.
//!
//! What the specifications leave to the verifier: integrity and authenticity hold whatever a statement's
//! level says, or the signature does not count; the level decides about time, expiry and revocation.
//! Verification plugins are not run, so a signature that asks for one is refused.

mod attributes;
mod certificate;
mod chain;
mod cose;
mod credential;
mod envelope;
mod files;
mod identity;
mod jws;
mod payload;
mod policy;
mod rejection;
mod revocation;
mod store;
#[cfg(test)]
mod tests;
mod timestamp;
mod verify;

pub use self::{
    attributes::AttributeFlaw,
    chain::ChainFlaw,
    credential::NotationCredential,
    envelope::NotationFlaw,
    files::{NotationFileProblem, NotationFiles},
    identity::IdentityFlaw,
    policy::{PolicyError, PolicyProblem},
    rejection::NotationRejection,
    revocation::{MAX_CRL_BYTES, MAX_OCSP_BYTES, RevocationCheck, RevocationFlaw, RevocationId, Revocations, Status},
    store::StoreFlaw,
    timestamp::TimestampFlaw,
};
pub(super) use self::{
    envelope::Envelope,
    verify::{Examination, Found, Shortfall},
};
