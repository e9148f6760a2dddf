//! A small HTTP client for the test's own errands (pushing images, asking whether a server answers), plain http on
//! loopback. The real clients speak for themselves.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: tokio::runtime::Handle,
}

impl Http {
    pub(crate) fn new(runtime: tokio::runtime::Handle) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), runtime }
    }

    /// `None` where no answer came at all.
    pub(crate) fn try_send(&self, method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        self.runtime.block_on(async {
            let (head, body) = self.client.request(request).await.ok()?.into_parts();
            let body = body.collect().await.ok()?.to_bytes();
            Some(Answer { status: head.status, headers: head.headers, body })
        })
    }

    pub(crate) fn send(&self, method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let what = format!("{method} {url}");
        self.try_send(method, url, headers, body).unwrap_or_else(|| panic!("{what}: no answer"))
    }

    pub(crate) fn answers(&self, url: &str) -> bool {
        self.try_send(Method::GET, url, &[], Bytes::new()).is_some_and(|answer| answer.status.is_success())
    }
}
