use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;
use redb::ReadTransaction;

use crate::oci::{Digest, Repository, Tag};

use super::{
    Generation, HeldManifest, Sighting, Store, StoreError, disk,
    generations::Touched,
    schema::{
        ENFORCED_REPOSITORIES, ENFORCED_TAGS, INTERNAL_REPOSITORIES, Index, Key, LOST_ROW, MANIFESTS, META, PARENTS,
        SUBJECTS, TAGS, split_digest, time_of,
    },
    writer::Done,
};

mod confirmed;
mod eviction;
mod found;
mod rows;
mod tables;
mod tag_pages;

pub use self::confirmed::Confirmed;
use self::{
    rows::{Aged, Subject, enforced_tag_key, manifest_value, repository_key, subject_key},
    tables::MemoryTables,
};

/// What pulls taught us. It may be forgotten, the oldest first and enforced things last, and where it
/// cannot be read, nothing is known: that is an error, never an absence.
impl Store {
    /// Remembers what a pull saw, in one durable transaction; without a write where nothing is new.
    pub async fn remember(&self, sighting: Sighting) -> Result<(), StoreError> {
        let seen = (sighting.repository.clone(), sighting.digest, sighting.tag.clone());
        let noted = Noted {
            generation: self.generation_of(sighting.digest),
            forgotten: self.generation_of(FORGOTTEN),
            manifest: sighting.manifest.is_some(),
            children: sighting.children.len(),
            confirmed: sighting.confirmed,
            at: sighting.at,
        };
        if self.inner.noted.get(&seen).is_some_and(|known| known.covers(&noted)) {
            return Ok(());
        }
        if self.inner.memory.read(|transaction| knows(transaction, &sighting, Ages::Fresh))? {
            self.inner.noted.insert(seen, noted);
            return Ok(());
        }
        let bytes = sighting.manifest.as_ref().map_or(0, |(bytes, _)| bytes.len()) + sighting.children.len() * 128;
        let sighting = Arc::new(sighting);
        let new = Arc::clone(&sighting);
        match self.change_memory_with(bytes, move |tables, touched| tables.remember(&new, touched)).await {
            // A full disk takes no new knowledge; what would only be noted as used again goes on.
            Err(StoreError::NoRoom { .. }) if self.inner.memory.read(|rows| knows(rows, &sighting, Ages::Any))? => {
                Ok(())
            }
            remembered => remembered,
        }
    }

    pub fn manifest(&self, digest: &Digest) -> Result<Option<HeldManifest>, StoreError> {
        self.inner.memory.read(|transaction| {
            let table = transaction.open_table(MANIFESTS)?;
            let Some(row) = table.get(Key::default().digest(digest).as_bytes())? else { return Ok(None) };
            let (media_type, bytes) = manifest_value(row.value())?;
            Ok(Some(HeldManifest { bytes: Bytes::copy_from_slice(bytes), media_type: media_type.to_owned() }))
        })
    }

    /// The tags under which a digest was seen in a repository.
    pub fn tags_seen(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        self.inner.memory.read(|transaction| {
            let prefix = subject_key(repository, digest);
            let mut tags = Vec::new();
            for row in transaction.open_table(TAGS)?.range(prefix.as_bytes()..)? {
                let row = row?;
                let Some(tag) = row.0.value().strip_prefix(prefix.as_bytes()) else { break };
                let tag = str::from_utf8(tag).map_err(|error| StoreError::row("tags", error))?;
                tags.push(tag.parse().map_err(|error| StoreError::row("tags", error))?);
            }
            Ok(tags)
        })
    }

    /// The manifests of a repository that name a digest, those seen last first.
    pub fn parents(&self, repository: &Repository, child: &Digest) -> Result<Vec<Digest>, StoreError> {
        self.inner.memory.read(|transaction| {
            let prefix = subject_key(repository, child);
            let mut parents = Vec::new();
            for row in transaction.open_table(PARENTS)?.range(prefix.as_bytes()..)? {
                let (key, value) = row?;
                let Some(parent) = key.value().strip_prefix(prefix.as_bytes()) else { break };
                let (parent, _) = split_digest(parent).ok_or_else(|| StoreError::row("parents", "not a digest"))?;
                parents.push((Aged::decode(value.value())?.used, parent));
            }
            parents.sort_by(|(one, _), (other, _)| other.cmp(one));
            Ok(parents.into_iter().map(|(_, parent)| parent).collect())
        })
    }

    /// The digests that a tag was seen to name in a repository, now or before.
    pub fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Vec<Digest>, StoreError> {
        self.inner.memory.read(|transaction| {
            let prefix = repository_key(repository);
            let mut digests = Vec::new();
            for row in transaction.open_table(TAGS)?.range(prefix.as_bytes()..)? {
                let row = row?;
                let Some(rest) = row.0.value().strip_prefix(prefix.as_bytes()) else { break };
                let (digest, name) = split_digest(rest).ok_or_else(|| StoreError::row("tags", "not a digest"))?;
                if name == tag.as_str().as_bytes() {
                    digests.push(digest);
                }
            }
            Ok(digests)
        })
    }

    /// Which of these a manifest names that is in another repository, or not `known`. Every row is looked at.
    pub fn named_elsewhere(
        &self,
        repository: &Repository,
        known: impl Fn(&Digest) -> bool,
        children: &HashSet<Digest>,
    ) -> Result<HashSet<Digest>, StoreError> {
        self.inner.memory.read(|transaction| {
            let prefix = repository_key(repository);
            let mut named = HashSet::new();
            for row in transaction.open_table(PARENTS)?.range::<&[u8]>(..)? {
                let row = row?;
                let key = row.0.value();
                let name = key.iter().position(|byte| *byte == 0).map_or(key.len(), |end| end + 1);
                let (in_repository, digests) = (key[..name] == *prefix.as_bytes(), &key[name..]);
                let (child, parent) = split_digest(digests)
                    .and_then(|(child, parent)| Some((child, split_digest(parent)?.0)))
                    .ok_or_else(|| StoreError::row("parents", "not two digests"))?;
                if children.contains(&child) && !(in_repository && known(&parent)) {
                    named.insert(child);
                }
            }
            Ok(named)
        })
    }

    /// When the digest was last known to be in that upstream repository.
    pub fn presence(&self, repository: &Repository, digest: &Digest) -> Result<Option<Timestamp>, StoreError> {
        self.inner.memory.read(|transaction| {
            Ok(subject(transaction, &subject_key(repository, digest))?.and_then(|subject| subject.presence))
        })
    }

    /// The digest was fetched or asked for with success at that upstream repository.
    pub async fn remember_presence(
        &self,
        repository: &Repository,
        digest: &Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let known = self.presence(repository, digest)?;
        if known.is_some_and(|known| is_fresh(known, at)) {
            return Ok(());
        }
        let key = subject_key(repository, digest);
        self.change_memory(move |tables, _| tables.renew(&key, false, Some(at), at).map(drop)).await
    }

    pub async fn forget_presence(&self, repository: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.inner
            .memory
            .write(0, move |transaction| {
                let mut touched = Touched::default();
                touched.add(digest);
                let forgotten = MemoryTables::open(transaction)?.forget_presence(&subject_key(&repository, &digest))?;
                Ok(if forgotten { Done::changed((), touched) } else { Done::unchanged(()) })
            })
            .await
    }

    /// Whether the repository is known to have tags of an enforced class, or may have had some that are
    /// forgotten.
    pub fn knows_enforced_tags(&self, repository: &Repository) -> Result<bool, StoreError> {
        self.inner.memory.read(|transaction| {
            Ok(is_marked(transaction, ENFORCED_REPOSITORIES, repository)?
                || transaction.open_table(META)?.get(LOST_ROW)?.is_some())
        })
    }

    pub async fn mark_enforced_tags(&self, repository: &Repository) -> Result<(), StoreError> {
        if self.knows_enforced_tags(repository)? {
            return Ok(());
        }
        let repository = repository.clone();
        self.change_memory(move |tables, touched| tables.mark(&repository, touched)).await
    }

    /// Whether an internal tag was ever seen in the repository: a digest of which nothing is known
    /// may then be internal too.
    pub fn knows_internal_tags(&self, repository: &Repository) -> Result<bool, StoreError> {
        self.inner.memory.read(|transaction| is_marked(transaction, INTERNAL_REPOSITORIES, repository))
    }

    pub async fn mark_internal_tags(&self, repository: &Repository) -> Result<(), StoreError> {
        if self.knows_internal_tags(repository)? {
            return Ok(());
        }
        let repository = repository.clone();
        self.change_memory(move |tables, touched| tables.mark_internal(&repository, touched)).await
    }

    /// Whether this tag was ever remembered as enforced: what an ordinary tag is held to that a record
    /// classes, while its digest cannot be asked for.
    pub fn is_enforced_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool, StoreError> {
        self.inner.memory.read(|transaction| {
            let table = transaction.open_table(ENFORCED_TAGS)?;
            Ok(table.get(enforced_tag_key(repository, tag).as_bytes())?.is_some())
        })
    }

    /// The digests of a repository that have records, those used last first.
    pub fn recorded_subjects(&self, repository: &Repository, limit: usize) -> Result<Vec<Digest>, StoreError> {
        let mut known = self.inner.memory.read(|transaction| {
            let prefix = repository_key(repository);
            let mut known = Vec::new();
            for row in transaction.open_table(SUBJECTS)?.range(prefix.as_bytes()..)? {
                let (key, value) = row?;
                let Some(digest) = key.value().strip_prefix(prefix.as_bytes()) else { break };
                let (digest, _) = split_digest(digest).ok_or_else(|| StoreError::row("subjects", "not a digest"))?;
                known.push((Subject::decode(value.value())?.aged.used, digest));
            }
            Ok(known)
        })?;
        known.sort_by(|(one, _), (other, _)| other.cmp(one));
        let mut recorded = Vec::new();
        for (_, digest) in known {
            if recorded.len() == limit {
                break;
            }
            if self.has_records(&digest)? {
                recorded.push(digest);
            }
        }
        Ok(recorded)
    }

    /// Forgets up to `limit` of the oldest things where `memory.redb` is over its size; says how many.
    pub async fn evict(&self, limit: usize) -> Result<usize, StoreError> {
        let budget = self.memory_budget()?;
        if self.inner.memory.read(rows::used)? <= budget {
            return Ok(0);
        }
        self.inner
            .memory
            .write(0, move |transaction| {
                let mut tables = MemoryTables::open(transaction)?;
                let mut touched = Touched::default();
                let forgotten = tables.evict(budget, limit, &mut touched)?;
                tables.account()?;
                Ok(if forgotten > 0 { Done::changed(forgotten, touched) } else { Done::unchanged(0) })
            })
            .await
    }

    async fn change_memory(
        &self,
        change: impl Fn(&mut MemoryTables<'_>, &mut Touched) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.change_memory_with(0, change).await
    }

    /// One write that may make the memory grow, and so makes it forget as much.
    async fn change_memory_with(
        &self,
        bytes: usize,
        change: impl Fn(&mut MemoryTables<'_>, &mut Touched) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let budget = self.memory_budget()?;
        self.inner
            .memory
            .write(bytes, move |transaction| {
                let mut tables = MemoryTables::open(transaction)?;
                let mut touched = Touched::default();
                change(&mut tables, &mut touched)?;
                tables.settle(budget, &mut touched)?;
                Ok(if tables.changed { Done::changed((), touched) } else { Done::unchanged(()) })
            })
            .await
    }

    /// What rows may take, so that the file stays within its size: pages are never quite full, and
    /// both an old and a new state lie in it. Where the disk is nearly full the memory grows no more,
    /// so that pulls leave the records room to be written.
    fn memory_budget(&self) -> Result<u64, StoreError> {
        let budget = self.inner.config.memory_max_bytes / FILE_PER_ROWS;
        if self.disk_is_nearly_full() {
            return Ok(self.inner.memory.read(rows::used)?.max(BUDGET_MIN).min(budget));
        }
        Ok(budget)
    }

    /// Where that cannot be told it is not.
    pub(super) fn disk_is_nearly_full(&self) -> bool {
        let config = &self.inner.config;
        disk::free_bytes(&config.data_dir).is_some_and(|free| free < config.disk_reserve_bytes)
    }
}

/// Sightings of which is known that they are remembered, so that a warm pull reads nothing.
pub(super) type NotedSightings = Cache<(Repository, Digest, Option<(Tag, bool)>), Noted>;

/// What a sighting brought, and what it was read under: it holds until something of the digest is
/// written, anything at all is forgotten, or its use is to be noted again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noted {
    generation: Generation,
    forgotten: Generation,
    manifest: bool,
    children: usize,
    confirmed: Option<Timestamp>,
    at: Timestamp,
}

impl Noted {
    fn covers(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.forgotten == other.forgotten
            && self.manifest >= other.manifest
            && self.children >= other.children
            && is_fresh(self.at, other.at)
            && other.confirmed.is_none_or(|at| self.confirmed.is_some_and(|known| is_fresh(known, at)))
    }
}

/// Whether what is known has to have been noted as used lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ages {
    Fresh,
    Any,
}

/// Whether remembering the sighting would change nothing, or no more than ages.
fn knows(transaction: &ReadTransaction, sighting: &Sighting, ages: Ages) -> Result<bool, StoreError> {
    let key = subject_key(&sighting.repository, &sighting.digest);
    let Some(subject) = subject(transaction, &key)? else { return Ok(false) };
    let any = ages == Ages::Any;
    if !(any || is_fresh(subject.aged.used, sighting.at)) || subject.presence.is_none() {
        return Ok(false);
    }
    if let Some((tag, enforced)) = &sighting.tag {
        let row = transaction.open_table(TAGS)?.get(key.clone().raw(tag.as_str().as_bytes()).as_bytes())?;
        let known = row.map(|row| row.value());
        if known.is_none() || (*enforced && !knows_enforced(transaction, sighting, tag, ages)?) {
            return Ok(false);
        }
        if *enforced && !(known == Some(true) && subject.aged.enforced) {
            return Ok(false);
        }
        if let Some(at) = sighting.confirmed.filter(|_| !any) {
            let aged = Aged { enforced: *enforced, used: at };
            if !confirmed::knows_tag(transaction, &sighting.repository, tag, &sighting.digest, aged)? {
                return Ok(false);
            }
        }
    }
    if sighting.manifest.is_some()
        && transaction.open_table(MANIFESTS)?.get(Key::default().digest(&sighting.digest).as_bytes())?.is_none()
    {
        return Ok(false);
    }
    if sighting.children.is_empty() {
        return Ok(true);
    }
    let parents = transaction.open_table(PARENTS)?;
    for child in &sighting.children {
        let key = subject_key(&sighting.repository, child).digest(&sighting.digest);
        let Some(row) = parents.get(key.as_bytes())? else { return Ok(false) };
        let aged = Aged::decode(row.value())?;
        if (subject.aged.enforced && !aged.enforced) || !(any || tables::is_recent(aged.used, sighting.at)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the repository and the tag are noted as enforced already.
fn knows_enforced(
    transaction: &ReadTransaction,
    sighting: &Sighting,
    tag: &Tag,
    ages: Ages,
) -> Result<bool, StoreError> {
    let key = enforced_tag_key(&sighting.repository, tag);
    let table = transaction.open_table(ENFORCED_TAGS)?;
    let noted = table.get(key.as_bytes())?.map(|row| Aged::decode(row.value())).transpose()?;
    Ok(noted.is_some_and(|noted| ages == Ages::Any || is_fresh(noted.used, sighting.at))
        && is_marked(transaction, ENFORCED_REPOSITORIES, &sighting.repository)?)
}

fn subject(transaction: &ReadTransaction, key: &Key) -> Result<Option<Subject>, StoreError> {
    let table = transaction.open_table(SUBJECTS)?;
    table.get(key.as_bytes())?.map(|row| Subject::decode(row.value())).transpose()
}

fn is_marked(transaction: &ReadTransaction, marks: Index, repository: &Repository) -> Result<bool, StoreError> {
    Ok(transaction.open_table(marks)?.get(repository_key(repository).as_bytes())?.is_some())
}

/// Whether a time of last use needs no renewal yet. One that lies ahead of a clock that went back does.
fn is_fresh(known: Timestamp, now: Timestamp) -> bool {
    now.duration_since(known).abs() < RENEW_AFTER
}

fn time_in(bytes: &[u8]) -> Result<Timestamp, StoreError> {
    time_of(bytes.try_into().map_err(|_| StoreError::row("memory", "not a time"))?)
}

/// Use is noted this coarsely, so that a warm pull writes nothing.
const RENEW_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How many sightings are noted.
pub(super) const NOTED: usize = 8192;

/// What moves whenever anything was forgotten.
const FORGOTTEN: &str = "forgotten";

/// The file's size over that of its rows, at worst.
const FILE_PER_ROWS: u64 = 3;

/// What may be remembered however full the disk is: without lineage no child is admitted.
const BUDGET_MIN: u64 = 4 << 20;

#[cfg(test)]
mod tests;
