use jiff::Timestamp;
use redb::ReadTransaction;

use crate::{
    oci::{Digest, Repository, Tag},
    store::{
        FoundEnvelope, StoreError,
        schema::{Key, META, time, time_of},
    },
};

/// When something was last used, and whether it is of an enforced class: the order of forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aged {
    pub(super) enforced: bool,
    pub(super) used: Timestamp,
}

/// A digest in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) aged: Aged,
    pub(super) presence: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Manifest,
    Subject,
    EnforcedTag,
    Confirmed,
}

impl Aged {
    /// The key in `ages`.
    pub(super) fn key(self, kind: Kind, row: &[u8]) -> Key {
        Key::default().raw(&self.encode()).raw(&[kind.byte()]).raw(row)
    }

    pub(super) fn encode(self) -> [u8; AGED_LEN] {
        let mut bytes = [0; AGED_LEN];
        bytes[0] = u8::from(self.enforced);
        bytes[1..].copy_from_slice(&time(self.used));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let malformed = || StoreError::row("ages", "a value of another length");
        let (enforced, used) = bytes.split_first().ok_or_else(malformed)?;
        Ok(Self { enforced: *enforced != 0, used: time_of(used.try_into().map_err(|_| malformed())?)? })
    }
}

impl Subject {
    pub(super) fn encode(self) -> [u8; SUBJECT_LEN] {
        let mut bytes = [0; SUBJECT_LEN];
        bytes[..AGED_LEN].copy_from_slice(&self.aged.encode());
        if let Some(presence) = self.presence {
            bytes[AGED_LEN] = 1;
            bytes[AGED_LEN + 1..].copy_from_slice(&time(presence));
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let bytes: [u8; SUBJECT_LEN] =
            bytes.try_into().map_err(|_| StoreError::row("subjects", "a value of another length"))?;
        let (aged, presence) = bytes.split_at(AGED_LEN);
        let presence = match presence.split_first() {
            Some((1, at)) => Some(super::time_in(at)?),
            _ => None,
        };
        Ok(Self { aged: Aged::decode(aged)?, presence })
    }
}

impl Kind {
    pub(super) fn byte(self) -> u8 {
        match self {
            Self::Manifest => 1,
            Self::Subject => 2,
            Self::EnforcedTag => 3,
            Self::Confirmed => 4,
        }
    }
}

impl FoundEnvelope {
    pub(super) fn size(&self) -> usize {
        let annotations = self.annotations.iter().map(|(key, value)| key.len() + value.len());
        self.signature.len() + self.payload.as_ref().map_or(0, Vec::len) + annotations.sum::<usize>()
    }
}

pub(super) fn repository_key(repository: &Repository) -> Key {
    Key::default().word(repository.as_str())
}

pub(super) fn subject_key(repository: &Repository, digest: &Digest) -> Key {
    repository_key(repository).digest(digest)
}

pub(super) fn enforced_tag_key(repository: &Repository, tag: &Tag) -> Key {
    repository_key(repository).raw(tag.as_str().as_bytes())
}

/// The repository that a key begins with.
pub(super) fn repository_in(key: &[u8]) -> Result<Repository, StoreError> {
    let malformed = || StoreError::row("subjects", "a key without a repository");
    let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
    let (registry, path) = str::from_utf8(name).ok().and_then(|name| name.split_once('/')).ok_or_else(malformed)?;
    let registry = registry.parse().map_err(|error| StoreError::row("subjects", error))?;
    Repository::new(&registry, path).map_err(|error| StoreError::row("subjects", error))
}

pub(super) fn manifest_value(value: &[u8]) -> Result<(&str, &[u8]), StoreError> {
    let malformed = || StoreError::row("manifests", "a short value");
    let (length, rest) = value.split_first_chunk().ok_or_else(malformed)?;
    let (media_type, bytes) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(malformed)?;
    Ok((str::from_utf8(media_type).map_err(|error| StoreError::row("manifests", error))?, bytes))
}

/// What all rows take.
pub(super) fn used(transaction: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(transaction.open_table(META)?.get(BYTES_ROW)?.map_or(0, |bytes| bytes.value()))
}

/// About what a row takes in the file. Large values lie in blocks of a power of two.
pub(super) fn cost(key: usize, value: usize) -> i64 {
    let bytes = key + value + ROW_OVERHEAD;
    let bytes = if bytes > LARGE_ROW { bytes.next_power_of_two() } else { bytes };
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn subject_cost(key: &[u8]) -> i64 {
    cost(key.len(), SUBJECT_LEN) + cost(key.len() + AGED_LEN + 1, 0)
}

pub(super) fn enforced_tag_cost(key: &[u8]) -> i64 {
    cost(key.len(), AGED_LEN) + cost(key.len() + AGED_LEN + 1, 0)
}

pub(super) fn confirmed_cost(key: &[u8], value: &[u8]) -> i64 {
    cost(key.len(), AGED_LEN + value.len()) + cost(key.len() + AGED_LEN + 1, 0)
}

pub(super) fn manifest_cost(key: &[u8], value: &[u8]) -> i64 {
    cost(key.len(), value.len()) + cost(key.len(), AGED_LEN) + cost(key.len() + AGED_LEN + 1, 0)
}

pub(super) const AGED_LEN: usize = 9;
pub(super) const SUBJECT_LEN: usize = AGED_LEN + 9;
pub(super) const BYTES_ROW: &str = "bytes";

const ROW_OVERHEAD: usize = 24;
const LARGE_ROW: usize = 2048;
