//! What an upstream can send that is not what was asked for, seen from the client's side of the mirror.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use sig_repo::{
    oci::{Digest, MediaType},
    policy::Level,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    key::Key,
    mirror::{CRANE, DOCKER, Setup},
    registry::{Fault, Image, Registry},
};

const REPOSITORY: &str = "team/app";
const TAG: &str = "preview-v1";

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

#[tokio::test]
async fn wrong_bytes_for_a_digest_never_leave() {
    for level in [Level::Enforce, Level::Audit] {
        let registry = Registry::start().await;
        let key = Key::generate();
        let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
        let mirror = Setup::over(&registry).level(level).trusting("ci", &key).start().await;
        mirror.submit(&key, "v1", &image.bytes).await;
        registry.fault(&manifest(image.digest), Fault::WrongBytes);
        let answer = mirror.get(&manifest(image.digest), DOCKER).await;
        // Refused for good where it is enforced; elsewhere an error that lets the client ask another.
        let expected = if level == Level::Enforce { 500 } else { 502 };
        assert_eq!(answer.status.as_u16(), expected, "{answer:?}");
        assert_eq!(answer.phrase.contains("no such process"), level == Level::Enforce, "{answer:?}");
        assert_ne!(answer.body, image.bytes);
        // The right ones do, once they come: nothing of the wrong ones was kept.
        registry.heal();
        mirror.clock.advance(Duration::from_secs(61));
        assert_eq!(mirror.get(&manifest(image.digest), DOCKER).await.body, image.bytes);
    }
}

#[tokio::test]
async fn a_head_unlike_its_get_is_decided_by_the_bytes() {
    let registry = Registry::start().await;
    let key = Key::generate();
    let signed = registry.push_image(REPOSITORY, Some(TAG), &[b"signed"]);
    let other = registry.push_image(REPOSITORY, Some("preview-other"), &[b"other"]);
    let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
    mirror.submit(&key, TAG, &signed.bytes).await;
    // HEAD says the signed one, where GET would give the other.
    registry.tag(REPOSITORY, TAG, &other.digest);
    let digest = signed.digest.to_string();
    registry.fault(&format!("HEAD {}", manifest(TAG)), Fault::status_with(200, "docker-content-digest", &digest));
    let answer = mirror.get(&manifest(TAG), CRANE).await;
    assert!(answer.body == signed.bytes || answer.status == StatusCode::FORBIDDEN, "{answer:?}");
    assert_ne!(answer.body, other.bytes);
    // HEAD says the other, where GET would give the signed one.
    registry.heal();
    registry.tag(REPOSITORY, TAG, &signed.digest);
    let digest = other.digest.to_string();
    registry.fault(&format!("HEAD {}", manifest(TAG)), Fault::status_with(200, "docker-content-digest", &digest));
    let answer = mirror.get(&manifest(TAG), CRANE).await;
    assert!(answer.body == signed.bytes || answer.status == StatusCode::FORBIDDEN, "{answer:?}");
    let head = mirror.head(&manifest(TAG), CRANE).await;
    let shown = head.header("docker-content-digest").map(str::to_owned);
    assert!(head.status == StatusCode::FORBIDDEN || shown == Some(signed.digest.to_string()), "{head:?}");
}

#[tokio::test]
async fn manifests_that_two_readers_would_read_differently_are_refused_everywhere() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, None, &[b"layer"]);
    let text = String::from_utf8(image.bytes.to_vec()).unwrap();
    let both = text.replacen(
        '{',
        &format!(
            "{{\"manifests\":[{{\"mediaType\":\"{}\",\"digest\":\"{}\",\"size\":1}}],",
            MediaType::OCI_MANIFEST.as_str(),
            image.digest
        ),
        1,
    );
    let schema1 =
        "{\"schemaVersion\":1,\"name\":\"team/app\",\"tag\":\"v1\",\"fsLayers\":[],\"history\":[]}".to_owned();
    let (oci, index) = (MediaType::OCI_MANIFEST, MediaType::OCI_INDEX);
    let mirror = Setup::over(&registry).start().await;
    for (name, media_type, bytes) in [
        ("both", oci.as_str(), both),
        ("schema1", "application/vnd.docker.distribution.manifest.v1+prettyjws", schema1),
        ("unlike", index.as_str(), text),
    ] {
        registry.push_manifest(REPOSITORY, Some(name), media_type, bytes.clone());
        registry.push_manifest(REPOSITORY, Some(&format!("preview-{name}")), media_type, bytes);
        let audited = mirror.get(&manifest(name), DOCKER).await;
        assert_eq!(audited.status.as_u16(), 502, "{name}: {audited:?}");
        let enforced = mirror.get(&manifest(format!("preview-{name}")), DOCKER).await;
        assert_eq!(enforced.status.as_u16(), 500, "{name}: {enforced:?}");
        assert!(enforced.phrase.ends_with("(policy preview) (no such process)"), "{name}: {enforced:?}");
    }
}

#[tokio::test]
async fn a_signed_index_admits_what_it_names_four_levels_down_and_comes_as_it_is() {
    let registry = Registry::start().await;
    let key = Key::generate();
    let image = registry.push_image(REPOSITORY, None, &[b"linux"]);
    let mut chain: Vec<Image> = vec![image];
    for _ in 0..6 {
        let above = registry.push_index(REPOSITORY, None, &[chain.last().unwrap()]);
        chain.push(above);
    }
    let top = chain.last().unwrap();
    registry.tag(REPOSITORY, TAG, &top.digest);
    let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
    mirror.submit(&key, TAG, &top.bytes).await;
    assert_eq!(mirror.get(&manifest(TAG), CRANE).await.body, top.bytes, "byte for byte");
    let mut statuses = Vec::new();
    for below in chain.iter().rev().skip(1) {
        let answer = mirror.get(&manifest(below.digest), CRANE).await;
        assert!(answer.status != StatusCode::OK || answer.body == below.bytes, "{answer:?}");
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 403, 403]);
    // Its life ends, and with it that of everything below.
    mirror.clock.advance(Duration::from_secs(7 * 24 * 3600));
    for member in &chain {
        assert_eq!(
            mirror.get(&manifest(member.digest), CRANE).await.status,
            StatusCode::FORBIDDEN,
            "{}",
            member.digest
        );
    }
}

#[tokio::test]
async fn while_it_shuts_down_the_blobs_of_an_admitted_image_still_come() {
    let registry = Registry::start().await;
    let key = Key::generate();
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    registry.push_image(REPOSITORY, Some("v1"), &[b"ordinary"]);
    let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
    mirror.submit(&key, TAG, &image.bytes).await;
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.body, image.bytes);
    // Something that runs: a submission whose body is on its way.
    let mut running = TcpStream::connect(mirror.addr()).await.unwrap();
    let head = "POST /api/v1/signatures HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n\
                Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    running.write_all(head.as_bytes()).await.unwrap();
    running.read_exact(&mut [0; 25]).await.unwrap();
    mirror.running().drain().begin();

    let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"layer"));
    let answer = mirror.get(&blob, DOCKER).await;
    assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from_static(b"layer")));
    let refused = mirror.get(&manifest(TAG), DOCKER).await;
    assert!(
        refused.status.as_u16() == 500 && refused.phrase.ends_with("(policy preview) (no such process)"),
        "{refused:?}"
    );
    assert_eq!(mirror.get(&manifest("v1"), DOCKER).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(mirror.get("/v2/", DOCKER).await.status, StatusCode::OK, "a 503 here would send the client elsewhere");
    assert_eq!(mirror.get("/api/v1/tags", CRANE).await.status, StatusCode::SERVICE_UNAVAILABLE);
    running.write_all(b"{}").await.unwrap();
    running.read_exact(&mut [0; 12]).await.unwrap();
}
