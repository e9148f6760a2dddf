use jiff::Timestamp;
use redb::{ReadableTable, Table, WriteTransaction};

use crate::oci::{Digest, Repository, Tag};

use super::{Artifact, Capture, Captured, NewArtifact, Row};
use crate::store::{
    StoreError,
    generations::Touched,
    schema::{
        self, ARTIFACT_BLOBS, ARTIFACT_BYTES, ARTIFACT_LAYERS, ARTIFACT_TAGS, ARTIFACTS, ARTIFACTS_OF, Key, decode,
        encode, split_digest,
    },
    writer::Done,
};

/// The tables of one push while it is written.
struct Tables<'t> {
    artifacts: Table<'t, schema::Bytes, schema::Bytes>,
    of: Table<'t, schema::Bytes, schema::Bytes>,
    tags: Table<'t, schema::Bytes, schema::Bytes>,
    blobs: Table<'t, schema::Bytes, schema::Bytes>,
    layers: Table<'t, schema::Bytes, ()>,
    bytes: Table<'t, &'static str, u64>,
}

/// A signature that was withdrawn is not shown on: what refers to its subject by this blob goes, and so does the
/// tag that leads to it. What else lay under the tag is made again of its own records.
pub(in crate::store) fn forget(
    transaction: &WriteTransaction,
    repository: &Repository,
    tag: &Tag,
    blob: &Digest,
) -> Result<(), StoreError> {
    let mut tables = Tables::open(transaction)?;
    let shown = tables.tagged(repository, tag)?;
    for digest in artifacts_with(&tables.layers, &named(repository, blob))? {
        if shown == Some(digest) {
            tables.mark(repository, digest, true)?;
            tables.tags.remove(tagged(repository, tag).as_bytes())?;
        }
        let artifact = tables.artifacts.get(named(repository, &digest).as_bytes())?;
        let artifact = artifact.map(|row| Artifact::decode(digest, row.value())).transpose()?;
        let Some(artifact) = artifact.filter(|artifact| artifact.refers) else { continue };
        let key = named(repository, &artifact.subject).digest(&digest);
        let row = tables.of.get(key.as_bytes())?.map(|row| decode::<Row>(TABLE, row.value())).transpose()?;
        if let Some(row) = row {
            tables.remove(repository, &artifact.subject, &digest, &row)?;
        }
    }
    Ok(())
}

pub(super) fn keep(
    transaction: &WriteTransaction,
    capture: &Capture,
    now: Timestamp,
) -> Result<Done<Captured>, StoreError> {
    let mut tables = Tables::open(transaction)?;
    let tagged_before = match &capture.tag {
        Some(retag) => tables.tagged(&capture.repository, &retag.tag)?,
        None => None,
    };
    if capture.tag.as_ref().is_some_and(|retag| retag.from != tagged_before) {
        return Ok(Done::unchanged(Captured::TagMoved));
    }
    let mut new = Vec::new();
    for artifact in &capture.artifacts {
        let key = named(&capture.repository, &artifact.artifact.digest);
        if tables.artifacts.get(key.as_bytes())?.is_none() {
            new.push(artifact);
        }
    }
    if let Some(full) = tables.make_room(capture, &new)? {
        return Ok(Done::unchanged(full));
    }
    let mut touched = Touched::default();
    for artifact in &new {
        touched.add(artifact.artifact.subject);
        tables.insert(capture, artifact, now)?;
    }
    if let Some(retag) = &capture.tag
        && tagged_before != Some(retag.to)
    {
        let to = Key::default().digest(&retag.to);
        tables.tags.insert(tagged(&capture.repository, &retag.tag).as_bytes(), to.as_bytes())?;
        let subjects = capture.artifacts.iter().map(|artifact| artifact.artifact.subject);
        subjects.for_each(|subject| touched.add(subject));
        if let Some(before) = tagged_before {
            tables.mark(&capture.repository, before, true)?;
        }
        tables.mark(&capture.repository, retag.to, false)?;
    } else if new.is_empty() {
        return Ok(Done::unchanged(Captured::Kept));
    }
    Ok(Done::changed(Captured::Kept, touched))
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            artifacts: transaction.open_table(ARTIFACTS)?,
            of: transaction.open_table(ARTIFACTS_OF)?,
            tags: transaction.open_table(ARTIFACT_TAGS)?,
            blobs: transaction.open_table(ARTIFACT_BLOBS)?,
            layers: transaction.open_table(ARTIFACT_LAYERS)?,
            bytes: transaction.open_table(ARTIFACT_BYTES)?,
        })
    }

    fn tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        self.tags.get(tagged(repository, tag).as_bytes())?.map(|row| whole_digest(row.value())).transpose()
    }

    /// Lets go of what nothing leads to any more, where the account needs the place; says what is full
    /// where that is not enough.
    fn make_room(&mut self, capture: &Capture, new: &[&NewArtifact]) -> Result<Option<Captured>, StoreError> {
        let Some(subject) = new.first().map(|artifact| artifact.artifact.subject) else { return Ok(None) };
        let wanted: u64 = new.iter().map(|artifact| artifact.size() as u64).sum();
        let mut own: Vec<_> = rows_of(&self.of, &capture.repository, &subject)?
            .into_iter()
            .filter(|(_, row)| row.account == capture.account)
            .collect();
        own.sort_by_key(|(_, row)| (!row.superseded, row.at));
        let mut bytes: u64 = own.iter().map(|(_, row)| row.bytes).sum();
        let mut gone = 0;
        while own.len() - gone + new.len() > MAX_OF_SUBJECT || bytes + wanted > MAX_BYTES_OF_SUBJECT {
            let Some((_, row)) = own.get(gone).filter(|(_, row)| row.superseded) else {
                return Ok(Some(Captured::SubjectFull));
            };
            bytes -= row.bytes;
            gone += 1;
        }
        let account = self.bytes.get(capture.account.as_str())?.map_or(0, |bytes| bytes.value());
        if account + wanted > MAX_BYTES_OF_ACCOUNT {
            return Ok(Some(Captured::AccountFull));
        }
        for (digest, row) in own.iter().take(gone) {
            self.remove(&capture.repository, &subject, digest, row)?;
        }
        Ok(None)
    }

    fn insert(&mut self, capture: &Capture, new: &NewArtifact, now: Timestamp) -> Result<(), StoreError> {
        let (repository, artifact) = (&capture.repository, &new.artifact);
        let mut bytes = artifact.manifest.bytes.len() as u64;
        for (digest, blob) in &new.blobs {
            let key = named(repository, digest);
            if self.blobs.insert(key.as_bytes(), &**blob)?.is_none() {
                bytes += blob.len() as u64;
            }
            self.layers.insert(key.digest(&artifact.digest).as_bytes(), ())?;
        }
        let leads = artifact.refers || capture.tag.as_ref().is_some_and(|retag| retag.to == artifact.digest);
        let row = Row { account: capture.account.clone(), at: now, bytes, superseded: !leads };
        self.artifacts.insert(named(repository, &artifact.digest).as_bytes(), artifact.encode().as_slice())?;
        self.write(repository, &artifact.subject, &artifact.digest, &row)?;
        self.account(&row.account, |total| total.saturating_add(bytes))
    }

    /// Notes of what only a tag leads to whether one still does.
    fn mark(&mut self, repository: &Repository, digest: Digest, superseded: bool) -> Result<(), StoreError> {
        let artifact = self.artifacts.get(named(repository, &digest).as_bytes())?;
        let artifact = artifact.map(|row| Artifact::decode(digest, row.value())).transpose()?;
        let Some(artifact) = artifact.filter(|artifact| !artifact.refers) else { return Ok(()) };
        let of = named(repository, &artifact.subject).digest(&digest);
        let row = self.of.get(of.as_bytes())?.map(|row| decode::<Row>(TABLE, row.value())).transpose()?;
        match row {
            Some(row) => self.write(repository, &artifact.subject, &digest, &Row { superseded, ..row }),
            None => Ok(()),
        }
    }

    fn remove(
        &mut self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        row: &Row,
    ) -> Result<(), StoreError> {
        let artifact = self.artifacts.remove(named(repository, digest).as_bytes())?;
        let artifact = artifact.map(|row| Artifact::decode(*digest, row.value())).transpose()?;
        self.of.remove(named(repository, subject).digest(digest).as_bytes())?;
        let children = artifact.map(|artifact| artifact.children()).transpose()?.unwrap_or_default();
        for blob in children {
            let key = named(repository, &blob);
            self.layers.remove(key.clone().digest(digest).as_bytes())?;
            if artifacts_with(&self.layers, &key)?.is_empty() {
                self.blobs.remove(key.as_bytes())?;
            }
        }
        self.account(&row.account, |total| total.saturating_sub(row.bytes))
    }

    fn write(
        &mut self,
        repository: &Repository,
        subject: &Digest,
        digest: &Digest,
        row: &Row,
    ) -> Result<(), StoreError> {
        let key = named(repository, subject).digest(digest);
        self.of.insert(key.as_bytes(), encode(TABLE, row)?.as_slice())?;
        Ok(())
    }

    fn account(&mut self, account: &str, change: impl FnOnce(u64) -> u64) -> Result<(), StoreError> {
        let total = self.bytes.get(account)?.map_or(0, |bytes| bytes.value());
        self.bytes.insert(account, change(total))?;
        Ok(())
    }
}

pub(super) fn rows_of(
    table: &impl ReadableTable<schema::Bytes, schema::Bytes>,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<(Digest, Row)>, StoreError> {
    let prefix = named(repository, subject);
    let mut rows = Vec::new();
    for row in table.range(prefix.as_bytes()..)? {
        let (key, value) = row?;
        let Some(digest) = key.value().strip_prefix(prefix.as_bytes()) else { break };
        rows.push((whole_digest(digest)?, decode(TABLE, value.value())?));
    }
    Ok(rows)
}

/// The artifacts that name a blob.
pub(super) fn artifacts_with(
    table: &impl ReadableTable<schema::Bytes, ()>,
    blob: &Key,
) -> Result<Vec<Digest>, StoreError> {
    let mut artifacts = Vec::new();
    for row in table.range(blob.as_bytes()..)? {
        let (key, _) = row?;
        let Some(artifact) = key.value().strip_prefix(blob.as_bytes()) else { break };
        artifacts.push(whole_digest(artifact)?);
    }
    Ok(artifacts)
}

fn repository_key(repository: &Repository) -> Key {
    Key::default().word(repository.as_str())
}

pub(super) fn named(repository: &Repository, digest: &Digest) -> Key {
    repository_key(repository).digest(digest)
}

pub(super) fn tagged(repository: &Repository, tag: &Tag) -> Key {
    repository_key(repository).raw(tag.as_str().as_bytes())
}

pub(super) fn whole_digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    match split_digest(bytes) {
        Some((digest, [])) => Ok(digest),
        _ => Err(StoreError::row(TABLE, "not a digest")),
    }
}

pub(super) const TABLE: &str = "artifacts";

/// What one account may have about one subject: far more signatures than anybody makes of one image.
const MAX_OF_SUBJECT: usize = 128;
const MAX_BYTES_OF_SUBJECT: u64 = 32 << 20;

/// And about everything: some hundred thousand signed images.
const MAX_BYTES_OF_ACCOUNT: u64 = 4 << 30;
