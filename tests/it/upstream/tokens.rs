use std::time::Duration;

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use secrecy::SecretString;
use sig_repo::upstream::{RealmRefusal, UpstreamConfig, UpstreamError};

use super::{Client, assert_discreet};
use crate::support::{
    liar::{Liar, Step},
    registry::{Auth, Fault, Registry},
};

/// `team:hunter2`, as Basic.
const BASIC: &str = "Basic dGVhbTpodW50ZXIy";

fn with_credentials(mut config: UpstreamConfig) -> UpstreamConfig {
    config.username = Some("team".to_owned());
    config.password = Some(SecretString::from("hunter2"));
    config
}

fn token_requests(registry: &Registry) -> Vec<(String, Option<String>)> {
    let tokens = registry.requests().into_iter().filter(|request| request.path == "/token");
    tokens
        .map(|request| {
            let authorization = request.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
            (request.query, authorization)
        })
        .collect()
}

#[tokio::test]
async fn anonymous_tokens_are_fetched_once_and_kept_until_they_end() {
    let auth = Auth::public(&["library/app", "library/other"]).expires_in(300);
    let registry = Registry::with_auth(auth).await;
    registry.push_image("library/app", Some("v1"), &[]);
    registry.push_image("library/other", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    for _ in 0..3 {
        client.manifest("app", "v1").await.unwrap();
    }
    let scope = "service=registry+of+the+tests&scope=repository%3Alibrary%2Fapp%3Apull".to_owned();
    assert_eq!(token_requests(&registry), [(scope, None)]);
    // One unauthorized request, then only authorized ones.
    assert_eq!(registry.requests().len(), 5);

    // A token is for one repository.
    client.manifest("other", "v1").await.unwrap();
    assert_eq!(token_requests(&registry).len(), 2);

    client.clock.advance(Duration::from_secs(289));
    client.manifest("app", "v1").await.unwrap();
    assert_eq!(token_requests(&registry).len(), 2);
    client.clock.advance(Duration::from_secs(2));
    registry.forget_requests();
    client.manifest("app", "v1").await.unwrap();
    // The way to ask is still known: no request goes without a token first.
    assert_eq!(registry.request_lines(), ["GET /token", "GET /v2/library/app/manifests/v1"]);
}

#[tokio::test]
async fn a_token_without_an_end_lives_a_minute() {
    let registry = Registry::with_auth(Auth::public(&["library/app"])).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    for (after, fetched) in [(0, 1), (49, 1), (2, 2)] {
        client.clock.advance(Duration::from_secs(after));
        client.manifest("app", "v1").await.unwrap();
        assert_eq!(token_requests(&registry).len(), fetched, "after {after} s");
    }
}

#[tokio::test]
async fn one_token_is_fetched_for_all_who_wait() {
    let registry = Registry::with_auth(Auth::public(&["library/app"])).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    client.manifest("app", "v1").await.unwrap();
    client.clock.advance(Duration::from_secs(60));
    registry.forget_requests();
    let pulls = join_all((0..20).map(|_| client.manifest("app", "v1"))).await;
    assert!(pulls.iter().all(Result::is_ok), "{pulls:?}");
    assert_eq!(token_requests(&registry).len(), 1);
    assert_eq!(client.calls().iter().filter(|call| **call == ("token", "ok")).count(), 2);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let registry = Registry::with_auth(Auth::public(&["library/app"])).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    client.manifest("app", "v1").await.unwrap();
    registry.revoke_tokens();
    client.manifest("app", "v1").await.unwrap();
    assert_eq!(token_requests(&registry).len(), 2);

    registry.set_public("library/app", false);
    registry.revoke_tokens();
    registry.forget_requests();
    assert_eq!(client.manifest("app", "v1").await, Err(UpstreamError::Denied));
    assert_eq!(token_requests(&registry).len(), 1);
}

#[tokio::test]
async fn credentials_open_what_is_closed_to_others() {
    let registry = Registry::with_auth(Auth::default().user("team", "hunter2")).await;
    registry.push_image("team/app", Some("v1"), &[]);
    let client = Client::of(with_credentials(registry.upstream("docker.io")));
    client.manifest("team/app", "v1").await.unwrap();
    let [(_, authorization)] = &token_requests(&registry)[..] else { panic!("{:?}", registry.request_lines()) };
    assert_eq!(authorization.as_deref(), Some(BASIC));
    // The password itself goes to the token service only.
    for request in registry.requests().iter().filter(|request| request.path.starts_with("/v2/")) {
        assert!(request.headers.get(AUTHORIZATION).is_none_or(|value| value != BASIC));
    }

    let anonymous = Client::of(registry.upstream("docker.io"));
    assert_eq!(anonymous.manifest("team/app", "v1").await, Err(UpstreamError::Denied));
    let mut wrong = with_credentials(registry.upstream("docker.io"));
    wrong.password = Some(SecretString::from("hunter3"));
    let error = Client::of(wrong).manifest("team/app", "v1").await.unwrap_err();
    assert_eq!(error, UpstreamError::Denied);
    assert_discreet(&error);
}

#[tokio::test]
async fn basic_challenges_are_answered_where_there_are_credentials() {
    let registry = Registry::with_auth(Auth::default().user("team", "hunter2").basic()).await;
    let image = registry.push_image("team/app", Some("v1"), &[]);
    let client = Client::of(with_credentials(registry.upstream("docker.io")));
    for _ in 0..2 {
        assert_eq!(client.manifest("team/app", "v1").await, Ok(image.bytes.clone()));
    }
    let given: Vec<_> = registry.requests().iter().map(|request| request.headers.contains_key(AUTHORIZATION)).collect();
    assert_eq!(given, [false, true, true]);
    let anonymous = Client::of(registry.upstream("docker.io"));
    assert_eq!(anonymous.manifest("team/app", "v1").await, Err(UpstreamError::Denied));
}

#[tokio::test]
async fn pitfall_29_no_credentials_to_a_realm_elsewhere() {
    let thief = Registry::with_auth(Auth::default()).await;
    let tls_thief = Registry::with_tls().await;
    let port = thief.addr().port();
    let tls_port = tls_thief.addr().port();
    let not_https = UpstreamError::Realm { reason: RealmRefusal::NotHttps };
    let url = UpstreamError::Realm { reason: RealmRefusal::Url };
    for (realm, expected) in [
        (format!("http://localhost:{port}/token"), not_https.clone()),
        (format!("http://127.0.0.2:{port}/token"), not_https.clone()),
        ("http://169.254.169.254/latest/meta-data".to_owned(), not_https),
        (format!("https://localhost:{tls_port}/token"), UpstreamError::PrivateAddress),
        // Its own host may be shown credentials, but another port of it may not be reached inside.
        (format!("https://127.0.0.1:{tls_port}/token"), UpstreamError::PrivateAddress),
        (format!("http://127.0.0.1:{port}/token"), UpstreamError::PrivateAddress),
        ("https://169.254.169.254/token".to_owned(), UpstreamError::PrivateAddress),
        ("https://[fe80::1]/token".to_owned(), UpstreamError::PrivateAddress),
        (format!("http://team:hunter2@127.0.0.1:{port}/token"), url.clone()),
        ("/token".to_owned(), url.clone()),
        ("gopher://127.0.0.1/".to_owned(), url),
    ] {
        let auth = Auth::default().user("team", "hunter2").realm(&realm);
        let registry = Registry::with_auth(auth).await;
        let client = Client::of(with_credentials(registry.upstream("docker.io")));
        let error = client.manifest("team/app", "v1").await.unwrap_err();
        assert_eq!(error, expected, "{realm}");
        assert_discreet(&error);
        assert_eq!(registry.requests().len(), 1);
    }
    assert_eq!((thief.requests().len(), tls_thief.requests().len()), (0, 0));
}

#[tokio::test]
async fn a_configured_realm_is_shown_the_credentials() {
    let tokens = Liar::saying("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"access_token\":\"t\"}").await;
    let realm = tokens.upstream("docker.io").remote.join("/token").unwrap();
    let auth = Auth::default().realm(realm.as_str());
    let registry = Registry::with_auth(auth).await;
    let mut config = with_credentials(registry.upstream("docker.io"));
    config.realm = Some(realm);
    let client = Client::of(config);
    // The token means nothing to this registry: what counts is who was asked for it, and with what.
    assert_eq!(client.manifest("team/app", "v1").await, Err(UpstreamError::Denied));
    let [head] = &tokens.requests()[..] else { panic!("{:?}", tokens.requests()) };
    assert!(head.contains(&format!("authorization: {BASIC}\r\n")), "{head}");
    let sent = registry.requests();
    assert_eq!(sent[1].headers[AUTHORIZATION], "Bearer t");
}

#[tokio::test]
async fn pitfall_29_redirects_of_a_token_service_are_not_followed() {
    let thief = Registry::start().await;
    let registry = Registry::with_auth(Auth::default().user("team", "hunter2")).await;
    registry.fault("/token", Fault::Redirect(format!("{}token", thief.url())));
    let client = Client::of(with_credentials(registry.upstream("docker.io")));
    assert_eq!(client.manifest("team/app", "v1").await, Err(UpstreamError::Status { status: 307 }));
    assert_eq!(thief.request_lines(), [""; 0]);
}

#[tokio::test]
async fn failures_of_the_token_service_are_those_of_the_request() {
    let registry = Registry::with_auth(Auth::public(&["library/app"])).await;
    registry.push_image("library/app", Some("v1"), &[]);
    for (fault, expected) in [
        (Fault::status(429), UpstreamError::RateLimited { retry_after: None }),
        (Fault::status(500), UpstreamError::Status { status: 500 }),
        (Fault::status(403), UpstreamError::Denied),
        (Fault::status(200), UpstreamError::Malformed { what: "token" }),
        (Fault::Reset, UpstreamError::Reset),
        (Fault::Cut, UpstreamError::Reset),
        (Fault::EndlessBody, UpstreamError::TooLarge { what: "token", limit: 1 << 20 }),
    ] {
        registry.heal();
        registry.fault("/token", fault.clone());
        let client = Client::of(registry.upstream("docker.io"));
        let result = client.manifest("app", "v1").await;
        assert_eq!(result, Err(expected.clone()), "{fault:?}");
        assert_eq!(client.calls(), [("token", expected.code()), ("manifest", expected.code())]);
    }
    registry.heal();
    Client::of(registry.upstream("docker.io")).manifest("app", "v1").await.unwrap();
}

#[tokio::test]
async fn malformed_challenges_and_tokens_are_errors() {
    let malformed = |what| Err(UpstreamError::Malformed { what });
    for challenge in ["Bearer", "Bearer realm=\"https://a", "Bearer service=\"s\"", "Bearer realm=\"a\",realm=\"b\""] {
        let answer = format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n");
        let liar = Liar::saying(&answer).await;
        let client = Client::of(liar.upstream("docker.io"));
        assert_eq!(client.manifest("app", "v1").await, malformed("challenge"), "{challenge}");
    }
    let long = format!("{{\"token\":\"{}\"}}", "t".repeat((16 << 10) + 1));
    for token in
        [&long, "", "[]", "{}", "{\"token\":\"\"}", "{\"token\":\"a\\r\\nx: y\"}", "{\"token\":\"a\",\"token\":\"b\"}"]
    {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{token}", token.len()).into_bytes();
        let tokens = Liar::start(vec![vec![Step::Send(answer)]]).await;
        let realm = tokens.upstream("docker.io").remote;
        let registry = Registry::with_auth(Auth::default().realm(realm.as_str())).await;
        let mut config = registry.upstream("docker.io");
        config.realm = Some(realm);
        assert_eq!(Client::of(config).manifest("app", "v1").await, malformed("token"), "{token}");
    }
}
