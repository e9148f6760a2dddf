//! The OpenID Connect issuer that the certificate authority believes: it says of anybody what the test wants.

use std::{collections::HashMap, convert::Infallible, future::ready, net::Ipv4Addr, sync::Arc};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use der::{Decode, Reader, SliceReader, asn1::UintRef};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

/// Whoever asks for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A person, by an address.
    Person(&'static str),
    /// A workflow of a repository, as GitHub describes one.
    Workflow(&'static str),
}

pub(crate) struct Issuer {
    /// cosign takes a token for the name of a file unless its algorithm is RS256.
    key: KeyPair,
}

/// Where it answers. These stand in every certificate, and in the fixtures that are made of them.
const PEOPLE: u16 = 8811;
const WORKFLOWS: u16 = 8812;

impl Identity {
    pub(crate) fn issuer(self) -> String {
        let port = match self {
            Self::Person(_) => PEOPLE,
            Self::Workflow(_) => WORKFLOWS,
        };
        format!("http://{}:{port}", Ipv4Addr::LOCALHOST)
    }

    /// The name in the certificate.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::Person(address) => address.to_owned(),
            Self::Workflow(repository) => format!("https://github.com/{}", workflow(repository)),
        }
    }

    fn claims(self) -> Value {
        match self {
            Self::Person(address) => json!({"sub": address, "email": address, "email_verified": true}),
            Self::Workflow(repository) => json!({
                "sub": format!("repo:{repository}:ref:{REF}"),
                "event_name": "push",
                "ref": REF,
                "repository": repository,
                "repository_id": "1001",
                "repository_owner": repository.split('/').next(),
                "repository_owner_id": "1002",
                "repository_visibility": "private",
                "run_id": "1003",
                "run_attempt": "1",
                "runner_environment": "github-hosted",
                "sha": COMMIT,
                "workflow": "release",
                "workflow_ref": workflow(repository),
                "workflow_sha": COMMIT,
                "job_workflow_ref": workflow(repository),
                "job_workflow_sha": COMMIT,
            }),
        }
    }
}

fn workflow(repository: &str) -> String {
    format!("{repository}/.github/workflows/release.yml@{REF}")
}

impl Issuer {
    pub(super) fn start(runtime: &Runtime) -> Self {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let (modulus, exponent) = numbers_of(key.public_key().as_ref());
        let keys = json!({"keys": [
            {"kty": "RSA", "kid": KEY, "use": "sig", "alg": "RS256", "n": encoded(modulus), "e": encoded(exponent)},
        ]});
        for port in [PEOPLE, WORKFLOWS] {
            let issuer = format!("http://{}:{port}", Ipv4Addr::LOCALHOST);
            let discovery = json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            });
            let pages = Arc::new(HashMap::from([
                ("/.well-known/openid-configuration", discovery.to_string()),
                ("/keys", keys.to_string()),
            ]));
            let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port))).unwrap();
            runtime.spawn(serve(listener, pages));
        }
        Self { key }
    }

    /// What proves to the authority for some minutes that the bearer is `who`.
    #[expect(clippy::disallowed_methods, reason = "the servers' clock is the machine's")]
    pub(super) fn token(&self, who: Identity) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = who.claims();
        claims["iss"] = who.issuer().into();
        claims["aud"] = AUDIENCE.into();
        claims["iat"] = now.into();
        claims["exp"] = (now + 600).into();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": KEY});
        let signed = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", encoded(&signature))
    }
}

async fn serve(listener: TcpListener, pages: Arc<HashMap<&'static str, String>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let pages = Arc::clone(&pages);
        connections.spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let page = pages.get(request.uri().path()).cloned();
                let status = if page.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
                let mut answer = Response::new(Full::<Bytes>::from(page.unwrap_or_default()));
                *answer.status_mut() = status;
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                ready(Ok::<_, Infallible>(answer))
            });
            // An error is a client that left.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The modulus and the exponent of an RSAPublicKey.
fn numbers_of(key: &[u8]) -> (&[u8], &[u8]) {
    let mut reader = SliceReader::new(key).unwrap();
    let numbers = reader.sequence(|reader| Ok((UintRef::decode(reader)?, UintRef::decode(reader)?)));
    let (modulus, exponent) = numbers.unwrap();
    (modulus.as_bytes(), exponent.as_bytes())
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The audience that sigstore's authority and clients agree on.
pub(super) const AUDIENCE: &str = "sigstore";
const KEY: &str = "lab";
const REF: &str = "refs/heads/main";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
