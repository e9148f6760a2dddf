//! Who signed what: keys we believe, signatures in their published forms, and whether one of them
//! speaks for an image.
//!
//! Pure: bytes and the time come in, an [`Outcome`] goes out. Nothing here reads a file, a clock or a
//! store, and nothing decides whether an image may be served; that is `policy`, which is told the
//! outcome. A signature read back from a store is as untrusted here as one from the network.

mod cbor_limits;
mod curve;
mod der_limits;
mod envelope;
#[cfg(test)]
mod fixtures;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod integers;
mod key;
mod notation;
mod openpgp;
mod outcome;
mod pem;
mod root;
mod scheme;
mod signer;
mod signer_document;
mod sigstore;
mod subject;
mod timestamp;
mod tuf;
mod verifier;

pub use self::envelope::{
    Annotations, EVIDENCE_ANNOTATIONS, Envelope, EnvelopeError, Flaw, Format, JsonFlaw, MAX_PAYLOAD_BYTES,
    MAX_SIGNATURE_BYTES, NamedImage, UnknownFormat, unwrapped,
};
pub use self::key::{KeyError, MAX_PEM_BYTES, PublicKey};
pub use self::notation::{
    AttributeFlaw, ChainFlaw, IdentityFlaw, MAX_CRL_BYTES, MAX_OCSP_BYTES, NotationCredential, NotationFileProblem,
    NotationFiles, NotationFlaw, NotationRejection, PolicyError, PolicyProblem, RevocationCheck, RevocationFlaw,
    RevocationId, Revocations, Status, StoreFlaw, TimestampFlaw,
};
pub use self::openpgp::{Fingerprint, OpenPgpFlaw, OpenPgpKey, OpenPgpKeyError, OpenPgpRejection};
pub use self::outcome::{Evidence, Inconclusive, Outcome, Rejection, Verified};
pub use self::root::TrustRoot;
pub use self::scheme::SchemeError;
pub use self::signer::{
    Credential, CredentialError, NotOneCredential, Revocation, Signer, SignerId, SignerIdError, SignerIdentity,
    SignerOrigin,
};
pub use self::signer_document::{SignerDocument, SignerDocumentError};
pub use self::sigstore::{
    BundleFlaw, CertificateFlaw, Claim, Demands, EntryPart, Keyless, KeylessError, MAX_ROOT_BYTES, Matcher, MemberFlaw,
    RootChange, RootPart, SigstoreRejection, SigstoreRoot, SigstoreRootError, Validity,
};
pub use self::subject::Subject;
pub use self::timestamp::TokenFlaw;
pub use self::tuf::{MAX_STATE_BYTES, TufError, TufFlaw, TufFound, TufRequest, TufRole, TufState, TufUpdate};
pub use self::verifier::{revocation_checks, verify};
