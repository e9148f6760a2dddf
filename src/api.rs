//! `/api/v1`: signatures, tags, signers and the audit over REST, described by its own OpenAPI document.
//!
//! Here requests become calls and answers become JSON. What a signature is worth is asked of
//! `pull::Judge`, what is kept of `store`; nothing of policy or trust is decided here, and nothing of
//! `/v2` is served.

mod archive;
mod audit;
mod body;
mod cache;
mod cursor;
mod fields;
mod gate;
mod openapi;
mod problem;
mod query;
mod signatures;
mod signers;
mod tags;
mod time;

use std::{sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Uri, header::CONTENT_TYPE};
use serde::Serialize;
use tokio::sync::{Mutex, Semaphore};

use crate::{
    access::BasicAuth,
    audit::Audit,
    clock::Clock,
    oci::{Digest, RegistryName},
    pull::{Judge, Puller, Trusted},
    store::{Store, StoreError},
};

use self::problem::{Problem, ProblemKind, quoted};

pub use self::archive::{Archive, ArchivedSignature};
pub use self::audit::EventList;
pub use self::cache::{CacheRemoval, CacheState, Prefetch, PrefetchCounts, PrefetchLine, PrefetchState};
pub use self::openapi::document as openapi_document;
pub use self::problem::Problem as ApiProblem;
pub use self::signatures::{NewSignature, SignatureList, SignatureRecord};
pub use self::signers::{NewSigner, SignerList, SignerRecord};
pub use self::tags::{TagEntry, TagList};

/// What the operator has said about the API.
#[derive(Debug)]
pub struct Config {
    /// The registry that a repository belongs to which names none.
    pub canonical: RegistryName,
    /// The life of a preview signature; `None` is for ever.
    pub preview_ttl: Option<Duration>,
    /// `None`: reading and submitting are open, and what changes trust is refused.
    pub auth: Option<Arc<BasicAuth>>,
}

/// The API over the parts below it.
pub struct Api {
    config: Config,
    store: Store,
    judge: Arc<Judge>,
    trusted: Arc<Trusted>,
    puller: Arc<Puller>,
    audit: Arc<Audit>,
    clock: Clock,
    /// Held from looking at the signers until they are changed.
    signer_changes: Mutex<()>,
    /// So many requests to fetch images go on at a time.
    prefetches: Semaphore,
}

const MAX_PREFETCHES: usize = 2;

/// Every path under `/api`, with an answer for those that do not exist.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    Router::new()
        .route("/api/v1/signatures", get(signatures::list).post(signatures::submit))
        .route("/api/v1/signatures/{id}", delete(signatures::withdraw))
        .route("/api/v1/tags", get(tags::list))
        .route("/api/v1/signers", get(signers::list).post(signers::add))
        .route("/api/v1/signers/{id}", delete(signers::revoke))
        .route("/api/v1/archive", get(archive::list))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/cache/prefetch", post(cache::prefetch::prefetch))
        .route("/api/v1/cache", get(cache::state).delete(cache::remove))
        .route("/api/v1/openapi.json", get(openapi::serve))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        // Outermost, so that a path that does not exist tells nothing to whoever is not signed in.
        .layer(middleware::from_fn_with_state(api.clone(), gate::pass))
        .with_state(api)
}

impl Api {
    pub fn new(
        config: Config,
        store: Store,
        judge: Arc<Judge>,
        trusted: Arc<Trusted>,
        puller: Arc<Puller>,
        audit: Arc<Audit>,
        clock: Clock,
    ) -> Self {
        Self {
            config,
            store,
            judge,
            trusted,
            puller,
            audit,
            clock,
            signer_changes: Mutex::new(()),
            prefetches: Semaphore::new(MAX_PREFETCHES),
        }
    }

    /// Refuses what nobody may do as long as nobody can be told from anybody.
    fn require_auth(&self, what: &str) -> Result<(), Problem> {
        if self.config.auth.is_some() {
            return Ok(());
        }
        let detail = format!("{what} needs AUTH_ENABLED=true, with AUTH_USER and AUTH_PASSWORD");
        Err(Problem::new(ProblemKind::AuthRequired, detail))
    }

    fn held_manifest(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        Ok(self.store.manifest(digest)?.map(|held| held.bytes))
    }
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format_args!("path {}", quoted(uri.path())))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}", quoted(uri.path()));
    Problem::new(ProblemKind::MethodNotAllowed, detail)
}

/// An answer that is no error.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        let detail = "the answer could not be written";
        return Problem::new(ProblemKind::InternalError, detail).into_response();
    };
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
