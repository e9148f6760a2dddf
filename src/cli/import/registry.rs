//! A registry that signatures are taken from, asked with the server's own client and settings.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;

use super::walk::Read;
use crate::{
    app::{TagsAnswer, Upstream, UpstreamError},
    oci::{Descriptor, Digest, Manifest, ManifestKind, Reference, Repository, Tag},
};

pub(super) struct RegistrySource {
    upstream: Arc<Upstream>,
}

impl RegistrySource {
    pub(super) fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream }
    }

    pub(super) async fn tags(&self, repository: &Repository, query: &str) -> anyhow::Result<TagsAnswer> {
        patiently(|| self.upstream.tags(repository, query)).await.with_context(|| format!("the tags of {repository}"))
    }

    pub(super) async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> anyhow::Result<Read<Manifest>> {
        let fetched = match read(patiently(|| self.upstream.manifest(repository, reference)).await) {
            Ok(Read::Is(fetched)) => fetched,
            Ok(Read::Absent) => return Ok(Read::Absent),
            Ok(Read::Broken(why)) => return Ok(Read::Broken(why)),
            Err(error) => return Err(anyhow!(error).context(format!("{repository} {reference}"))),
        };
        let expected = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        Ok(match Manifest::parse(fetched.bytes, expected, fetched.content_type.as_deref()) {
            Ok(manifest) => Read::Is(manifest),
            Err(error) => Read::Broken(error.to_string()),
        })
    }

    pub(super) async fn blob(&self, repository: &Repository, blob: &Descriptor) -> anyhow::Result<Read<Bytes>> {
        let cap = usize::try_from(blob.size)?;
        let fetched = read(patiently(|| self.upstream.small_blob(repository, &blob.digest, cap)).await);
        fetched.with_context(|| format!("{repository}@{}", blob.digest))
    }

    /// By the list, and by the fallback tag: a registry may have been given the list later.
    pub(super) async fn referrers(&self, repository: &Repository, subject: &Digest) -> anyhow::Result<Vec<Descriptor>> {
        let (mut manifests, mut page) = (Vec::new(), Some(String::new()));
        for _ in 0..MAX_PAGES {
            let Some(query) = page.take() else { break };
            match patiently(|| self.upstream.referrers(repository, subject, &query)).await {
                Ok(answer) => {
                    manifests.extend(answer.manifests);
                    page = answer.next;
                }
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(anyhow!(error).context(format!("what refers to {repository}@{subject}"))),
            }
        }
        anyhow::ensure!(page.is_none(), "{repository}@{subject} has more than {MAX_PAGES} pages of referrers");
        if let Read::Is(fallback) = self.manifest(repository, &Reference::Tag(Tag::fallback(subject))).await?
            && let ManifestKind::Index { manifests: listed } = fallback.kind
        {
            manifests.extend(listed);
        }
        Ok(manifests)
    }
}

fn read<T>(asked: Result<T, UpstreamError>) -> Result<Read<T>, UpstreamError> {
    match asked {
        Ok(answer) => Ok(Read::Is(answer)),
        Err(error) if error.is_absent() => Ok(Read::Absent),
        Err(error) if error.is_untrue() => Ok(Read::Broken(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Asks again where the registry asks for patience, or fails for a moment.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, UpstreamError>) -> Result<T, UpstreamError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        let wait = match ask().await {
            Err(UpstreamError::RateLimited { retry_after }) => retry_after.unwrap_or(pause),
            Err(UpstreamError::Status { status: 500..=599 } | UpstreamError::Reset | UpstreamError::Timeout { .. }) => {
                pause
            }
            answered => return answered,
        };
        tokio::time::sleep(wait.min(MAX_PAUSE)).await;
        pause *= 2;
    }
    ask().await
}

const ATTEMPTS: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(120);
const MAX_PAGES: usize = 256;
