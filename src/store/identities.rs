use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use redb::{ReadableTable, Table};
use serde::{Deserialize, Serialize};

use super::{
    Identity, IdentityRow, RecordId, StoreError, Submission, SubmitRules,
    schema::{Bytes, decode, encode},
};
use crate::oci::TagType;

/// Identities that were found to name one signature, and what is known of it.
///
/// Each identity has a row. One row of a group holds what is known, the others name it. Rows are
/// never removed: they are what keeps an expired or withdrawn signature from coming back as new.
#[derive(Debug)]
pub(super) struct Group {
    root: Identity,
    pub(super) known: Known,
    /// Given identities whose row does not name `root` yet, and roots that it has absorbed.
    to_link: Vec<Identity>,
    changed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) first_seen: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) withdrawn_at: Option<Timestamp>,
    /// Every set of labels that it has had here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) labelled: Vec<Labelled>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Labelled {
    pub(super) labels: Labels,
    #[serde(default)]
    pub(super) preview: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    /// `None` once the sweep has removed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<RecordId>,
}

/// A hash of what a record says of itself: tag, type, environment, repository, and the digest; and whether
/// it speaks for the tag or for the digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Labels(String);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Row {
    SameAs(Identity),
    Known(Known),
}

/// What may become of a submission of a known signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Withdrawn,
    Expired,
    Existing(RecordId),
    PromotionRefused,
    /// More sets of labels than one signature may have.
    TooMany,
    New,
}

impl Group {
    /// The group of these identities, with everything that its members know put together, or `None`
    /// where all are new. Nothing is written before `write`.
    pub(super) fn gather(
        table: &impl ReadableTable<Bytes, Bytes>,
        given: &[Identity],
    ) -> Result<Option<Self>, StoreError> {
        let mut group: Option<Self> = None;
        let mut to_link = Vec::new();
        for identity in given {
            let Some((root, known)) = resolve(table, identity)? else {
                to_link.push(*identity);
                continue;
            };
            match &mut group {
                None => group = Some(Self { root, known, to_link: Vec::new(), changed: false }),
                Some(group) if group.root != root && !group.to_link.contains(&root) => group.absorb(root, known),
                Some(_) => {}
            }
        }
        if let Some(group) = &mut group {
            group.to_link.append(&mut to_link);
            group.changed = !group.to_link.is_empty();
        }
        Ok(group)
    }

    /// A group of identities that nobody has met before.
    pub(super) fn new(given: &[Identity], first_seen: Timestamp) -> Result<Self, StoreError> {
        let (root, rest) = given.split_first().ok_or(StoreError::NoIdentity)?;
        let known = Known { first_seen, withdrawn_at: None, labelled: Vec::new() };
        Ok(Self { root: *root, known, to_link: rest.to_vec(), changed: true })
    }

    /// The older of two roots stays, so that chains of names stay short.
    fn absorb(&mut self, mut root: Identity, known: Known) {
        if known.first_seen < self.known.first_seen {
            std::mem::swap(&mut self.root, &mut root);
        }
        self.known.absorb(known);
        self.to_link.push(root);
    }

    /// Whether writing it would change a row.
    pub(super) fn changed(&self) -> bool {
        self.changed
    }

    /// What is known, to be changed.
    pub(super) fn known_mut(&mut self) -> &mut Known {
        self.changed = true;
        &mut self.known
    }

    pub(super) fn write(&self, table: &mut Table<'_, Bytes, Bytes>) -> Result<(), StoreError> {
        let same_as = encode(TABLE, &Row::SameAs(self.root))?;
        for identity in self.to_link.iter().filter(|identity| **identity != self.root) {
            table.insert(identity.0.as_slice(), same_as.as_slice())?;
        }
        let known = encode(TABLE, &Row::Known(self.known.clone()))?;
        table.insert(self.root.0.as_slice(), known.as_slice())?;
        Ok(())
    }
}

impl Known {
    /// Withdrawal wins over everything, then expiry, then what is there already: a submission can
    /// bring nothing back.
    pub(super) fn judge(&self, submission: &Submission, rules: SubmitRules, now: Timestamp) -> Verdict {
        if self.withdrawn_at.is_some() {
            return Verdict::Withdrawn;
        }
        let life_over = rules.life.is_some_and(|life| is_over(self.first_seen, life, now));
        let expired = |labelled: &Labelled| {
            (labelled.preview && life_over) || labelled.expires_at.is_some_and(|expires_at| expires_at <= now)
        };
        let labels = Labels::of(submission);
        let mut same = self.labelled.iter().filter(|labelled| labelled.labels == labels).peekable();
        if same.peek().is_some() {
            let mut verdict = Verdict::New;
            for labelled in same {
                match &labelled.record {
                    _ if expired(labelled) => verdict = Verdict::Expired,
                    Some(record) => return Verdict::Existing(record.clone()),
                    None => {}
                }
            }
            return verdict;
        }
        if submission.tag_type == Some(TagType::Preview) && life_over {
            return Verdict::Expired;
        }
        match self.labelled.as_slice() {
            [] => Verdict::New,
            all if all.iter().all(expired) => Verdict::Expired,
            _ if !rules.may_promote => Verdict::PromotionRefused,
            all if all.len() >= LABELS_MAX => Verdict::TooMany,
            _ => Verdict::New,
        }
    }

    /// Notes a new record, in the place of a removed one with the same labels.
    pub(super) fn add(&mut self, labelled: Labelled) {
        self.labelled.retain(|other| other.record.is_some() || other.labels != labelled.labels);
        self.labelled.push(labelled);
    }

    /// Notes that the sweep has removed a record.
    pub(super) fn remove(&mut self, record: &RecordId) {
        for labelled in &mut self.labelled {
            if labelled.record.as_ref() == Some(record) {
                labelled.record = None;
            }
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &RecordId> {
        self.labelled.iter().filter_map(|labelled| labelled.record.as_ref())
    }

    fn absorb(&mut self, other: Self) {
        self.first_seen = self.first_seen.min(other.first_seen);
        self.withdrawn_at = match (self.withdrawn_at, other.withdrawn_at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.labelled.extend(other.labelled);
    }
}

impl Labels {
    pub(super) fn of(submission: &Submission) -> Self {
        let labels = (
            &submission.digest,
            &submission.tag,
            submission.tag_type,
            &submission.environment,
            submission.repository.as_ref().map(|repository| repository.as_str()),
        );
        let mut text = serde_json::to_vec(&labels).expect("labels are text");
        if submission.of_digest {
            text.extend_from_slice(b"of the digest");
        }
        Self(hex::encode(&digest(&SHA256, &text).as_ref()[..16]))
    }
}

impl From<&Known> for IdentityRow {
    fn from(known: &Known) -> Self {
        Self { first_seen: known.first_seen, withdrawn: known.withdrawn_at.is_some() }
    }
}

/// Whether a life that began at `first_seen` has ended by `now`. One too long to count never ends.
fn is_over(first_seen: Timestamp, life: Duration, now: Timestamp) -> bool {
    first_seen.checked_add(life).is_ok_and(|end| end <= now)
}

/// What is known of one identity, and under which identity's row.
pub(super) fn resolve(
    table: &impl ReadableTable<Bytes, Bytes>,
    identity: &Identity,
) -> Result<Option<(Identity, Known)>, StoreError> {
    let mut at = *identity;
    for _ in 0..LINKS_MAX {
        let Some(row) = table.get(at.0.as_slice())? else {
            return if at == *identity {
                Ok(None)
            } else {
                Err(StoreError::row(TABLE, "it names a row that is missing"))
            };
        };
        match decode(TABLE, row.value())? {
            Row::Known(known) => return Ok(Some((at, known))),
            Row::SameAs(next) => at = next,
        }
    }
    Err(StoreError::row(TABLE, "its rows name each other in a circle"))
}

const TABLE: &str = "identities";

/// How many sets of labels one signature may have.
const LABELS_MAX: usize = 64;

/// Far more rows than any chain of names has; past it the chain is a circle.
const LINKS_MAX: usize = 1 << 20;
