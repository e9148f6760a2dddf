use std::{collections::BTreeSet, ops::Bound};

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};

use crate::oci::{Digest, TagType};

use super::{
    Identity, IdentityRow, Page, Record, RecordId, Store, StoreError, Submission, SubmitRules, Submitted, artifacts,
    generations::Touched,
    identities::{Group, Verdict, resolve},
    record_rows::{RecordTables, UNVERIFIED_MAX},
    schema::{BY_DIGEST, BY_TAG, Bytes, IDENTITIES, Key, RECORDS, RecordKey, UNVERIFIED, decode, next_number},
    writer::Done,
};

/// Signatures: what was submitted, found again by digest, by tag and by time.
impl Store {
    /// Keeps a submission, unless it is known, expired, withdrawn or one too many. What it answers is
    /// durable.
    pub async fn submit(&self, submission: Submission, rules: SubmitRules) -> Result<Submitted, StoreError> {
        if submission.identities.is_empty() {
            return Err(StoreError::NoIdentity);
        }
        let now = self.inner.clock.now();
        let bytes = submission.signature.len() + submission.payload.as_ref().map_or(0, Vec::len);
        self.inner.records.write(bytes, move |transaction| submit(transaction, &submission, rules, now)).await
    }

    pub fn record(&self, id: &RecordId) -> Result<Option<Record>, StoreError> {
        let Some(key) = RecordKey::of(id) else { return Ok(None) };
        self.inner.records.read(|transaction| {
            let table = transaction.open_table(RECORDS)?;
            table.get(key.0.as_slice())?.map(|row| decode(TABLE, row.value())).transpose()
        })
    }

    /// Every record of a digest, the oldest first; expired ones until the sweep has removed them. There may
    /// be very many.
    pub fn records_of(&self, digest: &Digest) -> Result<Vec<Record>, StoreError> {
        self.inner.records.read(|transaction| {
            let prefix = Key::default().digest(digest);
            let mut list = Listing::new(transaction, usize::MAX, usize::MAX)?;
            let index = transaction.open_table(BY_DIGEST)?;
            list.take(&index, prefix.as_bytes(), None)?;
            Ok(list.items)
        })
    }

    pub fn has_records(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.inner.records.read(|transaction| {
            let prefix = Key::default().digest(digest);
            let index = transaction.open_table(BY_DIGEST)?;
            let first = index.range(prefix.as_bytes()..)?.next().transpose()?;
            Ok(first.is_some_and(|(row, _)| row.value().starts_with(prefix.as_bytes())))
        })
    }

    /// Those of them that are to be judged, the oldest first: what verified when it was submitted comes
    /// before the rest has filled `limit` or the size of all, so that nobody's garbage takes its place, or
    /// more memory than a few images are worth.
    pub fn records_to_judge(&self, digest: &Digest, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.inner.records.read(|transaction| {
            let prefix = Key::default().digest(digest);
            let keys = |index: &redb::ReadOnlyTable<Bytes, ()>| {
                let mut keys = BTreeSet::new();
                for row in index.range(prefix.as_bytes()..)? {
                    let (row, _) = row?;
                    if !row.value().starts_with(prefix.as_bytes()) {
                        break;
                    }
                    keys.extend(RecordKey::at_end_of(row.value()));
                }
                Ok::<_, StoreError>(keys)
            };
            let all = keys(&transaction.open_table(BY_DIGEST)?)?;
            let unverified = keys(&transaction.open_table(UNVERIFIED)?)?;
            let records = transaction.open_table(RECORDS)?;
            let mut bytes_left = JUDGED_BYTES_MAX;
            let mut judged = Vec::new();
            for key in all.difference(&unverified).chain(&unverified).take(limit) {
                let stored = records
                    .get(key.0.as_slice())?
                    .ok_or_else(|| StoreError::row(TABLE, "an index names a record that is missing"))?;
                let Some(left) = bytes_left.checked_sub(stored.value().len()) else { break };
                bytes_left = left;
                judged.push((*key, decode(TABLE, stored.value())?));
            }
            judged.sort_by_key(|(key, _)| *key);
            Ok(judged.into_iter().map(|(_, record)| record).collect())
        })
    }

    /// All of them in pages.
    pub fn records_page(
        &self,
        digest: &Digest,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<Record>, StoreError> {
        self.inner.records.read(|transaction| {
            let prefix = Key::default().digest(digest);
            let mut list = Listing::new(transaction, limit, PAGE_BYTES_MAX)?;
            let index = transaction.open_table(BY_DIGEST)?;
            list.take(&index, prefix.as_bytes(), after)?;
            Ok(list.page())
        })
    }

    /// Records in the order in which they were made, from behind one of them, of those that are wanted; and where to
    /// go on. A part may be empty, and more may come behind it.
    pub fn archive_page(
        &self,
        digest: Option<&Digest>,
        after: Option<&RecordId>,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<(Vec<Record>, Option<RecordId>), StoreError> {
        let after = after.map(|id| RecordKey::of(id).ok_or(StoreError::Cursor)).transpose()?;
        if let Some(digest) = digest {
            let after = after.map(|key| Key::default().digest(digest).record(key));
            let Page { mut items, next } = self.records_page(digest, after.as_ref().map(Key::as_bytes), limit)?;
            items.retain(wanted);
            return Ok((items, next.and_then(|row| RecordKey::at_end_of(&row)).map(RecordId::from)));
        }
        self.inner.records.read(|transaction| {
            let records = transaction.open_table(RECORDS)?;
            let start = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.0.as_slice()));
            let (mut items, mut last, mut bytes_left) = (Vec::new(), None, PAGE_BYTES_MAX);
            for row in records.range::<&[u8]>((start, Bound::Unbounded))? {
                if items.len() >= limit || bytes_left == 0 {
                    return Ok((items, last));
                }
                let (key, row) = row?;
                bytes_left = bytes_left.saturating_sub(row.value().len());
                last = RecordKey::at_end_of(key.value()).map(RecordId::from);
                let record = decode(TABLE, row.value())?;
                if wanted(&record) {
                    items.push(record);
                }
            }
            Ok((items, None))
        })
    }

    /// Records in order of type, environment and tag; `None` is no filter.
    pub fn tags_page(
        &self,
        tag_type: Option<TagType>,
        environment: Option<&str>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<Record>, StoreError> {
        let types = match tag_type {
            Some(tag_type) => vec![Some(tag_type)],
            None => vec![None, Some(TagType::Preview), Some(TagType::Internal)],
        };
        self.inner.records.read(|transaction| {
            let mut list = Listing::new(transaction, limit, PAGE_BYTES_MAX)?;
            let index = transaction.open_table(BY_TAG)?;
            for tag_type in types {
                let mut prefix = Key::default().tag_type(tag_type);
                if environment.is_some() {
                    prefix = prefix.environment(environment);
                }
                let prefix = prefix.as_bytes();
                match after {
                    // The cursor lies beyond these rows, or before them.
                    Some(after) if after.get(..1) > Some(&prefix[..1]) => {}
                    Some(after) if after.get(..1) == Some(&prefix[..1]) => list.take(&index, prefix, Some(after))?,
                    _ => list.take(&index, prefix, None)?,
                }
            }
            Ok(list.page())
        })
    }

    /// Withdraws every identity of a record, and `also` what else names the same signature: all their
    /// records go, and none of them is accepted again. `None` where there is no such record.
    pub async fn withdraw(&self, id: &RecordId, also: Vec<Identity>) -> Result<Option<Record>, StoreError> {
        let Some(key) = RecordKey::of(id) else { return Ok(None) };
        let now = self.inner.clock.now();
        self.inner.records.write(0, move |transaction| withdraw(transaction, key, &also, now)).await
    }

    pub fn identity(&self, identity: &Identity) -> Result<Option<IdentityRow>, StoreError> {
        self.inner.records.read(|transaction| {
            let known = resolve(&transaction.open_table(IDENTITIES)?, identity)?;
            Ok(known.map(|(_, known)| IdentityRow::from(&known)))
        })
    }

    /// Links identities that name one signature, met at `first_seen`; answers the earliest such moment.
    pub async fn remember_identity(
        &self,
        identities: Vec<Identity>,
        first_seen: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let known = self.inner.records.read(|transaction| {
            let group = Group::gather(&transaction.open_table(IDENTITIES)?, &identities)?;
            Ok(group.filter(|group| !group.changed() && group.known.first_seen <= first_seen))
        })?;
        if let Some(group) = known {
            return Ok(group.known.first_seen);
        }
        self.inner.records.write(0, move |transaction| remember(transaction, &identities, first_seen)).await
    }
}

fn submit(
    transaction: &WriteTransaction,
    submission: &Submission,
    rules: SubmitRules,
    now: Timestamp,
) -> Result<Done<Submitted>, StoreError> {
    let mut tables = RecordTables::open(transaction)?;
    let seen = submission.first_seen.map_or(now, |seen| seen.min(now));
    let mut group = match Group::gather(&tables.identities, &submission.identities)? {
        Some(group) => group,
        None => Group::new(&submission.identities, seen)?,
    };
    if submission.first_seen.is_some() && seen < group.known.first_seen {
        group.known_mut().first_seen = seen;
    }
    let mut touched = Touched::default();
    touched.add(submission.digest);
    let refused = match group.known.judge(submission, rules, now) {
        Verdict::New if !rules.verified && tables.unverified_of(submission)? >= UNVERIFIED_MAX => Submitted::TooMany,
        Verdict::New => {
            let key = RecordKey::new(now, next_number(transaction)?);
            let record = tables.create(key, submission, rules, group, now, &mut touched)?;
            return Ok(Done::changed(Submitted::Created(record), touched));
        }
        Verdict::Existing(id) => Submitted::Existing(tables.load(&id)?),
        Verdict::Withdrawn => Submitted::Withdrawn,
        Verdict::Expired => Submitted::Expired,
        Verdict::PromotionRefused => Submitted::PromotionRefused,
        Verdict::TooMany => Submitted::TooMany,
    };
    // Other names of a known signature, and its age, are learnt even from a submission that is refused:
    // withdrawn under one name is withdrawn under all.
    if !group.changed() || refused == Submitted::TooMany {
        return Ok(Done::unchanged(refused));
    }
    tables.align(&mut group, &mut touched)?;
    group.write(&mut tables.identities)?;
    let answer = match refused {
        Submitted::Existing(record) => Submitted::Existing(tables.load(&record.id)?),
        other => other,
    };
    Ok(Done::changed(answer, touched))
}

fn withdraw(
    transaction: &WriteTransaction,
    key: RecordKey,
    also: &[Identity],
    now: Timestamp,
) -> Result<Done<Option<Record>>, StoreError> {
    let mut tables = RecordTables::open(transaction)?;
    let Some(record) = tables.find(key)? else { return Ok(Done::unchanged(None)) };
    let names: Vec<Identity> = record.identities.iter().chain(also).copied().collect();
    let mut group = Group::gather(&tables.identities, &names)?
        .ok_or_else(|| StoreError::row(TABLE, "no identity of a record is known"))?;
    let mut touched = Touched::default();
    touched.add(record.digest);
    group.known_mut().withdrawn_at.get_or_insert(now);
    let pushed = tables.pushed(&group)?;
    tables.align(&mut group, &mut touched)?;
    group.write(&mut tables.identities)?;
    for (repository, tag, blob) in pushed {
        artifacts::forget(transaction, &repository, &tag, &blob)?;
    }
    Ok(Done::changed(Some(record), touched))
}

fn remember(
    transaction: &WriteTransaction,
    identities: &[Identity],
    first_seen: Timestamp,
) -> Result<Done<Timestamp>, StoreError> {
    let mut tables = RecordTables::open(transaction)?;
    let mut group = match Group::gather(&tables.identities, identities)? {
        Some(group) => group,
        None => Group::new(identities, first_seen)?,
    };
    if first_seen < group.known.first_seen {
        group.known_mut().first_seen = first_seen;
    }
    let earliest = group.known.first_seen;
    if !group.changed() {
        return Ok(Done::unchanged(earliest));
    }
    let mut touched = Touched::default();
    tables.align(&mut group, &mut touched)?;
    group.write(&mut tables.identities)?;
    Ok(Done::changed(earliest, touched))
}

/// Records gathered from one index, up to a number and a size.
struct Listing {
    records: redb::ReadOnlyTable<Bytes, Bytes>,
    items: Vec<Record>,
    last: Vec<u8>,
    more: bool,
    limit: usize,
    bytes_left: usize,
}

impl Listing {
    fn new(transaction: &ReadTransaction, limit: usize, bytes: usize) -> Result<Self, StoreError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            items: Vec::new(),
            last: Vec::new(),
            more: false,
            limit: limit.max(1),
            bytes_left: bytes,
        })
    }

    fn take(
        &mut self,
        index: &impl ReadableTable<Bytes, ()>,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        if self.more {
            return Ok(());
        }
        let start = match after {
            Some(after) if after.starts_with(prefix) => Bound::Excluded(after),
            Some(_) => return Err(StoreError::Cursor),
            None => Bound::Included(prefix),
        };
        for row in index.range::<&[u8]>((start, Bound::Unbounded))? {
            let (row, _) = row?;
            if !row.value().starts_with(prefix) {
                break;
            }
            if self.items.len() >= self.limit || self.bytes_left == 0 {
                self.more = true;
                break;
            }
            let key = RecordKey::at_end_of(row.value()).ok_or_else(|| StoreError::row(TABLE, "a short row"))?;
            let stored = self
                .records
                .get(key.0.as_slice())?
                .ok_or_else(|| StoreError::row(TABLE, "an index names a record that is missing"))?;
            self.bytes_left = self.bytes_left.saturating_sub(stored.value().len());
            self.items.push(decode(TABLE, stored.value())?);
            self.last = row.value().to_vec();
        }
        Ok(())
    }

    fn page(self) -> Page<Record> {
        Page { items: self.items, next: self.more.then_some(self.last) }
    }
}

const TABLE: &str = "records";

/// A page ends early rather than holding more than this.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// What the records of one image may take while they are judged.
const JUDGED_BYTES_MAX: usize = 64 << 20;
