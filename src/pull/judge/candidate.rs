//! What there is to be judged, and in which order.

use jiff::Timestamp;

use crate::store::{FoundEnvelope, FoundId, Identity, Record};

use super::{Judged, Origin, Signed, inconclusive};

/// A signature that the store has for the image.
pub(super) struct Candidate {
    origin: Origin,
    signed: Signed,
    first_seen: Timestamp,
    expires_at: Option<Timestamp>,
    /// What it had verified as, for one that was found.
    pub(super) verified: Option<Identity>,
    verified_before: bool,
    pub(super) found: Option<FoundId>,
}

impl Candidate {
    pub(super) fn of_record(record: Record) -> Self {
        Self {
            signed: Signed::from(&record),
            verified_before: record.verified_before(),
            verified: None,
            found: None,
            origin: if record.of_digest {
                Origin::Pushed
            } else {
                Origin::Record {
                    id: record.id,
                    tag: record.tag,
                    repository: record.repository,
                    tag_type: record.tag_type,
                    granted: record.granted,
                }
            },
            first_seen: record.first_seen,
            expires_at: record.expires_at,
        }
    }

    pub(super) fn of_found(found: FoundEnvelope) -> Self {
        Self {
            verified_before: found.verified.is_some(),
            verified: found.verified,
            found: Some(found.id()),
            origin: Origin::Found,
            signed: Signed {
                format: found.format.parse().ok(),
                signature: found.signature,
                payload: found.payload,
                annotations: found.annotations,
            },
            first_seen: found.first_seen,
            expires_at: None,
        }
    }

    /// What is known before it was looked at, and what there is to look at.
    pub(super) fn unjudged(self) -> (Judged, Signed) {
        let Self { origin, signed, first_seen, expires_at, .. } = self;
        (Judged { origin, outcome: inconclusive(), first_seen, expires_at }, signed)
    }
}

/// What verified before comes first. Of the rest what anybody may have submitted takes turns with what only those could put
/// there who may write to the registry, so that however much there is of one, the other has half of the time.
pub(super) fn in_order(candidates: impl Iterator<Item = Candidate>) -> Vec<Candidate> {
    let (mut ordered, others): (Vec<_>, Vec<_>) = candidates.partition(|candidate| candidate.verified_before);
    let is_record = |candidate: &Candidate| matches!(candidate.origin, Origin::Record { .. });
    let (records, found): (Vec<_>, Vec<_>) = others.into_iter().partition(is_record);
    let (mut records, mut found) = (records.into_iter(), found.into_iter());
    loop {
        let next = [found.next(), records.next()];
        if next.iter().all(Option::is_none) {
            return ordered;
        }
        ordered.extend(next.into_iter().flatten());
    }
}
