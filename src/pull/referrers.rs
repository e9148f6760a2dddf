use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use url::form_urlencoded;

use crate::{
    oci::{Descriptor, Digest, ManifestKind, MediaType, Repository, Tag},
    upstream::{ReferrersAnswer, Upstream},
};

use super::{Asker, Puller, Refused, artifacts::ungated, fetch::FetchError};

/// What refers to a digest: what the upstream lists, and what our records add to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Referrers {
    pub manifests: Vec<Descriptor>,
    /// Whether it holds only the artifact type that was asked for.
    pub filtered: bool,
    /// The query that asks for the next page.
    pub next: Option<String>,
}

impl Puller {
    /// One page of the list. Ours stand on the first, after the upstream's, as some clients read no other.
    ///
    /// An upstream without such a list is asked for the fallback tag. One that fails is a failure here too,
    /// whatever our records hold: to leave out what it may have would be to say that there is none.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        query: &str,
        asker: &Asker,
    ) -> Result<Referrers, Refused> {
        let upstream = self.upstream_of(repository)?;
        let query = Query::of(query);
        let visible = match self.shows_artifacts_of(repository, subject, asker).await {
            Ok(true) => self.fetcher.check_visible(&upstream, repository, asker.is_anonymous()).await,
            Ok(false) => Err(FetchError::Invisible),
            Err(refused) => return Err(Refused { reason: refused.reason, ..ungated(&FetchError::Invisible) }),
        };
        match visible {
            Ok(()) => {}
            // As for a digest to which nothing refers.
            Err(FetchError::Invisible) => return Ok(Referrers { filtered: query.is_filter(), ..Referrers::default() }),
            Err(error) => return Err(ungated(&error)),
        }
        let listing = self.list(&upstream, repository, subject, &query, asker);
        listing.await.map_err(|error| ungated(&error))
    }

    async fn list(
        &self,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        subject: &Digest,
        query: &Query<'_>,
        asker: &Asker,
    ) -> Result<Referrers, FetchError> {
        let theirs = match upstream.referrers(repository, subject, query.text).await {
            Ok(answer) => answer,
            Err(error) if error.is_absent() => self.fallback(upstream, repository, subject, query, asker).await?,
            Err(error) => return Err(error.into()),
        };
        let own = self.own(upstream, repository, subject, asker).await?;
        let ReferrersAnswer { mut manifests, filtered, next } = theirs;
        let filtered = filtered && query.is_filter();
        let ours = own.referrers();
        let mut seen = BTreeSet::new();
        if query.is_first_page() {
            manifests.retain(|listed| seen.insert(listed.digest));
            manifests.extend(ours.into_iter().filter(|own| (!filtered || query.wants(own)) && seen.insert(own.digest)));
            for artifact in own.made() {
                self.publisher.named(repository, subject, artifact);
            }
        } else {
            seen.extend(ours.iter().map(|own| own.digest));
            manifests.retain(|listed| seen.insert(listed.digest));
        }
        Ok(Referrers { manifests, filtered, next })
    }

    /// What the fallback tag lists, as a registry with the list would.
    async fn fallback(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        subject: &Digest,
        query: &Query<'_>,
        asker: &Asker,
    ) -> Result<ReferrersAnswer, FetchError> {
        let manifests =
            match self.fetcher.tag(upstream, repository, &Tag::fallback(subject), asker.is_anonymous()).await {
                Ok(manifest) => match &manifest.kind {
                    ManifestKind::Index { manifests } => manifests.clone(),
                    ManifestKind::Image { .. } => Vec::new(),
                },
                Err(error) if error.is_absent() => Vec::new(),
                Err(error) => return Err(error),
            };
        let permits = Semaphore::new(MAX_AT_ONCE);
        let mut unnamed = 0;
        let named = manifests.into_iter().map(|listed| {
            let looks = is_unnamed(&listed) && unnamed < MAX_LOOKED_INTO;
            unnamed += usize::from(looks);
            let permits = &permits;
            async move {
                if !looks {
                    return listed;
                }
                let _permit = permits.acquire().await;
                self.named(upstream, repository, listed, asker).await
            }
        });
        let mut manifests = join_all(named).await;
        manifests.retain(|listed| query.wants(listed));
        Ok(ReferrersAnswer { manifests, filtered: true, next: None })
    }

    /// An entry with the artifact type that its manifest states: cosign enters its bundles as empty ones.
    async fn named(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        listed: Descriptor,
        asker: &Asker,
    ) -> Descriptor {
        let manifest = match self.fetcher.held(&listed.digest) {
            Ok(Some(manifest)) => Ok(manifest),
            _ => {
                let asked = self.fetcher.digest(upstream, repository, &listed.digest, asker.is_anonymous()).await;
                asked.map(|fetched| fetched.manifest)
            }
        };
        match manifest {
            Ok(manifest) => Descriptor { artifact_type: manifest.descriptor().artifact_type, ..listed },
            Err(error) => {
                tracing::debug!("the artifact type of {repository}@{} is not known: {error}", listed.digest);
                listed
            }
        }
    }
}

fn is_unnamed(listed: &Descriptor) -> bool {
    listed.artifact_type.as_ref().is_none_or(|kind| *kind == MediaType::OCI_EMPTY)
}

/// What a client asks of the list.
struct Query<'a> {
    text: &'a str,
    wanted: Vec<Cow<'a, str>>,
    first_page: bool,
}

impl<'a> Query<'a> {
    fn of(text: &'a str) -> Self {
        let (mut wanted, mut first_page) = (Vec::new(), true);
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "artifactType" => wanted.push(value),
                // The first page is asked for without any place in the list.
                _ => first_page = false,
            }
        }
        Self { text, wanted, first_page }
    }

    fn is_first_page(&self) -> bool {
        self.first_page
    }

    fn is_filter(&self) -> bool {
        !self.wanted.is_empty()
    }

    fn wants(&self, listed: &Descriptor) -> bool {
        let is = |wanted: &Cow<'_, str>| listed.artifact_type.as_ref().is_some_and(|kind| kind.as_str() == wanted);
        self.wanted.is_empty() || self.wanted.iter().any(is)
    }
}

const MAX_AT_ONCE: usize = 8;

/// Entries without an artifact type whose manifests are looked into for one answer.
const MAX_LOOKED_INTO: usize = 64;
