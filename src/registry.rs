//! `/v2/`: the registry that clients see. Paths become an enum at the door, decisions come from
//! `pull`, and what leaves is what was admitted, or a refusal that stops the client.
//!
//! Nothing here knows a rule of policy. A challenge is sent under our own names alone (`face`): a mirror
//! that asks for credentials is walked round, and may be sent the user's Docker Hub password.

mod atomic;
mod client;
mod face;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod push;
mod refusal;
mod respond;
mod route;
mod uploads;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use prometheus_client::metrics::counter::Counter;

use crate::{
    access::BasicAuth,
    clock::Clock,
    oci::{Digest, ErrorCode, Manifest, Reference, RegistryName, Tag},
    policy::Reason,
    pull::{Admitted, Ask, Asker, Puller, Refused, TagListError, Wanted},
    telemetry::{Drain, Metrics, Peer},
    upstream::UpstreamError,
};

pub use self::face::{RegistryHosts, RegistryHostsError};
pub use self::respond::Body;

use self::{
    client::Client,
    push::Incoming,
    refusal::Message,
    route::{Route, RouteError, Target},
    uploads::Uploads,
};

/// A pull is decided within this, or refused, while the client still listens: containerd from 2.3 on, and
/// with it Docker 29, goes elsewhere when a mirror has not begun to answer after 30 seconds.
const DECISION_LIMIT: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub struct Registry {
    parts: Arc<Parts>,
}

/// What the operator has said about the registry.
#[derive(Debug)]
pub struct Config {
    /// The registry that bare paths mean.
    pub canonical: RegistryName,
    pub hosts: RegistryHosts,
    /// `None`: nobody can be told from anybody, so nobody is asked.
    pub auth: Option<Arc<BasicAuth>>,
}

struct Parts {
    config: Config,
    puller: Arc<Puller>,
    uploads: Uploads,
    drain: Drain,
    metrics: Metrics,
    admitted: Counter,
    warned: Counter,
}

impl Registry {
    pub fn new(config: Config, puller: Arc<Puller>, drain: Drain, metrics: Metrics, clock: Clock) -> Self {
        let (admitted, warned) = (metrics.decision("admitted", "-"), metrics.decision("warned", "-"));
        Self {
            parts: Arc::new(Parts { config, puller, uploads: Uploads::new(clock), drain, metrics, admitted, warned }),
        }
    }

    /// The answer to what was decided on a moment ago. It is made on the spot, or not at all.
    pub fn answer_at_once<B>(&self, request: &Request<B>, peer: &Peer) -> Option<Response<Body>> {
        let Parts { config, puller, drain, metrics, .. } = &*self.parts;
        let Ok(Route::Manifest { target, reference }) = Route::parse(request, &config.canonical) else { return None };
        let (asker, _) = client::asker(request, peer, config);
        if drain.is_draining() || config.challenges(&asker) {
            return None;
        }
        let ask = Ask { repository: target.repository, reference, asker };
        // What breaks down here is asked for again by `answer`, whose failures are refusals.
        let warm = catch_unwind(AssertUnwindSafe(|| puller.warm(&ask))).unwrap_or_else(|_| {
            metrics.panicked();
            None
        });
        Some(without_body_if_head(request, self.parts.admitted(&warm?, request.headers())))
    }

    /// Answers one request. Of its body nothing is read before it is known who sends it.
    pub async fn answer<B: Incoming>(&self, request: Request<B>, peer: &Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let request = &Request::from_parts(head, ());
        let client = Client::of(request, peer, &self.parts.config);
        let response = match Route::parse(request, &self.parts.config.canonical) {
            Ok(Route::TooOld) => respond::too_old(),
            _ if self.parts.config.challenges(&client.asker) => match client.retry_after {
                Some(retry_after) => face::too_many(retry_after),
                None => face::challenge(),
            },
            Ok(route) => self.parts.route(route, request, &client, body).await,
            Err(error) => self.parts.misrouted(&error, &client),
        };
        without_body_if_head(request, response)
    }
}

impl Registry {
    /// Forgets uploads that nobody goes on with.
    pub fn forget_uploads(&self) {
        self.parts.uploads.forget_aged();
    }
}

impl Config {
    /// Whether whoever asks has to say first who it is: everybody who means us, once there are accounts. One
    /// rule for all that is asked, as not every client begins at `/v2/`.
    fn challenges(&self, asker: &Asker) -> bool {
        self.auth.is_some() && asker.by_our_name && asker.is_anonymous()
    }
}

fn without_body_if_head<B>(request: &Request<B>, mut response: Response<Body>) -> Response<Body> {
    if request.method() == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

impl Parts {
    async fn route<B: Incoming>(
        &self,
        route: Route<'_>,
        request: &Request<()>,
        client: &Client,
        body: B,
    ) -> Response<Body> {
        let headers = request.headers();
        // Each has a future of its own: together with what they lead to they would fill a thread's stack.
        match route {
            Route::Base => respond::base(),
            Route::TooOld => respond::too_old(),
            Route::Discover => respond::extensions(),
            Route::Manifest { target, reference } => Box::pin(self.manifest(&target, reference, headers, client)).await,
            Route::Blob { target, digest } => Box::pin(self.blob(&target, &digest, headers, client)).await,
            Route::Tags { target, query } => Box::pin(self.tags(&target, &query, client)).await,
            Route::Referrers { target, digest, query } => {
                Box::pin(self.referrers(&target, &digest, &query, client)).await
            }
            Route::StartUpload { target, query } => match self.may_push(&target, client) {
                Ok(place) => Box::pin(self.start_upload(&target, query, &place, body)).await,
                Err(refused) => refused,
            },
            Route::Upload { target, name } => match self.may_push(&target, client) {
                Ok(place) => Box::pin(self.upload(&target, name, request, &place, body)).await,
                Err(refused) => refused,
            },
            Route::PutManifest { target, reference } => match self.may_push(&target, client) {
                Ok(place) => Box::pin(self.put_manifest(&target, reference, headers, &place, client, body)).await,
                Err(refused) => refused,
            },
        }
    }

    async fn manifest(
        &self,
        target: &Target<'_>,
        reference: Reference,
        headers: &HeaderMap,
        client: &Client,
    ) -> Response<Body> {
        let ask = Ask { repository: target.repository.clone(), reference, asker: client.asker.clone() };
        if self.drain.is_draining() {
            let statement = tokio::time::timeout(DECISION_LIMIT, self.puller.statement_of(&ask)).await;
            let statement = statement.unwrap_or_else(|_late| self.puller.statement_when_broken(&ask.reference));
            let refused = Refused { reason: Reason::ShuttingDown, statement };
            return self.refused(target, Some(&ask.reference), &refused, client);
        }
        self.decide(target, &ask, headers, client).await
    }

    async fn decide(&self, target: &Target<'_>, ask: &Ask, headers: &HeaderMap, client: &Client) -> Response<Body> {
        let deciding = AssertUnwindSafe(tokio::time::timeout(DECISION_LIMIT, self.puller.manifest(ask))).catch_unwind();
        let decided = match deciding.await {
            Ok(Ok(decided)) => decided,
            // A decision that broke down, or did not come, has decided nothing.
            broken => {
                if broken.is_err() {
                    self.metrics.panicked();
                }
                let reason = if broken.is_err() { Reason::Internal } else { Reason::Upstream("timeout") };
                Err(Refused { reason, statement: self.puller.statement_when_broken(&ask.reference) })
            }
        };
        match decided {
            Ok(admitted) => self.admitted(&admitted, headers),
            Err(refused) => self.refused(target, Some(&ask.reference), &refused, client),
        }
    }

    fn admitted(&self, admitted: &Admitted<Arc<Manifest>>, headers: &HeaderMap) -> Response<Body> {
        let counter = if admitted.warning().is_some() { &self.warned } else { &self.admitted };
        counter.inc();
        if let Some(error) = admitted.stale() {
            self.metrics.served_stale("manifest", error.code());
        }
        let response = respond::manifest(admitted);
        let is_known = respond::has_already(headers, &admitted.content().digest);
        if is_known { respond::unchanged(response) } else { response }
    }

    async fn blob(&self, target: &Target<'_>, digest: &Digest, headers: &HeaderMap, client: &Client) -> Response<Body> {
        let admitted = match self.puller.blob(&target.repository, digest, &client.asker).await {
            Ok(admitted) => admitted,
            Err(refused) => match self.existing(target, digest, client).await {
                Some(exists) => return exists,
                None => return refusal::blob(target, digest, &refused),
            },
        };
        if respond::has_already(headers, digest) {
            return respond::for_caches(admitted.content(), respond::not_modified(digest));
        }
        if let Some(bytes) = admitted.content().held.clone() {
            return respond::held_blob(digest, bytes);
        }
        let upstream = match self.puller.upstream_of(&target.repository) {
            Ok(upstream) => upstream,
            Err(refused) => return refusal::blob(target, digest, &refused),
        };
        let wanted = match respond::wanted_part(headers, digest) {
            _ if client.head => Wanted::Length,
            Some(part) => Wanted::Part(part),
            None => Wanted::Whole,
        };
        match self.puller.content(&upstream, &target.repository, &admitted, wanted).await {
            Ok(served) => {
                if let Some(error) = &served.stale {
                    self.metrics.served_stale("blob", error.code());
                }
                respond::for_caches(admitted.content(), respond::content(&admitted, served))
            }
            Err(error) if error.is_absent() => {
                refusal::error(ErrorCode::BlobUnknown, "the upstream does not have this blob")
            }
            Err(error) => unavailable(&error),
        }
    }

    /// Whether a blob exists, for whoever may push: what is there is not sent again. It is no way to its bytes.
    async fn existing(&self, target: &Target<'_>, digest: &Digest, client: &Client) -> Option<Response<Body>> {
        if !client.head {
            return None;
        }
        let place = self.may_push(target, client).ok()?;
        let length = self.length_of(&place, digest).await.ok()??;
        Some(respond::blob_head(digest, Some(length)))
    }

    async fn tags(&self, target: &Target<'_>, query: &str, client: &Client) -> Response<Body> {
        let upstream = match self.puller.upstream_of(&target.repository) {
            Ok(upstream) => upstream,
            Err(refused) => return self.refused(target, None, &refused, client),
        };
        let listed = match self.puller.tags(&upstream, &target.repository, query, &client.asker).await {
            Ok(listed) => listed,
            Err(TagListError::Upstream(error)) if error.is_absent() => {
                return refusal::error(ErrorCode::NameUnknown, "the upstream does not have this repository");
            }
            Err(TagListError::Upstream(error)) => return unavailable(&error),
            Err(TagListError::Store(error)) => {
                tracing::error!("the store failed: {error}");
                return refusal::error(ErrorCode::Unavailable, "the signature store did not answer");
            }
        };
        let mut shown = Vec::with_capacity(listed.tags.len());
        for tag in &listed.tags {
            if self.shows(target, tag, &client.asker).await {
                shown.push(tag);
            }
        }
        let mut response = respond::tags(target.shown, &shown, listed.next.as_deref());
        if let Some(error) = &listed.stale {
            self.metrics.served_stale("tags", error.code());
            respond::warn_of_age(response.headers_mut(), error);
        }
        response
    }

    async fn shows(&self, target: &Target<'_>, tag: &Tag, asker: &Asker) -> bool {
        if !self.puller.shows_tag(tag, asker) {
            return false;
        }
        match tag.artifact() {
            None => true,
            Some(artifact) => {
                let shown = self.puller.shows_artifacts_of(&target.repository, &artifact.subject, asker).await;
                shown.unwrap_or(false)
            }
        }
    }

    async fn referrers(&self, target: &Target<'_>, digest: &Digest, query: &str, client: &Client) -> Response<Body> {
        let listing = self.puller.referrers(&target.repository, digest, query, &client.asker);
        match tokio::time::timeout(DECISION_LIMIT, listing).await {
            Ok(Ok(referrers)) => respond::referrers(&referrers, target.shown, digest),
            Ok(Err(refused)) => self.refused(target, Some(&Reference::Digest(*digest)), &refused, client),
            Err(_late) => {
                refusal::status(StatusCode::GATEWAY_TIMEOUT, "the upstream did not list its referrers in time")
            }
        }
    }

    /// The answer to a manifest that does not leave.
    fn refused(
        &self,
        target: &Target<'_>,
        reference: Option<&Reference>,
        refused: &Refused,
        client: &Client,
    ) -> Response<Body> {
        let Refused { reason, statement } = refused;
        let enforced = refused.holds();
        let image = target.image(reference);
        self.metrics.decision(if enforced { "refused" } else { "not-served" }, reason.code()).inc();
        let text = format!("{image}: {reason}");
        match reason {
            Reason::Absent | Reason::Invisible
                if target.mode.is_direct() || !statement.is_enforced() || client.pushes() =>
            {
                refusal::error(ErrorCode::ManifestUnknown, &text)
            }
            reason if enforced => {
                let message = Message::refused(&image, reason, &statement.name);
                refusal::manifest(&message, target.mode, client, reference)
            }
            Reason::ShuttingDown | Reason::Unknown(_) => refusal::error(ErrorCode::Unavailable, &text),
            Reason::Upstream("timeout") => refusal::status(StatusCode::GATEWAY_TIMEOUT, &text),
            Reason::Internal => refusal::status(StatusCode::INTERNAL_SERVER_ERROR, &text),
            _ => refusal::status(StatusCode::BAD_GATEWAY, &text),
        }
    }

    fn misrouted(&self, error: &RouteError, client: &Client) -> Response<Body> {
        match error {
            RouteError::Method => {
                refusal::error(ErrorCode::Unsupported, "nothing is deleted here, and only signatures are pushed")
            }
            RouteError::NotFound => refusal::status(StatusCode::NOT_FOUND, "no such path in the registry API"),
            RouteError::Name(error) => refusal::error(ErrorCode::NameInvalid, &error.to_string()),
            RouteError::Reference(error) => refusal::error(ErrorCode::ManifestInvalid, &error.to_string()),
            RouteError::Digest(error) => refusal::error(ErrorCode::DigestInvalid, &error.to_string()),
            RouteError::UnknownRegistry { name, mode } => {
                self.metrics.decision("refused", Reason::UnknownRegistry.code()).inc();
                let message = Message::refused(name, &Reason::UnknownRegistry, "upstreams");
                refusal::manifest(&message, *mode, client, None)
            }
        }
    }
}

/// An upstream that failed where nothing is enforced: the client may go elsewhere.
fn unavailable(error: &UpstreamError) -> Response<Body> {
    let status = match error {
        UpstreamError::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    refusal::status(status, &error.to_string())
}
