//! What is asked of the verifier about the signatures of one image, and what it answers.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    oci::{Digest, Repository},
    store::Record,
    trust::{
        self, Annotations, Envelope, EnvelopeError, Format, Inconclusive, Outcome, Rejection, RevocationCheck, Subject,
        TrustRoot,
    },
};

/// A signature as it came, nothing of it read yet.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What it is read as; by its content where nobody has said.
    pub format: Option<Format>,
    pub signature: Vec<u8>,
    pub payload: Option<Vec<u8>>,
    pub annotations: Annotations,
}

impl Signed {
    /// What it is, if it is a signature at all.
    pub fn recognise(&self) -> Result<Envelope, EnvelopeError> {
        let Self { format, signature, payload, annotations } = self;
        match format {
            Some(format) => Envelope::parse(*format, signature, payload.as_deref(), annotations),
            None => Envelope::recognise(signature, payload.as_deref(), annotations),
        }
    }
}

impl From<&Record> for Signed {
    fn from(record: &Record) -> Self {
        Self {
            format: record.format.parse().ok(),
            signature: record.signature.clone(),
            payload: record.payload.clone(),
            annotations: record.annotations.clone(),
        }
    }
}

/// Signatures of one image, to be looked at.
pub(super) struct Question {
    pub(super) digest: Digest,
    pub(super) repository: Option<Repository>,
    pub(super) manifest: Option<Bytes>,
    pub(super) signed: Vec<Signed>,
}

pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// None: it is no envelope, or was not looked at.
    pub(super) hash: Option<[u8; 32]>,
    /// What has to be asked before more can be said.
    pub(super) checks: Vec<RevocationCheck>,
}

impl Question {
    /// What all of them are asked about.
    pub(super) fn subject(&self) -> Subject<'_> {
        Subject::new(&self.digest, self.manifest.as_deref(), self.repository.as_ref())
    }
}

impl Signed {
    pub(super) fn answer(&self, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Answer {
        let envelope = match self.recognise() {
            Ok(envelope) => envelope,
            Err(error) => {
                return Answer { outcome: Outcome::Rejected(Rejection::from(&error)), hash: None, checks: Vec::new() };
            }
        };
        let outcome = trust::verify(&envelope, subject, root, now);
        let checks = match outcome {
            Outcome::Unknown(Inconclusive::RevocationUnknown) => {
                trust::revocation_checks(&envelope, subject, root, now)
            }
            Outcome::Verified(_) | Outcome::Rejected(_) | Outcome::Unknown(_) => Vec::new(),
        };
        Answer { outcome, hash: Some(envelope.normalised_hash()), checks }
    }
}
