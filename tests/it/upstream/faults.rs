use std::time::Duration;

use sig_repo::{
    oci::Digest,
    upstream::{Limits, Phase, UpstreamError},
};

use super::{Client, assert_discreet};
use crate::support::{
    liar::{Liar, Step},
    registry::{Fault, Registry},
};

const MIB: u64 = 1 << 20;

fn answer(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes()
}

/// What asking a lying registry for a manifest ends in.
async fn told(script: Vec<Step>) -> UpstreamError {
    told_within(script, Limits::default()).await
}

async fn told_within(script: Vec<Step>, limits: Limits) -> UpstreamError {
    let liar = Liar::start(vec![script]).await;
    let client = Client::limited(liar.upstream("docker.io"), limits);
    let error = client.manifest("app", "v1").await.unwrap_err();
    assert_discreet(&error);
    assert_eq!(client.calls(), [("manifest", error.code())]);
    error
}

#[tokio::test]
async fn pitfall_12_every_refusal_of_an_upstream_is_an_error_of_its_own() {
    let registry = Registry::start().await;
    registry.push_image("library/app", Some("v1"), &[]);
    let limited = |retry_after| UpstreamError::RateLimited { retry_after };
    for (fault, expected, code) in [
        (Fault::status(400), UpstreamError::Status { status: 400 }, "status"),
        (Fault::status(401), UpstreamError::Denied, "denied"),
        (Fault::status(402), UpstreamError::QuotaExceeded, "quota-exceeded"),
        (Fault::status(403), UpstreamError::Denied, "denied"),
        (Fault::status(404), UpstreamError::NotFound, "not-found"),
        (Fault::status(429), limited(None), "rate-limited"),
        (Fault::status_with(429, "retry-after", "17"), limited(Some(Duration::from_secs(17))), "rate-limited"),
        (
            Fault::status_with(429, "retry-after", "Mon, 20 May 2024 10:30:30 GMT"),
            limited(Some(Duration::from_secs(30))),
            "rate-limited",
        ),
        (Fault::status(500), UpstreamError::Status { status: 500 }, "status"),
        (Fault::status(503), UpstreamError::Status { status: 503 }, "status"),
        (Fault::status(206), UpstreamError::Status { status: 206 }, "status"),
        (Fault::status(304), UpstreamError::Status { status: 304 }, "status"),
    ] {
        registry.fault_once("/v2/", fault);
        let client = Client::of(registry.upstream("docker.io"));
        let error = client.manifest("app", "v1").await.unwrap_err();
        assert_eq!((&error, error.code()), (&expected, code));
        assert_eq!(error.is_absent(), error == UpstreamError::NotFound);
        assert_discreet(&error);
    }
    Client::of(registry.upstream("docker.io")).manifest("app", "v1").await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_says_when_to_come_back_is_left_alone_until_then() {
    let limited = UpstreamError::RateLimited { retry_after: Some(Duration::from_secs(17)) };
    for (status, error) in [(429, limited), (503, UpstreamError::Status { status: 503 })] {
        let registry = Registry::start().await;
        let image = registry.push_image("library/app", Some("v1"), &[b"layer"]);
        let client = Client::of(registry.upstream("docker.io"));
        registry.fault_once("/v2/", Fault::status_with(status, "retry-after", "17"));
        for reference in ["v1", "v1", "v2"] {
            assert_eq!(client.manifest("app", reference).await.unwrap_err(), error);
        }
        assert_eq!(registry.requests().len(), 1);
        // Blobs are limited by themselves.
        client.blob("app", &image.children[1]).await.unwrap();
    }
}

#[tokio::test]
async fn an_upstream_that_only_fails_to_answer_one_thing_is_asked_for_the_next() {
    let registry = Registry::start().await;
    registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    registry.fault_once("/v2/", Fault::status_with(500, "retry-after", "17"));
    client.manifest("app", "v1").await.unwrap_err();
    client.manifest("app", "v1").await.unwrap();
}

/// A client that waits a second for the head of an answer.
async fn impatient() -> (Registry, Client) {
    let registry = Registry::start().await;
    registry.push_image("library/app", Some("v1"), &[]);
    let limits = Limits { head: Duration::from_secs(1), ..Limits::default() };
    let client = Client::limited(registry.upstream("docker.io"), limits);
    (registry, client)
}

const SILENT: UpstreamError = UpstreamError::Timeout { phase: Phase::Head };

#[tokio::test]
async fn a_silent_upstream_is_left_alone_until_a_trial_is_answered() {
    let (registry, client) = impatient().await;
    registry.fault("/v2/", Fault::Hang);
    let ended = futures_util::future::join_all(["a", "b", "c"].map(|tag| client.manifest("app", tag))).await;
    assert_eq!(ended, [const { Err(SILENT) }; 3]);
    for reference in ["v1", "v2"] {
        assert_eq!(client.manifest("app", reference).await, Err(SILENT));
        assert_eq!(client.resolve("app", reference).await, Err(SILENT));
    }
    assert_eq!(registry.requests().len(), 3);
    registry.heal();
    assert_eq!(client.manifest("app", "v1").await, Err(SILENT));
    client.clock.advance(Duration::from_secs(1));
    client.manifest("app", "v1").await.unwrap();
    client.resolve("app", "v1").await.unwrap();
    assert_eq!(registry.requests().len(), 5);
}

/// Decisions and searches have limits of their own, and clients leave.
#[tokio::test]
async fn a_silent_upstream_is_left_alone_also_where_nobody_waits_to_the_end() {
    let (registry, client) = impatient().await;
    registry.fault("/v2/", Fault::Hang);
    for tag in ["a", "b", "c"] {
        let asking = tokio::time::timeout(Duration::from_millis(500), client.manifest("app", tag));
        asking.await.unwrap_err();
    }
    assert_eq!(client.manifest("app", "v1").await, Err(SILENT));
    assert_eq!(registry.requests().len(), 3);
}

#[tokio::test]
async fn a_slow_request_takes_nothing_from_those_that_are_answered_meanwhile() {
    let (registry, client) = impatient().await;
    registry.fault("/v2/library/app/manifests/slow", Fault::Hang);
    for _ in 0..2 {
        let slow = (0..3).map(|n| format!("slow{n}")).collect::<Vec<_>>();
        let slow = futures_util::future::join_all(slow.iter().map(|tag| client.manifest("app", tag)));
        let (slow, answered) = tokio::join!(slow, client.manifest("app", "v1"));
        assert_eq!(slow, [const { Err(SILENT) }; 3]);
        answered.unwrap();
        client.manifest("app", "v1").await.unwrap();
    }
}

#[tokio::test]
async fn pitfall_12_a_broken_connection_is_an_error_of_its_own() {
    assert_eq!(told(vec![Step::Close]).await, UpstreamError::Reset);
    assert_eq!(told(vec![Step::Abort]).await, UpstreamError::Reset);
    assert_eq!(told(vec![Step::Send(b"HTTP/1.1 200 O".to_vec()), Step::Close]).await, UpstreamError::Reset);
    let short = answer("200 OK\r\nContent-Length: 10", "short");
    assert_eq!(told(vec![Step::Send(short), Step::Close]).await, UpstreamError::Reset);
    let chunked = answer("200 OK\r\nTransfer-Encoding: chunked", "5\r\nshort\r\n");
    assert_eq!(told(vec![Step::Send(chunked), Step::Close]).await, UpstreamError::Reset);

    let gone = Liar::start(vec![vec![Step::Close]]).await;
    let config = gone.upstream("docker.io");
    drop(gone);
    let error = Client::of(config).manifest("app", "v1").await.unwrap_err();
    assert_eq!(error, UpstreamError::Connect);
    assert_discreet(&error);
}

#[tokio::test]
async fn a_malformed_answer_is_an_error_of_its_own() {
    let head = UpstreamError::Malformed { what: "head" };
    assert_eq!(told(vec![Step::Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), Step::Close]).await, head);
    let lengths = answer("200 OK\r\nContent-Length: 1\r\nContent-Length: 2", "ab");
    assert_eq!(told(vec![Step::Send(lengths), Step::Close]).await, head);
    let negative = answer("200 OK\r\nContent-Length: -1", "");
    assert_eq!(told(vec![Step::Send(negative), Step::Close]).await, head);
    let chunk = answer("200 OK\r\nTransfer-Encoding: chunked", "zz\r\nshort\r\n");
    assert_eq!(told(vec![Step::Send(chunk), Step::Close]).await, UpstreamError::Malformed { what: "manifest" });

    let liar = Liar::saying("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"tags\":[1]}").await;
    let client = Client::of(liar.upstream("docker.io"));
    let tags = client.upstream.tags(&client.repository("app"), "").await;
    assert_eq!(tags, Err(UpstreamError::Malformed { what: "tag list" }));
}

#[tokio::test]
async fn pitfall_19_endless_answers_end_at_their_caps() {
    let too_large = |what, limit| UpstreamError::TooLarge { what, limit };
    let chunked = || Step::Send(answer("200 OK\r\nTransfer-Encoding: chunked", ""));
    let chunks = || Step::Endless(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).into_bytes());
    let patient = |liar: &Liar| Client::of(liar.upstream("docker.io"));

    let liar = Liar::start(vec![vec![chunked(), chunks()]]).await;
    let client = patient(&liar);
    let repository = client.repository("app");
    assert_eq!(client.manifest("app", "v1").await, Err(too_large("manifest", 4 * MIB)));
    assert_eq!(client.upstream.tags(&repository, "").await, Err(too_large("tag list", 4 * MIB)));
    let referrers = client.upstream.referrers(&repository, &Digest::sha256(b""), "").await;
    assert_eq!(referrers.unwrap_err(), too_large("referrers", 4 * MIB));
    liar.closed(3).await;

    // What says beforehand that it is too large is not read at all.
    let stated = format!("200 OK\r\nContent-Length: {}", 4 * MIB + 1);
    assert_eq!(told(vec![Step::Send(answer(&stated, "")), Step::Hold]).await, too_large("manifest", 4 * MIB));
    let status = || Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec());
    let many = told(vec![status(), Step::Endless(b"x-header: value\r\n".to_vec())]).await;
    assert_eq!(many, too_large("head", 32 << 10));
    let long = told(vec![status(), Step::Send(b"x-header: ".to_vec()), Step::Endless(vec![b'x'; 1000])]).await;
    assert_eq!(long, too_large("head", 32 << 10));
}

#[tokio::test]
async fn pitfall_19_slow_answers_end_at_their_time() {
    // Only the limit under test is short, so that a slow machine reaches no other one first.
    let short = Duration::from_millis(200);
    let late = |phase| UpstreamError::Timeout { phase };
    let head = || Limits { head: short, ..Limits::default() };
    assert_eq!(told_within(vec![Step::Hold], head()).await, late(Phase::Head));
    let dripped = Step::Drip(b"HTTP/1.1 200 OK\r\nx-header: value\r\nx-header: ".to_vec());
    assert_eq!(told_within(vec![dripped], head()).await, late(Phase::Head));
    let registry = Registry::start().await;
    registry.fault("/v2/", Fault::Hang);
    let client = Client::limited(registry.upstream("docker.io"), head());
    assert_eq!(client.resolve("app", "v1").await, Err(late(Phase::Head)));

    // As large as a manifest may be, so that only the time ends it.
    let stated = || Step::Send(answer(&format!("200 OK\r\nContent-Length: {}", 4 * MIB), ""));
    let idle = Limits { idle: short, ..Limits::default() };
    assert_eq!(told_within(vec![stated(), Step::Hold], idle).await, late(Phase::Body));
    // Each byte is in time, the whole is not.
    let body = Limits { body: short, ..Limits::default() };
    assert_eq!(told_within(vec![stated(), Step::Drip(b" ".to_vec())], body).await, late(Phase::Body));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_once() {
    let good = || vec![Step::Send(answer("200 OK\r\nContent-Length: 2", "{}"))];
    let closed = || vec![Step::Close];
    // The second request comes on the first one's connection, which ends without an answer.
    let liar = Liar::start(vec![good(), closed(), good()]).await;
    let client = Client::of(liar.upstream("docker.io"));
    assert_eq!(client.manifest("app", "v1").await.unwrap(), "{}");
    assert_eq!(client.manifest("app", "v1").await.unwrap(), "{}");
    assert_eq!(liar.requests().len(), 3);

    let liar = Liar::start(vec![good(), closed()]).await;
    let client = Client::of(liar.upstream("docker.io"));
    assert_eq!(client.manifest("app", "v1").await.unwrap(), "{}");
    assert_eq!(client.manifest("app", "v1").await, Err(UpstreamError::Reset));
    assert_eq!(liar.requests().len(), 3);

    // A new connection that ends without an answer was not idle.
    let liar = Liar::start(vec![closed()]).await;
    let client = Client::of(liar.upstream("docker.io"));
    assert_eq!(client.manifest("app", "v1").await, Err(UpstreamError::Reset));
    assert_eq!(liar.requests().len(), 1);
}

#[tokio::test]
async fn refusals_do_not_cost_the_connection() {
    let refusal = Step::Send(answer("404 Not Found\r\nContent-Length: 2", "{}"));
    let liar = Liar::start(vec![vec![refusal]]).await;
    let client = Client::of(liar.upstream("docker.io"));
    for _ in 0..3 {
        assert_eq!(client.manifest("app", "v1").await, Err(UpstreamError::NotFound));
    }
    assert_eq!(liar.connections(), 1);
}
