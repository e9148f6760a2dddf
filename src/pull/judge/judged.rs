use std::time::Duration;

use jiff::Timestamp;

use crate::{
    oci::{Repository, Tag, TagType},
    policy::Finding,
    store::RecordId,
    trust::{Outcome, Rejection},
};

/// One signature and its outcome, before anything of policy.
#[derive(Debug, Clone)]
pub struct Judged {
    pub origin: Origin,
    pub outcome: Outcome,
    /// The earliest time at which this signature was seen, whoever brought it.
    pub first_seen: Timestamp,
    /// The end that the record itself has.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub enum Origin {
    /// Submitted, and bound to what it names.
    Record { id: RecordId, tag: Tag, repository: Option<Repository>, tag_type: Option<TagType>, granted: bool },
    /// Pushed here as an artifact of the digest; bears on the digest, as what was found does.
    Pushed,
    /// Found at the upstream; bears on the digest.
    Found,
}

impl Judged {
    /// What this signature is worth for an image of class `class` at `now`.
    pub fn finding(&self, class: Option<TagType>, preview_ttl: Option<Duration>, now: Timestamp) -> Finding {
        if matches!(self.outcome, Outcome::Verified(_)) && self.ends(class, preview_ttl).is_some_and(|end| end <= now) {
            return Finding::Rejected(Rejection::Expired);
        }
        self.outcome.clone().into()
    }

    /// The earliest of the record's own end and, for what is preview, the end of its life.
    pub fn ends(&self, class: Option<TagType>, preview_ttl: Option<Duration>) -> Option<Timestamp> {
        let preview = [class, self.tag_type()].contains(&Some(TagType::Preview));
        let life = preview_ttl.filter(|_| preview).map(|ttl| end_of_life(self.first_seen, ttl));
        [self.expires_at, life].into_iter().flatten().min()
    }

    /// Whether a key verifies it, expired or not.
    pub fn is_authentic(&self) -> bool {
        matches!(self.outcome, Outcome::Verified(_))
    }

    /// The tag that this signature names.
    pub fn tag(&self) -> Option<&Tag> {
        match &self.origin {
            Origin::Record { tag, .. } => Some(tag),
            Origin::Pushed | Origin::Found => None,
        }
    }

    /// Whether it may speak for `tag`: a record for the tag it names, what was found for every tag.
    pub fn bears_on(&self, tag: &Tag) -> bool {
        self.tag().is_none_or(|named| named == tag)
    }

    fn tag_type(&self) -> Option<TagType> {
        match &self.origin {
            Origin::Record { tag, tag_type, .. } => tag_type.or(tag.stated_type()),
            Origin::Pushed | Origin::Found => None,
        }
    }
}

/// When a preview signature ends that was first seen at `first_seen`.
pub fn end_of_life(first_seen: Timestamp, ttl: Duration) -> Timestamp {
    first_seen.saturating_add(ttl).unwrap_or(Timestamp::MAX)
}
