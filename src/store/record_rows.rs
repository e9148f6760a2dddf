use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use redb::{ReadableTable, Table, WriteTransaction};

use crate::oci::{Digest, Repository, Tag, TagType};

use super::{
    Record, RecordId, StoreError, Submission, SubmitRules,
    generations::Touched,
    identities::{Group, Labelled, Labels},
    schema::{
        BY_DIGEST, BY_EXPIRES_AT, BY_FIRST_SEEN, BY_TAG, Bytes, IDENTITIES, Key, RECORDS, RecordKey, UNVERIFIED,
        decode, encode, time_number,
    },
};

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
        self.records.get(key.0.as_slice())?.map(|row| decode(TABLE, row.value())).transpose()
    }

    pub(super) fn load(&self, id: &RecordId) -> Result<Record, StoreError> {
        let key = RecordKey::of(id).ok_or_else(|| StoreError::row(TABLE, "an id is not a key"))?;
        self.find(key)?.ok_or_else(|| StoreError::row(TABLE, "an identity names a record that is missing"))
    }

    /// How many unverified records of the digest its submitter has, counted no further than the cap.
    pub(super) fn unverified_of(&self, submission: &Submission) -> Result<usize, StoreError> {
        let prefix = unverified_prefix(&submission.digest, &submission.submitted_by);
        let mut count = 0;
        for row in self.unverified.range(prefix.as_bytes()..)?.take(UNVERIFIED_MAX) {
            count += usize::from(row?.0.value().starts_with(prefix.as_bytes()));
        }
        Ok(count)
    }

    pub(super) fn create(
        &mut self,
        key: RecordKey,
        submission: &Submission,
        rules: SubmitRules,
        mut group: Group,
        now: Timestamp,
        touched: &mut Touched,
    ) -> Result<Record, StoreError> {
        let record = Record {
            id: key.into(),
            digest: submission.digest,
            repository: submission.repository.clone(),
            tag: submission.tag.clone(),
            tag_type: submission.tag_type,
            environment: submission.environment.clone(),
            of_digest: submission.of_digest,
            format: submission.format.clone(),
            signature: submission.signature.clone(),
            payload: submission.payload.clone(),
            annotations: submission.annotations.clone(),
            signer: submission.signer.clone(),
            metadata: submission.metadata.clone(),
            expires_at: submission.expires_at,
            created_at: now,
            first_seen: group.known.first_seen,
            granted: submission.granted,
            identities: submission.identities.clone(),
            submitted_by: submission.submitted_by.clone(),
        };
        self.align(&mut group, touched)?;
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
        let row = encode(TABLE, record)?;
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

    /// Where records of a group were pushed as artifacts, and which blob each came in.
    pub(super) fn pushed(&self, group: &Group) -> Result<Vec<(Repository, Tag, Digest)>, StoreError> {
        let records = group.known.records().map(|id| self.load(id)).collect::<Result<Vec<_>, _>>()?;
        let pushed = records.into_iter().filter(|record| record.of_digest).filter_map(|record| {
            let blob = record.payload.as_ref().unwrap_or(&record.signature);
            Some((record.repository?, record.tag, Digest::sha256(blob)))
        });
        Ok(pushed.collect())
    }

    /// Holds the records of a group to what the group knows since it grew: its first_seen may have
    /// become earlier, and a withdrawal under one name ends the records under all.
    pub(super) fn align(&mut self, group: &mut Group, touched: &mut Touched) -> Result<(), StoreError> {
        let ids: Vec<RecordId> = group.known.records().cloned().collect();
        for id in ids {
            let mut record = self.load(&id)?;
            touched.add(record.digest);
            if group.known.withdrawn_at.is_some() {
                self.remove(&record)?;
                group.known_mut().remove(&id);
            } else if record.first_seen != group.known.first_seen {
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
        let key = RecordKey::of(&record.id).ok_or_else(|| StoreError::row(TABLE, "an id is not a key"))?;
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

const TABLE: &str = "records";

/// How many unverified records of one digest one submitter may have: garbage hides nothing behind it.
pub(super) const UNVERIFIED_MAX: usize = 64;
