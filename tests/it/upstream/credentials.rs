//! Credentials that a `docker-credential-…` program gives.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use secrecy::SecretString;
use sig_repo::{
    clock::Clock,
    upstream::{Config, CredentialsFailure, Limits, UpstreamConfig, UpstreamError},
};

use super::{Client, assert_discreet};
use crate::support::{
    credential_programs::{CredentialPrograms, with_helper},
    registry::{Auth, Fault, Registry},
};

/// Longer than a helper that was asked is left alone.
const A_WHILE: Duration = Duration::from_secs(31);
const SHORT: Duration = Duration::from_millis(300);

fn client(programs: &CredentialPrograms, default: UpstreamConfig, limit: Duration) -> Client {
    let limits = Limits { helper: limit, ..Limits::default() };
    Client::with(Config { default, limits, helper_environment: programs.environment(), ..Config::default() })
}

/// A registry with one image for `team`, and a client whose helper is to tell the password.
async fn asking(auth: Auth) -> (Registry, CredentialPrograms, Client) {
    let registry = Registry::with_auth(auth.user("team", "hunter2")).await;
    registry.push_image("team/app", Some("v1"), &[]);
    let programs = CredentialPrograms::new();
    programs.install_answering("test");
    programs.answer("team", "hunter2");
    let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), Duration::from_secs(10));
    (registry, programs, client)
}

fn failed(reason: CredentialsFailure) -> UpstreamError {
    UpstreamError::Credentials { reason }
}

#[tokio::test]
async fn a_helper_is_asked_once_for_all_who_pull() {
    for auth in [Auth::default(), Auth::default().basic()] {
        let (registry, programs, client) = asking(auth).await;
        let pulls = join_all((0..10).map(|_| client.resolve("team/app", "v1"))).await;
        assert!(pulls.iter().all(Result::is_ok), "{pulls:?}");
        client.manifest("team/app", "v1").await.unwrap();
        client.clock.advance(Duration::from_secs(24 * 3600));
        client.manifest("team/app", "v1").await.unwrap();
        // The name of the registry, and no newline after it.
        assert_eq!(programs.asked(), [format!("get {}", registry.addr())]);
    }
}

#[tokio::test]
async fn a_helper_is_not_asked_for_a_registry_that_wants_to_know_nobody() {
    let registry = Registry::start().await;
    registry.push_image("team/app", Some("v1"), &[]);
    let programs = CredentialPrograms::new();
    programs.install("test", "exit 1");
    let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), SHORT);
    client.manifest("team/app", "v1").await.unwrap();
    assert_eq!(programs.asked(), [""; 0]);
}

#[tokio::test]
async fn a_password_that_has_run_out_is_asked_for_anew() {
    // By a 401 of the token service, by one of the registry, and by a 403 as ECR says it.
    for auth in [Auth::default(), Auth::default().basic(), Auth::default().basic().forbidding()] {
        let (registry, programs, client) = asking(auth).await;
        client.manifest("team/app", "v1").await.unwrap();
        client.clock.advance(A_WHILE);
        registry.change_password("team", "hunter3");
        programs.answer("team", "hunter3");
        let pulls = join_all((0..10).map(|_| client.manifest("team/app", "v1"))).await;
        assert!(pulls.iter().all(Result::is_ok), "{pulls:?}");
        assert_eq!(programs.asked().len(), 2);
    }
}

#[tokio::test]
async fn what_is_refused_with_a_good_password_stays_refused_and_the_helper_is_asked_now_and_then() {
    let (registry, programs, client) = asking(Auth::default().basic()).await;
    registry.fault("/v2/team/closed/", Fault::status(403));
    for (after, asked) in [(0, 1), (1, 1), (28, 1), (2, 2), (29, 2), (2, 3)] {
        client.clock.advance(Duration::from_secs(after));
        assert_eq!(client.manifest("team/closed", "v1").await, Err(UpstreamError::Denied));
        client.manifest("team/app", "v1").await.unwrap();
        assert_eq!(programs.asked().len(), asked, "after {after} s");
    }
}

#[tokio::test]
async fn a_helper_that_has_nothing_makes_us_an_anonymous_client() {
    for script in [
        "echo credentials not found in native keychain; exit 1",
        // As docker-credential-pass has it.
        "echo '{\"ServerURL\":\"x\",\"Username\":\"\",\"Secret\":\"\"}'",
    ] {
        let (registry, programs, client) = asking(Auth::public(&["team/open"])).await;
        registry.push_image("team/open", Some("v1"), &[]);
        programs.install("test", script);
        client.manifest("team/open", "v1").await.unwrap();
        assert_eq!(client.manifest("team/app", "v1").await, Err(UpstreamError::Denied));
        // Somebody logs in.
        programs.install_answering("test");
        client.clock.advance(A_WHILE);
        client.manifest("team/app", "v1").await.unwrap();
    }
}

#[tokio::test]
async fn a_helper_that_fails_leaves_the_question_open_and_is_no_anonymous_client() {
    use CredentialsFailure::*;
    for (script, expected) in [
        ("echo hunter2 it is; exit 3", HelperFailed { code: Some(3) }),
        ("echo credentials not found in native keychain >&2; exit 1", HelperFailed { code: Some(1) }),
        ("kill -9 $$", HelperFailed { code: None }),
        ("echo credentials not found in native keychain", HelperMalformed),
        ("echo hunter2", HelperMalformed),
        ("printf '\\377'", HelperMalformed),
        ("true", HelperMalformed),
        ("echo '{\"Username\":\"team\",\"Secret\":\"\"}'", HelperMalformed),
        ("exec head -c 100000000 /dev/zero", HelperTooLarge),
        ("exec yes hunter2", HelperTooLarge),
    ] {
        let registry = Registry::with_auth(Auth::public(&["team/open"])).await;
        registry.push_image("team/open", Some("v1"), &[]);
        let programs = CredentialPrograms::new();
        programs.install("test", script);
        let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), Duration::from_secs(10));
        // What an anonymous client would get does not come either, so that the fault is seen.
        for _ in 0..3 {
            let error = client.manifest("team/open", "v1").await.unwrap_err();
            assert_eq!(error, failed(expected), "{script}");
            assert!(error.is_outage() && !error.is_final());
            assert_discreet(&error);
        }
        assert!(registry.requests().iter().all(|request| !request.headers.contains_key(AUTHORIZATION)));
        assert!(registry.requests().iter().all(|request| request.path != "/token"), "{:?}", registry.request_lines());
        // Not at once again, and not never.
        assert_eq!(programs.asked().len(), 1, "{script}");
        programs.install("test", "echo credentials not found in native keychain; exit 1");
        client.clock.advance(A_WHILE);
        client.manifest("team/open", "v1").await.unwrap();
    }
}

#[tokio::test]
async fn a_helper_that_went_away_or_cannot_be_started_leaves_the_question_open() {
    let (_registry, programs, client) = asking(Auth::default()).await;
    fs::remove_file(programs.path("docker-credential-test")).unwrap();
    assert_eq!(client.manifest("team/app", "v1").await, Err(failed(CredentialsFailure::HelperMissing)));

    let (_registry, programs, client) = asking(Auth::default()).await;
    let no_program = "printf 'no program' > \"$1\"";
    let mut writing = std::process::Command::new("/bin/sh");
    writing.args(["-c", no_program, "sh"]).arg(programs.path("docker-credential-test"));
    assert!(writing.status().unwrap().success());
    assert_eq!(client.manifest("team/app", "v1").await, Err(failed(CredentialsFailure::HelperNotStarted)));
}

#[tokio::test]
async fn a_helper_that_hangs_is_ended_with_all_that_it_has_started() {
    let registry = Registry::with_auth(Auth::default()).await;
    let programs = CredentialPrograms::new();
    programs.install("test", "echo $$ >> $here/pids; sleep 1000 & echo $! >> $here/pids; wait");
    let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), Duration::from_secs(2));
    let started = Clock::system().instant();
    let pulls = join_all((0..5).map(|_| client.resolve("team/app", "v1"))).await;
    assert!(Clock::system().instant() - started < Duration::from_secs(10));
    assert_eq!(pulls, vec![Err(failed(CredentialsFailure::HelperTimeout)); 5]);
    assert_eq!(programs.asked().len(), 1);
    let pids = fs::read_to_string(programs.path("pids")).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    until_ended(&pids).await;
}

#[tokio::test]
async fn a_helper_that_nobody_waits_for_ends_and_is_not_asked_again_at_once() {
    let registry = Registry::with_auth(Auth::default()).await;
    let programs = CredentialPrograms::new();
    programs.install("test", "echo $$ >> $here/pids; exec sleep 1000");
    let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), Duration::from_secs(60));
    let is_asked = async {
        while fs::read_to_string(programs.path("pids")).is_ok_and(|pids| pids.ends_with('\n')).eq(&false) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = client.manifest("team/app", "v1") => panic!("{answer:?}"),
        () = is_asked => {}
    }
    until_ended(&fs::read_to_string(programs.path("pids")).unwrap()).await;
    assert_eq!(client.manifest("team/app", "v1").await, Err(failed(CredentialsFailure::HelperTimeout)));
    assert_eq!(programs.asked().len(), 1);
}

/// Waits until none of these processes runs any more; one whose end nobody has noted does not.
async fn until_ended(pids: &str) {
    let runs = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    };
    let ended = async {
        while pids.lines().any(runs) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("a process goes on");
}

#[tokio::test]
async fn while_the_helper_fails_a_password_that_is_still_good_goes_on() {
    let (registry, programs, client) = asking(Auth::default().basic()).await;
    client.manifest("team/app", "v1").await.unwrap();
    programs.install("test", "exit 1");
    client.clock.advance(A_WHILE);
    registry.fault("/v2/team/closed/", Fault::status(403));
    let failure = Err(failed(CredentialsFailure::HelperFailed { code: Some(1) }));
    // Whether it is refused for the password there is no telling.
    assert_eq!(client.manifest("team/closed", "v1").await, failure);
    client.manifest("team/app", "v1").await.unwrap();
    assert_eq!(client.manifest("team/closed", "v1").await, failure);
    assert_eq!(programs.asked().len(), 2);
    registry.change_password("team", "hunter3");
    assert_eq!(client.manifest("team/app", "v1").await, failure);
}

#[tokio::test]
async fn each_upstream_has_its_own_helper_and_no_helper_opens_anything_for_anonymous_clients() {
    let registry = Registry::with_auth(Auth::public(&["team/open"]).user("team", "hunter2")).await;
    let programs = CredentialPrograms::new();
    programs.install_answering("test");
    programs.answer("team", "hunter2");
    let client = client(&programs, with_helper(registry.upstream("docker.io"), "test"), Duration::from_secs(10));
    registry.push_image("team/app", Some("v1"), &[]);
    registry.push_image("team/open", Some("v1"), &[]);
    client.manifest("team/app", "v1").await.unwrap();
    assert!(!client.upstream.is_open_to_all());
    let open = async |path| client.upstream.open_to_anonymous(&client.repository(path)).await;
    assert_eq!((open("team/app").await, open("team/open").await), (Ok(false), Ok(true)));
}

#[tokio::test]
async fn another_address_of_the_registry_is_not_asked_for_want_of_credentials() {
    let [first, second] = [Registry::with_auth(Auth::default()).await, Registry::start().await];
    second.push_image("team/app", Some("v1"), &[]);
    let programs = CredentialPrograms::new();
    programs.install("test", "exit 1");
    let mut config = with_helper(first.upstream("docker.io"), "test");
    config.alternatives = vec![second.url()];
    let client = client(&programs, config, Duration::from_secs(10));
    let failure = failed(CredentialsFailure::HelperFailed { code: Some(1) });
    assert_eq!(client.manifest("team/app", "v1").await, Err(failure));
    assert_eq!(second.request_lines(), [""; 0]);
}

#[tokio::test]
async fn pitfall_29_what_a_helper_gives_is_shown_to_no_realm_elsewhere() {
    let thief = Registry::with_auth(Auth::default()).await;
    let realm = format!("https://127.0.0.2:{}/token", thief.addr().port());
    let (registry, programs, client) = asking(Auth::default().realm(&realm)).await;
    assert_eq!(client.manifest("team/app", "v1").await, Err(UpstreamError::PrivateAddress));
    assert_eq!((programs.asked().len(), thief.requests().len(), registry.requests().len()), (0, 0, 1));
}

#[test]
fn a_helper_that_is_not_there_is_refused_at_the_start() {
    let programs = CredentialPrograms::new();
    let build = |default: UpstreamConfig| {
        let config = Config { default, helper_environment: programs.environment(), ..Config::default() };
        sig_repo::upstream::Upstreams::new(config, Clock::system(), std::sync::Arc::new(|_, _| {}))
    };
    let config = || with_helper(UpstreamConfig::docker_hub(), "ecr-login");
    let expected =
        "upstream docker.io: credentialHelper: expected a program docker-credential-ecr-login in a directory of PATH";
    assert_eq!(build(config()).unwrap_err().to_string(), expected);
    fs::write(programs.path("docker-credential-ecr-login"), "not executable").unwrap();
    assert_eq!(build(config()).unwrap_err().to_string(), expected);
    programs.install("ecr-login", "");
    build(config()).unwrap();
    let (username, password) = (Some("team".to_owned()), Some(SecretString::from("hunter2")));
    let error = build(UpstreamConfig { username, password, ..config() }).unwrap_err().to_string();
    assert!(error.ends_with("credentialHelper stands in their place"), "{error}");
}
