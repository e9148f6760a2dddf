//! A mirror whose upstream is another: what the one behind refuses stays refused, whatever the one in front enforces.

use http::StatusCode;
use sig_repo::{policy::Level, upstream::UpstreamConfig};

use crate::support::{
    key::Key,
    mirror::{CONTAINERD, CRANE, DOCKER, Mirror, PODMAN, Setup},
    registry::Registry,
};

const REPOSITORY: &str = "team/app";
const TAG: &str = "v1";

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// One that enforces nothing of its own here.
async fn in_front_of(behind: &Mirror, registry: &Registry) -> Mirror {
    let name = "docker.io".parse().unwrap();
    let upstream = UpstreamConfig::configured(name, format!("http://{}", behind.addr()).parse().unwrap());
    Setup { upstreams: vec![upstream], ..Setup::over(registry) }.start().await
}

#[tokio::test]
async fn what_the_mirror_behind_refuses_stops_every_client_of_the_mirror_in_front() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let behind = Setup::over(&registry).level(Level::Enforce).start().await;
    let front = in_front_of(&behind, &registry).await;
    let said = |reference: &str, separator: char| {
        format!(
            "sig-repo: {REPOSITORY}{separator}{reference} refused: the upstream registry refuses it (policy default)"
        )
    };
    for (path, message) in
        [(manifest(TAG), said(TAG, ':')), (manifest(image.digest), said(&image.digest.to_string(), '@'))]
    {
        for (path, agent, status, phrase) in [
            (path.clone(), DOCKER, StatusCode::INTERNAL_SERVER_ERROR, Some(format!("{message} (no such process)"))),
            (format!("{path}?ns=docker.io"), CONTAINERD, StatusCode::MULTIPLE_CHOICES, Some(message.clone())),
            (path.clone(), PODMAN, StatusCode::FORBIDDEN, Some(message.clone())),
            (path.clone(), CRANE, StatusCode::FORBIDDEN, Some(message.clone())),
        ] {
            let head = front.head(&path, agent).await;
            assert_eq!((head.status, Some(head.phrase)), (status, phrase), "{path} {agent}");
        }
        let podman = front.get(&path, PODMAN).await;
        assert_eq!(podman.status, StatusCode::OK);
        assert_eq!(podman.json()["mediaType"], format!("{message} (no such process)"));
    }
}

#[tokio::test]
async fn what_the_mirror_behind_refuses_since_is_no_longer_served_from_memory() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let key = Key::generate();
    let behind = Setup::over(&registry).level(Level::Enforce).trusting("ci", &key).start().await;
    assert_eq!(behind.submit(&key, TAG, &image.bytes).await.status, StatusCode::CREATED);
    let front = in_front_of(&behind, &registry).await;
    assert_eq!(front.get(&manifest(image.digest), DOCKER).await.body, image.bytes);

    std::fs::remove_file(behind.trust_dir().join("ci.pub")).unwrap();
    while behind.get(&manifest(image.digest), CRANE).await.status != StatusCode::FORBIDDEN {}
    // Presence is believed for a while; after that the mirror behind is asked.
    front.clock.advance(std::time::Duration::from_secs(2 * 3600));
    for _ in 0..2 {
        let answer = front.get(&manifest(image.digest), CRANE).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert!(answer.phrase.contains("the upstream registry refuses it"), "{answer:?}");
    }
}
