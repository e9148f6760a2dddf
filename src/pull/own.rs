//! What we have about an image beside its upstream, put together with what that has: artifacts that were
//! pushed here, and those that are made of records.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    oci::{ArtifactTag, Descriptor, Digest, Manifest, ManifestKind, Repository, Tag},
    upstream::Upstream,
};

use super::{
    Asker, Puller,
    captured::readable,
    fetch::FetchError,
    published::{Artifact, Made, Published, listed},
};

/// The artifacts that hold several things, and so what several have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// cosign's `.sig` tag.
    Signatures,
    /// The fallback tag.
    Index,
}

/// What is ours of one image.
pub(super) struct Own {
    published: Arc<Published>,
    /// What was pushed under the `.sig` tag.
    pushed: Option<Arc<Manifest>>,
    /// What was pushed as referring to the image.
    referring: Vec<Descriptor>,
    /// The layers of that: what is made of the same signature is not listed beside it.
    pushed_layers: BTreeSet<Digest>,
}

impl Own {
    /// Theirs and ours in one; none where one of them, [`Own::alone`], has it all.
    pub(super) fn beside(&self, kind: Kind, theirs: Option<&Manifest>) -> Option<Artifact> {
        match kind {
            Kind::Signatures => self.published.signatures_beside(self.pushed.as_deref(), theirs),
            Kind::Index => Artifact::index(theirs, &self.referrers()),
        }
    }

    /// What there is where nothing is to be added to it: theirs, unless what was pushed has that too.
    pub(super) fn alone(self, kind: Kind, theirs: Option<Arc<Manifest>>) -> Option<Arc<Manifest>> {
        self.pushed.filter(|_| kind == Kind::Signatures).or(theirs)
    }

    /// All that refers to the image, as a list names it.
    pub(super) fn referrers(&self) -> Vec<Descriptor> {
        let is_pushed =
            |artifact: &&Artifact| layers(&artifact.manifest).any(|layer| self.pushed_layers.contains(&layer));
        let made = self.published.referrers.iter().filter(|artifact| !is_pushed(artifact));
        let made = made.map(|artifact| listed(&artifact.manifest));
        self.referring.iter().cloned().chain(made).collect()
    }

    pub(super) fn made(&self) -> &[Artifact] {
        &self.published.referrers
    }
}

impl Puller {
    /// What is ours of an image. Nothing is made of records where the upstream does not have the image.
    pub(super) async fn own(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        subject: &Digest,
        asker: &Asker,
    ) -> Result<Own, FetchError> {
        let mut pushed = None;
        if let Some(tag) = Kind::Signatures.tag(subject) {
            pushed = self.store.artifact_tagged(repository, &tag)?.as_ref().and_then(readable).map(Arc::new);
        }
        let referring = self.store.artifacts_of(repository, subject)?;
        let referring: Vec<Manifest> = referring.iter().filter_map(readable).collect();
        let pushed_layers = referring.iter().flat_map(layers).collect();
        let referring = referring.iter().map(listed).collect();
        let published = self.published(upstream, repository, subject, asker).await?;
        Ok(Own { published, pushed, referring, pushed_layers })
    }

    async fn published(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        subject: &Digest,
        asker: &Asker,
    ) -> Result<Arc<Published>, FetchError> {
        let hides_internal = self.hides_internal_from(asker);
        if let Some(published) = self.publisher.kept(repository, subject, hides_internal) {
            return Ok(published);
        }
        let draft = self.publisher.draft(repository, subject, hides_internal)?;
        if draft.is_empty() {
            return Ok(Arc::default());
        }
        match self.fetch_subject(upstream, repository, subject, asker.is_anonymous()).await {
            Ok(manifest) => Ok(self.publisher.publish(draft, &manifest.descriptor())),
            Err(error) if error.is_absent() => Ok(Arc::default()),
            Err(error) => Err(error),
        }
    }

    /// What was made here and has this digest, made again; none where it is not known to be ours, or no
    /// longer.
    pub(super) async fn made(&self, repository: &Repository, digest: &Digest, asker: &Asker) -> Option<Made> {
        let subject = self.publisher.subject_of(repository, digest)?;
        if !self.shows_artifacts_of(repository, &subject, asker).await.ok()? {
            return None;
        }
        let upstream = self.upstream_of(repository).ok()?;
        self.fetcher.check_visible(&upstream, repository, asker.is_anonymous()).await.ok()?;
        let own = self.own(&upstream, repository, &subject, asker).await.ok()?;
        if let Some(made) = own.published.find(digest) {
            return Some(made);
        }
        for kind in [Kind::Signatures, Kind::Index] {
            let merged = self.merged(&upstream, repository, &subject, &own, kind, asker).await;
            if let Some(made) = merged.and_then(|merged| merged.find(digest)) {
                return Some(made);
            }
        }
        None
    }

    /// The same for a digest that no answer of this process has named.
    pub(super) async fn search_made(&self, repository: &Repository, digest: &Digest, asker: &Asker) -> Option<Made> {
        let upstream = self.upstream_of(repository).ok()?;
        let search = self.publisher.search(repository, asker.is_anonymous()).await.ok()?;
        let looking = async {
            for subject in &search.images {
                let Ok(own) = self.own(&upstream, repository, subject, asker).await else { continue };
                for kind in [Kind::Signatures, Kind::Index] {
                    if let Some(merged) = self.merged(&upstream, repository, subject, &own, kind, asker).await {
                        self.publisher.named(repository, subject, &merged);
                    }
                }
                for referrer in own.made() {
                    self.publisher.named(repository, subject, referrer);
                }
            }
        };
        // What was found until then is found.
        drop(tokio::time::timeout(SEARCH_LIMIT, looking).await);
        self.made(repository, digest, asker).await
    }

    async fn merged(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        subject: &Digest,
        own: &Own,
        kind: Kind,
        asker: &Asker,
    ) -> Option<Artifact> {
        // Without anything of ours there is nothing to merge.
        if own.pushed.is_none() {
            own.beside(kind, None)?;
        }
        let theirs = self.theirs(upstream, repository, &kind.tag(subject)?, asker).await.ok()?;
        own.beside(kind, theirs.as_deref())
    }
}

fn layers(manifest: &Manifest) -> impl Iterator<Item = Digest> {
    let layers = match &manifest.kind {
        ManifestKind::Image { layers, .. } => layers.as_slice(),
        ManifestKind::Index { .. } => &[],
    };
    layers.iter().map(|layer| layer.digest)
}

impl Kind {
    pub(super) fn of(tag: &ArtifactTag) -> Option<Self> {
        match tag.suffix.as_str() {
            SIGNATURES => Some(Self::Signatures),
            "" => Some(Self::Index),
            _ => None,
        }
    }

    fn tag(self, subject: &Digest) -> Option<Tag> {
        let name = Tag::fallback(subject);
        match self {
            Self::Signatures => format!("{name}{SIGNATURES}").parse().ok(),
            Self::Index => Some(name),
        }
    }

    /// Whether a manifest is what the name of the tag says; whatever else it is could run.
    pub(super) fn is_of(self, manifest: &Manifest) -> bool {
        manifest.is_artifact() || (self == Self::Index && manifest.is_index())
    }
}

const SIGNATURES: &str = ".sig";

/// How long a client waits for a digest that is looked for among ours.
const SEARCH_LIMIT: Duration = Duration::from_secs(5);
