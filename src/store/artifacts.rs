use bytes::Bytes;
use jiff::Timestamp;
use redb::{ReadableTable, Table, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Manifest, Repository, Tag};

use super::{
    HeldManifest, Store, StoreError,
    generations::Touched,
    schema::{
        self, ARTIFACT_BLOBS, ARTIFACT_BYTES, ARTIFACT_LAYERS, ARTIFACT_TAGS, ARTIFACTS, ARTIFACTS_OF, Key, decode,
        encode, split_digest,
    },
    writer::Done,
};

/// A signature, attestation or SBOM that was pushed here, as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub digest: Digest,
    /// What it is about: the subject that it names, or that its tag does.
    pub subject: Digest,
    /// Whether the manifest itself names its subject, and so is listed among what refers to it.
    pub refers: bool,
    pub manifest: HeldManifest,
}

/// A layer or a config of pushed artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactBlob {
    pub bytes: Bytes,
    /// What those artifacts are about: it is shown to whoever may see one of them.
    pub subjects: Vec<Digest>,
}

/// A push, all of which is kept, or nothing.
#[derive(Debug, Clone)]
pub struct Capture {
    pub repository: Repository,
    /// What was pushed, and where that was merged with what the tag held, the outcome.
    pub artifacts: Vec<NewArtifact>,
    pub tag: Option<Retag>,
    pub account: String,
}

#[derive(Debug, Clone)]
pub struct NewArtifact {
    pub artifact: Artifact,
    /// All that the manifest names.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// A tag that goes from what it held when the push was looked at to what it holds then.
#[derive(Debug, Clone)]
pub struct Retag {
    pub tag: Tag,
    pub from: Option<Digest>,
    pub to: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Captured {
    Kept,
    /// Somebody else pushed to the tag meanwhile: nothing was written.
    TagMoved,
    /// The account has as much about this subject as one may have.
    SubjectFull,
    /// The account has as much as one may have at all.
    AccountFull,
}

/// What is known of an artifact beside its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    account: String,
    at: Timestamp,
    bytes: u64,
    /// No tag and no subject leads to it any more: it is read by digest until its place is needed.
    #[serde(default)]
    superseded: bool,
}

/// Artifacts that came through the registry's own protocol.
impl Store {
    /// Keeps what was pushed, within what an account may have. What it answers is durable.
    pub async fn capture(&self, capture: Capture) -> Result<Captured, StoreError> {
        let now = self.inner.clock.now();
        let bytes = capture.artifacts.iter().map(NewArtifact::size).sum();
        self.inner.records.write(bytes, move |transaction| keep(transaction, &capture, now)).await
    }

    pub fn artifact(&self, repository: &Repository, digest: &Digest) -> Result<Option<Artifact>, StoreError> {
        self.inner.records.read(|transaction| {
            let table = transaction.open_table(ARTIFACTS)?;
            let row = table.get(named(repository, digest).as_bytes())?;
            row.map(|row| Artifact::decode(*digest, row.value())).transpose()
        })
    }

    pub fn artifact_tagged(&self, repository: &Repository, tag: &Tag) -> Result<Option<Artifact>, StoreError> {
        let digest = self.inner.records.read(|transaction| {
            let table = transaction.open_table(ARTIFACT_TAGS)?;
            table.get(tagged(repository, tag).as_bytes())?.map(|row| whole_digest(row.value())).transpose()
        })?;
        digest.map_or(Ok(None), |digest| self.artifact(repository, &digest))
    }

    /// Those that name the subject themselves, in the order of their digests.
    pub fn artifacts_of(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Artifact>, StoreError> {
        self.inner.records.read(|transaction| {
            let artifacts = transaction.open_table(ARTIFACTS)?;
            let mut found = Vec::new();
            for (digest, _) in rows_of(&transaction.open_table(ARTIFACTS_OF)?, repository, subject)? {
                let row = artifacts.get(named(repository, &digest).as_bytes())?;
                let row = row.ok_or_else(|| StoreError::row(TABLE, "an index names one that is missing"))?;
                found.push(Artifact::decode(digest, row.value())?);
            }
            found.retain(|artifact| artifact.refers);
            Ok(found)
        })
    }

    pub fn artifact_blob(&self, repository: &Repository, digest: &Digest) -> Result<Option<ArtifactBlob>, StoreError> {
        self.inner.records.read(|transaction| {
            let key = named(repository, digest);
            let Some(bytes) = transaction
                .open_table(ARTIFACT_BLOBS)?
                .get(key.as_bytes())?
                .map(|row| Bytes::copy_from_slice(row.value()))
            else {
                return Ok(None);
            };
            let artifacts = transaction.open_table(ARTIFACTS)?;
            let mut subjects = Vec::new();
            for artifact in artifacts_with(&transaction.open_table(ARTIFACT_LAYERS)?, &key)? {
                if let Some(row) = artifacts.get(named(repository, &artifact).as_bytes())? {
                    let Artifact { subject, .. } = Artifact::decode(artifact, row.value())?;
                    if !subjects.contains(&subject) {
                        subjects.push(subject);
                    }
                }
            }
            Ok(Some(ArtifactBlob { bytes, subjects }))
        })
    }
}

impl NewArtifact {
    fn size(&self) -> usize {
        self.artifact.manifest.bytes.len() + self.blobs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }
}

impl Artifact {
    fn encode(&self) -> Vec<u8> {
        let media_type = self.manifest.media_type.as_bytes();
        let length = u16::try_from(media_type.len()).expect("a media type has at most 255 bytes");
        let head = Key::default().digest(&self.subject).raw(&[u8::from(self.refers)]).raw(&length.to_be_bytes());
        [head.as_bytes(), media_type, &self.manifest.bytes].concat()
    }

    fn children(&self) -> Result<Vec<Digest>, StoreError> {
        let HeldManifest { bytes, media_type } = self.manifest.clone();
        let manifest = Manifest::parse(bytes, Some(&self.digest), Some(&media_type));
        let manifest = manifest.map_err(|error| StoreError::row(TABLE, error))?;
        Ok(manifest.children().map(|child| child.digest).collect())
    }

    fn decode(digest: Digest, row: &[u8]) -> Result<Self, StoreError> {
        let decoded = || {
            let (subject, rest) = split_digest(row)?;
            let (refers, rest) = rest.split_first()?;
            let (length, rest) = rest.split_first_chunk()?;
            let (media_type, bytes) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            let media_type = str::from_utf8(media_type).ok()?.to_owned();
            let manifest = HeldManifest { bytes: Bytes::copy_from_slice(bytes), media_type };
            Some(Self { digest, subject, refers: *refers == 1, manifest })
        };
        decoded().ok_or_else(|| StoreError::row(TABLE, "a value of another shape"))
    }
}

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
pub(super) fn forget(
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

fn keep(transaction: &WriteTransaction, capture: &Capture, now: Timestamp) -> Result<Done<Captured>, StoreError> {
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
        let mut count = own.len();
        let mut oldest = own.into_iter();
        while count + new.len() > MAX_OF_SUBJECT || bytes + wanted > MAX_BYTES_OF_SUBJECT {
            let Some((digest, row)) = oldest.next().filter(|(_, row)| row.superseded) else {
                return Ok(Some(Captured::SubjectFull));
            };
            self.remove(&capture.repository, &subject, &digest, &row)?;
            (count, bytes) = (count - 1, bytes - row.bytes);
        }
        let account = self.bytes.get(capture.account.as_str())?.map_or(0, |bytes| bytes.value());
        Ok((account + wanted > MAX_BYTES_OF_ACCOUNT).then_some(Captured::AccountFull))
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

fn rows_of(
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
fn artifacts_with(table: &impl ReadableTable<schema::Bytes, ()>, blob: &Key) -> Result<Vec<Digest>, StoreError> {
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

fn named(repository: &Repository, digest: &Digest) -> Key {
    repository_key(repository).digest(digest)
}

fn tagged(repository: &Repository, tag: &Tag) -> Key {
    repository_key(repository).raw(tag.as_str().as_bytes())
}

fn whole_digest(bytes: &[u8]) -> Result<Digest, StoreError> {
    match split_digest(bytes) {
        Some((digest, [])) => Ok(digest),
        _ => Err(StoreError::row(TABLE, "not a digest")),
    }
}

const TABLE: &str = "artifacts";

/// What one account may have about one subject: far more signatures than anybody makes of one image.
const MAX_OF_SUBJECT: usize = 128;
const MAX_BYTES_OF_SUBJECT: u64 = 32 << 20;

/// And about everything: some hundred thousand signed images.
const MAX_BYTES_OF_ACCOUNT: u64 = 4 << 30;
