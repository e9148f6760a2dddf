mod tables;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::oci::{Digest, Manifest, Repository, Tag};

use self::tables::{TABLE, artifacts_with, keep, named, rows_of, tagged, whole_digest};
use super::{
    HeldManifest, Store, StoreError,
    schema::{ARTIFACT_BLOBS, ARTIFACT_LAYERS, ARTIFACT_TAGS, ARTIFACTS, ARTIFACTS_OF, Key, split_digest},
};

pub(super) use self::tables::forget;

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
