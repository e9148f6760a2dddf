//! Signatures that were found upstream, as found.

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;
use redb::ReadableTable;

use crate::{
    oci::{Digest, Repository},
    store::{
        FoundEnvelope, FoundId, Identity, Store, StoreError,
        schema::{FOUND, Key, decode, encode},
    },
};

use super::{
    rows::{cost, subject_key},
    tables::MemoryTables,
};

impl Store {
    /// Signatures that were found upstream, as found.
    pub fn found(&self, repository: &Repository, digest: &Digest) -> Result<Vec<FoundEnvelope>, StoreError> {
        self.inner.memory.read(|transaction| {
            let prefix = subject_key(repository, digest);
            let mut found: Vec<FoundEnvelope> = Vec::new();
            for row in transaction.open_table(FOUND)?.range(prefix.as_bytes()..)? {
                let (key, value) = row?;
                if !key.value().starts_with(prefix.as_bytes()) {
                    break;
                }
                found.push(decode("found", value.value())?);
            }
            found.sort_by_key(|envelope| envelope.first_seen);
            Ok(found)
        })
    }

    /// Adds to what was found; of one that is known the earlier `first_seen` stays. One digest may have so many
    /// and so much: what is found now takes the place of what was not found again, except what has verified.
    pub async fn put_found(
        &self,
        repository: &Repository,
        digest: &Digest,
        envelopes: Vec<FoundEnvelope>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if envelopes.is_empty() {
            return Ok(());
        }
        let (key, digest) = (subject_key(repository, digest), *digest);
        let bytes = envelopes.iter().map(FoundEnvelope::size).sum();
        self.change_memory_with(bytes, move |tables, touched| {
            if tables.put_found(&key, &envelopes)? {
                touched.add(digest);
                tables.renew(&key, false, None, at)?;
            }
            Ok(())
        })
        .await
    }

    /// Keeps it in mind that these have verified, each with the identity that it had.
    pub async fn found_verified(
        &self,
        repository: &Repository,
        digest: &Digest,
        verified: Vec<(FoundId, Identity)>,
    ) -> Result<(), StoreError> {
        let key = subject_key(repository, digest);
        // No generation moves: what is known of the digest is what it was.
        self.change_memory(move |tables, _| {
            verified.iter().try_for_each(|(id, by)| tables.found_verified(&key, *id, *by))
        })
        .await
    }
}

impl MemoryTables<'_> {
    /// Adds to what was found upstream; says whether anything was new.
    pub(super) fn put_found(&mut self, subject: &Key, envelopes: &[FoundEnvelope]) -> Result<bool, StoreError> {
        let ids: BTreeSet<_> = envelopes.iter().map(|envelope| envelope.id().0).collect();
        let (mut count, mut bytes, mut gone) = (0, 0, Vec::new());
        for (key, known, length) in self.found_of(subject)? {
            count += 1;
            bytes += length;
            let is_found = key.last_chunk().is_some_and(|id| ids.contains(id));
            if known.verified.is_none() && !is_found {
                gone.push((known.first_seen, key, length));
            }
        }
        // The one to give way next is the last.
        gone.sort_by_key(|(first_seen, ..)| Reverse(*first_seen));
        let mut changed = false;
        for envelope in envelopes {
            let key = subject.clone().raw(&envelope.id().0);
            let known: Option<FoundEnvelope> =
                self.found.get(key.as_bytes())?.map(|row| decode("found", row.value())).transpose()?;
            if known.as_ref().is_some_and(|known| known.first_seen <= envelope.first_seen) {
                continue;
            }
            let verified = known.as_ref().and_then(|known| known.verified);
            let value = encode("found", &FoundEnvelope { verified, ..envelope.clone() })?;
            while known.is_none()
                && (count >= FOUND_MAX || bytes + value.len() > FOUND_BYTES_MAX)
                && let Some((_, key, length)) = gone.pop()
            {
                self.found.remove(key.as_slice())?;
                self.added -= cost(key.len(), length);
                count -= 1;
                bytes -= length;
            }
            if known.is_none() && (count >= FOUND_MAX || bytes + value.len() > FOUND_BYTES_MAX) {
                continue;
            }
            count += usize::from(known.is_none());
            bytes += value.len();
            self.put_found_row(&key, &value)?;
            changed = true;
        }
        Ok(changed)
    }

    pub(super) fn found_verified(&mut self, subject: &Key, id: FoundId, by: Identity) -> Result<(), StoreError> {
        let rows = self.found_of(subject)?;
        if rows.iter().any(|(_, known, _)| known.verified == Some(by)) {
            return Ok(());
        }
        let key = subject.clone().raw(&id.0);
        if let Some((_, known, _)) = rows.into_iter().find(|(row, _, _)| row == key.as_bytes()) {
            let value = encode("found", &FoundEnvelope { verified: Some(by), ..known })?;
            self.put_found_row(&key, &value)?;
        }
        Ok(())
    }

    fn put_found_row(&mut self, key: &Key, value: &[u8]) -> Result<(), StoreError> {
        let old = self.found.insert(key.as_bytes(), value)?;
        let old = old.map_or(0, |old| cost(key.as_bytes().len(), old.value().len()));
        self.added += cost(key.as_bytes().len(), value.len()) - old;
        self.changed = true;
        Ok(())
    }

    /// Each with its key and its length.
    fn found_of(&self, subject: &Key) -> Result<Vec<(Vec<u8>, FoundEnvelope, usize)>, StoreError> {
        let mut found = Vec::new();
        for row in self.found.range(subject.as_bytes()..)? {
            let (key, value) = row?;
            if !key.value().starts_with(subject.as_bytes()) {
                break;
            }
            found.push((key.value().to_vec(), decode("found", value.value())?, value.value().len()));
        }
        Ok(found)
    }
}

/// All that one search can find, in base64, beside what has verified before.
const FOUND_MAX: usize = 256 + 64;
const FOUND_BYTES_MAX: usize = 24 << 20;
