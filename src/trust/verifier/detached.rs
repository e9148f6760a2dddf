#[cfg(test)]
mod tests;

use jiff::Timestamp;

use super::{Subject, message::Message, scheme::Scheme};
use crate::trust::{
    Evidence, Inconclusive, Outcome, PublicKey, Rejection, TrustRoot, Verified,
    envelope::{Claim, Detached},
    root::Standing,
};

/// Whether a key of `root` made this signature, over the payload that came with it or, where none
/// did, over the manifest or its digest.
///
/// The cost is bounded by the keys of the signature's own algorithm and size: at most six checks for
/// each, and none at all where the payload speaks of another image.
pub(super) fn verify(detached: &Detached, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Outcome {
    let mut search = Search { detached, root, now, rejection: None, not_held: false };
    let limit = root.rehashed_bytes();
    let messages = match detached.payload.as_ref().map(|payload| (payload, payload.claim())) {
        Some((_, Claim::OtherType)) => return Outcome::Rejected(Rejection::PayloadType),
        Some((_, Claim::Image { digest, .. })) if digest != subject.digest => {
            return Outcome::Rejected(Rejection::SubjectMismatch { found: *digest });
        }
        Some((payload, Claim::Image { .. })) => vec![Message::payload(payload.bytes()).within(limit)],
        None => vec![Message::manifest(subject).within(limit), Message::digest_string(subject.digest)],
    };
    let fitting: Vec<_> = root.keys().filter(|key| detached.signature.fits(key.kind())).collect();
    match search.by_one_of(&fitting, &messages) {
        Some(verified) => Outcome::Verified(verified),
        None => search.outcome(&messages),
    }
}

/// The search for a key that verifies and counts, and what was met on the way.
struct Search<'a> {
    detached: &'a Detached,
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
                    match scheme.verifies(key, message, self.detached.signature.bytes()) {
                        Some(true) => {}
                        Some(false) => continue,
                        None => {
                            self.not_held = true;
                            break;
                        }
                    }
                    match self.root.standing(key.id(), self.now, None) {
                        Standing::Good { signer, until } => {
                            let labels = match self.detached.payload.as_ref().map(|payload| payload.claim()) {
                                Some(Claim::Image { labels, .. }) => labels.clone(),
                                Some(Claim::OtherType) | None => Default::default(),
                            };
                            let evidence = Evidence { signed_at: None, links: vec![self.link(key, message)] };
                            return Some(Verified {
                                identity: *signer.id.as_bytes(),
                                entry: *signer.id.as_bytes(),
                                signer,
                                payload_hash: message.identity(),
                                labels,
                                until,
                                evidence,
                            });
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

    fn link(&self, key: &PublicKey, message: &Message<'_>) -> String {
        format!("{} signature over {} by the key {}", key.algorithm(), message.name(), key.id())
    }

    /// A key that verified and does not count says more than one that could not be tried.
    fn outcome(self, messages: &[Message<'_>]) -> Outcome {
        match self.rejection {
            Some(rejection) => Outcome::Rejected(rejection),
            None if self.not_held && messages.iter().any(Message::is_too_large) => {
                Outcome::Rejected(Rejection::TooLarge)
            }
            None if self.not_held => Outcome::Unknown(Inconclusive::ManifestNotHeld),
            None => Outcome::Rejected(Rejection::NoTrustedKey),
        }
    }
}
