//! Asks whether certificates were revoked: OCSP services, then revocation lists, at the places that the
//! certificates themselves name.
//!
//! Such a place is the word of whoever issued a certificate that we trust, so it is asked over http or
//! https only, at public addresses unless the operator names it, without credentials and redirects, and
//! what comes back counts only if its signature does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use quick_cache::sync::Cache;
use tokio::{sync::Semaphore, time::timeout};
use url::Url;

use super::{Limits, Proxies, UpstreamError, body::collect, connector::Endpoint, tls::Roots, transport::Transport};
use crate::{
    clock::Clock,
    oci::RegistryName,
    trust::{MAX_CRL_BYTES, MAX_OCSP_BYTES, RevocationCheck, RevocationFlaw, RevocationId, Status},
};

pub struct RevocationServices {
    transport: Transport,
    clock: Clock,
    /// What was answered, that nothing was included: who does not answer is not asked at every pull.
    /// Whoever wants to know what is being asked already waits for that.
    answers: Cache<RevocationId, Answer>,
    /// Bounds what is on its way, whatever number of images want to know.
    places: Semaphore,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    status: Option<Status>,
    /// From then on it is asked again.
    until: Timestamp,
}

/// Why nothing was learnt at a place.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("its URL is not one of http or https")]
    Url,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("its answer does not count: {0}")]
    Flaw(#[from] RevocationFlaw),
    #[error("reading the list was given up")]
    Reader,
}

impl RevocationServices {
    /// `own` are those that may have addresses which are not public.
    pub fn new(own: &[Url], proxies: Proxies, clock: Clock) -> Self {
        let tls = Roots::of_platform().client_config(None).expect("the platform's certificates alone are a set");
        let own: BTreeSet<_> = own.iter().filter_map(Endpoint::of).collect();
        let name: RegistryName = "revocation".parse().expect("a host name");
        let limits = Limits { connect: CONNECT, head: HEAD, idle: HEAD, body: BODY, ..Limits::default() };
        Self {
            transport: Transport::new(name, tls, own, Arc::new(proxies), limits),
            clock,
            answers: Cache::new(MAX_ANSWERS),
            places: Semaphore::new(MAX_AT_ONCE),
        }
    }

    /// What can be learnt about these, all at the same time. Of what is not among the answers nothing can
    /// be said for now.
    pub async fn ask(&self, checks: Vec<RevocationCheck>) -> Vec<(RevocationId, Status)> {
        let asked = checks.into_iter().take(MAX_CHECKS).map(|check| async move {
            let id = check.id();
            Some((id, self.answer(id, check).await.status?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn answer(&self, id: RevocationId, check: RevocationCheck) -> Answer {
        let now = self.clock.now();
        self.answers.remove_if(&id, |answer| answer.until <= now);
        let asking = async {
            let status = timeout(TOTAL, self.status(Arc::new(check))).await.ok().flatten();
            let retry = self.clock.now().checked_add(RETRY).unwrap_or(Timestamp::MAX);
            Answer { status, until: status.map_or(retry, |status| status.until()) }
        };
        match self.answers.get_or_insert_async(&id, async { Ok::<_, ()>(asking.await) }).await {
            Ok(answer) => answer,
            Err(()) => Answer { status: None, until: now },
        }
    }

    /// Trust store and trust policy specification, "Certificate Revocation Evaluation": services first,
    /// each in its turn, and the lists where they do not help.
    async fn status(&self, check: Arc<RevocationCheck>) -> Option<Status> {
        let _place = self.places.acquire().await.ok()?;
        for url in check.ocsp_urls().iter().take(MAX_URLS) {
            match self.by_ocsp(&check, url).await {
                Ok(status) => return Some(status),
                Err(error) => tracing::info!(url, "the OCSP service at {url:?} does not help: {error}"),
            }
        }
        for url in check.crl_urls().iter().take(MAX_URLS) {
            match self.by_list(&check, url).await {
                Ok(status) => return Some(status),
                Err(error) => tracing::info!(url, "the revocation list at {url:?} does not help: {error}"),
            }
        }
        None
    }

    /// RFC 6960, appendix A.1: a question this short is asked by GET, so that answers can be cached on
    /// the way.
    async fn by_ocsp(&self, check: &RevocationCheck, url: &str) -> Result<Status, Unanswered> {
        let question = STANDARD.encode(check.ocsp_request());
        let question: String = url::form_urlencoded::byte_serialize(question.as_bytes()).collect();
        let place = place(&format!("{}/{question}", url.trim_end_matches('/')))?;
        let answer = self.fetch(&place, "OCSP answer", MAX_OCSP_BYTES).await?;
        Ok(check.ocsp_status(&answer, self.clock.now())?)
    }

    async fn by_list(&self, check: &Arc<RevocationCheck>, url: &str) -> Result<Status, Unanswered> {
        let list = self.fetch(&place(url)?, "revocation list", MAX_CRL_BYTES).await?;
        let mut delta = None;
        for url in check.delta_urls(&list)?.iter().take(MAX_URLS) {
            delta = self.fetch(&place(url)?, "revocation list", MAX_CRL_BYTES).await.ok();
            if delta.is_some() {
                break;
            }
        }
        let (check, now) = (Arc::clone(check), self.clock.now());
        // A long list takes a while to read.
        let read = tokio::task::spawn_blocking(move || check.crl_status(&list, delta.as_deref(), now)).await;
        Ok(read.map_err(|_| Unanswered::Reader)??)
    }

    async fn fetch(&self, url: &Url, what: &'static str, cap: usize) -> Result<Bytes, UpstreamError> {
        let answer = self.transport.send(&Method::GET, url, &HeaderMap::new()).await?;
        match answer.status() {
            StatusCode::OK => collect(answer.into_body(), what, cap, &self.transport.limits).await,
            status => Err(UpstreamError::Status { status: status.as_u16() }),
        }
    }
}

fn place(url: &str) -> Result<Url, Unanswered> {
    let url: Url = url.parse().map_err(|_| Unanswered::Url)?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.host_str().is_some();
    if matches!(url.scheme(), "http" | "https") && is_plain { Ok(url) } else { Err(Unanswered::Url) }
}

const CONNECT: Duration = Duration::from_secs(2);
const HEAD: Duration = Duration::from_secs(3);
const BODY: Duration = Duration::from_secs(5);
/// For one certificate, with all the places that it names: a pull waits for it.
const TOTAL: Duration = Duration::from_secs(8);
const RETRY: SignedDuration = SignedDuration::from_secs(30);
const MAX_URLS: usize = 3;
/// Of two chains of ten certificates.
const MAX_CHECKS: usize = 20;
const MAX_AT_ONCE: usize = 16;
const MAX_ANSWERS: usize = 4096;
