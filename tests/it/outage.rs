//! Upstreams that keep silent or break off, alone and with another address beside them: few wait, and nobody gets
//! anything that is not right.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{StatusCode, header};
use nix::sys::signal::Signal;
use sig_repo::{oci::Digest, policy::Level, upstream::UpstreamConfig};

use crate::{
    pull_failures::files,
    support::{
        mirror::{Answer, CRANE, Mirror, Setup},
        process::Server,
        registry::{Fault, Registry},
    },
};

const REPOSITORY: &str = "team/app";
const TAGS: [&str; 3] = ["v1", "v2", "v3"];
const HOUR: Duration = Duration::from_secs(3600);

fn manifest(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob(digest: &Digest) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

/// A registry with an image under some tags.
async fn tagged() -> Registry {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, None, &[b"layer"]);
    TAGS.iter().chain(&["latest"]).for_each(|tag| registry.tag(REPOSITORY, tag, &image.digest));
    registry
}

async fn pull_all(mirror: &Mirror, tags: &[&str]) -> Vec<Answer> {
    let paths: Vec<_> = tags.iter().map(|tag| manifest(tag)).collect();
    join_all(paths.iter().map(|path| mirror.get(path, CRANE))).await
}

fn assert_stale(answer: &Answer, stale: bool) {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("warning"), stale.then_some("110 - \"Response is Stale\""), "{answer:?}");
}

#[tokio::test]
async fn a_silent_upstream_keeps_a_few_waiting_and_then_refuses_at_once() {
    let registry = Registry::start().await;
    registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let mirror = Setup::over(&registry).level(Level::Enforce).start().await;
    registry.fault("/", Fault::Hang);
    let waited = pull_all(&mirror, &TAGS).await;
    assert_eq!(registry.requests().len(), 3);
    let at_once = pull_all(&mirror, &["v1", "v4", "v5"]).await;
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.request_lines());
    for refused in waited.iter().chain(&at_once) {
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
        assert!(refused.phrase.contains("could not be asked: timeout"), "{refused:?}");
    }
    // The next one tries, and finds out.
    registry.heal();
    mirror.clock.advance(Duration::from_secs(1));
    let answered = mirror.get(&manifest("v1"), CRANE).await;
    assert!(answered.phrase.contains("no valid signature"), "{answered:?}");
}

#[tokio::test]
async fn who_has_an_answer_waits_no_more_for_a_silent_upstream_and_others_still_ask_it() {
    let registry = tagged().await;
    let setup = Setup { head_limit: Duration::from_secs(60), metadata_max_age: HOUR, ..Setup::over(&registry) };
    // Nothing is looked for beside what is asked for.
    let mut mirror = setup.level(Level::Skip).start().await;
    pull_all(&mirror, &TAGS).await.iter().for_each(|answer| assert_stale(answer, false));
    mirror.clock.advance(HOUR);
    pull_all(&mirror, &["latest"]).await.iter().for_each(|answer| assert_stale(answer, false));
    mirror.restart().await;
    registry.fault("/", Fault::Hang);
    registry.forget_requests();
    pull_all(&mirror, &TAGS).await.iter().for_each(|answer| assert_stale(answer, true));
    assert_eq!(registry.requests().len(), 3);
    pull_all(&mirror, &TAGS).await.iter().for_each(|answer| assert_stale(answer, true));
    // What is not old yet is none of these.
    pull_all(&mirror, &["latest"]).await.iter().for_each(|answer| assert_stale(answer, false));
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.request_lines());
    // It may be slow and no more.
    let new = manifest("v4");
    tokio::select! {
        answer = mirror.get(&new, CRANE) => panic!("{answer:?}"),
        () = async { while registry.requests().len() < 4 { tokio::task::yield_now().await } } => {}
    }
    registry.heal();
    mirror.clock.advance(Duration::from_secs(1));
    pull_all(&mirror, &["v1"]).await.iter().for_each(|answer| assert_stale(answer, false));
    pull_all(&mirror, &TAGS).await.iter().for_each(|answer| assert_stale(answer, false));
}

/// Two registries, and a mirror that has the second as the alternative of the first.
fn pair(first: &Registry, second: &Registry) -> Setup {
    let upstream = UpstreamConfig { alternatives: vec![second.url()], ..first.upstream("docker.io") };
    Setup { upstreams: vec![upstream], ..Setup::over(first) }.level(Level::Skip)
}

#[tokio::test]
async fn another_address_is_asked_before_an_old_answer_is_given() {
    let (first, second) = (tagged().await, tagged().await);
    let setup = Setup { head_limit: Duration::from_secs(60), ..pair(&first, &second) };
    let mirror = setup.start().await;
    assert_stale(&mirror.get(&manifest("v1"), CRANE).await, false);
    first.fault("/", Fault::Hang);
    assert_stale(&mirror.get(&manifest("v1"), CRANE).await, false);
    assert_eq!(second.request_lines(), [format!("HEAD {}", manifest("v1"))]);
}

fn layer() -> Bytes {
    (0..1_000_003_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect()
}

/// Two registries with the same image, and a mirror to which its manifest has come.
async fn with_layer() -> (Registry, Registry, Mirror, Bytes) {
    let (first, second) = (Registry::start().await, Registry::start().await);
    let layer = layer();
    for registry in [&first, &second] {
        registry.push_image(REPOSITORY, Some("v1"), &[&layer]);
    }
    let mirror = pair(&first, &second).start().await;
    assert_eq!(mirror.get(&manifest("v1"), CRANE).await.status, StatusCode::OK);
    first.forget_requests();
    (first, second, mirror, layer)
}

#[tokio::test]
async fn a_blob_that_breaks_off_at_one_address_ends_at_another_in_one_answer() {
    let (first, second, mirror, layer) = with_layer().await;
    let path = blob(&Digest::sha256(&layer));
    first.fault(&path, Fault::Cut);
    let answer = mirror.get(&path, CRANE).await;
    assert_eq!((answer.status, answer.body == layer), (StatusCode::OK, true), "{:?}", answer.headers);
    assert_eq!(answer.header("content-length"), Some(layer.len().to_string().as_str()));
    assert_eq!(first.request_lines(), [format!("GET {path}")]);
    let [rest] = &second.requests()[..] else { panic!("{:?}", second.request_lines()) };
    assert_eq!((rest.method.as_str(), &rest.path), ("GET", &path));
    let range = rest.headers[header::RANGE].to_str().unwrap();
    let from: usize = range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap();
    assert!((1..=layer.len() / 2).contains(&from), "{range}");
    // It is kept, and nobody is asked again.
    let answer = mirror.get(&path, CRANE).await;
    assert_eq!((answer.status, answer.body == layer), (StatusCode::OK, true));
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_blob_that_goes_on_with_other_bytes_never_arrives_whole_and_is_not_kept() {
    for wrong in [Fault::WrongBytes, Fault::LongBody] {
        let (first, second, mirror, layer) = with_layer().await;
        let path = blob(&Digest::sha256(&layer));
        first.fault(&path, Fault::Cut);
        second.fault(&path, wrong.clone());
        assert!(mirror.try_get(&path, CRANE).await.is_none(), "{wrong:?}");
        assert!(!second.requests().is_empty(), "{wrong:?}");
        let given_up = async {
            while !files(&mirror.data_dir())[1].is_empty() {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(Duration::from_secs(10), given_up).await.unwrap();
        assert_eq!(files(&mirror.data_dir())[0], [""; 0].map(PathBuf::from), "{wrong:?}");
        second.heal();
        let answer = mirror.get(&path, CRANE).await;
        assert_eq!((answer.status, answer.body == layer), (StatusCode::OK, true), "{wrong:?}");
    }
}

/// The program itself, over a registry that says when to come back.
#[tokio::test(flavor = "multi_thread")]
async fn that_an_upstream_is_left_alone_and_that_it_is_back_is_said_once_each() {
    let registry = tagged().await;
    registry.fault("/", Fault::status_with(429, "retry-after", "1"));
    let (remote, list) = (registry.url(), format!("/v2/{REPOSITORY}/tags/list"));
    let data_dir = tempfile::tempdir().unwrap();
    let log = tokio::task::block_in_place(|| {
        let server = Server::start(&data_dir, &[("PROXY_REMOTEURL", remote.as_str())]);
        let is_listed = |server: &Server| server.get(&list).starts_with("HTTP/1.1 200 ");
        assert!((0..3).all(|_| !is_listed(&server)));
        registry.heal();
        server.until("the list", is_listed);
        assert!(is_listed(&server));
        server.signal(Signal::SIGTERM);
        server.ended().1
    });
    let told: Vec<_> = log.lines().filter(|line| line.contains("upstream=docker.io")).collect();
    let [left, back] = told[..] else { panic!("{log}") };
    let why =
        "and for 1000 ms at first no manifests and lists are asked for there: the upstream limits the rate of requests";
    let fields = "upstream=docker.io code=\"rate-limited\" wait_ms=1000";
    assert!(left.ends_with(&format!(" WARN {remote} fails for docker.io, {why} {fields}")), "{left}");
    let as_before = "and manifests and lists are asked for there as before upstream=docker.io";
    assert!(back.ends_with(&format!(" INFO {remote} answers for docker.io again, {as_before}")), "{back}");
}
