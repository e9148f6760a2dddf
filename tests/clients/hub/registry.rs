//! What the stand-in answers, name by name: the registry behind its challenge, the token server, the host of blobs.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    header::{AUTHORIZATION, CONNECTION, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::{BLOB_HOST, Caller, Entry, Fault, Shared, TOKEN_HOST, TOKEN_LIFE, referrers::Referrers, tokens::basic};

pub(super) type Body = Either<Full<Bytes>, Incoming>;

/// The registry that holds the images, reached only through here.
pub(super) struct Behind {
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a reset was asked for")]
pub(super) struct Reset;

impl Behind {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    async fn forward(&self, mut request: Request<Body>, path: &str) -> Response<Body> {
        *request.uri_mut() = Uri::try_from(format!("http://{}{path}", self.address)).unwrap();
        for name in [HOST, AUTHORIZATION, CONNECTION] {
            request.headers_mut().remove(name);
        }
        match self.client.request(request).await {
            Ok(answer) => answer.map(Either::Right),
            Err(error) => text(StatusCode::BAD_GATEWAY, &error.to_string()),
        }
    }
}

pub(super) async fn answer(
    shared: &Shared,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Reset> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = header(HOST).split(':').next().unwrap_or_default().to_owned();
    shared.note(Entry {
        caller,
        host: host.clone(),
        line: format!("{} {}", request.method(), request.uri()),
        user_agent: header(USER_AGENT).to_owned(),
        authorized: request.headers().contains_key(AUTHORIZATION)
            || (host == TOKEN_HOST && request.method() == Method::POST),
    });
    match host.as_str() {
        TOKEN_HOST => Ok(token(shared, request).await),
        BLOB_HOST => Ok(redirected_blob(shared, request).await),
        "registry-1.docker.io" | "index.docker.io" => registry(shared, caller, request).await,
        _ => Ok(text(StatusCode::NOT_FOUND, "no such page")),
    }
}

/// By GET with what the asker is in a header, or by POST with all of it in a form, as some clients ask who are logged in.
async fn token(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(form) = body.collect().await else { return text(StatusCode::BAD_REQUEST, "no form") };
    let asked = [head.uri.query().unwrap_or_default().as_bytes(), &form.to_bytes()].join(&b'&');
    let values = |wanted: &str| -> Vec<String> {
        let all = url::form_urlencoded::parse(&asked);
        all.filter(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).collect()
    };
    let credentials = match (head.headers.get(AUTHORIZATION), &values("username")[..], &values("password")[..]) {
        (None, [username], [password]) => Some(basic(username, password)),
        (header, ..) => header.cloned(),
    };
    match shared.tokens.give(&values("scope"), credentials.as_ref()) {
        Ok(token) => {
            let body = serde_json::json!({"token": token, "access_token": token, "expires_in": TOKEN_LIFE.as_secs()});
            json(StatusCode::OK, &body)
        }
        Err(_) => json(StatusCode::UNAUTHORIZED, &serde_json::json!({"details": "incorrect username or password"})),
    }
}

async fn registry(shared: &Shared, caller: Caller, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let authorization = request.headers().get(AUTHORIZATION);
    let Some((repository, kind, name)) = parts(request.uri().path()) else {
        return Ok(match shared.tokens.know(authorization) {
            true => json(StatusCode::OK, &serde_json::json!({})),
            false => challenge(None),
        });
    };
    let push = !matches!(*request.method(), Method::GET | Method::HEAD);
    if !shared.tokens.admit(authorization, &repository, push) {
        let actions = if push { "pull,push" } else { "pull" };
        return Ok(challenge(Some(format!("repository:{repository}:{actions}"))));
    }
    let fault = shared.fault_for(caller).filter(|_| kind == "manifests");
    match fault {
        Some(Fault::Reset) => return Err(Reset),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return Ok(json(status, &serde_json::json!({"errors": [{"code": "UNKNOWN", "message": "a fault"}]})));
        }
        Some(Fault::WrongBytes) | None => {}
    }
    if kind == "blobs" && request.method() == Method::GET && name.contains(':') {
        let mut answer = text(StatusCode::TEMPORARY_REDIRECT, "");
        let target = format!("https://{BLOB_HOST}/{repository}/blobs/{name}?verify=1");
        answer.headers_mut().insert(LOCATION, target.parse().unwrap());
        return Ok(answer);
    }
    let answer = match *request.method() {
        Method::GET if kind == "referrers" && Referrers::are_listed_in(&repository) => {
            shared.referrers.list(&repository, &name)
        }
        Method::PUT if kind == "manifests" && Referrers::are_listed_in(&repository) => {
            referring(shared, &repository, request, &path).await
        }
        _ => shared.registry.forward(request.map(Either::Right), &path).await,
    };
    Ok(if fault == Some(Fault::WrongBytes) { altered(answer).await } else { answer })
}

/// Has it entered in the list of referrers, and says so to whoever put it there.
async fn referring(shared: &Shared, repository: &str, request: Request<Incoming>, path: &str) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return text(StatusCode::BAD_REQUEST, "no body") };
    let manifest = body.to_bytes();
    let request = Request::from_parts(head, Either::Left(Full::new(manifest.clone())));
    let mut answer = shared.registry.forward(request, path).await;
    if answer.status().is_success()
        && let Some(subject) = shared.referrers.enter(repository, &manifest)
    {
        answer.headers_mut().insert("OCI-Subject", subject.parse().unwrap());
    }
    answer
}

/// The body with one digit changed: as long as before, JSON as before, and not what its headers say.
async fn altered(answer: Response<Body>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let Ok(body) = body.collect().await else { return text(StatusCode::BAD_GATEWAY, "no body to alter") };
    let mut body = BytesMut::from(&body.to_bytes()[..]);
    // The last hexadecimal digit in the document is part of a digest or of a size.
    if let Some(digit) = body.iter_mut().rev().find(|byte| byte.is_ascii_digit()) {
        *digit = if *digit == b'1' { b'2' } else { b'1' };
    }
    Response::from_parts(head, Either::Left(Full::new(body.freeze())))
}

async fn redirected_blob(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let path = format!("/v2{}", request.uri().path());
    match *request.method() {
        Method::GET | Method::HEAD => shared.registry.forward(request.map(Either::Right), &path).await,
        _ => text(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
}

/// `/v2/<repository>/<kind>/<name>`; `None` for `/v2/` itself.
fn parts(path: &str) -> Option<(String, String, String)> {
    let path = path.strip_prefix("/v2/")?;
    for kind in ["manifests", "blobs", "tags", "referrers"] {
        if let Some((repository, name)) = path.rsplit_once(&format!("/{kind}/")) {
            return Some((repository.into(), kind.into(), name.into()));
        }
    }
    None
}

fn challenge(scope: Option<String>) -> Response<Body> {
    let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
    let value = format!("Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\"{scope}");
    let body = serde_json::json!({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]});
    let mut answer = json(StatusCode::UNAUTHORIZED, &body);
    answer.headers_mut().insert(WWW_AUTHENTICATE, value.parse().unwrap());
    answer
}

fn json(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    let mut answer = text(status, &body.to_string());
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, "application/json".parse().unwrap());
    headers.insert("Docker-Distribution-Api-Version", "registry/2.0".parse().unwrap());
    answer
}

pub(super) fn text(status: StatusCode, body: &str) -> Response<Body> {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(body.to_owned()))));
    *answer.status_mut() = status;
    answer
}
