//! More than one signer: who counts beside whom.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::StatusCode;
use serde_json::{Value, json};
use sig_repo::policy::Level;

use crate::support::{
    key::Key,
    mirror::{Answer, CRANE, Mirror, Setup},
    registry::{Image, Registry},
    signing::simple_signing,
};

const REPOSITORY: &str = "team/app";
const ONE_OF_TWO: &str = "valid signatures of 1 of the 2 signers that are needed";

/// A mirror that wants two of three signers, over a registry with one image that nobody has signed yet.
struct Scene {
    registry: Registry,
    mirror: Mirror,
    keys: [Key; 3],
    image: Image,
}

impl Scene {
    async fn new() -> Self {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
        let keys = [Key::generate(), Key::generate(), Key::generate()];
        let [ci, release, qa] = &keys;
        let setup = Setup { threshold: "2".parse().unwrap(), ..Setup::over(&registry) }.level(Level::Enforce);
        let mirror = setup.trusting("ci", ci).trusting("release", release).trusting("qa", qa).start().await;
        Self { registry, mirror, keys, image }
    }

    async fn submit(&self, key: &Key) -> Value {
        self.mirror.submit(key, "v1", &self.image.bytes).await.json()
    }

    /// The same key once more, over something else that says the same: not the same signature, the same signer.
    async fn submit_payload(&self, key: &Key) -> Answer {
        let payload = simple_signing(&self.image.digest);
        let body = json!({
            "image_digest": self.image.digest.to_string(), "tag": "v1",
            "payload": BASE64_STANDARD.encode(&payload), "signature": key.sign_base64(payload.as_bytes()),
        });
        self.mirror.post("/api/v1/signatures", &body).await
    }

    fn push_upstream(&self, key: &Key) {
        let payload = simple_signing(&self.image.digest);
        let signature = key.sign_base64(payload.as_bytes());
        self.registry.push_cosign_signatures(REPOSITORY, &self.image.digest, &[(payload.as_bytes(), &signature)]);
    }

    async fn pull(&self) -> Answer {
        self.mirror.get(&format!("/v2/{REPOSITORY}/manifests/v1"), CRANE).await
    }

    async fn is_admitted(&self) {
        let answer = self.pull().await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &self.image.bytes), "{answer:?}");
    }

    async fn is_refused(&self, reason: &str) {
        let answer = self.pull().await;
        assert_eq!(answer.status.as_u16(), 403, "{answer:?}");
        assert!(answer.phrase.contains(reason), "{}", answer.phrase);
    }
}

#[tokio::test]
async fn an_image_comes_once_two_signers_have_signed() {
    let scene = Scene::new().await;
    scene.is_refused("no valid signature").await;
    scene.submit(&scene.keys[0]).await;
    scene.is_refused(ONE_OF_TWO).await;
    scene.submit(&scene.keys[1]).await;
    scene.is_admitted().await;

    let events = scene.mirror.events(|events| events.iter().any(|event| event["action"] == "admitted")).await;
    let admitted = events.iter().find(|event| event["action"] == "admitted").unwrap();
    let mut names: Vec<_> = admitted["verified_by"].as_array().unwrap().iter().map(|by| by["name"].as_str()).collect();
    names.sort();
    assert_eq!(names, [Some("ci"), Some("release")], "{admitted}");
    let reasons: Vec<_> = events.iter().map(|event| event["reason"].as_str()).collect();
    assert!(reasons.contains(&Some("threshold-not-met")), "{events:?}");
}

#[tokio::test]
async fn two_signatures_by_one_signer_count_once() {
    let scene = Scene::new().await;
    scene.submit(&scene.keys[0]).await;
    let again = scene.submit_payload(&scene.keys[0]).await;
    assert_eq!((again.status, &again.json()["is_valid"]), (StatusCode::CREATED, &json!(true)), "{again:?}");
    scene.push_upstream(&scene.keys[0]);
    scene.is_refused(ONE_OF_TWO).await;
}

#[tokio::test]
async fn what_the_store_lacks_of_the_number_is_looked_for_upstream() {
    let scene = Scene::new().await;
    scene.submit(&scene.keys[0]).await;
    scene.push_upstream(&scene.keys[1]);
    scene.is_admitted().await;
}

#[tokio::test]
async fn whoever_is_trusted_no_more_is_missing_from_the_number() {
    let scene = Scene::new().await;
    scene.submit(&scene.keys[0]).await;
    scene.submit(&scene.keys[1]).await;
    scene.is_admitted().await;
    let path = format!("/v2/{REPOSITORY}/manifests/v1");
    fs::remove_file(scene.mirror.trust_dir().join("ci.pub")).unwrap();
    scene.mirror.until(&path, 403).await;
    scene.is_refused(ONE_OF_TWO).await;
    // A third takes the place.
    scene.submit(&scene.keys[2]).await;
    scene.is_admitted().await;
}

#[tokio::test]
async fn what_an_index_names_comes_with_it() {
    let scene = Scene::new().await;
    let child = scene.registry.push_image(REPOSITORY, None, &[b"amd64"]);
    let index = scene.registry.push_index(REPOSITORY, Some("v2"), &[&child]);
    let of_child = format!("/v2/{REPOSITORY}/manifests/{}", child.digest);
    let of_index = format!("/v2/{REPOSITORY}/manifests/v2");
    scene.mirror.submit(&scene.keys[0], "v2", &index.bytes).await;
    assert_eq!(scene.mirror.get(&of_index, CRANE).await.status.as_u16(), 403);
    assert_eq!(scene.mirror.get(&of_child, CRANE).await.status.as_u16(), 403);
    scene.mirror.submit(&scene.keys[1], "v2", &index.bytes).await;
    assert_eq!(scene.mirror.get(&of_index, CRANE).await.status.as_u16(), 200);
    assert_eq!(scene.mirror.get(&of_child, CRANE).await.status.as_u16(), 200);
}
