//! The bytes of a blob that may leave: from the cache, from a fetch that others share, or straight from the
//! upstream.

use std::{ops::Range, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::BodyExt;

use crate::{
    cache::{BlobBody, ComingBlob, ReadError, Source, SourceBody, SourceError},
    oci::{Digest, Repository},
    upstream::{BlobAnswer, Upstream, UpstreamBody, UpstreamError},
};

use super::{
    Admitted, Blob, Puller,
    fetch::{FetchError, Presence, Presences},
};

/// What a client wants of a blob.
#[derive(Debug)]
pub enum Wanted {
    /// How long it is.
    Length,
    Whole,
    Part(Bounds),
}

/// One range of bytes: RFC 9110, section 14.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    From(u64),
    Within(u64, u64),
    Last(u64),
}

/// What there is to send.
#[derive(Debug)]
pub enum Content {
    Length(Option<u64>),
    /// Bytes of a blob of `size`; `range` where a part of it was asked for.
    Bytes {
        size: u64,
        range: Option<Range<u64>>,
        body: Box<BlobBody>,
    },
    Unsatisfiable {
        size: u64,
    },
    /// What nobody keeps: it passes through. Without a size only where nobody has said it, and then whole.
    Passing {
        size: Option<u64>,
        range: Option<Range<u64>>,
        body: Box<UpstreamBody>,
    },
}

/// A blob's bytes, and what to say of them.
#[derive(Debug)]
pub struct Served {
    pub content: Content,
    /// Why it is not known whether the upstream still has it.
    pub stale: Option<UpstreamError>,
}

#[derive(Clone)]
struct Origin {
    upstream: Arc<Upstream>,
    repository: Repository,
    digest: Digest,
    present: Presences,
}

impl Puller {
    /// The bytes of a blob that was admitted. The repository has it: that another one has it too, whose blob
    /// lies here, is not enough.
    pub async fn content(
        &self,
        upstream: &Arc<Upstream>,
        repository: &Repository,
        admitted: &Admitted<Blob>,
        wanted: Wanted,
    ) -> Result<Served, UpstreamError> {
        let Blob { digest, size, .. } = admitted.content();
        let presence = self.fetcher.blob_presence(upstream, repository, digest).await;
        let (is_present, stale) = match presence {
            Ok(Presence::Known) => (true, None),
            Ok(Presence::Kept(error)) => (true, Some(error)),
            Ok(Presence::Unknown) => (false, None),
            Err(FetchError::Upstream(error)) => return Err(error),
            // What cannot be looked up is not known: the upstream is asked.
            Err(error) => {
                tracing::error!("the presence of {repository}@{digest} cannot be read: {error}");
                (false, None)
            }
        };
        let origin = Origin {
            upstream: upstream.clone(),
            repository: repository.clone(),
            digest: *digest,
            present: self.fetcher.present.clone(),
        };
        let content = match wanted {
            Wanted::Length => self.length(&origin, *size, is_present).await?,
            Wanted::Whole => self.bytes(origin, *size, is_present, None).await?,
            Wanted::Part(part) => self.bytes(origin, *size, is_present, Some(part)).await?,
        };
        Ok(Served { content, stale })
    }

    async fn length(&self, origin: &Origin, size: Option<u64>, is_present: bool) -> Result<Content, UpstreamError> {
        if is_present && size.is_some() {
            return Ok(Content::Length(size));
        }
        let length = origin.upstream.blob_length(&origin.repository, &origin.digest).await?;
        self.fetcher.renew_presence(&origin.repository, &origin.digest).await;
        // A manifest that has its digest says more than the head of an answer.
        Ok(Content::Length(size.or(length)))
    }

    async fn bytes(
        &self,
        origin: Origin,
        size: Option<u64>,
        mut is_present: bool,
        part: Option<Bounds>,
    ) -> Result<Content, UpstreamError> {
        if let (Some(part), Some(size)) = (part, size)
            && part.of(size).is_none()
        {
            return Ok(Content::Unsatisfiable { size });
        }
        let (Some(cache), Some(size)) = (&self.cache, size) else { return origin.passing(size, part).await };
        let range = part.and_then(|part| part.of(size));
        let wanted = range.clone().unwrap_or(0..size);
        // Twice, as what lies in the cache may turn out to be spoilt.
        for _ in 0..2 {
            is_present = is_present || self.fetcher.is_present(&origin.repository, &origin.digest);
            // In this order, so that a fetch which begins just now is met.
            if !is_present && cache.has(&origin.digest) {
                // What comes from here is known to be here once it has begun to.
                if let Some(coming) = cache.coming(&origin.digest).filter(|c| c.place() == &origin.repository) {
                    begun(&coming).await?;
                }
                if !self.fetcher.is_present(&origin.repository, &origin.digest) {
                    origin.upstream.blob_length(&origin.repository, &origin.digest).await?;
                    self.fetcher.renew_presence(&origin.repository, &origin.digest).await;
                }
                is_present = true;
            }
            if let Some(cached) = cache.cached(&origin.digest).await.filter(|cached| cached.size() == size) {
                match cached.body(wanted.clone()).await {
                    Ok(body) => return Ok(Content::Bytes { size, range, body: Box::new(body) }),
                    Err(error) => tracing::warn!(digest = %origin.digest, "{error}"),
                }
            } else {
                break;
            }
        }
        let coming = cache.fetch(origin.digest, size, Arc::new(origin.clone())).await;
        // Another manifest may say another size of the same blob, and one of the two is wrong.
        let Some(coming) = coming.filter(|coming| coming.size() == size) else {
            return origin.passing(Some(size), part).await;
        };
        begun(&coming).await?;
        if !is_present {
            self.fetcher.renew_presence(&origin.repository, &origin.digest).await;
        }
        Ok(Content::Bytes { size, range, body: Box::new(coming.body(wanted)) })
    }
}

impl Origin {
    /// All of the blob comes by, whatever is wanted of it: nothing else tells whether a part is right.
    async fn passing(self, size: Option<u64>, part: Option<Bounds>) -> Result<Content, UpstreamError> {
        let BlobAnswer { content_length, body } = self.upstream.blob(&self.repository, &self.digest).await?;
        let Some(length) = size.or(content_length) else {
            return Ok(Content::Passing { size: None, range: None, body: Box::new(body) });
        };
        if content_length.is_some_and(|stated| stated != length) {
            return Err(UpstreamError::Malformed { what: "size" });
        }
        // Nobody reads a body that is known to be empty.
        if length == 0 && !self.digest.matches(&[]) {
            return Err(UpstreamError::WrongDigest);
        }
        let range = part.and_then(|part| part.of(length));
        if part.is_some() && range.is_none() {
            return Ok(Content::Unsatisfiable { size: length });
        }
        let body = Box::new(body.expecting(length).part(range.clone().unwrap_or(0..length)));
        Ok(Content::Passing { size: Some(length), range, body })
    }
}

impl Source for Origin {
    fn place(&self) -> &Repository {
        &self.repository
    }

    fn open(&self, from: u64) -> BoxFuture<'static, Result<SourceBody, SourceError>> {
        let Self { upstream, repository, digest, present, .. } = self.clone();
        async move {
            let body = upstream.blob_from(&repository, &digest, from).await.map_err(source_error)?;
            present.note(&repository, &digest);
            Ok(Box::pin(body.map_err(source_error)) as SourceBody)
        }
        .boxed()
    }
}

impl Bounds {
    /// What it is of a blob of this size; none if there is no such part.
    fn of(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..size,
            Self::Within(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

async fn begun(coming: &ComingBlob) -> Result<(), UpstreamError> {
    coming.begun().await.map_err(|error| match error {
        ReadError::Fetch(error) => upstream_error(&error),
        _ => UpstreamError::WrongDigest,
    })
}

fn source_error(error: UpstreamError) -> SourceError {
    let may_pass = !error.is_final() && !error.is_untrue();
    SourceError { source: Arc::new(error), may_pass }
}

fn upstream_error(error: &SourceError) -> UpstreamError {
    error.source.downcast_ref::<UpstreamError>().cloned().unwrap_or(UpstreamError::Reset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_within_the_blob_or_there_is_none() {
        for (bounds, size, expected) in [
            (Bounds::From(0), 10, Some(0..10)),
            (Bounds::From(9), 10, Some(9..10)),
            (Bounds::From(10), 10, None),
            (Bounds::Within(2, 4), 10, Some(2..5)),
            (Bounds::Within(9, u64::MAX), 10, Some(9..10)),
            (Bounds::Within(10, 12), 10, None),
            (Bounds::Last(3), 10, Some(7..10)),
            (Bounds::Last(30), 10, Some(0..10)),
            (Bounds::Last(0), 10, None),
            (Bounds::From(0), 0, None),
            (Bounds::Last(1), 0, None),
        ] {
            assert_eq!(bounds.of(size), expected, "{bounds:?} of {size}");
        }
    }
}
