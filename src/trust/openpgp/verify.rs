use aws_lc_rs::digest::{self, SHA256};
use jiff::{SignedDuration, Timestamp};

use super::{
    certificate::{Fingerprint, OpenPgpKey},
    message::SignedMessage,
    signature::BINARY_DOCUMENT,
};
use crate::trust::{
    Evidence, Outcome, Rejection, Subject, TrustRoot, Verified,
    envelope::{Claim, SignedReference},
    root::Standing,
};

/// Why an OpenPGP signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenPgpRejection {
    #[error("the OpenPGP signature is not over SHA-256, SHA-384 or SHA-512")]
    WeakHash,
    #[error("the OpenPGP signature is not one over a document as it is")]
    SignatureType,
    #[error("the OpenPGP signature demands that something be understood which is not known")]
    CriticalSubpacket,
    #[error("the OpenPGP signature is not what the key {key} signed")]
    Invalid { key: Fingerprint },
    #[error("the OpenPGP key {key} is of an algorithm or size that is not accepted for signing")]
    WeakKey { key: Fingerprint },
    #[error("the OpenPGP key {key} may not sign, by its own flags or for want of its agreement")]
    KeyUsage { key: Fingerprint },
    #[error("the OpenPGP key {key} has been revoked by its owner")]
    KeyRevoked { key: Fingerprint },
    #[error("the OpenPGP key {key} expired at {since}")]
    KeyExpired { key: Fingerprint, since: Timestamp },
    #[error("the OpenPGP key {key} is valid from {from} on")]
    KeyNotYetValid { key: Fingerprint, from: Timestamp },
    #[error("nothing that is valid now binds the OpenPGP key {key}")]
    KeyUnbound { key: Fingerprint },
    #[error("the OpenPGP signature expired at {since}")]
    Expired { since: Timestamp },
    #[error("the OpenPGP signature says that it will be made at {from}")]
    NotYetValid { from: Timestamp },
    #[error("the OpenPGP signature says that it is older than the key {key}")]
    OlderThanKey { key: Fingerprint },
}

impl OpenPgpRejection {
    /// Every code there is, for whoever documents them.
    pub const CODES: [&'static str; 13] = [
        "openpgp-weak-hash",
        "openpgp-signature-type",
        "openpgp-critical-subpacket",
        "openpgp-signature-invalid",
        "openpgp-weak-key",
        "openpgp-key-usage",
        "openpgp-key-revoked",
        "openpgp-key-expired",
        "openpgp-key-not-yet-valid",
        "openpgp-key-unbound",
        "openpgp-signature-expired",
        "openpgp-signature-not-yet-valid",
        "openpgp-signature-older-than-key",
    ];

    /// When it may be over: whatever else changes is a change of the key.
    pub(in crate::trust) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::NotYetValid { from } => from.checked_sub(MAX_AHEAD).ok(),
            _ => None,
        }
    }

    pub fn code(&self) -> &'static str {
        match self {
            Self::WeakHash => "openpgp-weak-hash",
            Self::SignatureType => "openpgp-signature-type",
            Self::CriticalSubpacket => "openpgp-critical-subpacket",
            Self::Invalid { .. } => "openpgp-signature-invalid",
            Self::WeakKey { .. } => "openpgp-weak-key",
            Self::KeyUsage { .. } => "openpgp-key-usage",
            Self::KeyRevoked { .. } => "openpgp-key-revoked",
            Self::KeyExpired { .. } => "openpgp-key-expired",
            Self::KeyNotYetValid { .. } => "openpgp-key-not-yet-valid",
            Self::KeyUnbound { .. } => "openpgp-key-unbound",
            Self::Expired { .. } => "openpgp-signature-expired",
            Self::NotYetValid { .. } => "openpgp-signature-not-yet-valid",
            Self::OlderThanKey { .. } => "openpgp-signature-older-than-key",
        }
    }
}

/// Whether a key of `root` made this signature, for the image and the repository that `subject` is.
///
/// The cost is bounded by the size of a message, and by the keys that share the id it names.
pub(in crate::trust) fn verify(
    message: &SignedMessage,
    subject: &Subject<'_>,
    root: &TrustRoot,
    now: Timestamp,
) -> Outcome {
    let Claim::Image { digest, reference, labels } = message.payload.claim() else {
        return Outcome::Rejected(Rejection::PayloadType);
    };
    if digest != subject.digest {
        return Outcome::Rejected(Rejection::SubjectMismatch { found: *digest });
    }
    let reference = reference.as_ref().expect("a claim of this type names an image");
    if subject.repository.is_some_and(|asked| *asked != root.own_names().meant(&reference.repository)) {
        return Outcome::Rejected(Rejection::RepositoryMismatch { found: reference.repository.clone() });
    }
    let signed = match signed_by(message, root.openpgp_keys(), now) {
        Ok(signed) => signed,
        Err(Some(rejection)) => return Outcome::Rejected(Rejection::OpenPgp(rejection)),
        Err(None) => return Outcome::Rejected(Rejection::NoTrustedKey),
    };
    let mut rejection = None;
    for Signed { by, with, until: until_of_key } in signed {
        match root.standing(by.id(), now, None) {
            Standing::Bad(bad) => rejection = rejection.or(Some(bad)),
            Standing::Good { signer, until } => {
                let evidence = Evidence { signed_at: None, links: links(by, with, reference) };
                let payload_hash = digest::digest(&SHA256, message.payload.bytes());
                return Outcome::Verified(Verified {
                    identity: *signer.id.as_bytes(),
                    entry: *signer.id.as_bytes(),
                    signer,
                    payload_hash: payload_hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
                    labels: labels.clone(),
                    until: [until, until_of_key].into_iter().flatten().min(),
                    evidence,
                });
            }
        }
    }
    Outcome::Rejected(rejection.unwrap_or(Rejection::NoTrustedKey))
}

fn links(by: &OpenPgpKey, with: Fingerprint, reference: &SignedReference) -> Vec<String> {
    let signature = format!("OpenPGP signature for {reference} by the key {with}");
    let subkey = (with != by.fingerprint()).then(|| format!("bound as a subkey to {}", by.fingerprint()));
    [signature].into_iter().chain(subkey).collect()
}

/// A key that made a signature, and until when the two count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signed<'a> {
    by: &'a OpenPgpKey,
    /// The primary key, or the subkey of it, that made the signature.
    with: Fingerprint,
    until: Option<Timestamp>,
}

/// Which of `keys` made this signature and count at `now`; the first reason why none does, or nothing
/// where none of them is the one that it names.
///
/// Of two copies of one key the one that says it was revoked speaks for both.
fn signed_by<'a>(
    message: &SignedMessage,
    keys: impl IntoIterator<Item = &'a OpenPgpKey>,
    now: Timestamp,
) -> Result<Vec<Signed<'a>>, Option<OpenPgpRejection>> {
    let signature = &message.signature;
    if !signature.is_strongly_hashed() {
        return Err(Some(OpenPgpRejection::WeakHash));
    }
    if signature.kind != BINARY_DOCUMENT {
        return Err(Some(OpenPgpRejection::SignatureType));
    }
    if signature.is_critical {
        return Err(Some(OpenPgpRejection::CriticalSubpacket));
    }
    let (mut good, mut bad) = (Vec::<Signed<'a>>::new(), Vec::new());
    let issuers = keys.into_iter().flat_map(|by| by.issuers(signature).map(move |bound| (by, bound)));
    for (by, bound) in issuers.take(MAX_ISSUERS) {
        let key = bound.key.fingerprint;
        match &bound.key.public {
            Err(_) => bad.push((by, OpenPgpRejection::WeakKey { key })),
            Ok(public) if !signature.verifies(public, |hasher| hasher.update(message.payload.bytes())) => {
                bad.push((by, OpenPgpRejection::Invalid { key }));
            }
            Ok(_) => match by.standing(bound, now) {
                Err(rejection) => bad.push((by, rejection)),
                Ok(_) if signature.created < bound.key.created => {
                    bad.push((by, OpenPgpRejection::OlderThanKey { key }));
                }
                Ok(until) => good.push(Signed { by, with: key, until }),
            },
        }
    }
    let is_revoked = |signed: &Signed<'_>| {
        bad.iter().any(|(by, why)| by.id() == signed.by.id() && matches!(why, OpenPgpRejection::KeyRevoked { .. }))
    };
    good.retain(|signed| !is_revoked(signed));
    if good.is_empty() {
        return Err(bad.into_iter().next().map(|(_, rejection)| rejection));
    }
    // What the signature says of its own time counts only now that it is known to be one.
    if let Some(since) = signature.expires.filter(|since| *since <= now) {
        return Err(Some(OpenPgpRejection::Expired { since }));
    }
    if signature.created > now.saturating_add(MAX_AHEAD).unwrap_or(Timestamp::MAX) {
        return Err(Some(OpenPgpRejection::NotYetValid { from: signature.created }));
    }
    for signed in &mut good {
        signed.until = [signed.until, signature.expires].into_iter().flatten().min();
    }
    Ok(good)
}

/// How far the clock of who signs may be ahead of ours: it proves nothing, so nothing is lost.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// A key id is no more than 64 bits, which several keys can be made to share: of these, that many are
/// tried.
const MAX_ISSUERS: usize = 8;
