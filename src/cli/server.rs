//! The server that a command talks to, by its API.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use url::Url;

use super::roots::Roots;

/// Which server, and as whom.
#[derive(Debug, Args)]
pub(super) struct ServerOptions {
    /// The server
    #[arg(long, value_name = "URL", default_value = "http://localhost:8080")]
    server: Url,

    /// The account, where the server asks for one; its password is read from SIG_REPO_PASSWORD or --password-file
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// A file with the account's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// Certificates in PEM form to believe beside the platform's
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,

    /// Print the server's answer as JSON
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) struct Server {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

impl Server {
    pub(super) fn new(options: &ServerOptions) -> anyhow::Result<Self> {
        let url = &options.server;
        ensure!(
            url.username().is_empty() && url.password().is_none(),
            "--server: a password in a URL ends in logs; give --user and SIG_REPO_PASSWORD"
        );
        ensure!(
            matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none(),
            "--server {url}: expected a URL such as https://sig-repo.example.com or http://localhost:8080"
        );
        let roots = Roots::with(&options.ca)?;
        let https =
            HttpsConnectorBuilder::new().with_tls_config(roots.config(&[])).https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            base: url.as_str().trim_end_matches('/').to_owned(),
            authorization: options.authorization()?,
        })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Posts what is answered by a line of JSON now and then, and hands over each as it comes.
    pub(super) async fn post_for_lines(
        &self,
        path: &str,
        body: &Value,
        mut met: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let silent = || format!("nothing came from {} for {} seconds", self.base, PATIENCE.as_secs());
        let request = self.request(&Method::POST, path, Some(body))?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await.with_context(silent)?;
        let (head, mut body) = answer.with_context(|| format!("no answer from {}", self.base))?.into_parts();
        if !head.status.is_success() {
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| anyhow::anyhow!("the answer broke off"))?.to_bytes();
            return self.answer(Exchanged { status: head.status, retry_after: None, body }).map(drop);
        }
        let mut line = Vec::new();
        while let Some(frame) = tokio::time::timeout(PATIENCE, body.frame()).await.with_context(silent)? {
            let frame = frame.context("the answer broke off")?;
            for piece in frame.data_ref().into_iter().flat_map(|data| data.split_inclusive(|byte| *byte == b'\n')) {
                line.extend_from_slice(piece);
                ensure!(line.len() <= MAX_ANSWER_BYTES, "{} answers with a line without end", self.base);
                if line.ends_with(b"\n") {
                    let parsed = serde_json::from_slice(&line);
                    met(parsed.with_context(|| format!("{} answers not as a sig-repo does", self.base))?)?;
                    line.clear();
                }
            }
        }
        Ok(())
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path, None).await
    }

    /// The same, with patience where the server asks for it.
    pub(super) async fn get_patiently(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.patiently(Method::GET, path, None).await?)
    }

    /// Submits a signature. What the server has against it is an answer; what keeps it from answering is an error.
    pub(super) async fn submit(&self, submission: &Value) -> anyhow::Result<Answered> {
        let exchanged = self.patiently(Method::POST, "signatures", Some(submission)).await?;
        let status = exchanged.status;
        if !status.is_client_error() || [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND].contains(&status) {
            self.answer(exchanged)?;
            return Ok(Answered::Done { created: status == StatusCode::CREATED });
        }
        let problem: Value = serde_json::from_slice(&exchanged.body).unwrap_or_default();
        let text = |member: &str| problem[member].as_str().map(str::to_owned);
        match (text("type").as_deref().and_then(|urn| urn.strip_prefix(PROBLEM)), text("detail")) {
            (Some(kind), Some(detail)) => Ok(Answered::Problem { kind: kind.to_owned(), detail, field: text("field") }),
            _ => bail!("{} answered {status}, and not as a sig-repo does", self.base),
        }
    }

    pub(super) fn has_account(&self) -> bool {
        self.authorization.is_some()
    }

    /// What the API answers; a problem is an error that says what the server says.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.answer(self.exchange(&method, path, body).await?)
    }

    async fn patiently(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Exchanged> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..ATTEMPTS {
            let exchanged = self.exchange(&method, path, body).await?;
            if ![StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&exchanged.status) {
                return Ok(exchanged);
            }
            tokio::time::sleep(exchanged.retry_after.unwrap_or(pause).min(MAX_PAUSE)).await;
            pause *= 2;
        }
        self.exchange(&method, path, body).await
    }

    fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        Ok(request.body(Full::from(body.map(Value::to_string).unwrap_or_default()))?)
    }

    async fn exchange(&self, method: &Method, path: &str, body: Option<&Value>) -> anyhow::Result<Exchanged> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            let answer = self.client.request(request).await.with_context(|| format!("no answer from {}", self.base))?;
            let (head, body) = answer.into_parts();
            let retry_after = head.headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|_| anyhow::anyhow!("the answer broke off"))?.to_bytes();
            Ok::<_, anyhow::Error>(Exchanged {
                status: head.status,
                retry_after: retry_after.map(Duration::from_secs),
                body,
            })
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("no answer from {} within {} seconds", self.base, PATIENCE.as_secs()))?
    }

    fn answer(&self, Exchanged { status, body, .. }: Exchanged) -> anyhow::Result<Value> {
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        let answer: Value = serde_json::from_slice(&body)
            .with_context(|| format!("{} answered {status}, and not as a sig-repo does", self.base))?;
        if status.is_success() {
            return Ok(answer);
        }
        let kind = answer["type"].as_str().and_then(|urn| urn.strip_prefix(PROBLEM));
        match (kind, answer["detail"].as_str()) {
            (Some(kind), Some(detail)) => bail!("{kind}: {detail}"),
            _ => bail!("{} answered {status}", self.base),
        }
    }
}

struct Exchanged {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Bytes,
}

/// What became of a submission.
#[derive(Debug)]
pub(super) enum Answered {
    Done {
        /// False: it was there already.
        created: bool,
    },
    Problem {
        kind: String,
        detail: String,
        field: Option<String>,
    },
}

impl ServerOptions {
    fn authorization(&self) -> anyhow::Result<Option<HeaderValue>> {
        let Some(user) = &self.user else { return Ok(None) };
        let password = super::password("--password-file", self.password_file.as_deref(), "SIG_REPO_PASSWORD")?;
        let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The certificates to believe beside the platform's, in PEM.
    pub(super) fn certificates(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("--ca {}", path.display()));
        let files = self.ca.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        Ok((!files.is_empty()).then(|| files.join(&b'\n')))
    }
}

const PROBLEM: &str = "urn:sig-repo:problem:";
/// Submitting may wait for the image's registry.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often and how long a server may ask to be asked later.
const ATTEMPTS: usize = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// More than the longest page of a list.
const MAX_ANSWER_BYTES: usize = 16 << 20;
