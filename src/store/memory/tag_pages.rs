//! The pages of tags that an upstream has listed, as it did last.

use std::cmp::Reverse;

use jiff::Timestamp;
use redb::ReadableTable;

use crate::{
    oci::Repository,
    store::{
        Store, StoreError, TagPage,
        schema::{Key, decode, encode},
    },
};

use super::{
    Confirmed,
    confirmed::{TAG_PAGE, confirmed, has_any, is_known, key_of},
    eviction::keys_under,
    rows::{AGED_LEN, Aged},
    tables::MemoryTables,
};

impl Store {
    /// The page that the upstream listed last for this query.
    pub fn tag_page(&self, repository: &Repository, query: &str) -> Result<Option<Confirmed<TagPage>>, StoreError> {
        let key = page_key(repository, query);
        let known = self.inner.memory.read(|transaction| confirmed(transaction, &key))?;
        known.map(|(aged, value)| Ok(Confirmed { what: decode("confirmed", &value)?, at: aged.used })).transpose()
    }

    /// Of one repository so many pages and so many bytes are kept; the oldest give way.
    pub async fn remember_tag_page(
        &self,
        repository: &Repository,
        query: &str,
        page: &TagPage,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (key, all) = (page_key(repository, query), pages_key(repository));
        let (value, aged) = (encode("confirmed", page)?, Aged { enforced: false, used: at });
        if self.inner.memory.read(|transaction| is_known(transaction, &key, &value, aged))? {
            return Ok(());
        }
        let kept = value.len().min(PAGES_BYTES_MAX);
        self.change_memory_with(kept, move |tables, _| tables.put_tag_page(&all, &key, &value, aged)).await
    }

    /// The upstream has said that there is no such repository.
    pub async fn forget_tag_pages(&self, repository: &Repository) -> Result<(), StoreError> {
        let all = pages_key(repository);
        if !self.inner.memory.read(|transaction| has_any(transaction, &all))? {
            return Ok(());
        }
        self.change_memory(move |tables, _| {
            for key in keys_under(&tables.confirmed, &all)? {
                tables.unconfirm(&key)?;
            }
            Ok(())
        })
        .await
    }
}

impl MemoryTables<'_> {
    fn put_tag_page(&mut self, all: &Key, key: &Key, value: &[u8], aged: Aged) -> Result<(), StoreError> {
        let mut others = Vec::new();
        for row in self.confirmed.range(all.as_bytes()..)? {
            let (other, row) = row?;
            if !other.value().starts_with(all.as_bytes()) {
                break;
            }
            if other.value() != key.as_bytes() {
                let (used, length) = (Aged::decode(&row.value()[..AGED_LEN])?.used, row.value().len());
                others.push((used, other.value().to_vec(), length));
            }
        }
        if value.len() > PAGES_BYTES_MAX {
            // Rather none than one that the upstream lists no more.
            return self.unconfirm(key.as_bytes()).map(drop);
        }
        // The one to give way next is the last.
        others.sort_by_key(|(used, ..)| Reverse(*used));
        let mut bytes = value.len() + others.iter().map(|(.., length)| length).sum::<usize>();
        while (others.len() >= PAGES_MAX || bytes > PAGES_BYTES_MAX)
            && let Some((_, other, length)) = others.pop()
        {
            self.unconfirm(&other)?;
            bytes -= length;
        }
        self.confirm(key, value, aged).map(drop)
    }
}

fn pages_key(repository: &Repository) -> Key {
    key_of(repository, TAG_PAGE, "")
}

fn page_key(repository: &Repository, query: &str) -> Key {
    key_of(repository, TAG_PAGE, query)
}

pub(super) const PAGES_MAX: usize = 32;
pub(super) const PAGES_BYTES_MAX: usize = 1 << 20;
