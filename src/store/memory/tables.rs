use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, Table, WriteTransaction};

use crate::{
    oci::{Digest, Repository, Tag},
    store::{
        Sighting, StoreError,
        generations::Touched,
        schema::{
            AGES, Bytes, CONFIRMED, ENFORCED_REPOSITORIES, ENFORCED_TAGS, FOUND, INTERNAL_REPOSITORIES, Key,
            MANIFEST_AGES, MANIFESTS, META, PARENTS, SUBJECTS, TAGS, add,
        },
    },
};

use super::{
    is_fresh,
    rows::{
        AGED_LEN, Aged, BYTES_ROW, Kind, Subject, cost, enforced_tag_cost, enforced_tag_key, manifest_cost,
        repository_key, subject_cost, subject_key,
    },
};

/// The tables of what pulls taught us, with a count of what is added to them.
pub(super) struct MemoryTables<'t> {
    pub(super) meta: Table<'t, &'static str, u64>,
    pub(super) manifests: Table<'t, Bytes, Bytes>,
    pub(super) manifest_ages: Table<'t, Bytes, Bytes>,
    pub(super) subjects: Table<'t, Bytes, Bytes>,
    pub(super) tags: Table<'t, Bytes, bool>,
    pub(super) parents: Table<'t, Bytes, Bytes>,
    pub(super) found: Table<'t, Bytes, Bytes>,
    pub(super) ages: Table<'t, Bytes, ()>,
    pub(super) enforced_tags: Table<'t, Bytes, Bytes>,
    pub(super) confirmed: Table<'t, Bytes, Bytes>,
    enforced: Table<'t, Bytes, ()>,
    internal: Table<'t, Bytes, ()>,
    /// What this transaction has added so far, less what it has removed.
    pub(super) added: i64,
    pub(super) changed: bool,
}

impl<'t> MemoryTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            manifests: transaction.open_table(MANIFESTS)?,
            manifest_ages: transaction.open_table(MANIFEST_AGES)?,
            subjects: transaction.open_table(SUBJECTS)?,
            tags: transaction.open_table(TAGS)?,
            parents: transaction.open_table(PARENTS)?,
            found: transaction.open_table(FOUND)?,
            ages: transaction.open_table(AGES)?,
            enforced_tags: transaction.open_table(ENFORCED_TAGS)?,
            confirmed: transaction.open_table(CONFIRMED)?,
            enforced: transaction.open_table(ENFORCED_REPOSITORIES)?,
            internal: transaction.open_table(INTERNAL_REPOSITORIES)?,
            added: 0,
            changed: false,
        })
    }

    pub(super) fn remember(&mut self, sighting: &Sighting, touched: &mut Touched) -> Result<(), StoreError> {
        let Sighting { repository, digest, manifest, tag, confirmed, children, at } = sighting;
        let key = subject_key(repository, digest);
        let enforced = tag.as_ref().is_some_and(|(_, enforced)| *enforced);
        // Made by what is fetched; renewed only by what the upstream says, or a manifest that is served from
        // here would vouch for itself.
        let known = self.subject(&key)?.is_some_and(|subject| subject.presence.is_some());
        let subject = self.renew(&key, enforced, confirmed.or((!known).then_some(*at)), *at)?;
        if let Some((tag, enforced)) = tag {
            if *enforced {
                self.mark(repository, touched)?;
                self.see_enforced_tag(repository, tag, *at)?;
            }
            if self.see_tag(&key, tag.as_str(), *enforced)? {
                touched.add(digest);
            }
            if let Some(at) = confirmed {
                self.confirm_tag(repository, tag, digest, Aged { enforced: *enforced, used: *at }, touched)?;
            }
        }
        if let Some((bytes, media_type)) = manifest {
            self.hold(digest, bytes, media_type, Aged { enforced: subject.aged.enforced, used: *at })?;
        }
        for child in children {
            if self.see_child(repository, child, digest, subject.aged.enforced, *at)? {
                touched.add(child);
            }
        }
        Ok(())
    }

    /// Notes the use of a subject, where that is due; it becomes of an enforced class and stays so.
    pub(super) fn renew(
        &mut self,
        key: &Key,
        enforced: bool,
        presence: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<Subject, StoreError> {
        let old = self.subject(key)?;
        let new = Subject {
            aged: Aged { enforced: enforced || old.is_some_and(|old| old.aged.enforced), used: at },
            presence: presence.or(old.and_then(|old| old.presence)),
        };
        if let Some(old) = old {
            let presence_fresh = match (presence, old.presence) {
                (Some(new), Some(old)) => is_fresh(old, new),
                (new, _) => new.is_none(),
            };
            if presence_fresh && old.aged.enforced == new.aged.enforced && is_fresh(old.aged.used, at) {
                return Ok(old);
            }
            self.ages.remove(old.aged.key(Kind::Subject, key.as_bytes()).as_bytes())?;
        } else {
            self.added += subject_cost(key.as_bytes());
        }
        self.ages.insert(new.aged.key(Kind::Subject, key.as_bytes()).as_bytes(), ())?;
        self.subjects.insert(key.as_bytes(), new.encode().as_slice())?;
        self.changed = true;
        Ok(new)
    }

    fn subject(&self, key: &Key) -> Result<Option<Subject>, StoreError> {
        self.subjects.get(key.as_bytes())?.map(|row| Subject::decode(row.value())).transpose()
    }

    pub(super) fn forget_presence(&mut self, key: &Key) -> Result<bool, StoreError> {
        let old = self.subject(key)?;
        let Some(old) = old.filter(|old| old.presence.is_some()) else { return Ok(false) };
        self.subjects.insert(key.as_bytes(), Subject { presence: None, ..old }.encode().as_slice())?;
        Ok(true)
    }

    pub(super) fn mark(&mut self, repository: &Repository, touched: &mut Touched) -> Result<(), StoreError> {
        let key = repository_key(repository);
        if self.enforced.insert(key.as_bytes(), ())?.is_none() {
            self.marked(repository, &key, touched);
        }
        Ok(())
    }

    pub(super) fn mark_internal(&mut self, repository: &Repository, touched: &mut Touched) -> Result<(), StoreError> {
        let key = repository_key(repository);
        if self.internal.insert(key.as_bytes(), ())?.is_none() {
            self.marked(repository, &key, touched);
        }
        Ok(())
    }

    fn marked(&mut self, repository: &Repository, key: &Key, touched: &mut Touched) {
        self.added += cost(key.as_bytes().len(), 0);
        self.changed = true;
        touched.add(repository);
    }

    fn see_tag(&mut self, subject: &Key, tag: &str, enforced: bool) -> Result<bool, StoreError> {
        let key = subject.clone().raw(tag.as_bytes());
        let known = self.tags.get(key.as_bytes())?.map(|row| row.value());
        if known.is_some_and(|known| known || !enforced) {
            return Ok(false);
        }
        if known.is_none() {
            let mut count = 0;
            for row in self.tags.range(subject.as_bytes()..)?.take(TAGS_MAX) {
                count += usize::from(row?.0.value().starts_with(subject.as_bytes()));
            }
            // What is left out is one more tag of a digest whose class is known already; an enforced
            // one admits less by being unknown, and the subject stays of an enforced class.
            if count >= TAGS_MAX || (!enforced && count >= PLAIN_TAGS_MAX) {
                return Ok(false);
            }
            self.added += cost(key.as_bytes().len(), 1);
        }
        self.tags.insert(key.as_bytes(), enforced)?;
        self.changed = true;
        Ok(true)
    }

    fn see_enforced_tag(&mut self, repository: &Repository, tag: &Tag, at: Timestamp) -> Result<(), StoreError> {
        let key = enforced_tag_key(repository, tag);
        let old = self.enforced_tags.get(key.as_bytes())?.map(|row| Aged::decode(row.value())).transpose()?;
        let aged = Aged { enforced: true, used: at };
        match old {
            Some(old) if is_fresh(old.used, at) => return Ok(()),
            Some(old) => {
                self.ages.remove(old.key(Kind::EnforcedTag, key.as_bytes()).as_bytes())?;
            }
            None => self.added += enforced_tag_cost(key.as_bytes()),
        }
        self.ages.insert(aged.key(Kind::EnforcedTag, key.as_bytes()).as_bytes(), ())?;
        self.enforced_tags.insert(key.as_bytes(), aged.encode().as_slice())?;
        self.changed = true;
        Ok(())
    }

    fn hold(&mut self, digest: &Digest, bytes: &[u8], media_type: &str, aged: Aged) -> Result<(), StoreError> {
        let key = Key::default().digest(digest);
        let old = self.manifest_ages.get(key.as_bytes())?.map(|row| Aged::decode(row.value())).transpose()?;
        let aged = Aged { enforced: aged.enforced || old.is_some_and(|old| old.enforced), ..aged };
        if let Some(old) = old {
            if old.enforced == aged.enforced && is_fresh(old.used, aged.used) {
                return Ok(());
            }
            self.ages.remove(old.key(Kind::Manifest, key.as_bytes()).as_bytes())?;
        } else {
            let length = u16::try_from(media_type.len())
                .map_err(|_| StoreError::row("manifests", "the media type is too long"))?;
            let value = Key::default().raw(&length.to_be_bytes()).raw(media_type.as_bytes()).raw(bytes);
            self.manifests.insert(key.as_bytes(), value.as_bytes())?;
            self.added += manifest_cost(key.as_bytes(), value.as_bytes());
        }
        self.ages.insert(aged.key(Kind::Manifest, key.as_bytes()).as_bytes(), ())?;
        self.manifest_ages.insert(key.as_bytes(), aged.encode().as_slice())?;
        self.changed = true;
        Ok(())
    }

    fn see_child(
        &mut self,
        repository: &Repository,
        child: &Digest,
        parent: &Digest,
        enforced: bool,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let subject = subject_key(repository, child);
        let key = subject.clone().digest(parent);
        let old = self.parents.get(key.as_bytes())?.map(|row| Aged::decode(row.value())).transpose()?;
        let aged = Aged { enforced: enforced || old.is_some_and(|old| old.enforced), used: at };
        if old.is_some_and(|old| old.enforced == aged.enforced && is_recent(old.used, at)) {
            return Ok(false);
        }
        if old.is_none() {
            self.make_room_for_parent(&subject)?;
            self.added += cost(key.as_bytes().len(), AGED_LEN);
        }
        self.parents.insert(key.as_bytes(), aged.encode().as_slice())?;
        self.changed = true;
        self.renew(&subject, aged.enforced, None, at)?;
        Ok(old.is_none_or(|old| old.enforced != aged.enforced))
    }

    /// A digest that very many manifests name keeps those of an enforced class and those seen last.
    fn make_room_for_parent(&mut self, subject: &Key) -> Result<(), StoreError> {
        let mut parents = Vec::new();
        for row in self.parents.range(subject.as_bytes()..)? {
            let (key, value) = row?;
            if !key.value().starts_with(subject.as_bytes()) {
                break;
            }
            parents.push((Aged::decode(value.value())?, key.value().to_vec()));
        }
        if parents.len() < PARENTS_MAX {
            return Ok(());
        }
        if let Some((_, key)) = parents.iter().min_by_key(|(aged, _)| (aged.enforced, aged.used)) {
            self.parents.remove(key.as_slice())?;
            self.added -= cost(key.len(), AGED_LEN);
        }
        Ok(())
    }

    /// Adds what this transaction changed to the count of all.
    pub(super) fn account(&mut self) -> Result<(), StoreError> {
        if self.added != 0 {
            add(&mut self.meta, BYTES_ROW, std::mem::take(&mut self.added))?;
        }
        Ok(())
    }
}

/// Whether lineage that was written then needs no renewal yet.
pub(super) fn is_recent(known: Timestamp, now: Timestamp) -> bool {
    now.duration_since(known).abs() < LINEAGE_RENEW_AFTER
}

/// Lineage is renewed more seldom than presence: an index has many children.
const LINEAGE_RENEW_AFTER: SignedDuration = SignedDuration::from_hours(6);

const TAGS_MAX: usize = 1024;
const PLAIN_TAGS_MAX: usize = 256;
const PARENTS_MAX: usize = 4096;
