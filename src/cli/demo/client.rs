//! A client of the demo's own: it pulls with the requests that dockerd makes, and checks what it gets as dockerd does.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::ext::ReasonPhrase;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::Pulled;
use crate::oci::{Digest, Manifest};

pub(super) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    mirror: SocketAddr,
}

impl HttpClient {
    pub(super) fn new(mirror: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), mirror }
    }

    /// Pulls as dockerd pulls by tag: it resolves the tag, then takes the manifest and everything it names by digest.
    pub(super) async fn pull(&self, repository: &str, tag: &str, said: &mut Vec<String>) -> anyhow::Result<Pulled> {
        self.get("/v2/", said).await?;
        let head = self.ask(Method::HEAD, &format!("/v2/{repository}/manifests/{tag}"), said).await?;
        if head.status() != StatusCode::OK {
            // An answer to HEAD has no body; the whole reason is in the answer to GET.
            let refusal = self.ask(Method::GET, &format!("/v2/{repository}/manifests/{tag}"), said).await?;
            return refused(refusal, said);
        }
        let digest = head.headers().get("docker-content-digest").context("no digest in the answer to HEAD")?;
        let digest: Digest = digest.to_str()?.parse()?;
        let answer = self.ask(Method::GET, &format!("/v2/{repository}/manifests/{digest}"), said).await?;
        if answer.status() != StatusCode::OK {
            return refused(answer, said);
        }
        let content_type = answer.headers().get(header::CONTENT_TYPE).context("no Content-Type")?.to_str()?.to_owned();
        let manifest = Manifest::parse(answer.into_body(), Some(&digest), Some(&content_type))?;
        for child in manifest.children() {
            let blob = self.get(&format!("/v2/{repository}/blobs/{}", child.digest), said).await?;
            ensure!(Digest::sha256(&blob) == child.digest, "the mirror sent other bytes for {}", child.digest);
        }
        said.push(format!("every byte hashes to the digest it was asked for by; the image is {digest}"));
        Ok(Pulled::Came)
    }

    /// Submits a signature; the answer is the record.
    pub(super) async fn submit(&self, submission: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        let request = Request::post(self.url("/api/v1/signatures"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(submission.to_string()))?;
        let answer = self.send(request).await?;
        let text = String::from_utf8_lossy(answer.body());
        ensure!(answer.status() == StatusCode::CREATED, "the submission was answered {}: {text}", answer.status());
        Ok(serde_json::from_slice(answer.body())?)
    }

    async fn get(&self, path: &str, said: &mut Vec<String>) -> anyhow::Result<Bytes> {
        let answer = self.ask(Method::GET, path, said).await?;
        if answer.status() != StatusCode::OK {
            bail!("GET {path} was answered {}", answer.status());
        }
        Ok(answer.into_body())
    }

    async fn ask(&self, method: Method, path: &str, said: &mut Vec<String>) -> anyhow::Result<Response<Bytes>> {
        let request = Request::builder()
            .method(&method)
            .uri(self.url(path))
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, super::images::MANIFEST)
            .body(Full::default())?;
        let answer = self.send(request).await?;
        said.push(format!("{:4} {}  ->  {}", method.as_str(), shortened(path), status_line(&answer)));
        Ok(answer)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Bytes>> {
        let answer = self.client.request(request).await.context("the mirror does not answer")?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.mirror)
    }
}

/// A refusal is one that the mirror explains; any other failure is an error of the demo.
fn refused(answer: Response<Bytes>, said: &mut Vec<String>) -> anyhow::Result<Pulled> {
    let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match body["errors"][0]["message"].as_str() {
        Some(message) => {
            said.push(format!("{}: {message}", body["errors"][0]["code"].as_str().unwrap_or_default()));
            Ok(Pulled::Refused)
        }
        None => bail!("the mirror answered {} without a reason", answer.status()),
    }
}

/// The status with the phrase that the server sent, which need not be the usual one.
fn status_line(answer: &Response<Bytes>) -> String {
    match answer.extensions().get::<ReasonPhrase>() {
        Some(phrase) => format!("{} {}", answer.status().as_str(), String::from_utf8_lossy(phrase.as_bytes())),
        None => answer.status().to_string(),
    }
}

/// A path as it fits into a line: a digest at its end by its first digits.
fn shortened(path: &str) -> String {
    match path.rsplit_once("sha256:") {
        Some((before, digits)) if digits.len() > DIGITS_SHOWN => {
            format!("{before}sha256:{}...", &digits[..DIGITS_SHOWN])
        }
        _ => path.to_owned(),
    }
}

const DIGITS_SHOWN: usize = 12;

/// Decides the form of a refusal, never whether there is one.
const USER_AGENT: &str = concat!("docker/20.10.24 (sig-repo demo ", env!("CARGO_PKG_VERSION"), ")");
/// More than everything the sample registry holds.
const ANSWER_MAX_BYTES: usize = 1 << 20;
