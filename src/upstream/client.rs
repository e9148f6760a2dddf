use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::{Body, Frame};

use super::UpstreamError;
use crate::oci::{Digest, Reference, Repository};

/// One registry.
pub struct Upstream {
    _private: (),
}

/// A manifest's bytes as they came; `Manifest::parse` hashes them.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    pub bytes: Bytes,
    pub content_type: Option<String>,
}

#[derive(Debug)]
pub struct BlobAnswer {
    /// 200, and 206 or 416 where a range was asked for.
    pub status: StatusCode,
    pub content_length: Option<u64>,
    pub content_range: Option<HeaderValue>,
    pub body: UpstreamBody,
}

/// A blob on its way.
#[derive(Debug)]
pub struct UpstreamBody {
    _private: (),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagsAnswer {
    pub tags: Vec<String>,
    /// The query that asks for the next page.
    pub next: Option<String>,
}

#[derive(Debug, Clone)]
pub struct ReferrersAnswer {
    /// An image index, unparsed.
    pub bytes: Bytes,
    pub content_type: Option<String>,
    /// `OCI-Filters-Applied`, as it came.
    pub filters_applied: Option<HeaderValue>,
    /// The query that asks for the next page.
    pub next: Option<String>,
}

impl Upstream {
    /// At most 4 MiB; asked for with one fixed list of media types.
    pub async fn manifest(&self, _: &Repository, _: &Reference) -> Result<FetchedManifest, UpstreamError> {
        unimplemented!()
    }

    /// What the upstream says a reference's digest is: only a hint. None: it does not say.
    pub async fn resolve(&self, _: &Repository, _: &Reference) -> Result<Option<Digest>, UpstreamError> {
        unimplemented!()
    }

    /// A blob as a stream. The body of a 200 is hashed on the way, and where the digest is wrong it
    /// ends in an error before its last byte.
    pub async fn blob(
        &self,
        _: &Repository,
        _: &Digest,
        _head: bool,
        _range: Option<&HeaderValue>,
    ) -> Result<BlobAnswer, UpstreamError> {
        unimplemented!()
    }

    /// A blob of at most `cap` bytes, verified.
    pub async fn small_blob(&self, _: &Repository, _: &Digest, _cap: usize) -> Result<Bytes, UpstreamError> {
        unimplemented!()
    }

    /// One page of the tag list; of `query` only `n` and `last` are passed on.
    pub async fn tags(&self, _: &Repository, _query: &str) -> Result<TagsAnswer, UpstreamError> {
        unimplemented!()
    }

    /// One page of what refers to a digest.
    pub async fn referrers(&self, _: &Repository, _: &Digest, _query: &str) -> Result<ReferrersAnswer, UpstreamError> {
        unimplemented!()
    }

    /// Whether anonymous clients may read the repository: what the upstream itself grants to an
    /// anonymous token. A failure to find out is an error.
    pub async fn open_to_anonymous(&self, _: &Repository) -> Result<bool, UpstreamError> {
        unimplemented!()
    }
}

impl UpstreamBody {
    /// Also an error: more or fewer bytes than this, which a manifest said the blob has.
    pub fn expecting(self, _size: u64) -> Self {
        self
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UpstreamError>>> {
        Poll::Ready(None)
    }
}
