//! How a registry is asked: which of its addresses, with what credentials, and through which redirects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, response::Parts};
use hyper::body::Incoming;
use tokio::time::timeout;
use url::Url;

use super::{
    Limits, OnCall, Phase, UpstreamError,
    answers::retry_after,
    body::{OnBreak, collect, discard},
    circuit::Kind,
    patience::{PATIENCE, Patience},
    place::{Place, is_of_the_place},
    redirects::{self, MAX_REDIRECTS},
    tokens::Asker,
    transport::Transport,
};
use crate::{
    clock::Clock,
    oci::{RegistryName, Repository},
};

/// Of one registry.
pub(super) struct Requests {
    name: RegistryName,
    /// Its addresses, in the order in which they are tried while all are well; one at least.
    places: Vec<Arc<Place>>,
    transport: Arc<Transport>,
    pub(super) clock: Clock,
    pub(super) patience: Patience,
    on_call: OnCall,
}

/// A request of ours, all of it.
pub(super) struct Ask<'a> {
    pub(super) asker: Asker,
    pub(super) method: Method,
    pub(super) repository: &'a Repository,
    /// After `/v2/<repository>/`.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) accept: HeaderValue,
    pub(super) range: Option<&'a HeaderValue>,
    pub(super) written: Option<Written>,
}

/// What a request brings along.
pub(super) struct Written {
    pub(super) media_type: HeaderValue,
    pub(super) bytes: Bytes,
}

/// Where a request, and what follows from its answer, has got to.
#[derive(Clone)]
pub(super) struct Trail {
    pub(super) url: Url,
    /// Whether every address so far was the registry's own; Authorization is for it alone, and is not taken
    /// up again once it was dropped.
    home: bool,
}

impl Requests {
    pub(super) fn new(
        name: RegistryName,
        places: Vec<Arc<Place>>,
        transport: Arc<Transport>,
        clock: Clock,
        on_call: OnCall,
    ) -> Self {
        Self { name, places, transport, patience: Patience::new(clock.clone()), clock, on_call }
    }

    pub(super) fn name(&self) -> &RegistryName {
        &self.name
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.transport.limits
    }

    pub(super) fn primary(&self) -> &Place {
        self.places.first().expect("a registry has an address")
    }

    /// How many other addresses there are.
    pub(super) fn alternatives(&self) -> usize {
        self.places.len() - 1
    }

    /// An answer with status 200.
    pub(super) async fn ok(&self, ask: Ask<'_>) -> Result<Response<Incoming>, UpstreamError> {
        let response = self.send(ask).await?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        Err(self.failure(head.status, &head.headers, body).await)
    }

    /// The final answer of the first address that has one: those that are well are asked before the others,
    /// and the next one where the failure is the address's own.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Response<Incoming>, UpstreamError> {
        let [only] = self.places.as_slice() else { return self.send_to_any(&ask).await };
        self.send_to(only, &ask, None).await
    }

    async fn send_to_any(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, UpstreamError> {
        let now = self.clock.instant();
        let (well, ailing): (Vec<_>, Vec<_>) = self.places.iter().partition(|place| place.is_well(now));
        let mut left = self.places.len();
        let mut failure = None;
        for place in well.into_iter().chain(ailing) {
            left -= 1;
            // Somebody waits for an answer, and another address may have it.
            let limit = (left > 0).then_some(self.transport.limits.head.min(NEXT_PLACE_AFTER));
            let answer = self.send_to(place, ask, limit).await;
            let error = match &answer {
                Ok(answer) => failure_of(answer.status(), answer.headers(), &self.clock),
                Err(error) => error.clone(),
            };
            let is_success = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
            if is_success || !is_of_the_place(&error) {
                place.answers();
                return answer.map(|mut answer| {
                    answer.extensions_mut().insert(Arc::clone(place));
                    answer
                });
            }
            self.blame(place, &error);
            if let Ok(answer) = answer {
                discard(answer.into_body()).await;
            }
            failure.get_or_insert(error);
        }
        Err(failure.expect("a registry has an address"))
    }

    fn blame(&self, place: &Place, error: &UpstreamError) {
        blame(&self.name, place, error, &self.clock);
    }

    /// Of what answered, if there are others: what a body that breaks off is held against.
    pub(super) fn watch(&self, head: &Parts) -> Option<OnBreak> {
        let place = Arc::clone(head.extensions.get::<Arc<Place>>()?);
        let (name, clock) = (self.name.clone(), self.clock.clone());
        Some(Box::new(move |error: &UpstreamError| {
            if is_of_the_place(error) {
                blame(&name, &place, error, &clock);
            }
        }))
    }

    pub(super) async fn collect(
        &self,
        answer: Response<Incoming>,
        what: &'static str,
        cap: usize,
    ) -> Result<(HeaderMap, Bytes), UpstreamError> {
        let (head, body) = answer.into_parts();
        let collected = collect(body, what, cap, &self.transport.limits).await;
        if let (Err(error), Some(watch)) = (&collected, self.watch(&head)) {
            watch(error);
        }
        Ok((head.headers, collected?))
    }

    async fn send_to(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        self.send_along(place, ask, &mut Trail::to(place, ask), limit).await
    }

    /// The final answer of this address, within a time if there is another to go to, unless it is to be left alone
    /// for a while.
    pub(super) async fn send_along(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        trail: &mut Trail,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let kind = Kind::of(&ask.path);
        let circuit = place.circuits.of(kind);
        let asked = circuit.check(self.clock.instant())?;
        // Boxed, as it is handed on: a walk up to an index's indexes needs the stack.
        let asking = Box::pin(self.ask(place, ask, trail));
        let asking = async {
            match limit {
                None => asking.await,
                Some(limit) => timeout(limit, asking).await.unwrap_or(Err(SILENT)),
            }
        };
        let answer = circuit.wait(asked, asking, self.transport.limits.head / LONG_PART, &self.clock).await;
        let now = self.clock.instant();
        let is_answer = match answer.as_ref().ok().and_then(|answer| self.told(answer)) {
            Some((wait, error)) => {
                circuit.told(wait, &error, now);
                true
            }
            None => circuit.note(asked, &answer, now),
        };
        if is_answer {
            self.patience.answered(kind);
        }
        answer
    }

    /// When to come back, where all of the upstream says so: RFC 9110, section 15.6.4, and RFC 6585, section 4.
    fn told(&self, answer: &Response<Incoming>) -> Option<(Duration, UpstreamError)> {
        let (status, headers) = (answer.status(), answer.headers());
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return None;
        }
        let wait = retry_after(headers, &self.clock)?;
        let error = self.failure_of(status, headers);
        (error != UpstreamError::Refused).then_some((wait, error))
    }

    /// The same, once more where what refused us were credentials that have run out.
    async fn ask(&self, place: &Place, ask: &Ask<'_>, trail: &mut Trail) -> Result<Response<Incoming>, UpstreamError> {
        let Some(at_hand) = place.tokens.at_hand(ask.asker) else { return self.follow(place, ask, trail).await };
        let start = trail.clone();
        let answer = self.follow(place, ask, trail).await;
        // ECR says by 403 that a password has run out.
        let is_refused = match &answer {
            Ok(answer) => self.failure_of(answer.status(), answer.headers()) == UpstreamError::Denied,
            Err(error) => *error == UpstreamError::Denied,
        };
        if !is_refused || !place.tokens.has_others_than(at_hand).await? {
            return answer;
        }
        if let Ok(answer) = answer {
            discard(answer.into_body()).await;
        }
        *trail = start;
        self.follow(place, ask, trail).await
    }

    /// Challenges answered and redirects followed.
    async fn follow(
        &self,
        place: &Place,
        ask: &Ask<'_>,
        trail: &mut Trail,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut headers = ask.headers();
        let mut given = place.tokens.foreseen(ask.asker, ask.repository).await?;
        let (mut redirects, mut challenges) = (0, 0);
        loop {
            headers.remove(header::AUTHORIZATION);
            if let (true, Some(authorization)) = (trail.home, &given) {
                headers.insert(header::AUTHORIZATION, authorization.header.clone());
            }
            let written = ask.written();
            let response = self.transport.send_with(&ask.method, &trail.url, &headers, written).await?;
            if redirects::is_redirect(response.status()) {
                if !redirects::is_followed(&ask.method, response.status()) {
                    return Err(UpstreamError::Redirect { reason: super::RedirectRefusal::NotFollowed });
                }
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(UpstreamError::Redirect { reason: super::RedirectRefusal::TooMany });
                }
                let (head, body) = response.into_parts();
                trail.go_on(place, &head.headers)?;
                discard(body).await;
            } else if response.status() == StatusCode::UNAUTHORIZED && trail.home {
                let (head, body) = response.into_parts();
                discard(body).await;
                challenges += 1;
                if challenges > MAX_CHALLENGES || given.as_ref().is_some_and(|given| given.fresh) {
                    return Err(UpstreamError::Denied);
                }
                let refused = given.as_ref().map(|given| &given.header);
                given = place.tokens.answer(ask.asker, ask.repository, &head.headers, refused).await?;
                if given.is_none() {
                    return Err(UpstreamError::Denied);
                }
            } else {
                return Ok(response);
            }
        }
    }

    pub(super) fn url(&self, ask: &Ask<'_>) -> Url {
        url_at(&self.primary().remote, ask)
    }

    pub(super) async fn failure(&self, status: StatusCode, headers: &HeaderMap, body: Incoming) -> UpstreamError {
        discard(body).await;
        self.failure_of(status, headers)
    }

    pub(super) fn failure_of(&self, status: StatusCode, headers: &HeaderMap) -> UpstreamError {
        failure_of(status, headers, &self.clock)
    }

    pub(super) fn counted<T>(
        &self,
        operation: &'static str,
        result: Result<T, UpstreamError>,
    ) -> Result<T, UpstreamError> {
        (self.on_call)(operation, result.as_ref().map_or_else(UpstreamError::code, |_| "ok"));
        result
    }
}

impl<'a> Ask<'a> {
    pub(super) fn get(repository: &'a Repository, path: String) -> Self {
        Self {
            asker: Asker::Configured,
            method: Method::GET,
            repository,
            path,
            query: String::new(),
            accept: HeaderValue::from_static("*/*"),
            range: None,
            written: None,
        }
    }

    pub(super) fn with(method: Method, repository: &'a Repository, path: String, written: Option<Written>) -> Self {
        Self { method, written, ..Self::get(repository, path) }
    }

    /// Nothing at all, and not an empty body, where nothing is written.
    fn written(&self) -> Option<Bytes> {
        let bytes = self.written.as_ref().map(|written| written.bytes.clone());
        bytes.or_else(|| (!self.method.is_safe()).then(Bytes::new))
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([
            (header::ACCEPT, self.accept.clone()),
            // Digests are of the bytes as they are kept, not as they might be compressed on the way.
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (header::USER_AGENT, USER_AGENT),
        ]);
        if let Some(range) = self.range {
            headers.insert(header::RANGE, range.clone());
        }
        if let Some(written) = &self.written {
            headers.insert(header::CONTENT_TYPE, written.media_type.clone());
        }
        headers
    }
}

impl Trail {
    pub(super) fn to(place: &Place, ask: &Ask<'_>) -> Self {
        Self { url: url_at(&place.remote, ask), home: true }
    }

    /// To where an answer leads.
    pub(super) fn go_on(&mut self, place: &Place, headers: &HeaderMap) -> Result<(), UpstreamError> {
        self.url = redirects::target(&self.url, headers)?;
        self.home = self.home && self.url.origin() == place.remote.origin();
        Ok(())
    }
}

fn url_at(remote: &Url, ask: &Ask<'_>) -> Url {
    let mut url = remote.clone();
    // Every part has been checked against a grammar that needs no escaping.
    url.set_path(&format!("{}/v2/{}/{}", url.path().trim_end_matches('/'), ask.repository.path(), ask.path));
    url.set_query((!ask.query.is_empty()).then_some(&ask.query));
    url
}

fn blame(name: &RegistryName, place: &Place, error: &UpstreamError, clock: &Clock) {
    if place.ails(error, clock.instant()) {
        let (code, remote) = (error.code(), &place.remote);
        tracing::warn!(upstream = %name, code, "{remote} fails for {name}, its other addresses come first: {error}");
    }
}

pub(super) fn failure_of(status: StatusCode, headers: &HeaderMap, clock: &Clock) -> UpstreamError {
    if headers.get_all(header::WARNING).iter().any(|warning| warning.as_bytes().starts_with(REFUSAL)) {
        return UpstreamError::Refused;
    }
    UpstreamError::of_status(status, retry_after(headers, clock))
}

/// How a mirror of our kind says, whatever the form of the answer, that it refuses.
const REFUSAL: &[u8] = b"299 - \"sig-repo: ";

pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("sig-repo/", env!("CARGO_PKG_VERSION")));
/// A token from the cache may be refused, and so may another's that came meanwhile.
const MAX_CHALLENGES: usize = 3;
/// How long the head of an answer is waited for where there is another address, which whoever has an answer
/// without the upstream should not miss.
const NEXT_PLACE_AFTER: Duration = PATIENCE.saturating_sub(Duration::from_secs(1));
const SILENT: UpstreamError = UpstreamError::Timeout { phase: Phase::Head };
/// Of the time for an answer's head: who gives up after as much has waited for long.
const LONG_PART: u32 = 4;
