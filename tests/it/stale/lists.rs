//! The list of tags, as it was last known.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use sig_repo::oci::Digest;

use super::{HOUR, REPOSITORY, STALE, Scene, TAG, manifest, outages, warnings};
use crate::support::{
    mirror::{CRANE, Mirror, Setup},
    registry::{Fault, Registry},
};

pub(super) fn list(query: &str) -> String {
    format!("/v2/{REPOSITORY}/tags/list{query}")
}

/// Every page of the list from this query on, and whether each was stale.
async fn listed(mirror: &Mirror, query: &str) -> (Vec<String>, Vec<bool>) {
    let (mut tags, mut stale, mut path) = (Vec::new(), Vec::new(), Some(list(query)));
    while let Some(next) = path.take() {
        let answer = mirror.get(&next, CRANE).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        tags.extend(answer.json()["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()));
        stale.push(warnings(&answer).first().is_some_and(|warning| warning == STALE));
        path = answer.header("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
    }
    (tags, stale)
}

#[tokio::test]
async fn the_list_of_tags_comes_as_it_was_last_known_whatever_way_the_upstream_fails() {
    for (fault, code) in outages() {
        let mut scene = Scene::new().await;
        for tag in ["v2", "v3", "v4"] {
            scene.registry.tag(REPOSITORY, tag, &scene.image.digest);
        }
        let all = ["v1", "v2", "v3", "v4"].map(str::to_owned).to_vec();
        assert_eq!(listed(&scene.mirror, "").await, (all.clone(), vec![false]));
        assert_eq!(listed(&scene.mirror, "?n=2&x=y").await, (all.clone(), vec![false; 2]));
        scene.registry.fault("/", fault);
        for restarted in [false, true] {
            if restarted {
                scene.mirror.restart().await;
            }
            assert_eq!(listed(&scene.mirror, "").await, (all.clone(), vec![true]), "{code}");
            assert_eq!(listed(&scene.mirror, "?n=2").await, (all.clone(), vec![true; 2]), "{code}");
            assert_eq!(scene.counted("tags", code).await, 3, "{code}");
            // A page that nobody has asked for is not made up.
            let unseen = scene.mirror.get(&list("?n=3"), CRANE).await;
            assert!(unseen.status.is_server_error(), "{code}: {unseen:?}");
        }
    }
}

#[tokio::test]
async fn the_list_of_tags_ends_with_its_day_or_with_the_upstreams_word() {
    let mut scene = Scene::new().await;
    assert_eq!(listed(&scene.mirror, "").await.0, ["v1"]);
    scene.registry.fault("/", Fault::status(503));
    scene.mirror.clock.advance(24 * HOUR - Duration::from_secs(1));
    assert_eq!(listed(&scene.mirror, "").await.0, ["v1"]);
    scene.mirror.clock.advance(Duration::from_secs(1));
    assert_eq!(scene.mirror.get(&list(""), CRANE).await.status, StatusCode::BAD_GATEWAY);
    scene.registry.heal();
    // What is listed last is what is known.
    scene.registry.tag(REPOSITORY, "v2", &scene.image.digest);
    assert_eq!(listed(&scene.mirror, "").await, (vec!["v1".to_owned(), "v2".to_owned()], vec![false]));
    scene.registry.fault("/", Fault::Reset);
    assert_eq!(listed(&scene.mirror, "").await, (vec!["v1".to_owned(), "v2".to_owned()], vec![true]));
    for status in [401, 403, 404] {
        scene.registry.heal();
        assert_eq!(listed(&scene.mirror, "").await.1, [false]);
        assert_eq!(listed(&scene.mirror, "?n=1").await.1, [false; 2]);
        scene.registry.fault("/", Fault::status(status));
        assert!(!scene.mirror.get(&list(""), CRANE).await.status.is_success(), "{status}");
        scene.registry.fault("/", Fault::status(503));
        for restarted in [false, true] {
            if restarted {
                scene.mirror.restart().await;
            }
            for query in ["", "?n=1"] {
                let answer = scene.mirror.get(&list(query), CRANE).await;
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{status} {query}: {answer:?}");
            }
        }
    }
}

/// With an account, over a registry with one image and tags of signatures of others, of which nobody knows more.
async fn with_unknown_signatures() -> (Registry, Mirror, [String; 2]) {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"open"]);
    let signatures = [b"one", b"two"].map(|name| format!("sha256-{}.sig", Digest::sha256(name).encoded()));
    signatures.iter().for_each(|tag| registry.tag(REPOSITORY, tag, &image.digest));
    let mirror = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry) }.start().await;
    (registry, mirror, signatures)
}

#[tokio::test]
async fn a_list_that_is_stale_shows_what_the_asker_may_see() {
    let (registry, mirror, unknown) = with_unknown_signatures().await;
    let image = registry.push_image(REPOSITORY, Some("internal-v1"), &[b"secret"]);
    let signature = format!("sha256-{}.sig", image.digest.encoded());
    registry.tag(REPOSITORY, &signature, &image.digest);
    let admin = [("authorization", "Basic YWRtaW46c2VjcmV0"), ("user-agent", CRANE)];
    let as_admin = || mirror.send(Method::GET, "/v2/team/app/tags/list", &admin, Default::default());
    // It is asked for by who sees all of it, and then by who does not.
    let seen = as_admin().await.json()["tags"].clone();
    let mut signatures = [&[signature], &unknown[..]].concat();
    signatures.sort();
    let mut all = vec!["internal-v1".to_owned()];
    all.extend(signatures);
    all.push(TAG.to_owned());
    assert_eq!(seen, json!(all));
    // A pull by somebody who may: whose signature that is, is known from then on.
    let pulled = mirror.send(Method::GET, &manifest("internal-v1"), &admin, Default::default()).await;
    assert!(pulled.phrase.contains("no valid signature"), "{pulled:?}");
    registry.fault("/", Fault::status(503));
    let stale = as_admin().await;
    assert_eq!((&stale.json()["tags"], warnings(&stale)[0].as_str()), (&seen, STALE));
    registry.forget_requests();
    assert_eq!(listed(&mirror, "").await, (vec![TAG.to_owned()], vec![true]));
    // Once for the list, and once for what is not known of the other images.
    assert_eq!(registry.request_lines(), [format!("GET {}", list("")), format!("GET {}", list(""))]);
}

#[tokio::test]
async fn a_list_that_could_not_be_had_is_not_asked_for_again_for_seconds_and_says_nothing_of_internal_tags() {
    let (registry, mirror, signatures) = with_unknown_signatures().await;
    let mut all = [&signatures[..], &[TAG.to_owned()]].concat();
    all.sort();
    assert_eq!(listed(&mirror, "").await, (all.clone(), vec![false]));
    // Longer than a list is believed to say what there is.
    mirror.clock.advance(HOUR);
    registry.fault("/", Fault::status(503));
    let known = (vec![TAG.to_owned()], vec![true]);
    for (waited, asked) in [(0, 2), (4, 1), (1, 2)] {
        mirror.clock.advance(Duration::from_secs(waited));
        registry.forget_requests();
        assert_eq!(listed(&mirror, "").await, known);
        assert_eq!(registry.requests().len(), asked, "{waited}");
    }
    registry.heal();
    assert_eq!(listed(&mirror, "").await, (known.0, vec![false]));
    mirror.clock.advance(Duration::from_secs(5));
    assert_eq!(listed(&mirror, "").await, (all, vec![false]));
}
