//! What lies in the two databases, byte by byte. Format 1.
//!
//! Numbers are big-endian, so that keys sort as what they mean. `time` is microseconds since 1970 as a
//! signed number with its sign bit flipped (8 bytes). `record` is a record's key (16 bytes): the `time`
//! of its creation and a number that no other row has; its id is that in hexadecimal. `digest` is one
//! byte for the algorithm (1 SHA-256, 2 SHA-512) and the hash, so its length follows from its first
//! byte. `text` ends in 00; within it 00 is written 00 FF and the end 00 00 where it can hold any byte.
//! `repo` is the canonical name of a repository as text.
//!
//! `records.redb`
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `format`, `sequence`, `store`, `paired`, `latest_time`: u64 |
//! | `records` | record | the record as JSON |
//! | `by_digest` | digest, record | – |
//! | `by_tag` | type (0 none, 1 preview, 2 internal), environment (00, or 01 and text), tag as text, record | – |
//! | `by_first_seen` | time, record; preview records only | – |
//! | `by_expires_at` | time, record; records with an end of their own | `time` of first_seen of a preview record |
//! | `unverified` | digest, hash of the submitter (16), record | – |
//! | `identities` | identity (32) | JSON: what is known of it, or the identity that it is the same as |
//! | `signers` | id of the credential | JSON |
//! | `revocations` | id of the credential | RFC 3339 time, and ` keeps-earlier` where what was signed before counts on |
//! | `artifacts` | repo, digest | digest of the subject, 1 if it names that itself, else 0, length of the media type (2), media type, bytes |
//! | `artifacts_of` | repo, digest of the subject, digest | JSON: whose it is, and how much |
//! | `artifact_tags` | repo, tag | digest |
//! | `artifact_blobs` | repo, digest | bytes |
//! | `artifact_layers` | repo, digest of a blob, digest of an artifact that names it | – |
//! | `artifact_bytes` | account | how much it has: u64 |
//! | `audit` | time, number | the event as JSON |
//!
//! `memory.redb`, where `subject` is repo, digest
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `format`, `sequence`, `store`, `lost`, `bytes`, `audit_bytes`: u64 |
//! | `manifests` | digest | length of the media type (2), media type, bytes |
//! | `manifest_ages` | digest | aged |
//! | `subjects` | subject | aged, presence: time or nothing |
//! | `tags` | subject, tag | 1 if enforced |
//! | `parents` | subject, digest of the parent | aged |
//! | `found` | subject, hash of the envelope (16) | the envelope as JSON |
//! | `ages` | aged, kind (1 manifest, 2 subject, 3 enforced tag, 4 confirmed), key there | – |
//! | `enforced_tags` | repo, tag | aged |
//! | `confirmed` | repo; 1 and a tag, 2 and the query of a page of tags, or 3 | aged, by when the upstream said so last; digest, JSON, or that anonymous clients get it |
//! | `enforced_repositories`, `internal_repositories` | repo | – |
//! | `audit` | time, number | the event as JSON |
//!
//! `aged` (9 bytes) is 1 if of an enforced class, and the time of last use: `ages` in its order is the
//! order of forgetting. The tags, parents and envelopes of a subject go with it.
//!
//! `store` is one number in both files, so that neither is taken for that of another store; `paired` is 1
//! once both have it, `lost` is 1 in a `memory.redb` that was made in the place of one that had gone.
//! `latest_time` is a `time` that has passed.

use std::path::Path;

use jiff::Timestamp;
use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::oci::{Algorithm, Digest, TagType};

use super::{RecordId, StoreError, disk::Opening};

pub(super) const FORMAT: u64 = 1;

pub(super) type Bytes = &'static [u8];
pub(super) type Rows = TableDefinition<'static, Bytes, Bytes>;
pub(super) type Index = TableDefinition<'static, Bytes, ()>;

pub(super) const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");
pub(super) const AUDIT: Rows = TableDefinition::new("audit");

pub(super) const RECORDS: Rows = TableDefinition::new("records");
pub(super) const BY_DIGEST: Index = TableDefinition::new("by_digest");
pub(super) const BY_TAG: Index = TableDefinition::new("by_tag");
pub(super) const BY_FIRST_SEEN: Index = TableDefinition::new("by_first_seen");
pub(super) const BY_EXPIRES_AT: TableDefinition<'static, Bytes, Option<u64>> = TableDefinition::new("by_expires_at");
pub(super) const UNVERIFIED: Index = TableDefinition::new("unverified");
pub(super) const IDENTITIES: Rows = TableDefinition::new("identities");
pub(super) const SIGNERS: TableDefinition<'static, &str, Bytes> = TableDefinition::new("signers");
pub(super) const REVOCATIONS: TableDefinition<'static, &str, &str> = TableDefinition::new("revocations");

pub(super) const ARTIFACTS: Rows = TableDefinition::new("artifacts");
pub(super) const ARTIFACTS_OF: Rows = TableDefinition::new("artifacts_of");
pub(super) const ARTIFACT_TAGS: Rows = TableDefinition::new("artifact_tags");
pub(super) const ARTIFACT_BLOBS: Rows = TableDefinition::new("artifact_blobs");
pub(super) const ARTIFACT_LAYERS: Index = TableDefinition::new("artifact_layers");
pub(super) const ARTIFACT_BYTES: TableDefinition<'static, &str, u64> = TableDefinition::new("artifact_bytes");

pub(super) const MANIFESTS: Rows = TableDefinition::new("manifests");
pub(super) const MANIFEST_AGES: Rows = TableDefinition::new("manifest_ages");
pub(super) const SUBJECTS: Rows = TableDefinition::new("subjects");
pub(super) const TAGS: TableDefinition<'static, Bytes, bool> = TableDefinition::new("tags");
pub(super) const PARENTS: Rows = TableDefinition::new("parents");
pub(super) const FOUND: Rows = TableDefinition::new("found");
pub(super) const AGES: Index = TableDefinition::new("ages");
pub(super) const ENFORCED_TAGS: Rows = TableDefinition::new("enforced_tags");
pub(super) const CONFIRMED: Rows = TableDefinition::new("confirmed");
pub(super) const ENFORCED_REPOSITORIES: Index = TableDefinition::new("enforced_repositories");
pub(super) const INTERNAL_REPOSITORIES: Index = TableDefinition::new("internal_repositories");

/// One database: its name, its file and how its tables are made.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    create: fn(&WriteTransaction) -> Result<(), StoreError>,
}

pub(super) static RECORDS_SCHEMA: Schema = Schema {
    name: "records",
    file: "records.redb",
    create: |transaction| {
        transaction.open_table(AUDIT)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(BY_DIGEST)?;
        transaction.open_table(BY_TAG)?;
        transaction.open_table(BY_FIRST_SEEN)?;
        transaction.open_table(BY_EXPIRES_AT)?;
        transaction.open_table(UNVERIFIED)?;
        transaction.open_table(IDENTITIES)?;
        transaction.open_table(SIGNERS)?;
        transaction.open_table(REVOCATIONS)?;
        transaction.open_table(ARTIFACTS)?;
        transaction.open_table(ARTIFACTS_OF)?;
        transaction.open_table(ARTIFACT_TAGS)?;
        transaction.open_table(ARTIFACT_BLOBS)?;
        transaction.open_table(ARTIFACT_LAYERS)?;
        transaction.open_table(ARTIFACT_BYTES)?;
        Ok(())
    },
};

pub(super) static MEMORY_SCHEMA: Schema = Schema {
    name: "memory",
    file: "memory.redb",
    create: |transaction| {
        transaction.open_table(AUDIT)?;
        transaction.open_table(MANIFESTS)?;
        transaction.open_table(MANIFEST_AGES)?;
        transaction.open_table(SUBJECTS)?;
        transaction.open_table(TAGS)?;
        transaction.open_table(PARENTS)?;
        transaction.open_table(FOUND)?;
        transaction.open_table(AGES)?;
        transaction.open_table(ENFORCED_TAGS)?;
        transaction.open_table(CONFIRMED)?;
        transaction.open_table(ENFORCED_REPOSITORIES)?;
        transaction.open_table(INTERNAL_REPOSITORIES)?;
        Ok(())
    },
};

impl Schema {
    /// Makes the tables of a new database, with these rows among its `meta` rows, and refuses one of
    /// another format.
    pub(super) fn prepare(
        &self,
        database: &redb::Database,
        path: &Path,
        opening: Opening,
        rows: &[(&str, u64)],
    ) -> Result<(), StoreError> {
        let found = {
            let read = database.begin_read()?;
            match read.open_table(META) {
                Ok(meta) => meta.get(FORMAT_ROW)?.map(|format| format.value()),
                Err(redb::TableError::TableDoesNotExist(_)) if read.list_tables()?.next().is_none() => None,
                Err(error) => return Err(error.into()),
            }
        };
        match (found, opening) {
            (Some(FORMAT), Opening::First) => self.complete(database),
            (Some(FORMAT), Opening::Again) => Ok(()),
            (None, Opening::First) => {
                let mut transaction = database.begin_write()?;
                transaction.set_quick_repair(true);
                (self.create)(&transaction)?;
                {
                    let mut meta = transaction.open_table(META)?;
                    meta.insert(FORMAT_ROW, FORMAT)?;
                    for (row, value) in rows {
                        meta.insert(row, value)?;
                    }
                }
                Ok(transaction.commit()?)
            }
            (found, _) => Err(StoreError::FormatVersion {
                path: path.to_owned(),
                found: found.unwrap_or_default(),
                expected: FORMAT,
            }),
        }
    }

    /// Makes the tables that an earlier build did not have.
    fn complete(&self, database: &redb::Database) -> Result<(), StoreError> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        let before = transaction.list_tables()?.count();
        (self.create)(&transaction)?;
        if transaction.list_tables()?.count() == before {
            return Ok(transaction.abort()?);
        }
        Ok(transaction.commit()?)
    }
}

/// The key of a record: when it was made, then a number that no other record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RecordKey(pub(super) [u8; 16]);

impl RecordKey {
    pub(super) fn new(at: Timestamp, number: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&time(at));
        key[8..].copy_from_slice(&number.to_be_bytes());
        Self(key)
    }

    pub(super) fn of(id: &RecordId) -> Option<Self> {
        let mut key = [0; 16];
        hex::decode_to_slice(id.as_str(), &mut key).ok()?;
        Some(Self(key))
    }

    /// The key that an index row ends with.
    pub(super) fn at_end_of(row: &[u8]) -> Option<Self> {
        row.last_chunk().copied().map(Self)
    }
}

/// The next number of this database.
pub(super) fn next_number(transaction: &WriteTransaction) -> Result<u64, StoreError> {
    add(&mut transaction.open_table(META)?, SEQUENCE_ROW, 1)
}

/// Adds to a counter among the `meta` rows and says what it is then.
pub(super) fn add(meta: &mut Table<'_, &'static str, u64>, row: &'static str, delta: i64) -> Result<u64, StoreError> {
    let value = meta.get(row)?.map_or(0, |value| value.value()).saturating_add_signed(delta);
    meta.insert(row, value)?;
    Ok(value)
}

/// A time as eight bytes that sort as times do.
pub(super) fn time(at: Timestamp) -> [u8; 8] {
    time_number(at).to_be_bytes()
}

pub(super) fn time_number(at: Timestamp) -> u64 {
    at.as_microsecond().cast_unsigned() ^ (1 << 63)
}

pub(super) fn time_of(bytes: [u8; 8]) -> Result<Timestamp, StoreError> {
    let micros = (u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed();
    Timestamp::from_microsecond(micros).map_err(|error| StoreError::row("times", error))
}

/// The bytes of a key, put together part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn digest(mut self, digest: &Digest) -> Self {
        self.0.push(match digest.algorithm() {
            Algorithm::Sha256 => 1,
            Algorithm::Sha512 => 2,
        });
        self.raw(digest.as_bytes())
    }

    /// A text whose grammar has no NUL.
    pub(super) fn word(self, text: &str) -> Self {
        self.raw(text.as_bytes()).raw(&[0])
    }

    pub(super) fn environment(self, environment: Option<&str>) -> Self {
        let Some(environment) = environment else { return self.raw(&[0]) };
        let mut key = self.raw(&[1]);
        for byte in environment.bytes() {
            key.0.push(byte);
            if byte == 0 {
                key.0.push(0xff);
            }
        }
        key.raw(&[0, 0])
    }

    pub(super) fn tag_type(self, tag_type: Option<TagType>) -> Self {
        self.raw(&[match tag_type {
            None => 0,
            Some(TagType::Preview) => 1,
            Some(TagType::Internal) => 2,
        }])
    }

    pub(super) fn time(self, at: Timestamp) -> Self {
        self.raw(&time(at))
    }

    pub(super) fn record(self, key: RecordKey) -> Self {
        self.raw(&key.0)
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The digest at the start of these bytes of a key, and what follows it.
pub(super) fn split_digest(bytes: &[u8]) -> Option<(Digest, &[u8])> {
    let (algorithm, rest) = bytes.split_first()?;
    let algorithm = match algorithm {
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return None,
    };
    let (hash, rest) = rest.split_at_checked(algorithm.size())?;
    Some((format!("{algorithm}:{}", hex::encode(hash)).parse().ok()?, rest))
}

pub(super) fn encode<T: serde::Serialize>(table: &'static str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::row(table, error))
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::row(table, error))
}

pub(super) const STORE_ROW: &str = "store";
pub(super) const PAIRED_ROW: &str = "paired";
pub(super) const LOST_ROW: &str = "lost";
pub(super) const LATEST_TIME_ROW: &str = "latest_time";
const FORMAT_ROW: &str = "format";
const SEQUENCE_ROW: &str = "sequence";

/// Byte strings inside JSON values.
pub(super) mod base64_bytes {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::store) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map_err(D::Error::custom)
    }

    pub(in crate::store) mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Text(#[serde(with = "super")] Vec<u8>);

        pub(in crate::store) fn serialize<S: Serializer>(
            bytes: &Option<Vec<u8>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            bytes.as_ref().map(|bytes| Text(bytes.clone())).serialize(serializer)
        }

        pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Vec<u8>>, D::Error> {
            Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sort_as_their_bytes_and_come_back() {
        let times = [Timestamp::MIN, Timestamp::UNIX_EPOCH, "2026-11-22T10:00:00.000001Z".parse().unwrap()];
        assert!(times.windows(2).all(|pair| time(pair[0]) < time(pair[1])));
        assert_eq!(time_of(time(times[2])).unwrap(), times[2]);
    }

    #[test]
    fn no_environment_is_the_start_of_another() {
        let key = |environment| Key::default().environment(environment).word("tag");
        let keys = [key(None), key(Some("")), key(Some("a")), key(Some("a\0")), key(Some("a\0b")), key(Some("ab"))];
        for (one, key) in keys.iter().enumerate() {
            for (other, longer) in keys.iter().enumerate() {
                assert!(one == other || !longer.as_bytes().starts_with(key.as_bytes()), "{one} starts {other}");
            }
        }
        assert!(keys.windows(2).all(|pair| pair[0].as_bytes() < pair[1].as_bytes()));
    }

    #[test]
    fn digests_of_both_algorithms_come_back_from_keys() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"x");
            let key = Key::default().digest(&digest).raw(b"rest");
            assert_eq!(split_digest(key.as_bytes()), Some((digest, b"rest".as_slice())));
        }
        assert_eq!(split_digest(&[3, 0]), None);
    }
}
