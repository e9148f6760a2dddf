//! The files of a repository of The Update Framework, for whoever asked for an update.
//!
//! Nothing is believed here: what the files say is verified by `trust`. A repository that the operator
//! names may have any address but a cloud's metadata service; no redirect is followed, and no
//! credentials are sent.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::USER_AGENT};
use url::Url;

use super::{
    Limits, Proxies, RedirectRefusal, UpstreamError, body::collect, connector::Endpoint, redirects::is_redirect,
    tls::Roots, transport::Transport,
};
use crate::oci::RegistryName;

pub struct TufRepository {
    transport: Transport,
    /// Ends with a slash.
    base: Url,
}

#[derive(Debug, thiserror::Error)]
pub enum TufRepositoryError {
    #[error("expected an http:// or https:// URL with a host, without user, query and fragment")]
    Url,
    #[error("no usable certificate in PEM form in it")]
    Ca,
}

impl TufRepository {
    /// Reads the platform's certificates; connects to nothing. `of_operator`: its address may be a private one.
    pub fn new(
        mut base: Url,
        of_operator: bool,
        ca: Option<&[u8]>,
        proxies: Proxies,
    ) -> Result<Self, TufRepositoryError> {
        let is_plain = base.username().is_empty() && base.password().is_none();
        let is_bare = base.query().is_none() && base.fragment().is_none();
        let endpoint = Endpoint::of(&base).filter(|_| is_plain && is_bare && matches!(base.scheme(), "http" | "https"));
        let endpoint = endpoint.ok_or(TufRepositoryError::Url)?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let tls = Roots::of_platform().client_config(ca).map_err(|_| TufRepositoryError::Ca)?;
        let own: BTreeSet<_> = of_operator.then_some(endpoint).into_iter().collect();
        let name: RegistryName = "tuf-repository".parse().expect("a host name");
        let limits = Limits { connect: CONNECT, head: HEAD, idle: IDLE, body: BODY, ..Limits::default() };
        Ok(Self { transport: Transport::new(name, tls, own, Arc::new(proxies), limits), base })
    }

    /// The file of this path, or that there is none: where object stores keep a repository, what is not there
    /// is forbidden.
    pub async fn fetch(&self, path: &str, most_bytes: u64) -> Result<Option<Bytes>, UpstreamError> {
        let url = self.base.join(path).map_err(|_| UpstreamError::Malformed { what: "url" })?;
        let agent = HeaderValue::from_static(concat!("sig-repo/", env!("CARGO_PKG_VERSION")));
        let answer = self.transport.send(&Method::GET, &url, &HeaderMap::from_iter([(USER_AGENT, agent)])).await?;
        let cap = usize::try_from(most_bytes).unwrap_or(usize::MAX);
        match answer.status() {
            StatusCode::OK => collect(answer.into_body(), "file", cap, &self.transport.limits).await.map(Some),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
            status if is_redirect(status) => Err(UpstreamError::Redirect { reason: RedirectRefusal::NotFollowed }),
            status => Err(UpstreamError::Status { status: status.as_u16() }),
        }
    }
}

const CONNECT: Duration = Duration::from_secs(10);
const HEAD: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
