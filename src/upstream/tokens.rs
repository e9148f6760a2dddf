//! Answers to challenges: our credentials, or the tokens got for them.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use quick_cache::sync::Cache;
use secrecy::ExposeSecret;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::{
    OnCall, RealmRefusal, UpstreamError,
    body::{collect, discard},
    challenge::{self, Challenge},
    credentials::{Credentials, CredentialsFailure, Fingerprint, Form, Source},
    flights::Flights,
    realms::Realms,
    requests::failure_of,
    transport::Transport,
};
use crate::{clock::Clock, oci::Repository};

/// Who asks the upstream: we with our credentials, or somebody without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    Configured,
    Anonymous,
}

/// What is done with a repository, and so what tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Pull,
    PullAndPush,
}

/// The tokens of one upstream; no upstream sees those of another.
pub(super) struct Tokens {
    access: Access,
    shared: Arc<Shared>,
    flights: Flights<TokenKey, Result<HeaderValue, UpstreamError>>,
    /// How a repository wanted to be asked the last time, which saves the question.
    remembered: Cache<(Asker, Repository), Mode>,
}

struct Shared {
    transport: Arc<Transport>,
    source: Arc<Source>,
    realms: Realms,
    cache: Cache<TokenKey, Token>,
    clock: Clock,
    on_call: OnCall,
}

#[derive(Clone)]
enum Mode {
    Basic,
    Bearer(Wanted),
}

/// A token, whoever asks for it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Wanted {
    realm: Url,
    service: Option<String>,
    scope: String,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct TokenKey {
    wanted: Wanted,
    /// None: asked for without credentials.
    credential: Option<Fingerprint>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
}

/// What goes into `Authorization`.
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    /// Made for this request: if it is refused, another would be too.
    pub(super) fresh: bool,
}

impl Tokens {
    pub(super) fn new(
        access: Access,
        transport: Arc<Transport>,
        source: Arc<Source>,
        realms: Realms,
        clock: Clock,
        on_call: OnCall,
    ) -> Self {
        let cache = Cache::new(MAX_TOKENS);
        let shared = Arc::new(Shared { transport, source, realms, cache, clock, on_call });
        Self { access, shared, flights: Flights::new(), remembered: Cache::new(MAX_TOKENS) }
    }

    pub(super) fn may_have_credentials(&self) -> bool {
        self.shared.source.may_give()
    }

    /// With which credentials a request that begins now is made, where there may be others later.
    pub(super) fn at_hand(&self, asker: Asker) -> Option<Option<Fingerprint>> {
        (asker == Asker::Configured).then(|| self.shared.source.at_hand())?
    }

    /// Whether there are others now than those that were refused.
    pub(super) async fn has_others_than(&self, refused: Option<Fingerprint>) -> Result<bool, UpstreamError> {
        Ok(self.shared.source.has_others_than(refused).await?)
    }

    /// What this repository will ask for, going by the last time; none: nothing, or not yet known.
    pub(super) async fn foreseen(
        &self,
        asker: Asker,
        repository: &Repository,
    ) -> Result<Option<Authorization>, UpstreamError> {
        match self.remembered.get(&(asker, repository.clone())) {
            None => Ok(None),
            Some(mode) => self.authorize(asker, &mode, None).await,
        }
    }

    /// Answers a 401 of the registry itself; none: it asks for nothing that we could give.
    /// `refused` is what the request had, so that the same is not tried again.
    pub(super) async fn answer(
        &self,
        asker: Asker,
        repository: &Repository,
        headers: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let mode = match challenge::best(headers)? {
            None => return Ok(None),
            Some(Challenge::Basic) => Mode::Basic,
            Some(Challenge::Bearer { realm, service, scope }) => {
                let realm = realm.parse().map_err(|_| UpstreamError::Realm { reason: RealmRefusal::Url })?;
                self.shared.realms.check(&realm).map_err(|reason| UpstreamError::Realm { reason })?;
                Mode::Bearer(Wanted { realm, service, scope: scope_of(repository, self.access, scope.as_deref()) })
            }
        };
        self.remembered.insert((asker, repository.clone()), mode.clone());
        self.authorize(asker, &mode, refused).await
    }

    async fn authorize(
        &self,
        asker: Asker,
        mode: &Mode,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<Authorization>, UpstreamError> {
        let shared = &self.shared;
        // To whom they may not be shown, nobody is asked for them.
        let is_shown = match mode {
            Mode::Basic => true,
            Mode::Bearer(wanted) => shared.realms.trusts(&wanted.realm),
        };
        let credentials = match asker {
            Asker::Configured if is_shown => shared.source.credentials().await?,
            Asker::Configured | Asker::Anonymous => None,
        };
        let wanted = match mode {
            Mode::Bearer(wanted) => wanted.clone(),
            Mode::Basic => {
                return match credentials.map(|credentials| credentials.form) {
                    None => Ok(None),
                    Some(Form::Basic(header)) => Ok(Some(Authorization { header, fresh: true })),
                    Some(Form::IdentityToken(_)) => Err(CredentialsFailure::IdentityTokenForBasic.into()),
                };
            }
        };
        let key = TokenKey { wanted, credential: credentials.as_ref().map(|credentials| credentials.fingerprint) };
        if let Some(header) = shared.cached(&key, refused) {
            return Ok(Some(Authorization { header, fresh: false }));
        }
        let start = || {
            let (shared, key) = (Arc::clone(shared), key.clone());
            async move { shared.fetch(&key, credentials.as_ref()).await }.boxed()
        };
        let header = self.flights.join(&key, start).await?;
        Ok(Some(Authorization { header, fresh: true }))
    }
}

impl Shared {
    fn cached(&self, key: &TokenKey, refused: Option<&HeaderValue>) -> Option<HeaderValue> {
        let token = self.cache.get(key)?;
        if token.until > self.clock.instant() && refused != Some(&token.header) {
            return Some(token.header);
        }
        self.cache.remove(key);
        None
    }

    async fn fetch(&self, key: &TokenKey, credentials: Option<&Credentials>) -> Result<HeaderValue, UpstreamError> {
        let token = self.ask(&key.wanted, credentials.map(|credentials| &credentials.form)).await;
        (self.on_call)("token", token.as_ref().map_or_else(UpstreamError::code, |_| "ok"));
        let (header, life) = token?;
        // A token that ends while the request is on its way is as good as none.
        let slack = TOKEN_SLACK.min(life / 4);
        self.cache.insert(key.clone(), Token { header: header.clone(), until: self.clock.instant() + (life - slack) });
        Ok(header)
    }

    async fn ask(&self, wanted: &Wanted, form: Option<&Form>) -> Result<(HeaderValue, Duration), UpstreamError> {
        // Redirects of a token service are not followed: it is asked with credentials.
        let response = match form {
            Some(Form::IdentityToken(token)) => self.exchange(wanted, token.expose_secret()).await?,
            Some(Form::Basic(header)) => self.request(wanted, Some(header)).await?,
            None => self.request(wanted, None).await?,
        };
        let (head, body) = response.into_parts();
        if head.status != StatusCode::OK {
            discard(body).await;
            return Err(match (form, head.status) {
                (Some(Form::IdentityToken(_)), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                    CredentialsFailure::IdentityTokenNotTaken.into()
                }
                // RFC 6749, section 5.2: so it says that the token counts no longer.
                (Some(Form::IdentityToken(_)), StatusCode::BAD_REQUEST) => UpstreamError::Denied,
                _ => failure_of(head.status, &head.headers, &self.clock),
            });
        }
        let bytes = collect(body, "token", MAX_TOKEN_BYTES, &self.transport.limits).await?;
        const MALFORMED: UpstreamError = UpstreamError::Malformed { what: "token" };
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| MALFORMED)?;
        let token = answer.token.or(answer.access_token).ok_or(MALFORMED)?;
        if token.is_empty() || token.len() > MAX_TOKEN_LENGTH {
            return Err(MALFORMED);
        }
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| MALFORMED)?;
        header.set_sensitive(true);
        let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(MAX_LIFE);
        Ok((header, life))
    }

    /// Distribution specification, "Token authentication".
    async fn request(
        &self,
        wanted: &Wanted,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut url = wanted.realm.clone();
        url.set_fragment(None);
        // What the realm's own query says of service and scope is not more than what we ask for.
        let ours = HashSet::from(["service", "scope"]);
        let kept: Vec<(String, String)> =
            url.query_pairs().into_owned().filter(|(name, _)| !ours.contains(name.as_str())).collect();
        url.query_pairs_mut()
            .clear()
            .extend_pairs(kept)
            .extend_pairs(wanted.service.as_ref().map(|service| ("service", service)))
            .append_pair("scope", &wanted.scope);
        let mut headers = asking();
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        self.transport.send(&Method::GET, &url, &headers).await
    }

    /// Distribution specification, "OAuth 2 token authentication".
    async fn exchange(&self, wanted: &Wanted, identity_token: &str) -> Result<Response<Incoming>, UpstreamError> {
        let mut url = wanted.realm.clone();
        url.set_fragment(None);
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .extend_pairs(wanted.service.as_ref().map(|service| ("service", service)))
            .append_pair("scope", &wanted.scope)
            .append_pair("refresh_token", identity_token)
            .finish();
        let mut headers = asking();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        self.transport.send_with(&Method::POST, &url, &headers, Some(Bytes::from(form))).await
    }
}

/// The headers of a request for a token.
fn asking() -> HeaderMap {
    HeaderMap::from_iter([
        (header::ACCEPT, HeaderValue::from_static("application/json")),
        (header::USER_AGENT, super::requests::USER_AGENT),
    ])
}

/// Either name, or both.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// What we ask for: to read this repository, or to write to it where that is what we do, and nothing else,
/// whatever the challenge says.
fn scope_of(repository: &Repository, access: Access, stated: Option<&str>) -> String {
    let prefix = format!("repository:{}:", repository.path());
    let reads = |actions: &str| actions.split(',').all(|action| matches!(action, "pull" | "metadata_read"));
    match (access, stated) {
        (Access::PullAndPush, _) => prefix + "pull,push",
        (Access::Pull, Some(scope)) if scope.strip_prefix(&prefix).is_some_and(reads) => scope.to_owned(),
        (Access::Pull, _) => prefix + "pull",
    }
}

const CLIENT_ID: &str = "sig-repo";
/// With the length below, what a hostile token service can have us keep.
const MAX_TOKENS: usize = 1024;
const MAX_TOKEN_LENGTH: usize = 16 << 10;
/// Of the answer that holds it.
const MAX_TOKEN_BYTES: usize = 1 << 20;
/// Where the service does not say how long a token lives.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
const MAX_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const TOKEN_SLACK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_widens_no_scope() {
        let repository = Repository::new(&"docker.io".parse().unwrap(), "team/app").unwrap();
        for (stated, expected) in [
            (None, "repository:team/app:pull"),
            (Some("repository:team/app:pull"), "repository:team/app:pull"),
            (Some("repository:team/app:metadata_read"), "repository:team/app:metadata_read"),
            (Some("repository:team/app:pull,push"), "repository:team/app:pull"),
            (Some("repository:team/other:pull"), "repository:team/app:pull"),
            (Some("repository:team/app:pull repository:team/other:pull"), "repository:team/app:pull"),
            (Some("registry:catalog:*"), "repository:team/app:pull"),
        ] {
            assert_eq!(scope_of(&repository, Access::Pull, stated), expected);
        }
    }

    #[test]
    fn a_challenge_widens_no_scope_of_a_push() {
        let repository = Repository::new(&"docker.io".parse().unwrap(), "team/app").unwrap();
        for stated in [
            None,
            Some("repository:team/app:pull"),
            Some("repository:team/app:pull,push"),
            Some("repository:team/app:pull,push,delete"),
            Some("repository:team/app:*"),
            Some("repository:team/other:pull,push"),
            Some("repository:team/app:pull,push repository:team/other:pull,push"),
            Some("registry:catalog:*"),
        ] {
            let scope = scope_of(&repository, Access::PullAndPush, stated);
            assert_eq!(scope, "repository:team/app:pull,push", "{stated:?}");
        }
    }
}
