use redb::{ReadTransaction, ReadableTable};

use crate::oci::TagType;

use super::{
    Record, Store, StoreError,
    identities::resolve,
    record_rows::IndexRows,
    schema::{
        BY_DIGEST, BY_EXPIRES_AT, BY_FIRST_SEEN, BY_TAG, Bytes, IDENTITIES, RECORDS, RecordKey, UNVERIFIED, decode,
    },
};

/// What a look at every record and index row found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub records: usize,
    /// Each row that another one contradicts, in words.
    pub flaws: Vec<String>,
}

impl Store {
    /// Reads every record and every index row and compares them; for tests and for whoever doubts a
    /// disk. It takes as long as the file is large.
    pub fn check(&self) -> Result<Checked, StoreError> {
        self.inner.records.read(|transaction| {
            let mut checked = Checked { records: 0, flaws: Vec::new() };
            let mut expected = Counts::default();
            let identities = transaction.open_table(IDENTITIES)?;
            for row in transaction.open_table(RECORDS)?.iter()? {
                let (key, row) = row?;
                let record: Record = decode("records", row.value())?;
                checked.records += 1;
                let mut flaw = |flaw: &str| checked.flaws.push(format!("record {}: {flaw}", record.id));
                if RecordKey::of(&record.id).is_none_or(|id| id.0 != key.value()) {
                    flaw("lies under another key");
                    continue;
                }
                for identity in &record.identities {
                    match resolve(&identities, identity)? {
                        Some((_, known)) if known.withdrawn_at.is_some() => flaw("its identity is withdrawn"),
                        Some((_, known)) if !known.records().any(|id| *id == record.id) => {
                            flaw("its identity does not know it");
                        }
                        Some((_, known)) if known.first_seen != record.first_seen => flaw("its first_seen differs"),
                        Some(_) => {}
                        None => flaw("its identity is unknown"),
                    }
                }
                for missing in missing(transaction, &record)? {
                    flaw(missing);
                }
                expected.add(&record);
            }
            for (name, found, expected) in expected.compare(transaction)? {
                if found != expected {
                    checked.flaws.push(format!("{name} has {found} rows for {expected} records"));
                }
            }
            Ok(checked)
        })
    }
}

#[derive(Default)]
struct Counts {
    records: u64,
    previews: u64,
    ending: u64,
}

impl Counts {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        self.previews += u64::from(record.tag_type == Some(TagType::Preview));
        self.ending += u64::from(record.expires_at.is_some());
    }

    fn compare(&self, transaction: &ReadTransaction) -> Result<[(&'static str, u64, u64); 5], StoreError> {
        use redb::ReadableTableMetadata as _;
        let unverified = transaction.open_table(UNVERIFIED)?.len()?;
        Ok([
            ("by_digest", transaction.open_table(BY_DIGEST)?.len()?, self.records),
            ("by_tag", transaction.open_table(BY_TAG)?.len()?, self.records),
            ("by_first_seen", transaction.open_table(BY_FIRST_SEEN)?.len()?, self.previews),
            ("by_expires_at", transaction.open_table(BY_EXPIRES_AT)?.len()?, self.ending),
            ("unverified", unverified.min(self.records), unverified),
        ])
    }
}

fn missing(transaction: &ReadTransaction, record: &Record) -> Result<Vec<&'static str>, StoreError> {
    let rows = IndexRows::of(record)?;
    let mut missing = Vec::new();
    let has = |table: &redb::ReadOnlyTable<Bytes, ()>, key: &[u8]| Ok::<_, StoreError>(table.get(key)?.is_some());
    if !has(&transaction.open_table(BY_DIGEST)?, rows.by_digest.as_bytes())? {
        missing.push("no row in by_digest");
    }
    if !has(&transaction.open_table(BY_TAG)?, rows.by_tag.as_bytes())? {
        missing.push("no row in by_tag");
    }
    if let Some(key) = rows.by_first_seen
        && !has(&transaction.open_table(BY_FIRST_SEEN)?, key.as_bytes())?
    {
        missing.push("no row in by_first_seen");
    }
    if let Some((key, first_seen)) = rows.by_expires_at {
        let row = transaction.open_table(BY_EXPIRES_AT)?.get(key.as_bytes())?.map(|row| row.value());
        if row != Some(first_seen) {
            missing.push("no such row in by_expires_at");
        }
    }
    Ok(missing)
}
