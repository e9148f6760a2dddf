//! Trusted keys over REST: a change counts from the next request, and a revocation is for ever.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use sig_repo::oci::Digest;

use crate::support::{
    api::{Api, Setup},
    signing::TestKey,
};

async fn reason(api: &Api, digest: &Digest) -> Value {
    let list = api.get(&format!("/api/v1/signatures?digest={digest}")).await.expect(StatusCode::OK);
    assert_eq!(list["signatures"].as_array().unwrap().len(), 1);
    list["signatures"][0]["reason"].clone()
}

async fn submit(api: &Api, key: &TestKey) -> Digest {
    let digest = Digest::sha256(b"image");
    let body = json!({ "image_digest": digest, "tag": "v1", "signature": key.sign_base64(digest.to_string()) });
    api.post("/api/v1/signatures", &body).await.expect(StatusCode::CREATED);
    digest
}

async fn signers(api: &Api) -> Vec<Value> {
    api.get("/api/v1/signers").await.expect(StatusCode::OK)["signers"].as_array().unwrap().clone()
}

fn path(signer: &Value) -> String {
    format!("/api/v1/signers/{}", signer["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_key_is_added_listed_and_revoked_from_the_next_request_on() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let digest = submit(&api, &key).await;
    assert_eq!(reason(&api, &digest).await, "no-trusted-key");

    let signer = api.trust("release", &key.public_pem()).await;
    let hex = signer["id"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
    let expected = json!({
        "name": "release",
        "id": signer["id"],
        "fingerprint": signer["fingerprint"],
        "kind": "public_key",
        "algorithm": "ecdsa-p256",
        "public_key": key.public_pem(),
        "origin": "api",
        "added": "2026-01-01T00:00:00Z",
        "not_before": null,
        "not_after": null,
        "revoked": false,
        "revoked_at": null,
        "keeps_earlier": false,
    });
    assert_eq!(signer, expected);
    assert_eq!(signer["fingerprint"].as_str().unwrap().replace(':', ""), hex);
    assert_eq!(signers(&api).await, std::slice::from_ref(&signer));
    assert_eq!(reason(&api, &digest).await, Value::Null);

    api.clock.advance(Duration::from_secs(60));
    let revoked = api.delete(&path(&signer)).await.expect(StatusCode::OK);
    assert_eq!((&revoked["revoked"], &revoked["revoked_at"]), (&json!(true), &json!("2026-01-01T00:01:00Z")));
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
    assert_eq!(signers(&api).await, [revoked]);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let digest = submit(&api, &key).await;
    let signer = api.trust("release", &key.public_pem()).await;
    let revoked = api.delete(&path(&signer)).await.expect(StatusCode::OK);
    // Not by adding it again, nor by a later time, nor by a file, nor by a restart.
    let again = json!({"name": "again", "public_key": key.public_pem()});
    api.post("/api/v1/signers", &again).await.problem(StatusCode::CONFLICT, "signer-revoked");
    let later = api.delete(&format!("{}?at=2027-01-01T00:00:00Z", path(&signer))).await.expect(StatusCode::OK);
    assert_eq!(later, revoked);
    api.trust_file("file.pub", &key.public_pem());
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
    let api = api.restart(Setup::default());
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
    // An earlier time is taken.
    let earlier = api.delete(&format!("{}?at=2025-06-01T02:00:00%2B02:00", path(&signer))).await;
    assert_eq!(earlier.expect(StatusCode::OK)["revoked_at"], "2025-06-01T00:00:00Z");
}

#[tokio::test]
async fn a_key_of_a_file_is_listed_and_can_be_revoked() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let digest = submit(&api, &key).await;
    api.trust_file("release.pub", &key.public_pem());
    let listed = signers(&api).await;
    assert_eq!((&listed[0]["name"], &listed[0]["origin"]), (&json!("release"), &json!("file")));
    assert_eq!(reason(&api, &digest).await, Value::Null);

    api.delete(&path(&listed[0])).await.expect(StatusCode::OK);
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
    let api = api.restart(Setup::default());
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
}

#[tokio::test]
async fn a_key_counts_within_its_times_to_the_second() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let digest = submit(&api, &key).await;
    let body = json!({
        "name": "release", "public_key": key.public_pem(),
        "not_before": "2026-01-01T00:00:10Z", "not_after": "2026-01-01T00:00:20Z",
    });
    let signer = api.post("/api/v1/signers", &body).await.expect(StatusCode::CREATED);
    for (seconds, expected) in
        [(9, json!("signer-not-yet-valid")), (1, Value::Null), (9, Value::Null), (1, json!("signer-expired"))]
    {
        api.clock.advance(Duration::from_secs(seconds));
        assert_eq!(reason(&api, &digest).await, expected, "{}", api.clock.now());
    }
    // The same key with other times replaces them, and with a time of revocation in the future ends then.
    let renewed = json!({"name": "renewed", "public_key": key.public_pem()});
    let renewed = api.post("/api/v1/signers", &renewed).await.expect(StatusCode::OK);
    assert_eq!((&renewed["name"], &renewed["not_after"]), (&json!("renewed"), &Value::Null));
    assert_eq!(renewed["added"], "2026-01-01T00:00:00Z");
    let ending = api.delete(&format!("{}?at=2026-01-01T00:00:21Z", path(&signer))).await.expect(StatusCode::OK);
    assert_eq!((&ending["revoked"], &ending["revoked_at"]), (&json!(false), &json!("2026-01-01T00:00:21Z")));
    assert_eq!(reason(&api, &digest).await, Value::Null);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(reason(&api, &digest).await, "signer-revoked");
}

#[tokio::test]
async fn what_is_no_public_key_is_refused_and_not_repeated() {
    let api = Setup::default().start();
    let good = TestKey::generate().public_pem();
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n-----END PRIVATE KEY-----\n";
    for (body, field) in [
        (json!({"public_key": good}), "name"),
        (json!({"name": " ", "public_key": good}), "name"),
        (json!({"name": "a\nb", "public_key": good}), "name"),
        (json!({"name": "a".repeat(129), "public_key": good}), "name"),
        (json!({"name": "a"}), "public_key"),
        (json!({"name": "a", "public_key": "pem"}), "public_key"),
        (json!({"name": "a", "public_key": private}), "public_key"),
        (json!({"name": "a", "public_key": format!("{good}{good}")}), "public_key"),
        (json!({"name": "a", "public_key": good, "not_after": "soon"}), "not_after"),
        (
            json!({"name": "a", "public_key": good, "not_before": "2026-01-02T00:00:00Z", "not_after": "2026-01-02T00:00:00Z"}),
            "not_after",
        ),
        (json!({"name": "a", "public_key": good, "key": good}), "key"),
    ] {
        let answer = api.post("/api/v1/signers", &body).await;
        let problem = answer.problem(StatusCode::BAD_REQUEST, "invalid-field");
        assert_eq!(problem["field"], field, "{body}");
        assert!(!problem["detail"].as_str().unwrap().contains("MC4CAQ"), "{problem}");
    }
    assert_eq!(signers(&api).await, [] as [Value; 0]);
}

#[tokio::test]
async fn revoking_what_is_not_there_is_said() {
    let api = Setup::default().start();
    let unknown = format!("/api/v1/signers/{}", Digest::sha256(b"no key"));
    api.delete(&unknown).await.problem(StatusCode::NOT_FOUND, "not-found");
    let problem = api.delete("/api/v1/signers/release").await.problem(StatusCode::BAD_REQUEST, "invalid-parameter");
    assert_eq!(problem["field"], "id");
    let problem = api.delete(&format!("{unknown}?at=now")).await.problem(StatusCode::BAD_REQUEST, "invalid-parameter");
    assert_eq!(problem["field"], "at");
}

#[tokio::test]
async fn without_authentication_trust_comes_from_files_only() {
    let api = Setup::without_auth().start();
    let key = TestKey::generate();
    let body = json!({"name": "release", "public_key": key.public_pem()});
    api.post("/api/v1/signers", &body).await.problem(StatusCode::FORBIDDEN, "auth-required");
    assert_eq!(signers(&api).await, [] as [Value; 0]);
    api.trust_file("release.pub", &key.public_pem());
    let listed = signers(&api).await;
    api.delete(&path(&listed[0])).await.problem(StatusCode::FORBIDDEN, "auth-required");
    assert_eq!(signers(&api).await, listed);
}

#[tokio::test]
async fn changes_of_signers_are_audited_with_who_made_them() {
    let api = Setup::default().start();
    let signer = api.trust("release", &TestKey::generate().public_pem()).await;
    api.delete(&path(&signer)).await.expect(StatusCode::OK);
    let event = |action: &str| {
        json!({
            "at": "2026-01-01T00:00:00Z", "action": action, "account": "admin", "address": "192.0.2.1",
            "reference": signer["id"], "count": 1,
        })
    };
    let list = api.get("/api/v1/audit").await.expect(StatusCode::OK);
    assert_eq!(list, json!({"events": [event("signer-revoked"), event("signer-added")], "next": null}));
}
