use std::time::Duration;

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use secrecy::SecretString;
use sig_repo::upstream::{Anonymous, UpstreamConfig, UpstreamError};

use super::Client;
use crate::support::registry::{Auth, Fault, Registry};

async fn registry() -> (Registry, UpstreamConfig) {
    let registry = Registry::with_auth(Auth::public(&["team/open"]).user("team", "hunter2")).await;
    for repository in ["team/open", "team/closed"] {
        registry.push_image(repository, Some("v1"), &[]);
    }
    let mut config = registry.upstream("docker.io");
    config.username = Some("team".to_owned());
    config.password = Some(SecretString::from("hunter2"));
    (registry, config)
}

async fn open(client: &Client, path: &str) -> Result<bool, UpstreamError> {
    client.upstream.open_to_anonymous(&client.repository(path)).await
}

#[tokio::test]
async fn pitfall_48_our_credentials_open_nothing_for_anonymous_clients() {
    let (registry, config) = registry().await;
    let client = Client::of(config);
    // We can read both, and have read both: that changes nothing.
    client.manifest("team/open", "v1").await.unwrap();
    client.manifest("team/closed", "v1").await.unwrap();
    registry.forget_requests();
    assert_eq!(open(&client, "team/open").await, Ok(true));
    assert_eq!(open(&client, "team/closed").await, Ok(false));
    assert_eq!(open(&client, "team/none").await, Ok(false));
    let requests = registry.requests();
    assert!(requests.len() >= 6, "{:?}", registry.request_lines());
    for request in requests {
        let authorization = request.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        assert!(authorization.is_none_or(|value| value.starts_with("Bearer ")), "{authorization:?}");
    }
    // And the probe's anonymous token is not taken for ours afterwards.
    client.manifest("team/closed", "v1").await.unwrap();
}

#[tokio::test]
async fn pitfall_48_an_answer_is_kept_ten_minutes_both_ways() {
    let (registry, config) = registry().await;
    let client = Client::of(config);
    assert_eq!((open(&client, "team/open").await, open(&client, "team/closed").await), (Ok(true), Ok(false)));
    registry.set_public("team/open", false);
    registry.set_public("team/closed", true);
    registry.revoke_tokens();
    registry.forget_requests();
    client.clock.advance(Duration::from_secs(599));
    assert_eq!((open(&client, "team/open").await, open(&client, "team/closed").await), (Ok(true), Ok(false)));
    assert_eq!(registry.request_lines(), [""; 0]);
    client.clock.advance(Duration::from_secs(1));
    assert_eq!((open(&client, "team/open").await, open(&client, "team/closed").await), (Ok(false), Ok(true)));
}

#[tokio::test]
async fn pitfall_48_a_failure_to_find_out_is_an_error_and_not_kept() {
    let (registry, config) = registry().await;
    let client = Client::of(config);
    for (fault, expected) in [
        (Fault::status(500), UpstreamError::Status { status: 500 }),
        (Fault::status(429), UpstreamError::RateLimited { retry_after: None }),
        (Fault::status(402), UpstreamError::QuotaExceeded),
        (Fault::Redirect("http://10.0.0.1/".to_owned()), UpstreamError::PrivateAddress),
    ] {
        registry.fault_once("/v2/team/open/tags/", fault);
        assert_eq!(open(&client, "team/open").await, Err(expected.clone()));
        registry.fault_once("/token", Fault::status(503));
        let token = open(&client, "team/closed").await;
        assert_eq!(token, Err(UpstreamError::Status { status: 503 }));
    }
    assert_eq!((open(&client, "team/open").await, open(&client, "team/closed").await), (Ok(true), Ok(false)));
}

#[tokio::test]
async fn one_probe_answers_all_who_wait() {
    let (registry, config) = registry().await;
    let client = Client::of(config);
    let answers = join_all((0..20).map(|_| open(&client, "team/open"))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(true)), "{answers:?}");
    assert_eq!(registry.request_lines(), ["GET /v2/team/open/tags/list", "GET /token", "GET /v2/team/open/tags/list"]);
    assert_eq!(client.calls(), [("token", "ok"), ("probe", "ok")]);
}

#[tokio::test]
async fn nothing_is_probed_where_there_is_nothing_to_hide() {
    let (registry, config) = registry().await;
    let all = Client::of(UpstreamConfig { anonymous: Anonymous::All, ..config });
    assert_eq!(open(&all, "team/closed").await, Ok(true));
    let bare = Client::of(registry.upstream("docker.io"));
    assert_eq!(open(&bare, "team/closed").await, Ok(true));
    assert_eq!(registry.request_lines(), [""; 0]);
}

#[tokio::test]
async fn a_registry_that_knows_basic_only_is_closed_to_anonymous_clients() {
    let auth = Auth::default().user("team", "hunter2").basic();
    let registry = Registry::with_auth(auth).await;
    registry.push_image("team/app", Some("v1"), &[]);
    let mut config = registry.upstream("docker.io");
    config.username = Some("team".to_owned());
    config.password = Some(SecretString::from("hunter2"));
    let client = Client::of(config);
    client.manifest("team/app", "v1").await.unwrap();
    assert_eq!(open(&client, "team/app").await, Ok(false));
}
