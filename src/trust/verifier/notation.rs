use jiff::Timestamp;

use super::Subject;
use crate::trust::{
    Credential, Evidence, Inconclusive, NotationRejection, Outcome, Rejection, SignerId, SignerIdentity, TrustRoot,
    Verified,
    notation::{Envelope, Examination, Found, RevocationCheck, Shortfall},
    root::Standing,
};

/// Whether a statement of a trust policy, with the stores that it names, vouches for this signature.
pub(super) fn verify(envelope: &Envelope, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Outcome {
    let examination = Examination::new(envelope, subject, root.revocations(), now);
    let mut nearest = None;
    for (id, found) in findings(&examination, root) {
        let outcome = outcome(id, found, envelope, root, now);
        if outcome.is_verified() {
            return outcome;
        }
        let further = nearest.as_ref().is_none_or(|nearest| rank(nearest) < rank(&outcome));
        nearest = if further { Some(outcome) } else { nearest };
    }
    nearest.unwrap_or(Outcome::Rejected(NotationRejection::Scope.into()))
}

/// What has to be asked before anything can be said of an envelope that holds in all else.
pub(super) fn revocation_checks(
    envelope: &Envelope,
    subject: &Subject<'_>,
    root: &TrustRoot,
    now: Timestamp,
) -> Vec<RevocationCheck> {
    let examination = Examination::new(envelope, subject, root.revocations(), now);
    let asked = |found| match found {
        Err(Shortfall::RevocationUnknown(checks)) => checks,
        Ok(_) | Err(_) => Vec::new(),
    };
    findings(&examination, root).flat_map(|(_, found)| asked(found)).collect()
}

fn findings(
    examination: &Examination<'_>,
    root: &TrustRoot,
) -> impl Iterator<Item = (SignerId, Result<Found, Shortfall>)> {
    root.credentials().filter_map(|credential| match credential {
        Credential::Notation(statement) => Some((credential.id(), examination.by(statement))),
        Credential::PublicKey(_) | Credential::OpenPgp(_) | Credential::Keyless(_) => None,
    })
}

fn outcome(
    id: SignerId,
    found: Result<Found, Shortfall>,
    envelope: &Envelope,
    root: &TrustRoot,
    now: Timestamp,
) -> Outcome {
    match found {
        Ok(found) => match root.standing(id, now, found.authentic_time) {
            Standing::Good { signer, until } => Outcome::Verified(verified(envelope, found, signer, until)),
            Standing::Bad(rejection) => Outcome::Rejected(rejection),
        },
        Err(Shortfall::Rejected(rejection)) => Outcome::Rejected(rejection.into()),
        Err(Shortfall::OtherSubject { found }) => Outcome::Rejected(Rejection::SubjectMismatch { found }),
        Err(Shortfall::ManifestNotHeld) => Outcome::Unknown(Inconclusive::ManifestNotHeld),
        Err(Shortfall::RevocationUnknown(_)) => Outcome::Unknown(Inconclusive::RevocationUnknown),
    }
}

/// Who signed is told by the certificate and the root of its chain, so that a certificate that is renewed
/// is the same signer, and two people whom one statement trusts are two.
fn verified(envelope: &Envelope, found: Found, signer: SignerIdentity, until: Option<Timestamp>) -> Verified {
    let identity = *SignerId::of(&found.identity()).as_bytes();
    Verified {
        identity,
        entry: identity,
        payload_hash: envelope.signed_hash(),
        labels: envelope.labels(),
        until: until.into_iter().chain(found.until).min(),
        evidence: Evidence { signed_at: found.authentic_time, links: found.links(&signer.name) },
        signer,
    }
}

/// How far a signature came: what nearly counted says more than what was never meant.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Verified(_) => 5,
        Outcome::Unknown(_) => 4,
        Outcome::Rejected(Rejection::Notation(NotationRejection::Scope)) => 0,
        Outcome::Rejected(Rejection::Notation(NotationRejection::Skipped { .. })) => 1,
        Outcome::Rejected(Rejection::Notation(NotationRejection::Store { .. })) => 2,
        Outcome::Rejected(_) => 3,
    }
}
