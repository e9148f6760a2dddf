use std::ops::Bound;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};

use crate::oci::{Digest, TagType};

use super::{
    Identity, IdentityRow, Page, Record, RecordId, Store, StoreError, Submission, SubmitRules, Submitted,
    generations::Touched,
    identities::{Group, Labelled, Labels, Verdict, resolve},
    schema::{
        BY_DIGEST, BY_EXPIRES_AT, BY_FIRST_SEEN, BY_TAG, Bytes, IDENTITIES, Key, RECORDS, RecordKey, UNVERIFIED,
        decode, encode, next_number, time_number,
    },
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
            table.get(key.0.as_slice())?.map(|row| decode(RECORDS_TABLE, row.value())).transpose()
        })
    }

    /// Every record of a digest, the oldest first; expired ones until the sweep has removed them.
    pub fn records_of(&self, digest: &Digest) -> Result<Vec<Record>, StoreError> {
        self.inner.records.read(|transaction| {
            let prefix = Key::default().digest(digest);
            let mut list = Listing::new(transaction, usize::MAX, usize::MAX)?;
            let index = transaction.open_table(BY_DIGEST)?;
            list.take(&index, prefix.as_bytes(), None)?;
            Ok(list.items)
        })
    }

    /// The same in pages.
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
    let group = Group::gather(&tables.identities, &submission.identities)?;
    let mut touched = Touched::default();
    touched.add(submission.digest);
    let verdict = group.as_ref().map_or(Verdict::New, |group| group.known.judge(submission, rules, now));
    let refused = match verdict {
        Verdict::New if !rules.verified && tables.unverified_of(submission)? >= UNVERIFIED_MAX => Submitted::TooMany,
        Verdict::New => {
            let group = match group {
                Some(group) => group,
                None => Group::new(&submission.identities, now)?,
            };
            let key = RecordKey::new(now, next_number(transaction)?);
            let record = tables.create(key, submission, rules, group, now)?;
            return Ok(Done::changed(Submitted::Created(record), touched));
        }
        Verdict::Existing(id) => Submitted::Existing(tables.load(&id)?),
        Verdict::Withdrawn => Submitted::Withdrawn,
        Verdict::Expired => Submitted::Expired,
        Verdict::PromotionRefused => Submitted::PromotionRefused,
        Verdict::TooMany => Submitted::TooMany,
    };
    // Other names of a known signature are learnt even from a submission that is refused: withdrawn
    // under one name is withdrawn under all.
    match group {
        Some(group) if group.changed() && refused != Submitted::TooMany => {
            tables.align(&group, &mut touched)?;
            group.write(&mut tables.identities)?;
            let answer = match refused {
                Submitted::Existing(record) => Submitted::Existing(tables.load(&record.id)?),
                other => other,
            };
            Ok(Done::changed(answer, touched))
        }
        _ => Ok(Done::unchanged(refused)),
    }
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
        .ok_or_else(|| StoreError::row(RECORDS_TABLE, "no identity of a record is known"))?;
    let mut touched = Touched::default();
    touched.add(record.digest);
    let ids: Vec<RecordId> = group.known.records().cloned().collect();
    for id in &ids {
        let record = tables.load(id)?;
        tables.remove(&record)?;
        touched.add(record.digest);
    }
    let known = group.known_mut();
    known.withdrawn_at.get_or_insert(now);
    ids.iter().for_each(|id| known.remove(id));
    group.write(&mut tables.identities)?;
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
    tables.align(&group, &mut touched)?;
    group.write(&mut tables.identities)?;
    Ok(Done::changed(earliest, touched))
}

/// The tables that a record has rows in, so that it is written and removed in one place.
pub(super) struct RecordTables<'t> {
    records: Table<'t, Bytes, Bytes>,
    by_digest: Table<'t, Bytes, ()>,
    by_tag: Table<'t, Bytes, ()>,
    pub(super) by_first_seen: Table<'t, Bytes, ()>,
    pub(super) by_expires_at: Table<'t, Bytes, Option<u64>>,
    unverified: Table<'t, Bytes, ()>,
    pub(super) identities: Table<'t, Bytes, Bytes>,
}

impl<'t> RecordTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            by_digest: transaction.open_table(BY_DIGEST)?,
            by_tag: transaction.open_table(BY_TAG)?,
            by_first_seen: transaction.open_table(BY_FIRST_SEEN)?,
            by_expires_at: transaction.open_table(BY_EXPIRES_AT)?,
            unverified: transaction.open_table(UNVERIFIED)?,
            identities: transaction.open_table(IDENTITIES)?,
        })
    }

    pub(super) fn find(&self, key: RecordKey) -> Result<Option<Record>, StoreError> {
        self.records.get(key.0.as_slice())?.map(|row| decode(RECORDS_TABLE, row.value())).transpose()
    }

    fn load(&self, id: &RecordId) -> Result<Record, StoreError> {
        let key = RecordKey::of(id).ok_or_else(|| StoreError::row(RECORDS_TABLE, "an id is not a key"))?;
        self.find(key)?.ok_or_else(|| StoreError::row(RECORDS_TABLE, "an identity names a record that is missing"))
    }

    /// How many unverified records of the digest its submitter has, counted no further than the cap.
    fn unverified_of(&self, submission: &Submission) -> Result<usize, StoreError> {
        let prefix = unverified_prefix(&submission.digest, &submission.submitted_by);
        let mut count = 0;
        for row in self.unverified.range(prefix.as_bytes()..)?.take(UNVERIFIED_MAX) {
            count += usize::from(row?.0.value().starts_with(prefix.as_bytes()));
        }
        Ok(count)
    }

    fn create(
        &mut self,
        key: RecordKey,
        submission: &Submission,
        rules: SubmitRules,
        mut group: Group,
        now: Timestamp,
    ) -> Result<Record, StoreError> {
        let record = Record {
            id: key.into(),
            digest: submission.digest,
            repository: submission.repository.clone(),
            tag: submission.tag.clone(),
            tag_type: submission.tag_type,
            environment: submission.environment.clone(),
            format: submission.format.clone(),
            signature: submission.signature.clone(),
            payload: submission.payload.clone(),
            signer: submission.signer.clone(),
            metadata: submission.metadata.clone(),
            expires_at: submission.expires_at,
            created_at: now,
            first_seen: group.known.first_seen,
            granted: submission.granted,
            identities: submission.identities.clone(),
            submitted_by: submission.submitted_by.clone(),
        };
        self.align(&group, &mut Touched::default())?;
        group.known_mut().add(Labelled {
            labels: Labels::of(submission),
            preview: submission.tag_type == Some(TagType::Preview),
            expires_at: submission.expires_at,
            record: Some(record.id.clone()),
        });
        group.write(&mut self.identities)?;
        self.insert(key, &record)?;
        if !rules.verified {
            self.unverified.insert(unverified_key(&record, key).as_bytes(), ())?;
        }
        Ok(record)
    }

    fn insert(&mut self, key: RecordKey, record: &Record) -> Result<(), StoreError> {
        let row = encode(RECORDS_TABLE, record)?;
        let index = IndexRows::of(record)?;
        self.records.insert(key.0.as_slice(), row.as_slice())?;
        self.by_digest.insert(index.by_digest.as_bytes(), ())?;
        self.by_tag.insert(index.by_tag.as_bytes(), ())?;
        if let Some(row) = index.by_first_seen {
            self.by_first_seen.insert(row.as_bytes(), ())?;
        }
        if let Some((row, first_seen)) = index.by_expires_at {
            self.by_expires_at.insert(row.as_bytes(), first_seen)?;
        }
        Ok(())
    }

    /// Removes a record with all its index rows. What its identity knows of it is the caller's.
    pub(super) fn remove(&mut self, record: &Record) -> Result<(), StoreError> {
        let index = IndexRows::of(record)?;
        self.records.remove(index.key.0.as_slice())?;
        self.by_digest.remove(index.by_digest.as_bytes())?;
        self.by_tag.remove(index.by_tag.as_bytes())?;
        if let Some(row) = index.by_first_seen {
            self.by_first_seen.remove(row.as_bytes())?;
        }
        if let Some((row, _)) = index.by_expires_at {
            self.by_expires_at.remove(row.as_bytes())?;
        }
        self.unverified.remove(unverified_key(record, index.key).as_bytes())?;
        Ok(())
    }

    /// Gives every record of a group the group's first_seen, which may have become earlier.
    fn align(&mut self, group: &Group, touched: &mut Touched) -> Result<(), StoreError> {
        for id in group.known.records() {
            let mut record = self.load(id)?;
            touched.add(record.digest);
            if record.first_seen != group.known.first_seen {
                let old = IndexRows::of(&record)?;
                if let Some(row) = old.by_first_seen {
                    self.by_first_seen.remove(row.as_bytes())?;
                }
                record.first_seen = group.known.first_seen;
                self.insert(old.key, &record)?;
            }
        }
        Ok(())
    }
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
            let key = RecordKey::at_end_of(row.value()).ok_or_else(|| StoreError::row(RECORDS_TABLE, "a short row"))?;
            let stored = self
                .records
                .get(key.0.as_slice())?
                .ok_or_else(|| StoreError::row(RECORDS_TABLE, "an index names a record that is missing"))?;
            self.bytes_left = self.bytes_left.saturating_sub(stored.value().len());
            self.items.push(decode(RECORDS_TABLE, stored.value())?);
            self.last = row.value().to_vec();
        }
        Ok(())
    }

    fn page(self) -> Page<Record> {
        Page { items: self.items, next: self.more.then_some(self.last) }
    }
}

/// The index rows that every record has, put together in one place.
pub(super) struct IndexRows {
    pub(super) key: RecordKey,
    pub(super) by_digest: Key,
    pub(super) by_tag: Key,
    pub(super) by_first_seen: Option<Key>,
    pub(super) by_expires_at: Option<(Key, Option<u64>)>,
}

impl IndexRows {
    pub(super) fn of(record: &Record) -> Result<Self, StoreError> {
        let key = RecordKey::of(&record.id).ok_or_else(|| StoreError::row(RECORDS_TABLE, "an id is not a key"))?;
        let preview = record.tag_type == Some(TagType::Preview);
        let by_tag = Key::default()
            .tag_type(record.tag_type)
            .environment(record.environment.as_deref())
            .word(record.tag.as_str())
            .record(key);
        Ok(Self {
            key,
            by_digest: Key::default().digest(&record.digest).record(key),
            by_tag,
            by_first_seen: preview.then(|| Key::default().time(record.first_seen).record(key)),
            by_expires_at: record.expires_at.map(|expires_at| {
                (Key::default().time(expires_at).record(key), preview.then(|| time_number(record.first_seen)))
            }),
        })
    }
}

fn unverified_prefix(of: &Digest, submitted_by: &str) -> Key {
    Key::default().digest(of).raw(&digest(&SHA256, submitted_by.as_bytes()).as_ref()[..16])
}

fn unverified_key(record: &Record, key: RecordKey) -> Key {
    unverified_prefix(&record.digest, &record.submitted_by).record(key)
}

const RECORDS_TABLE: &str = "records";

/// How many unverified records of one digest one submitter may have: garbage hides nothing behind it.
const UNVERIFIED_MAX: usize = 64;

/// A page ends early rather than holding more than this.
const PAGE_BYTES_MAX: usize = 8 << 20;
