//! From an image to all that was signed of it, in a registry or a layout: cosign's tags, and what refers to it.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::found::{Content, Layer, Sink};
use crate::{
    cli::{
        layout::Layout,
        registry::{Read, RegistrySource, with_children},
    },
    oci::{Descriptor, Digest, Manifest, ManifestKind, Reference, Repository, Tag},
};

/// Where manifests and blobs come from.
#[derive(Clone)]
pub(super) enum Source {
    Layout(Arc<Layout>),
    Registry(Arc<RegistrySource>),
}

/// A source with the way to whoever takes what is found.
#[derive(Clone)]
pub(super) struct Walk {
    pub(super) source: Source,
    pub(super) sink: Sink,
    pub(super) at_once: usize,
    /// The repository that the signatures are submitted for, where it is another one than that they are taken from.
    pub(super) named: Option<Repository>,
}

impl Source {
    /// None: there is no such thing. What is there and is none is an error of its own.
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> anyhow::Result<Read<Manifest>> {
        match self {
            Self::Registry(registry) => registry.manifest(repository, reference).await,
            Self::Layout(layout) => {
                let manifest = match reference {
                    Reference::Tag(tag) => layout.tagged_manifest(tag)?,
                    Reference::Digest(digest) => layout.manifest(digest)?,
                };
                Ok(manifest.map_or(Read::Absent, Read::Is))
            }
        }
    }

    async fn blob(&self, repository: &Repository, blob: &Descriptor) -> anyhow::Result<Read<Bytes>> {
        match self {
            Self::Registry(registry) => registry.blob(repository, blob).await,
            Self::Layout(layout) => Ok(match layout.blob(&blob.digest, blob.size) {
                Ok(bytes) => bytes.map_or(Read::Absent, Read::Is),
                Err(error) => Read::Broken(format!("{error:#}")),
            }),
        }
    }

    async fn referrers(&self, repository: &Repository, subject: &Digest) -> anyhow::Result<Vec<Descriptor>> {
        match self {
            Self::Registry(registry) => registry.referrers(repository, subject).await,
            Self::Layout(layout) => Ok(layout.referrers(subject).to_vec()),
        }
    }
}

impl Walk {
    /// All of these images, several at a time.
    pub(super) async fn images(&self, repository: &Repository, images: Vec<Digest>) -> anyhow::Result<()> {
        stream::iter(images.into_iter().map(Ok))
            .try_for_each_concurrent(self.at_once, |image| async move { self.image(repository, &image).await })
            .await
    }

    /// What a reference means: an image, and where that is an index, its images too.
    pub(super) async fn meant_by(&self, repository: &Repository, reference: &Reference) -> anyhow::Result<Vec<Digest>> {
        match self.source.manifest(repository, reference).await? {
            Read::Is(manifest) => Ok(with_children(&manifest)),
            Read::Absent => Err(anyhow!("{repository}: there is no {reference}")),
            Read::Broken(why) => Err(anyhow!("{repository}: {reference}: {why}")),
        }
    }

    /// The same for a tag of a list, where one that is broken or gone spoils itself only.
    pub(super) async fn listed(&self, repository: &Repository, tag: &Tag) -> anyhow::Result<Vec<Digest>> {
        if let Some(artifact) = tag.artifact() {
            return Ok(vec![artifact.subject]);
        }
        match self.source.manifest(repository, &Reference::Tag(tag.clone())).await? {
            Read::Is(manifest) if manifest.is_artifact() || manifest.subject.is_some() => Ok(Vec::new()),
            Read::Is(manifest) => Ok(with_children(&manifest)),
            Read::Absent => Ok(Vec::new()),
            Read::Broken(detail) => {
                self.sink
                    .put(format_args!("{repository}:{tag}"), Content::Broken { reason: "malformed", detail })
                    .await?;
                Ok(Vec::new())
            }
        }
    }

    /// The same signature under a tag and as a referrer is submitted twice; the second time it is there already.
    async fn image(&self, repository: &Repository, image: &Digest) -> anyhow::Result<()> {
        for suffix in TAGS {
            let Ok(tag) = format!("{}-{}{suffix}", image.algorithm(), image.encoded()).parse::<Tag>() else { continue };
            let place = format!("{repository}:{tag}");
            match self.source.manifest(repository, &Reference::Tag(tag)).await? {
                Read::Is(manifest) => self.artifact(repository, image, &manifest, &place).await?,
                Read::Absent => {}
                Read::Broken(detail) => {
                    self.sink.put(place, Content::Broken { reason: "malformed", detail }).await?;
                }
            }
        }
        let mut seen = BTreeSet::new();
        for listed in self.source.referrers(repository, image).await.context(repository.to_string())? {
            let place = format!("{repository}@{}", listed.digest);
            if !seen.insert(listed.digest) {
                continue;
            }
            if !listed.media_type.is_image() {
                self.sink.put(place, Content::Other { reason: listed.media_type.to_string() }).await?;
                continue;
            }
            match self.source.manifest(repository, &Reference::Digest(listed.digest)).await? {
                Read::Is(manifest) if manifest.subject.as_ref().is_some_and(|subject| subject.digest == *image) => {
                    self.artifact(repository, image, &manifest, &place).await?;
                }
                Read::Is(_) => self.sink.put(place, Content::Other { reason: "of-another-image".to_owned() }).await?,
                Read::Absent => self.sink.put(place, Content::Other { reason: "not-there".to_owned() }).await?,
                Read::Broken(detail) => {
                    self.sink.put(place, Content::Broken { reason: "malformed", detail }).await?;
                }
            }
        }
        Ok(())
    }

    async fn artifact(
        &self,
        repository: &Repository,
        image: &Digest,
        artifact: &Manifest,
        place: &str,
    ) -> anyhow::Result<()> {
        let layers = match &artifact.kind {
            ManifestKind::Image { layers, .. } => layers.as_slice(),
            ManifestKind::Index { .. } => &[],
        };
        if artifact.subject.as_ref().is_some_and(|subject| subject.digest != *image) {
            return self.sink.put(place, Content::Other { reason: "of-another-image".to_owned() }).await;
        }
        if layers.is_empty() {
            return self.sink.put(place, Content::Other { reason: "empty".to_owned() }).await;
        }
        for listed in layers {
            let content = match Layer::of(listed) {
                Err(content) => content,
                Ok(layer) => match self.source.blob(repository, listed).await? {
                    Read::Is(blob) if blob.len() as u64 != listed.size => {
                        let detail = format!("{} bytes, not the {} that are listed", blob.len(), listed.size);
                        Content::Broken { reason: "malformed", detail }
                    }
                    Read::Is(blob) => layer.content(image, self.named.as_ref().unwrap_or(repository), blob),
                    Read::Absent => Content::Broken { reason: "not-there", detail: "its blob is missing".to_owned() },
                    Read::Broken(detail) => Content::Broken { reason: "malformed", detail },
                },
            };
            self.sink.put(format_args!("{place} {}", listed.digest), content).await?;
        }
        Ok(())
    }

    /// Every image of a repository that a tag, or the name of one, tells of.
    pub(super) async fn repository(&self, repository: &Repository) -> anyhow::Result<()> {
        let Source::Registry(registry) = &self.source else { return Ok(()) };
        let (mut seen, mut page) = (BTreeSet::new(), Some(String::new()));
        while let Some(query) = page {
            let answer = registry.tags(repository, &query).await?;
            page = answer.next;
            let tags = answer.tags.into_iter().filter_map(|tag| tag.parse::<Tag>().ok());
            let images: Vec<Vec<Digest>> =
                stream::iter(tags.map(|tag| async move { self.listed(repository, &tag).await }))
                    .buffer_unordered(self.at_once)
                    .try_collect()
                    .await?;
            let new = images.into_iter().flatten().filter(|image| seen.insert(*image)).collect();
            self.images(repository, new).await?;
            anyhow::ensure!(seen.len() <= MAX_IMAGES, "{repository} has more than {MAX_IMAGES} images");
        }
        Ok(())
    }
}

const TAGS: [&str; 3] = [".sig", ".att", ".sbom"];
const MAX_IMAGES: usize = 1 << 20;
