use jiff::Timestamp;

use super::{Envelope, KeyId, Outcome, Rejection, TrustRoot};
use crate::oci::Digest;

/// The image that a signature must speak for. `manifest` holds its bytes where they are held.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub digest: &'a Digest,
    pub manifest: Option<&'a [u8]>,
}

/// Whether `envelope` is a signature over `subject` by a key that `root` believes at `now`.
pub fn verify(envelope: &Envelope, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Outcome {
    verify_preferring(envelope, subject, root, now, None)
}

/// Like `verify`, trying one key before all others: the one that verified this signature before.
pub fn verify_preferring(
    _envelope: &Envelope,
    _subject: &Subject<'_>,
    _root: &TrustRoot,
    _now: Timestamp,
    _preferred: Option<KeyId>,
) -> Outcome {
    Outcome::Rejected(Rejection::NoTrustedKey)
}
