//! What an upstream has said last, and when: for the day on which it cannot be asked.

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable};

use crate::{
    oci::{Digest, Repository, Tag},
    store::{
        Store, StoreError,
        generations::Touched,
        schema::{CONFIRMED, Key, split_digest},
    },
};

use super::{
    RENEW_AFTER, is_fresh,
    rows::{AGED_LEN, Aged, Kind, confirmed_cost, repository_key},
    tables::MemoryTables,
};

/// Something that an upstream said, and when it did so last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed<T> {
    pub what: T,
    pub at: Timestamp,
}

impl Store {
    /// The digest that the upstream named last for a tag.
    pub fn tag_digest(&self, repository: &Repository, tag: &Tag) -> Result<Option<Confirmed<Digest>>, StoreError> {
        let key = key_of(repository, TAG, tag.as_str());
        let known = self.inner.memory.read(|transaction| confirmed(transaction, &key))?;
        known.map(|(aged, value)| Ok(Confirmed { what: digest_in(&value)?, at: aged.used })).transpose()
    }

    /// The upstream has said that there is no such tag.
    pub async fn forget_tag_digest(&self, repository: &Repository, tag: &Tag) -> Result<(), StoreError> {
        if self.tag_digest(repository, tag)?.is_none() {
            return Ok(());
        }
        let key = key_of(repository, TAG, tag.as_str());
        self.change_memory(move |tables, touched| {
            if let Some(value) = tables.unconfirm(key.as_bytes())? {
                // What was noted of the digest under this tag no longer holds.
                touched.add(digest_in(&value)?);
            }
            Ok(())
        })
        .await
    }

    /// When the upstream last gave anonymous clients this repository.
    pub fn open_to_anonymous(&self, repository: &Repository) -> Result<Option<Timestamp>, StoreError> {
        let known = self.inner.memory.read(|transaction| confirmed(transaction, &key_of(repository, OPEN, "")))?;
        Ok(known.map(|(aged, _)| aged.used))
    }

    pub async fn remember_open_to_anonymous(&self, repository: &Repository, at: Timestamp) -> Result<(), StoreError> {
        if self.open_to_anonymous(repository)?.is_some_and(|known| is_fresh(known, at)) {
            return Ok(());
        }
        let (key, aged) = (key_of(repository, OPEN, ""), Aged { enforced: false, used: at });
        self.change_memory(move |tables, _| tables.confirm(&key, &[], aged).map(drop)).await
    }

    /// The upstream has said that anonymous clients do not get it.
    pub async fn forget_open_to_anonymous(&self, repository: &Repository) -> Result<(), StoreError> {
        if self.open_to_anonymous(repository)?.is_none() {
            return Ok(());
        }
        let key = key_of(repository, OPEN, "");
        self.change_memory(move |tables, _| tables.unconfirm(key.as_bytes()).map(drop)).await
    }
}

impl MemoryTables<'_> {
    /// The upstream has just named this digest for the tag.
    pub(super) fn confirm_tag(
        &mut self,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        aged: Aged,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let value = Key::default().digest(digest);
        if let Some(old) = self.confirm(&key_of(repository, TAG, tag.as_str()), value.as_bytes(), aged)?
            && old != value.as_bytes()
        {
            // So that the tag is noted again should it come back to it.
            touched.add(digest_in(&old)?);
        }
        Ok(())
    }

    /// Says what was there before, where this is written.
    pub(super) fn confirm(&mut self, key: &Key, value: &[u8], aged: Aged) -> Result<Option<Vec<u8>>, StoreError> {
        let key = key.as_bytes();
        if let Some(row) = self.confirmed.get(key)?
            && holds(row.value(), value, aged)?
        {
            return Ok(None);
        }
        let old = self.unconfirm(key)?;
        self.ages.insert(aged.key(Kind::Confirmed, key).as_bytes(), ())?;
        self.confirmed.insert(key, Key::default().raw(&aged.encode()).raw(value).as_bytes())?;
        self.added += confirmed_cost(key, value);
        self.changed = true;
        Ok(old)
    }

    /// Says what was there.
    pub(super) fn unconfirm(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(row) = self.confirmed.remove(key)?.map(|row| row.value().to_vec()) else { return Ok(None) };
        let (aged, value) = split(&row)?;
        self.ages.remove(aged.key(Kind::Confirmed, key).as_bytes())?;
        self.added -= confirmed_cost(key, value);
        self.changed = true;
        Ok(Some(value.to_vec()))
    }

    /// Its age has gone already.
    pub(super) fn forget_confirmed(&mut self, key: &[u8]) -> Result<(), StoreError> {
        if let Some(row) = self.confirmed.remove(key)? {
            self.added -= confirmed_cost(key, split(row.value())?.1);
        }
        Ok(())
    }
}

/// Whether it is known already that the tag names this digest.
pub(super) fn knows_tag(
    transaction: &ReadTransaction,
    repository: &Repository,
    tag: &Tag,
    digest: &Digest,
    aged: Aged,
) -> Result<bool, StoreError> {
    is_known(transaction, &key_of(repository, TAG, tag.as_str()), Key::default().digest(digest).as_bytes(), aged)
}

/// Whether this is known already, and needs no renewal.
pub(super) fn is_known(transaction: &ReadTransaction, key: &Key, value: &[u8], aged: Aged) -> Result<bool, StoreError> {
    let table = transaction.open_table(CONFIRMED)?;
    table.get(key.as_bytes())?.map_or(Ok(false), |row| holds(row.value(), value, aged))
}

/// Whether there is anything under keys that begin so.
pub(super) fn has_any(transaction: &ReadTransaction, prefix: &Key) -> Result<bool, StoreError> {
    let table = transaction.open_table(CONFIRMED)?;
    let first = table.range(prefix.as_bytes()..)?.next().transpose()?;
    Ok(first.is_some_and(|(key, _)| key.value().starts_with(prefix.as_bytes())))
}

pub(super) fn confirmed(transaction: &ReadTransaction, key: &Key) -> Result<Option<(Aged, Vec<u8>)>, StoreError> {
    let table = transaction.open_table(CONFIRMED)?;
    let Some(row) = table.get(key.as_bytes())? else { return Ok(None) };
    let (aged, value) = split(row.value())?;
    Ok(Some((aged, value.to_vec())))
}

fn holds(row: &[u8], value: &[u8], aged: Aged) -> Result<bool, StoreError> {
    let (known, said) = split(row)?;
    Ok(said == value && is_as_good(known, aged))
}

/// Whether what is known needs no renewal. A time that lies ahead of a clock that was put right does.
fn is_as_good(known: Aged, new: Aged) -> bool {
    let age = new.used.duration_since(known.used);
    known.enforced >= new.enforced && !age.is_negative() && age < RENEW_AFTER
}

fn split(row: &[u8]) -> Result<(Aged, &[u8]), StoreError> {
    let (aged, value) = row.split_at_checked(AGED_LEN).ok_or_else(|| StoreError::row("confirmed", "a short value"))?;
    Ok((Aged::decode(aged)?, value))
}

fn digest_in(value: &[u8]) -> Result<Digest, StoreError> {
    match split_digest(value) {
        Some((digest, [])) => Ok(digest),
        _ => Err(StoreError::row("confirmed", "not a digest")),
    }
}

pub(super) fn key_of(repository: &Repository, kind: u8, name: &str) -> Key {
    repository_key(repository).raw(&[kind]).raw(name.as_bytes())
}

const TAG: u8 = 1;
pub(super) const TAG_PAGE: u8 = 2;
const OPEN: u8 = 3;
