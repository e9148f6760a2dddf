mod message;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use self::message::Message;
use super::{
    Envelope, Inconclusive, KeyId, Outcome, PublicKey, Rejection, TrustRoot, Verified,
    envelope::Claim,
    key::{Algorithm, Hash},
    root::Standing,
};
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
///
/// The cost is bounded by the keys of the signature's own algorithm and size: at most six checks for
/// each, and none at all where the payload speaks of another image.
pub fn verify_preferring(
    envelope: &Envelope,
    subject: &Subject<'_>,
    root: &TrustRoot,
    now: Timestamp,
    preferred: Option<KeyId>,
) -> Outcome {
    let mut search = Search { envelope, root, now, rejection: None, not_held: false };
    let messages = match envelope.payload().map(|payload| (payload, payload.claim())) {
        Some((_, Claim::OtherType)) => return Outcome::Rejected(Rejection::PayloadType),
        Some((_, Claim::Image { digest, .. })) if digest != subject.digest => {
            return Outcome::Rejected(Rejection::SubjectMismatch { found: *digest });
        }
        Some((payload, Claim::Image { .. })) => vec![Message::payload(payload.bytes())],
        None => vec![Message::manifest(subject), Message::digest_string(subject.digest)],
    };
    let fitting = root.keys().filter(|key| envelope.signature().fits(key.kind()));
    let (first, rest): (Vec<_>, Vec<_>) = fitting.partition(|key| Some(key.id()) == preferred);
    match search.by_one_of(&first, &messages).or_else(|| search.by_one_of(&rest, &messages)) {
        Some(verified) => Outcome::Verified(verified),
        None => search.outcome(),
    }
}

/// The ways in which a key of each algorithm signs, the likelier first.
#[derive(Debug, Clone, Copy)]
enum Scheme {
    Hashed(Hash),
    Ed25519,
    Ed25519ph,
}

impl Scheme {
    const ALL: [Self; 5] = [
        Self::Hashed(Hash::Sha256),
        Self::Hashed(Hash::Sha384),
        Self::Hashed(Hash::Sha512),
        Self::Ed25519,
        Self::Ed25519ph,
    ];

    fn fits(self, algorithm: Algorithm) -> bool {
        match (self, algorithm) {
            (Self::Hashed(_), Algorithm::Ecdsa(_) | Algorithm::Rsa { .. }) => true,
            (Self::Ed25519 | Self::Ed25519ph, Algorithm::Ed25519) => true,
            (Self::Hashed(_), Algorithm::Ed25519) => false,
            (Self::Ed25519 | Self::Ed25519ph, Algorithm::Ecdsa(_) | Algorithm::Rsa { .. }) => false,
        }
    }

    /// None where the message's bytes are needed and not held.
    fn verifies(self, key: &PublicKey, message: &Message<'_>, signature: &[u8]) -> Option<bool> {
        match self {
            Self::Hashed(hash) => Some(key.verifies_hash(hash, &message.hashed(hash)?, signature)),
            Self::Ed25519 => Some(key.verifies_ed25519(message.bytes()?, signature)),
            Self::Ed25519ph => Some(key.verifies_ed25519ph(message.prehashed()?, signature)),
        }
    }
}

/// The search for a key that verifies and counts, and what was met on the way.
struct Search<'a> {
    envelope: &'a Envelope,
    root: &'a TrustRoot,
    now: Timestamp,
    /// Why the first key that verified does not count.
    rejection: Option<Rejection>,
    not_held: bool,
}

impl Search<'_> {
    /// Scheme by scheme over all keys, so that among many the usual ways are found early.
    fn by_one_of(&mut self, keys: &[&PublicKey], messages: &[Message<'_>]) -> Option<Verified> {
        for scheme in Scheme::ALL {
            for message in messages {
                for key in keys.iter().filter(|key| scheme.fits(key.kind())) {
                    match scheme.verifies(key, message, self.envelope.signature().bytes()) {
                        Some(true) => {}
                        Some(false) => continue,
                        None => {
                            self.not_held = true;
                            break;
                        }
                    }
                    match self.root.standing(key.id(), self.now) {
                        Standing::Good { signer, until } => {
                            let labels = match self.envelope.payload().map(|payload| payload.claim()) {
                                Some(Claim::Image { labels, .. }) => labels.clone(),
                                Some(Claim::OtherType) | None => Default::default(),
                            };
                            return Some(Verified { signer, payload_hash: message.identity(), labels, until });
                        }
                        Standing::Bad(rejection) => {
                            self.rejection.get_or_insert(rejection);
                        }
                    }
                }
            }
        }
        None
    }

    /// A key that verified and does not count says more than one that could not be tried.
    fn outcome(self) -> Outcome {
        match self.rejection {
            Some(rejection) => Outcome::Rejected(rejection),
            None if self.not_held => Outcome::Unknown(Inconclusive::ManifestNotHeld),
            None => Outcome::Rejected(Rejection::NoTrustedKey),
        }
    }
}
