//! Signatures that were looked at in vain. Kept, they cost nothing when their image is looked at again, so that a look
//! which ran out of time goes on behind them: garbage puts the good signature off, and never hides it.

use aws_lc_rs::digest::{Context, SHA256, digest};
use jiff::Timestamp;
use quick_cache::sync::Cache;

use super::question::{Answer, Question, Signed};
use crate::{
    pull::trusted::{Reliance, Trusted},
    trust::{NotationRejection, OpenPgpRejection, Outcome, Rejection, SigstoreRejection},
};

pub(super) struct Vain(Cache<[u8; 32], std::sync::Arc<Refused>>);

/// Why one does not count, and what that rests on.
struct Refused {
    rejection: Rejection,
    hash: Option<[u8; 32]>,
    reliance: Reliance,
    until: Option<Timestamp>,
    with_manifest: bool,
}

impl Vain {
    pub(super) fn new() -> Self {
        Self(Cache::new(KEPT))
    }

    /// What was found before, if nothing has changed that it rests on.
    pub(super) fn answer(
        &self,
        question: &Question,
        signed: &[u8; 32],
        trusted: &Trusted,
        now: Timestamp,
    ) -> Option<Answer> {
        let refused = self.0.get(signed)?;
        let stands = refused.with_manifest >= question.manifest.is_some()
            && trusted.leaves(&refused.reliance)
            && refused.until.is_none_or(|until| now < until);
        let outcome = Outcome::Rejected(refused.rejection.clone());
        stands.then(|| Answer { outcome, hash: refused.hash, checks: Vec::new() })
    }

    /// Keeps what a look found, if that was in vain. `generation` was read before the signers, of whom the next to
    /// change does so at `until`.
    pub(super) fn keep(
        &self,
        question: &Question,
        signed: [u8; 32],
        answer: &Answer,
        generation: u64,
        until: Option<Timestamp>,
    ) {
        let Outcome::Rejected(rejection) = &answer.outcome else { return };
        if !is_for_good(rejection) {
            return;
        }
        let refused = Refused {
            rejection: rejection.clone(),
            hash: answer.hash,
            reliance: Reliance::new(generation, [&answer.outcome]),
            until,
            with_manifest: question.manifest.is_some(),
        };
        self.0.insert(signed, refused.into());
    }
}

impl Question {
    /// Tells one signature, asked about for one image, from all others.
    pub(super) fn fingerprint(&self, signed: &Signed) -> [u8; 32] {
        let Signed { format, signature, payload, annotations } = signed;
        let mut hasher = Context::new(&SHA256);
        let mut feed = |part: &[u8]| hasher.update(digest(&SHA256, part).as_ref());
        feed(self.digest.to_string().as_bytes());
        feed(self.repository.as_ref().map(ToString::to_string).unwrap_or_default().as_bytes());
        feed(format.map(|format| format.as_str()).unwrap_or_default().as_bytes());
        feed(signature);
        feed(&[payload.is_some().into()]);
        feed(payload.as_deref().unwrap_or_default());
        annotations.iter().flat_map(|(name, value)| [name, value]).for_each(|text| feed(text.as_bytes()));
        hasher.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Whether neither time nor an answer about revocation can make it better, but the signers alone.
fn is_for_good(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::NoTrustedKey
        | Rejection::TooLarge
        | Rejection::Malformed
        | Rejection::Unsupported { .. }
        | Rejection::SubjectMismatch { .. }
        | Rejection::PayloadType
        | Rejection::RepositoryMismatch { .. } => true,
        Rejection::Sigstore(rejection) => !matches!(rejection, SigstoreRejection::LogTime { .. }),
        Rejection::Notation(rejection) => {
            matches!(rejection, NotationRejection::Chain(_) | NotationRejection::Signature)
        }
        Rejection::OpenPgp(rejection) => matches!(rejection, OpenPgpRejection::Invalid { .. }),
        Rejection::SignerRevoked { .. }
        | Rejection::SignerNotYetValid { .. }
        | Rejection::SignerExpired { .. }
        | Rejection::Expired
        | Rejection::Withdrawn => false,
    }
}

const KEPT: usize = 16_384;
