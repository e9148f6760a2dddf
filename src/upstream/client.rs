//! One registry, and what is asked of it.

use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use quick_cache::sync::Cache;

use super::{
    BlobAnswer, FetchedManifest, ReferrersAnswer, TagsAnswer, UpstreamBody, UpstreamError,
    answers::{content_length, content_type, filtered_query, next_page},
    body::discard,
    circuit::Kind,
    flights::Flights,
    place::is_of_the_place,
    requests::{Ask, Requests},
    tokens::Asker,
};
use crate::oci::{Digest, MAX_MANIFEST_BYTES, MediaType, Reference, RegistryName, Repository};

/// One registry.
pub struct Upstream {
    requests: Arc<Requests>,
    /// Whether anonymous clients get whatever we get.
    open_to_all: bool,
    /// What is asked for by many at once is asked for once.
    manifests: Flights<(Repository, Reference), Result<FetchedManifest, UpstreamError>>,
    resolved: Flights<(Repository, Reference), Result<Option<Digest>, UpstreamError>>,
    lengths: Flights<(Repository, Digest), Result<Option<u64>, UpstreamError>>,
    probes: Flights<Repository, Result<bool, UpstreamError>>,
    probed: Cache<Repository, (bool, Instant)>,
}

impl Upstream {
    /// How old it may be what [`Self::open_to_anonymous`] says.
    pub const PROBE_KEPT: Duration = Duration::from_secs(10 * 60);

    pub(super) fn new(requests: Requests, open_to_all: bool) -> Self {
        Self {
            requests: Arc::new(requests),
            open_to_all,
            manifests: Flights::new(),
            resolved: Flights::new(),
            lengths: Flights::new(),
            probes: Flights::new(),
            probed: Cache::new(MAX_PROBED),
        }
    }

    pub fn name(&self) -> &RegistryName {
        self.requests.name()
    }

    /// At most 4 MiB; asked for with one fixed list of media types, as an upstream may answer
    /// another list with other bytes.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<FetchedManifest, UpstreamError> {
        let key = (repository.clone(), reference.clone());
        let ask = |requests: Arc<Requests>, (repository, reference)| async move {
            requests.manifest(&repository, &reference).await
        };
        self.shared(&self.manifests, key, ask).await
    }

    /// What the upstream says a reference's digest is: only a hint. None: it does not say.
    pub async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>, UpstreamError> {
        let key = (repository.clone(), reference.clone());
        let ask = |requests: Arc<Requests>, (repository, reference)| async move {
            requests.resolve(&repository, &reference).await
        };
        self.shared(&self.resolved, key, ask).await
    }

    /// A blob as a stream, hashed on the way: where the digest is wrong it ends in an error before its last byte.
    pub async fn blob(&self, repository: &Repository, digest: &Digest) -> Result<BlobAnswer, UpstreamError> {
        self.counted("blob", async {
            let ask = Ask::get(repository, format!("blobs/{digest}"));
            let (parts, body) = self.requests.send(ask).await?.into_parts();
            match parts.status {
                StatusCode::OK => {
                    let body = UpstreamBody::new(body, Some(digest), self.requests.limits());
                    let body = body.watched(self.requests.watch(&parts));
                    Ok(BlobAnswer { content_length: content_length(&parts.headers), body })
                }
                // A part that nobody asked for.
                StatusCode::PARTIAL_CONTENT => Err(UpstreamError::Malformed { what: "range" }),
                _ => Err(self.requests.failure(parts.status, &parts.headers, body).await),
            }
        })
        .await
    }

    /// The bytes of a blob from `from` on, which nobody has hashed yet.
    pub async fn blob_from(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: u64,
    ) -> Result<UpstreamBody, UpstreamError> {
        self.counted("blob", async {
            let range = HeaderValue::try_from(format!("bytes={from}-")).expect("digits are ASCII");
            let range = (from > 0).then_some(&range);
            let ask = Ask { range, ..Ask::get(repository, format!("blobs/{digest}")) };
            let (parts, body) = self.requests.send(ask).await?.into_parts();
            let limits = self.requests.limits();
            let watch = self.requests.watch(&parts);
            match parts.status {
                StatusCode::OK => Ok(UpstreamBody::new(body, None, limits).after(from).watched(watch)),
                StatusCode::PARTIAL_CONTENT if begins_at(&parts.headers, from) => {
                    Ok(UpstreamBody::new(body, None, limits).watched(watch))
                }
                StatusCode::PARTIAL_CONTENT => Err(UpstreamError::Malformed { what: "range" }),
                _ => Err(self.requests.failure(parts.status, &parts.headers, body).await),
            }
        })
        .await
    }

    /// Whether there is a blob, and how long it is if the upstream says so.
    pub async fn blob_length(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        let key = (repository.clone(), *digest);
        let ask = |requests: Arc<Requests>, (repository, digest)| async move {
            requests.blob_length(&repository, &digest).await
        };
        self.shared(&self.lengths, key, ask).await
    }

    /// A blob of at most `cap` bytes, verified.
    pub async fn small_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        cap: usize,
    ) -> Result<Bytes, UpstreamError> {
        self.counted("small-blob", async {
            let answer = self.requests.ok(Ask::get(repository, format!("blobs/{digest}"))).await?;
            let bytes = self.requests.collect(answer, "blob", cap).await?.1;
            if digest.matches(&bytes) { Ok(bytes) } else { Err(UpstreamError::WrongDigest) }
        })
        .await
    }

    /// What of a query asks for a page of tags: all of it that is passed on.
    pub fn page_query(query: &str) -> String {
        filtered_query(query, is_page_parameter)
    }

    /// One page of the tag list; of `query` only `n` and `last` are passed on.
    pub async fn tags(&self, repository: &Repository, query: &str) -> Result<TagsAnswer, UpstreamError> {
        self.counted("tags", async {
            let query = Self::page_query(query);
            let ask = Ask { query, accept: JSON, ..Ask::get(repository, "tags/list".to_owned()) };
            let url = self.requests.url(&ask);
            let answer = self.requests.ok(ask).await?;
            let (headers, bytes) = self.requests.collect(answer, "tag list", MAX_LIST_BYTES).await?;
            TagsAnswer::parse(&bytes, next_page(&url, &headers, is_page_parameter))
        })
        .await
    }

    /// One page of what refers to a digest. Not found: the registry has no such list at all.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        query: &str,
    ) -> Result<ReferrersAnswer, UpstreamError> {
        self.counted("referrers", async {
            let query = filtered_query(query, |_| true);
            let accept = HeaderValue::from_static(INDEX);
            let ask = Ask { query, accept, ..Ask::get(repository, format!("referrers/{digest}")) };
            let url = self.requests.url(&ask);
            let answer = match self.requests.ok(ask).await {
                Ok(answer) => answer,
                // How registries that do not know the path say so.
                Err(UpstreamError::Status { status: 400 | 405 | 406 | 501 }) => return Err(UpstreamError::NotFound),
                Err(error) => return Err(error),
            };
            // Some answer any path with a page for people.
            if content_type(answer.headers()).is_some_and(|stated| !stated.starts_with(INDEX)) {
                discard(answer.into_body()).await;
                return Err(UpstreamError::NotFound);
            }
            let (headers, bytes) = self.requests.collect(answer, "referrers", MAX_LIST_BYTES).await?;
            let filters = headers.get("oci-filters-applied");
            ReferrersAnswer::parse(&bytes, filters, next_page(&url, &headers, |_| true))
        })
        .await
    }

    /// Waits for what is asked of this upstream, and not for long where there is an answer without it: not at all
    /// while it keeps everybody waiting.
    pub fn patiently<T, E: From<UpstreamError>>(
        &self,
        kind: Kind,
        asking: impl Future<Output = Result<T, E>>,
        has_answer: impl Fn() -> Result<bool, E>,
    ) -> impl Future<Output = Result<T, E>> {
        self.requests.patience.wait(kind, asking, has_answer)
    }

    /// Whether anonymous clients may read whatever we may, so that there is nothing to ask for them.
    pub fn is_open_to_all(&self) -> bool {
        self.open_to_all || !self.requests.primary().tokens.may_have_credentials()
    }

    /// Whether anonymous clients may read the repository: what the upstream itself grants to an
    /// anonymous token, so that our credentials are nobody's way in. A failure to find out is an
    /// error.
    pub async fn open_to_anonymous(&self, repository: &Repository) -> Result<bool, UpstreamError> {
        if self.is_open_to_all() {
            return Ok(true);
        }
        let now = self.requests.clock.instant();
        if let Some((open, until)) = self.probed.get(repository)
            && until > now
        {
            return Ok(open);
        }
        let ask = |requests: Arc<Requests>, repository| async move { requests.probe(&repository).await };
        let open = self.shared(&self.probes, repository.clone(), ask).await?;
        self.probed.insert(repository.clone(), (open, now + Self::PROBE_KEPT));
        Ok(open)
    }

    /// Asks once for all who ask the same at the same time.
    async fn shared<K, V, F>(
        &self,
        flights: &Flights<K, Result<V, UpstreamError>>,
        key: K,
        ask: impl FnOnce(Arc<Requests>, K) -> F,
    ) -> Result<V, UpstreamError>
    where
        K: Eq + Hash + Clone,
        V: Clone,
        F: Future<Output = Result<V, UpstreamError>> + Send + 'static,
    {
        flights.join(&key, || ask(Arc::clone(&self.requests), key.clone()).boxed()).await
    }

    async fn counted<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T, UpstreamError>>,
    ) -> Result<T, UpstreamError> {
        self.requests.counted(operation, work.await)
    }
}

/// What many may ask for at once, as [`Upstream`] shares it.
impl Requests {
    async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<FetchedManifest, UpstreamError> {
        let asked = async {
            let mut others = self.alternatives();
            loop {
                let ask = Ask { accept: manifest_types(), ..Ask::get(repository, format!("manifests/{reference}")) };
                match self.collect(self.ok(ask).await?, "manifest", MAX_MANIFEST_BYTES).await {
                    Ok((headers, bytes)) => {
                        return Ok(FetchedManifest { bytes, content_type: content_type(&headers) });
                    }
                    Err(error) if others > 0 && is_of_the_place(&error) => others -= 1,
                    Err(error) => return Err(error),
                }
            }
        };
        self.counted("manifest", asked.await)
    }

    async fn resolve(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>, UpstreamError> {
        let path = format!("manifests/{reference}");
        let ask = Ask { method: Method::HEAD, accept: manifest_types(), ..Ask::get(repository, path) };
        let resolved = match self.ok(ask).await {
            Ok(response) => Ok(stated_digest(response.headers())),
            // A registry that knows no HEAD has not said that there is nothing.
            Err(UpstreamError::Status { status: 405 | 501 }) => Ok(None),
            Err(error) => Err(error),
        };
        self.counted("resolve", resolved)
    }

    async fn blob_length(&self, repository: &Repository, digest: &Digest) -> Result<Option<u64>, UpstreamError> {
        let ask = Ask { method: Method::HEAD, ..Ask::get(repository, format!("blobs/{digest}")) };
        let answer = self.ok(ask).await;
        self.counted("blob-length", answer.map(|answer| content_length(answer.headers())))
    }

    /// Asks as somebody without credentials would. 404 counts as closed: to everybody else that is
    /// how a hidden repository looks.
    async fn probe(&self, repository: &Repository) -> Result<bool, UpstreamError> {
        let ask = Ask {
            asker: Asker::Anonymous,
            query: "n=1".to_owned(),
            accept: JSON,
            ..Ask::get(repository, "tags/list".to_owned())
        };
        let open = match self.ok(ask).await {
            Ok(response) => {
                discard(response.into_body()).await;
                Ok(true)
            }
            Err(UpstreamError::Denied | UpstreamError::NotFound) => Ok(false),
            Err(error) => Err(error),
        };
        self.counted("probe", open)
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(self.name()).finish()
    }
}

/// Whether a part is the one that was asked for: RFC 9110, section 14.4.
fn begins_at(headers: &HeaderMap, from: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
    first == Some(from) && from > 0
}

fn stated_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

fn manifest_types() -> HeaderValue {
    let types = MediaType::MANIFESTS;
    let types: Vec<&str> = types.iter().map(MediaType::as_str).collect();
    HeaderValue::try_from(types.join(", ")).expect("media types are printable ASCII")
}

fn is_page_parameter(name: &str) -> bool {
    matches!(name, "n" | "last")
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Of tags and of referrers.
const MAX_LIST_BYTES: usize = 4 << 20;
const MAX_PROBED: usize = 4096;
