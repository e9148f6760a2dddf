//! `/api/v1/cache`: what is kept of the blobs, and what is kept no longer.

pub(super) mod prefetch;

use std::sync::Arc;

use axum::{Extension, extract::State, response::Response};
use http::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    audit::{Action, Event, Who},
    cache::{BlobCache, Removed},
    oci::{Reference, Repository},
};

use super::{
    Api, json,
    problem::{Problem, ProblemKind, quoted},
    query::Query,
    time::whole_seconds,
};

pub use self::prefetch::{Prefetch, PrefetchCounts, PrefetchLine, PrefetchState};

/// The blobs that are kept, and what became of those that were asked for since the start.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CacheState {
    /// How much may be kept; 0 where nothing is (`CACHE_MAX_SIZE=0`).
    pub limit_bytes: u64,
    /// The room that is taken, by what is on its way too.
    pub bytes: u64,
    pub blobs: u64,
    /// Blobs that are being fetched.
    pub in_flight: u64,
    /// Blobs, or parts, that were sent from what is kept.
    pub hits: u64,
    /// Those that were fetched, or waited for.
    pub misses: u64,
    /// Blobs that went to make room.
    pub evictions: u64,
    /// Files that were not what was written.
    pub damaged: u64,
    /// What upstreams sent to be kept.
    pub fetched_bytes: u64,
    /// Blobs that went past the disk: no room for them, or it could not be written.
    pub past_disk: u64,
    /// The start that the counts begin at.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    pub since: Option<Timestamp>,
}

/// What is kept no longer.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct CacheRemoval {
    pub blobs: u64,
    pub bytes: u64,
    /// Blobs that stay because somebody was reading them.
    pub in_use: u64,
    /// Blobs of the image that stay because another image that is known here names them too.
    pub shared: u64,
}

/// What is kept of the blobs.
#[utoipa::path(
    get,
    path = "/api/v1/cache",
    tag = "cache",
    responses(
        (status = 200, description = "Counts begin at the start of the process", body = CacheState),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn state(State(api): State<Arc<Api>>, uri: Uri) -> Result<Response, Problem> {
    Query::parse(uri.query(), &[])?;
    let state = api.puller.cache().map(CacheState::of).unwrap_or_default();
    Ok(json(StatusCode::OK, &state))
}

/// Keep blobs no longer: all of them, or those of an image.
///
/// Of an image: the configuration and layers that its manifests name, in every version that its tag was seen to have
/// and for every platform, but those that another image that is known here names too. What somebody is reading stays, and
/// what is being fetched is kept when it has come. Manifests, signatures and decisions are not touched: the next pull
/// passes the same gate, and fetches the blobs again.
#[utoipa::path(
    delete,
    path = "/api/v1/cache",
    tag = "cache",
    params(
        ("repository" = Option<String>, Query, description = "Of this image alone, with `reference`; a bare name is the default registry's", example = "library/nginx"),
        ("reference" = Option<String>, Query, description = "A tag or a digest of `repository`", example = "1.27"),
    ),
    responses(
        (status = 200, description = "What was removed, and what was left", body = CacheRemoval),
        (status = 400, description = "`invalid-parameter`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`not-authenticated`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`auth-required`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`: no manifest of this image is known here", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`store-unavailable`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    Extension(who): Extension<Who>,
    uri: Uri,
) -> Result<Response, Problem> {
    api.require_auth("removing what is kept")?;
    let mut query = Query::parse(uri.query(), &["repository", "reference"])?;
    let image = match (query.take("repository"), query.take("reference")) {
        (None, None) => None,
        (Some(repository), Some(reference)) => Some(api.image(&repository, &reference)?),
        (Some(_), None) => return Err(Problem::parameter("reference", "expected a tag or a digest beside repository")),
        (None, Some(_)) => return Err(Problem::parameter("repository", "expected the image's beside reference")),
    };
    let removal = api.remove_kept(image.clone()).await?;
    let event = Event::new(api.clock.now(), Action::CacheRemoved, who);
    let (repository, reference) = image.unzip();
    api.audit.record(Event { repository, reference: reference.map(|text| text.to_string()), ..event }).await?;
    Ok(json(StatusCode::OK, &removal))
}

impl Api {
    fn image(&self, repository: &str, reference: &str) -> Result<(Repository, Reference), Problem> {
        let parsed = Repository::parse(repository, &self.config.canonical);
        let parsed = parsed.map_err(|error| {
            Problem::parameter("repository", format_args!("{} is none: {error}", quoted(repository)))
        })?;
        let reference: Reference = reference.parse().map_err(|error| {
            Problem::parameter("reference", format_args!("{} is neither tag nor digest: {error}", quoted(reference)))
        })?;
        Ok((parsed, reference))
    }

    async fn remove_kept(&self, image: Option<(Repository, Reference)>) -> Result<CacheRemoval, Problem> {
        let (wanted, shared) = match image {
            None => (None, 0),
            Some((repository, reference)) => {
                let puller = Arc::clone(&self.puller);
                let of_image = tokio::task::spawn_blocking(move || {
                    puller.blobs_of(&repository, &reference)?.ok_or_else(|| {
                        Problem::not_found(format_args!("image {repository} with {reference} that is known here"))
                    })
                });
                let of_image = of_image.await.map_err(|panic| {
                    tracing::error!("looking for the blobs of an image: {panic}");
                    Problem::new(ProblemKind::InternalError, "the blobs of the image could not be looked for")
                })??;
                (Some(of_image.own), of_image.shared as u64)
            }
        };
        let Some(cache) = self.puller.cache() else { return Ok(CacheRemoval { shared, ..CacheRemoval::default() }) };
        Ok(CacheRemoval::of(cache.remove(wanted).await, shared))
    }
}

impl CacheState {
    fn of(cache: &BlobCache) -> Self {
        let (totals, counters) = (cache.totals(), cache.counters());
        Self {
            limit_bytes: totals.max_bytes,
            bytes: totals.bytes,
            blobs: totals.blobs as u64,
            in_flight: totals.in_flight as u64,
            hits: counters.hits.get(),
            misses: counters.misses.get(),
            evictions: counters.evictions.get(),
            damaged: counters.damaged.get(),
            fetched_bytes: counters.fetched_bytes.get(),
            past_disk: counters.past_disk.get(),
            since: Some(whole_seconds(totals.since)),
        }
    }
}

impl CacheRemoval {
    fn of(Removed { blobs, bytes, in_use }: Removed, shared: u64) -> Self {
        Self { blobs, bytes, in_use, shared }
    }
}
