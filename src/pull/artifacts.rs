//! Signatures, attestations and SBOMs, which are read to decide on images and so cannot wait for a
//! decision themselves. What is let out here is no image: it writes no lineage and admits no child.

use std::sync::Arc;

use crate::{
    oci::{Descriptor, Digest, Manifest, ManifestKind, Repository, Tag, TagType},
    policy::{Level, Reason, Statement},
};

use super::{Admitted, Ask, Asker, Blob, Puller, Refused, fetch::FetchError};

/// Layers of artifacts that were served, which no image needs to name, and whether that was to everybody.
pub(super) type ServedBlobs = quick_cache::sync::Cache<(Repository, Digest, bool), Blob>;

/// The layers of an artifact are signatures and reports, not file systems.
pub const MAX_ARTIFACT_BLOB_BYTES: usize = 4 << 20;

impl Puller {
    /// A layer of an artifact that was served a moment ago to somebody who saw no more than whoever asks.
    pub(super) fn served_blob(&self, repository: &Repository, digest: &Digest, asker: &Asker) -> Option<Blob> {
        let served = |anonymous| self.artifact_blobs.get(&(repository.clone(), *digest, anonymous));
        served(true).or_else(|| (!asker.is_anonymous()).then(|| served(false)).flatten())
    }

    /// Whether whoever asks may know of this digest's signatures.
    pub fn shows_artifacts_of(
        &self,
        repository: &Repository,
        subject: &Digest,
        asker: &Asker,
    ) -> Result<bool, Refused> {
        if !self.hides_internal_from(asker) {
            return Ok(true);
        }
        let tags = self.store.tags_seen(repository, subject).map_err(|error| self.unreadable(error))?;
        let internal = |tag: &Tag| tag.stated_type() == Some(TagType::Internal);
        if tags.is_empty() {
            let hides = self.store.knows_internal_tags(repository).map_err(|error| self.unreadable(error))?;
            return Ok(!hides);
        }
        Ok(!tags.iter().all(internal))
    }

    /// A tag such as `sha256-….sig`: readable as what its name says it is, gated like any other if
    /// what it holds could run.
    pub(super) async fn artifact_tag(&self, ask: &Ask, tag: &Tag) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let upstream = self.upstream_of(&ask.repository)?;
        let statement = ungated();
        let artifact = tag.artifact().expect("the caller looked");
        if !self.shows_artifacts_of(&ask.repository, &artifact.subject, &ask.asker)? {
            return Err(Refused { reason: Reason::Absent, statement });
        }
        let anonymous = ask.asker.is_anonymous();
        let refused = |error: FetchError| Refused { reason: error.reason(), statement: statement.clone() };
        self.fetcher.check_visible(&upstream, &ask.repository, anonymous).await.map_err(refused)?;
        let manifest = match self.captured_tag(&ask.repository, tag)? {
            Some(captured) => captured,
            None => self.fetcher.tag(&upstream, &ask.repository, tag, anonymous).await.map_err(refused)?,
        };
        if manifest.is_artifact() || (manifest.is_index() && artifact.suffix.is_empty()) {
            return self.artifact(ask, manifest, &artifact.subject);
        }
        self.tag(ask, tag).await
    }

    /// Lets an artifact out without a verdict. It is no image: it writes no lineage and admits no child.
    /// What is about an internal image is as hidden as the image, by every name it is asked for.
    pub(super) fn artifact(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        subject: &Digest,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let subjects = [Some(subject), manifest.subject.as_ref().map(|subject| &subject.digest)];
        for subject in subjects.into_iter().flatten() {
            if !self.shows_artifacts_of(&ask.repository, subject, &ask.asker)? {
                return Err(Refused { reason: Reason::Absent, statement: ungated() });
            }
        }
        let small = |blob: &&Descriptor| blob.size <= MAX_ARTIFACT_BLOB_BYTES as u64;
        if let ManifestKind::Image { config, layers } = &manifest.kind {
            for blob in [config].into_iter().chain(layers).filter(small) {
                let allowed = Blob { digest: blob.digest, size: Some(blob.size), held: None };
                let anonymous = ask.asker.is_anonymous();
                self.artifact_blobs.insert((ask.repository.clone(), blob.digest, anonymous), allowed);
            }
        }
        Ok(Admitted::new(manifest, None))
    }
}

/// What an artifact is held to: nothing, so that one that is absent is an ordinary 404.
pub(super) fn ungated() -> Statement {
    Statement { name: "artifact".into(), level: Level::Skip }
}
