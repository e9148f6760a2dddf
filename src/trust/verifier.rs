mod detached;
pub(super) mod message;
mod notation;
mod scheme;

use jiff::Timestamp;

pub(super) use self::scheme::signed_by;
use super::{Envelope, Outcome, RevocationCheck, Subject, TrustRoot, envelope::Content, openpgp, sigstore};

/// What has to be asked about revocation before `verify` can tell; nothing is asked about a signature
/// that does not count anyway.
pub fn revocation_checks(
    envelope: &Envelope,
    subject: &Subject<'_>,
    root: &TrustRoot,
    now: Timestamp,
) -> Vec<RevocationCheck> {
    match envelope.content() {
        Content::Detached(_) | Content::OpenPgp(_) | Content::Sigstore(_) => Vec::new(),
        Content::Notation(envelope) => notation::revocation_checks(envelope, subject, root, now),
    }
}

/// Whether `envelope` is a signature over `subject` by a signer that `root` believes at `now`.
pub fn verify(envelope: &Envelope, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Outcome {
    match envelope.content() {
        Content::Detached(detached) => detached::verify(detached, subject, root, now),
        Content::OpenPgp(message) => openpgp::verify(message, subject, root, now),
        Content::Sigstore(bundle) => sigstore::verify(bundle, subject, root, now),
        Content::Notation(envelope) => notation::verify(envelope, subject, root, now),
    }
}
