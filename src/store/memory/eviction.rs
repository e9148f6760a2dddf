use redb::{ReadableTable, Table};

use crate::store::{
    StoreError,
    generations::Touched,
    schema::{Bytes, Key, split_digest},
};

use super::{
    FORGOTTEN,
    rows::{
        AGED_LEN, Aged, BYTES_ROW, Kind, cost, enforced_tag_cost, manifest_cost, repository_in, repository_key,
        subject_cost,
    },
    tables::MemoryTables,
};

/// Forgetting, the oldest first and what is of an enforced class last. It never opens anything:
/// where an enforced digest is forgotten, its repository is marked, and unknown digests there are
/// enforced from then on.
impl MemoryTables<'_> {
    /// Ends a write: forgets as much as it takes to stay within `budget`, and notes what is used.
    pub(super) fn settle(&mut self, budget: u64, touched: &mut Touched) -> Result<(), StoreError> {
        self.evict(budget, SETTLE_MAX, touched)?;
        self.account()
    }

    /// Forgets up to `limit` things while more than `budget` is used.
    pub(super) fn evict(&mut self, budget: u64, limit: usize, touched: &mut Touched) -> Result<usize, StoreError> {
        let used = self.meta.get(BYTES_ROW)?.map_or(0, |bytes| bytes.value());
        let mut forgotten = 0;
        while forgotten < limit && used.saturating_add_signed(self.added) > budget {
            let Some(age) = self.ages.pop_first()?.map(|(age, _)| age.value().to_vec()) else { break };
            self.forget(&age, touched)?;
            forgotten += 1;
        }
        if forgotten > 0 {
            touched.add(FORGOTTEN);
        }
        Ok(forgotten)
    }

    fn forget(&mut self, age: &[u8], touched: &mut Touched) -> Result<(), StoreError> {
        let malformed = || StoreError::row("ages", "a short key");
        let (aged, rest) = age.split_at_checked(AGED_LEN).ok_or_else(malformed)?;
        let (kind, row) = rest.split_first().ok_or_else(malformed)?;
        self.changed = true;
        if *kind == Kind::Manifest.byte() {
            self.manifest_ages.remove(row)?;
            if let Some(value) = self.manifests.remove(row)? {
                self.added -= manifest_cost(row, value.value());
            }
            return Ok(());
        }
        if *kind == Kind::Confirmed.byte() {
            return self.forget_confirmed(row);
        }
        let repository = repository_in(row)?;
        if *kind == Kind::EnforcedTag.byte() {
            if self.enforced_tags.remove(row)?.is_some() {
                self.added -= enforced_tag_cost(row);
            }
            return self.mark(&repository, touched);
        }
        let name = repository_key(&repository);
        if Aged::decode(aged)?.enforced {
            self.mark(&repository, touched)?;
        }
        let digest = row.strip_prefix(name.as_bytes()).and_then(split_digest).ok_or_else(malformed)?.0;
        touched.add(digest);
        if self.subjects.remove(row)?.is_some() {
            self.added -= subject_cost(row);
        }
        let prefix = Key::default().raw(row);
        for key in keys_under(&self.tags, &prefix)? {
            self.tags.remove(key.as_slice())?;
            self.added -= cost(key.len(), 1);
        }
        for key in keys_under(&self.parents, &prefix)? {
            self.parents.remove(key.as_slice())?;
            self.added -= cost(key.len(), AGED_LEN);
        }
        for key in keys_under(&self.found, &prefix)? {
            if let Some(value) = self.found.remove(key.as_slice())? {
                self.added -= cost(key.len(), value.value().len());
            }
        }
        Ok(())
    }
}

pub(super) fn keys_under<V: redb::Value + 'static>(
    table: &Table<'_, Bytes, V>,
    prefix: &Key,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut keys = Vec::new();
    for row in table.range(prefix.as_bytes()..)? {
        let (key, _) = row?;
        if !key.value().starts_with(prefix.as_bytes()) {
            break;
        }
        keys.push(key.value().to_vec());
    }
    Ok(keys)
}

/// How much one write forgets at most: more than it can add, in rows of its kind.
const SETTLE_MAX: usize = 2048;
