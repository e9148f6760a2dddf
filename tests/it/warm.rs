//! A manifest that was decided on a moment ago is answered from memory. What was changed since counts for the very next
//! request all the same.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sig_repo::policy::Level;

use crate::support::{
    api::ADMIN,
    key::Key,
    mirror::{CRANE, Mirror, Setup},
    registry::{Image, Registry},
};

const REPOSITORY: &str = "team/app";

struct Scene {
    registry: Registry,
    mirror: Mirror,
    image: Image,
    tag: &'static str,
}

impl Scene {
    async fn new(level: Level, tag: &'static str, keys: &[(&'static str, &Key)]) -> Self {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some(tag), &[b"layer"]);
        let setup = Setup {
            auth: Some(("admin", "secure-pass")),
            metadata_max_age: Duration::from_secs(30 * 24 * 3600),
            ..Setup::over(&registry)
        };
        let setup = keys.iter().fold(setup.level(level), |setup, (name, key)| setup.trusting(name, key));
        Self { mirror: setup.start().await, registry, image, tag }
    }

    async fn admin(&self, method: Method, path: &str, body: &Value) -> Value {
        let headers = [("authorization", ADMIN), ("content-type", "application/json")];
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.mirror.send(method, &format!("/api/v1/{path}"), &headers, body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// The record's id.
    async fn submit(&self, key: &Key) -> String {
        let body = json!({
            "image_digest": self.image.digest, "tag": self.tag, "repository": REPOSITORY,
            "signature": key.sign_base64(&self.image.bytes),
        });
        self.admin(Method::POST, "signatures", &body).await["id"].as_str().unwrap().to_owned()
    }

    async fn revoke(&self, name: &str) {
        let signers = self.admin(Method::GET, "signers", &Value::Null).await;
        let signer = signers["signers"].as_array().unwrap().iter().find(|signer| signer["name"] == name).unwrap();
        self.admin(Method::DELETE, &format!("signers/{}", signer["id"].as_str().unwrap()), &Value::Null).await;
    }

    /// A record comes and is withdrawn; another comes, and its key, `two`, is revoked. Without one: this status.
    async fn records_come_and_go(&self, one: &Key, two: &Key, without: u16) {
        let record = self.submit(one).await;
        self.is("a record came", 200, true).await;
        self.admin(Method::DELETE, &format!("signatures/{record}"), &Value::Null).await;
        self.is("the record was withdrawn", without, false).await;
        self.submit(two).await;
        self.is("another came", 200, true).await;
        self.revoke("two").await;
        self.is("its key was revoked", without, false).await;
    }

    fn paths(&self) -> [String; 2] {
        [self.tag.to_owned(), self.image.digest.to_string()]
            .map(|reference| format!("/v2/{REPOSITORY}/manifests/{reference}"))
    }

    /// The first answer to each of both after a change; then again, so that they are remembered and the upstream is not
    /// asked any more.
    async fn is(&self, what: &str, status: u16, verified: bool) {
        let first = self.paths().map(|path| async move { self.mirror.get(&path, CRANE).await });
        let [by_tag, by_digest] = first;
        for answer in [by_tag.await, by_digest.await] {
            assert_eq!((answer.status.as_u16(), answer.header("warning").is_none()), (status, verified), "{what}");
        }
        self.registry.forget_requests();
        for path in self.paths().iter().cycle().take(6) {
            assert_eq!(self.mirror.get(path, CRANE).await.status.as_u16(), status, "{what}, {path}");
        }
        if status == 200 {
            assert_eq!(self.registry.request_lines(), [""; 0], "{what}");
        }
    }
}

/// RFC 9110, section 13.1.2. That a client has an image already is no reason for it to run it.
#[tokio::test]
async fn who_has_a_manifest_that_may_leave_is_told_so() {
    let key = Key::generate();
    let scene = Scene::new(Level::Enforce, "v1", &[("one", &key)]).await;
    let etag = format!("\"{}\"", scene.image.digest);
    let asked = async |method: Method, known: &str| {
        let mut answers = Vec::new();
        for path in scene.paths() {
            let headers = [("user-agent", CRANE), ("if-none-match", known)];
            let answer = scene.mirror.send(method.clone(), &path, &headers, Bytes::new()).await;
            answers.push((answer.status.as_u16(), answer.body.len(), answer.header("etag").map(str::to_owned)));
        }
        answers
    };
    for (status, _, known) in [asked(Method::GET, &etag).await, asked(Method::GET, "*").await].concat() {
        assert_eq!((status, known), (403, None), "not signed");
    }
    scene.submit(&key).await;
    // The second time it is answered from memory.
    for known in [etag.as_str(), "*", etag.as_str(), &format!("\"x\", W/{etag}")] {
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(asked(method, known).await, vec![(304, 0, Some(etag.clone())); 2], "{known}");
        }
    }
    let whole = (200, scene.image.bytes.len(), Some(etag.clone()));
    assert_eq!(asked(Method::GET, "\"another\"").await, vec![whole; 2]);
}

#[tokio::test]
async fn a_changed_record_or_key_counts_for_the_next_request() {
    let [one, two, three] = std::array::from_fn(|_| Key::generate());
    let scene = Scene::new(Level::Audit, "v1", &[("one", &one), ("two", &two)]).await;
    scene.is("not signed", 200, false).await;
    scene.records_come_and_go(&one, &two, 200).await;
    scene.submit(&three).await;
    scene.is("one by a key that nobody trusts came", 200, false).await;
    scene.admin(Method::POST, "signers", &json!({"name": "three", "public_key": three.pem()})).await;
    scene.is("the key is trusted", 200, true).await;
}

#[tokio::test]
async fn what_is_refused_from_now_on_is_refused_at_the_next_request() {
    let [one, two] = std::array::from_fn(|_| Key::generate());
    let scene = Scene::new(Level::Enforce, "v1", &[("one", &one), ("two", &two)]).await;
    scene.records_come_and_go(&one, &two, 403).await;
}

#[tokio::test]
async fn a_preview_whose_life_ends_is_refused_at_the_next_request() {
    let key = Key::generate();
    let scene = Scene::new(Level::Audit, "preview-1", &[("ci", &key)]).await;
    scene.submit(&key).await;
    scene.is("signed", 200, true).await;
    scene.mirror.clock.advance(Duration::from_secs(7 * 24 * 3600 - 1));
    scene.is("a second before its end", 200, true).await;
    scene.mirror.clock.advance(Duration::from_secs(1));
    let ended = scene.mirror.get(&scene.paths()[0], CRANE).await;
    assert_eq!(ended.status, StatusCode::FORBIDDEN, "{ended:?}");
}
