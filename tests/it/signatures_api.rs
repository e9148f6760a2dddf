//! Signatures over REST: what is stored, what is answered, and what is refused with nothing stored.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use sig_repo::{
    oci::{Digest, Repository},
    store::Sighting,
};

use crate::support::{
    api::{Answer, Api, Setup},
    registry::Registry,
    signing::{Ed25519Key, TestKey},
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2}"#;

fn digest() -> Digest {
    Digest::sha256(MANIFEST)
}

/// A raw signature over the digest string.
fn submission(key: &TestKey, tag: &str) -> Value {
    json!({ "image_digest": digest(), "tag": tag, "signature": key.sign_base64(digest().to_string()) })
}

/// The submission of random bytes that look like no signature.
fn garbage() -> Value {
    json!({ "image_digest": digest(), "tag": "preview-v1", "signature": BASE64_STANDARD.encode("garbage") })
}

async fn submit(api: &Api, body: &Value) -> Answer {
    api.post("/api/v1/signatures", body).await
}

async fn listed(api: &Api) -> Vec<Value> {
    let answer = api.get(&format!("/api/v1/signatures?digest={}", digest())).await.expect(StatusCode::OK);
    answer["signatures"].as_array().unwrap().clone()
}

fn simple_signing(digest: &Digest) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "docker.io/library/nginx"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
}

#[tokio::test]
async fn a_submission_is_answered_with_its_record() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let signer = api.trust("release", &key.public_pem()).await;
    let mut body = submission(&key, "preview-v1.2.3-rc1");
    body["tag_type"] = json!("preview");
    body["signer"] = json!("ci");
    body["metadata"] = json!({"git_commit": "a1b2c3d"});
    body["repository"] = json!("nginx");
    body["environment"] = json!("test-staging");
    let record = submit(&api, &body).await.expect(StatusCode::CREATED);
    let expected = json!({
        "id": record["id"],
        "digest": digest(),
        "repository": "docker.io/library/nginx",
        "tag": "preview-v1.2.3-rc1",
        "tag_type": "preview",
        "environment": "test-staging",
        "format": "raw",
        "signer": "ci",
        "created_at": "2026-01-01T00:00:00Z",
        "first_seen": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-08T00:00:00Z",
        "metadata": {"git_commit": "a1b2c3d"},
        "is_valid": true,
        "outcome": "verified",
        "reason": null,
        "detail": null,
        "verified_by": {
            "id": signer["id"],
            "name": "release",
            "signed_at": null,
            "evidence": [format!("ecdsa-p256 signature over the digest by the key {}", signer["id"].as_str().unwrap())],
        },
    });
    assert_eq!(record, expected);
    assert_eq!(
        api.get(&format!("/api/v1/signatures?digest={}", digest())).await.expect(StatusCode::OK),
        json!({ "digest": digest(), "signatures": [expected], "next": null })
    );
}

#[tokio::test]
async fn the_same_submission_again_is_the_same_record_and_extends_nothing() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    let body = submission(&key, "preview-v1");
    let created = submit(&api, &body).await.expect(StatusCode::CREATED);
    api.clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(submit(&api, &body).await.expect(StatusCode::OK), created);
    // A second signature by the same key over the same is the same one, whatever its bytes.
    let again = submission(&key, "preview-v1");
    assert_ne!(again["signature"], body["signature"]);
    assert_eq!(submit(&api, &again).await.expect(StatusCode::OK)["id"], created["id"]);
    assert_eq!(listed(&api).await, [created]);
}

#[tokio::test]
async fn raw_signatures_verify_over_the_digest_the_manifest_and_a_payload() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    let payload = simple_signing(&digest());
    for (what, signature, payload) in [
        ("digest", key.sign_base64(digest().to_string()), None),
        ("manifest", key.sign_base64(MANIFEST), None),
        ("payload", key.sign_base64(&payload), Some(BASE64_STANDARD.encode(&payload))),
    ] {
        let body = json!({
            "image_digest": digest(), "tag": format!("v1-{what}"), "signature": signature, "payload": payload,
        });
        let record = submit(&api, &body).await.expect(StatusCode::CREATED);
        assert_eq!((&record["is_valid"], &record["reason"]), (&json!(true), &Value::Null), "{what}");
    }
}

#[tokio::test]
async fn every_reason_for_not_being_valid_has_its_own_code() {
    let api = Setup::default().start();
    let (key, stranger, revoked) = (TestKey::generate(), TestKey::generate(), TestKey::generate());
    api.trust("release", &key.public_pem()).await;
    let signer = api.trust("old", &revoked.public_pem()).await;
    // Without the manifest it could not be told that no hash of it was signed by a trusted key.
    let sighting = Sighting {
        repository: Repository::new(&"docker.io".parse().unwrap(), "library/nginx").unwrap(),
        digest: digest(),
        manifest: Some((MANIFEST.into(), "application/vnd.oci.image.manifest.v1+json".to_owned())),
        tag: None,
        confirmed: None,
        children: Vec::new(),
        at: api.clock.now(),
    };
    api.store.remember(sighting).await.unwrap();
    let other = Digest::sha256(b"another image");
    let other_payload = simple_signing(&other);
    let mut of_other = submission(&key, "v1-other");
    of_other["signature"] = json!(key.sign_base64(&other_payload));
    of_other["payload"] = json!(BASE64_STANDARD.encode(&other_payload));
    let mut ended = submission(&key, "v1-ended");
    ended["expires_at"] = json!("2026-01-01T00:00:05Z");
    for (body, at_first, later) in [
        (garbage(), Some("malformed-signature"), "malformed-signature"),
        (submission(&stranger, "v1-stranger"), Some("no-trusted-key"), "no-trusted-key"),
        (of_other, Some("subject-mismatch"), "subject-mismatch"),
        (submission(&revoked, "v1-revoked"), None, "signer-revoked"),
        (ended, None, "expired"),
    ] {
        let record = submit(&api, &body).await.expect(StatusCode::CREATED);
        assert_eq!(record["reason"], json!(at_first), "{body}");
        assert_eq!(record["is_valid"], json!(at_first.is_none()), "{body}");
        if later == "signer-revoked" {
            api.delete(&format!("/api/v1/signers/{}", signer["id"].as_str().unwrap())).await.expect(StatusCode::OK);
        }
        api.clock.advance(std::time::Duration::from_secs(1));
        let now = listed(&api).await.into_iter().find(|listed| listed["id"] == record["id"]).unwrap();
        assert_eq!(now["is_valid"], json!(false), "{body}");
        assert_eq!((&now["outcome"], &now["reason"]), (&json!("rejected"), &json!(later)), "{body}");
        assert_eq!(now["verified_by"], Value::Null, "{body}");
    }
}

#[tokio::test]
async fn a_signature_that_needs_the_manifest_says_so_until_it_is_there() {
    let registry = Registry::start().await;
    let api = Setup { upstream: Some(registry.upstream("docker.io")), ..Setup::default() }.start();
    let key = Ed25519Key::generate();
    api.trust("release", &key.public_pem()).await;
    let image = registry.push_image("library/nginx", Some("v1"), &[b"layer"]);
    let mut body = json!({
        "image_digest": image.digest, "tag": "v1", "signature": key.sign_base64(&image.bytes),
    });
    let record = submit(&api, &body).await.expect(StatusCode::CREATED);
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("unknown"), &json!("manifest-not-held")));
    assert_eq!(record["is_valid"], json!(false));
    assert_eq!(registry.request_lines(), [] as [&str; 0], "nothing is known of where it is");

    body["repository"] = json!("nginx");
    let record = submit(&api, &body).await.expect(StatusCode::CREATED);
    assert_eq!((&record["outcome"], &record["is_valid"]), (&json!("verified"), &json!(true)));
    let path = format!("/api/v1/signatures?digest={}", image.digest);
    for record in api.get(&path).await.expect(StatusCode::OK)["signatures"].as_array().unwrap() {
        assert_eq!(record["is_valid"], json!(true), "the manifest is held now");
    }
}

#[tokio::test]
async fn a_withdrawn_signature_never_comes_back() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    let body = submission(&key, "preview-v1");
    let id = submit(&api, &body).await.expect(StatusCode::CREATED)["id"].as_str().unwrap().to_owned();
    let other_tag = submit(&api, &submission(&key, "preview-v2")).await.expect(StatusCode::CREATED);
    assert_ne!(other_tag["id"], json!(id));

    let path = format!("/api/v1/signatures/{id}");
    let answer = api.delete(&path).await;
    assert_eq!((answer.status, answer.bytes.as_slice()), (StatusCode::NO_CONTENT, &b""[..]));
    assert_eq!(listed(&api).await, [] as [Value; 0], "the identity goes, with every label it had");
    api.delete(&path).await.problem(StatusCode::NOT_FOUND, "not-found");
    for again in [body, submission(&key, "preview-v1"), submission(&key, "v3")] {
        submit(&api, &again).await.problem(StatusCode::CONFLICT, "withdrawn");
    }
    let api = api.restart(Setup::default());
    submit(&api, &submission(&key, "preview-v1")).await.problem(StatusCode::CONFLICT, "withdrawn");
    assert_eq!(listed(&api).await, [] as [Value; 0]);
}

#[tokio::test]
async fn withdrawing_takes_the_identity_of_a_key_that_became_known_later() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    let record = submit(&api, &submission(&key, "v1")).await.expect(StatusCode::CREATED);
    assert_eq!(record["reason"], json!("no-trusted-key"));
    api.trust("release", &key.public_pem()).await;
    let answer = api.delete(&format!("/api/v1/signatures/{}", record["id"].as_str().unwrap())).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    submit(&api, &submission(&key, "v1")).await.problem(StatusCode::CONFLICT, "withdrawn");
}

#[tokio::test]
async fn the_same_signature_with_other_labels_is_a_promotion_and_needs_the_right() {
    let api = Setup::without_auth().start();
    let key = TestKey::generate();
    api.trust_file("release.pub", &key.public_pem());
    let staging = submit(&api, &submission(&key, "v1")).await.expect(StatusCode::CREATED);
    let relabelled = [
        ("tag", json!("preview-v2")),
        ("tag_type", json!("internal")),
        ("environment", json!("test-prod")),
        ("repository", json!("nginx")),
    ];
    for (field, value) in &relabelled {
        let mut body = submission(&key, "v1");
        body[*field] = value.clone();
        submit(&api, &body).await.problem(StatusCode::FORBIDDEN, "auth-required");
    }
    assert_eq!(listed(&api).await, [staging]);

    let api = api.restart(Setup::default());
    for (field, value) in relabelled {
        let mut body = submission(&key, "v1");
        body[field] = value.clone();
        assert_eq!(submit(&api, &body).await.expect(StatusCode::CREATED)["first_seen"], "2026-01-01T00:00:00Z");
    }
    assert_eq!(listed(&api).await.len(), 5);
    let list = api.get("/api/v1/audit").await.expect(StatusCode::OK);
    let actions: Vec<_> = list["events"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    let audited = actions.iter().filter(|action| **action != "internal-queried");
    assert_eq!(audited.collect::<Vec<_>>(), [&"promoted", &"promoted", &"promoted", &"promoted", &"submitted"]);
}

#[tokio::test]
async fn bad_input_is_named_and_nothing_of_it_is_stored() {
    let api = Setup::default().start();
    let with = |field: &str, value: Value| {
        let mut body = garbage();
        body[field] = value;
        body
    };
    let envelope = json!({"payloadType": "text/plain", "payload": "AAAA", "signatures": [{"sig": "AAAA"}]});
    let bundle = json!({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {}});
    for (body, status, kind, field) in [
        (json!([]), 400, "malformed-body", None),
        (with("image_digest", json!("sha256:ABC")), 400, "invalid-field", Some("image_digest")),
        (with("tag", json!("-")), 400, "invalid-field", Some("tag")),
        (with("tag_type", json!("release")), 400, "invalid-field", Some("tag_type")),
        (with("tag_type", json!("internal")), 422, "tag-type-contradiction", Some("tag_type")),
        (with("signature", json!("not base64")), 400, "invalid-field", Some("signature")),
        (
            with("signature", json!(BASE64_STANDARD.encode(envelope.to_string()))),
            422,
            "unsupported-envelope",
            Some("signature"),
        ),
        (with("signature", json!(BASE64_STANDARD.encode(bundle.to_string()))), 400, "invalid-field", Some("signature")),
        (with("payload", json!("!")), 400, "invalid-field", Some("payload")),
        (with("signer", json!("a\nb")), 400, "invalid-field", Some("signer")),
        (with("metadata", json!({"a": 1})), 400, "invalid-field", Some("metadata")),
        (with("repository", json!("A/b")), 400, "invalid-field", Some("repository")),
        (with("environment", json!("Prod")), 400, "invalid-field", Some("environment")),
        (with("expires_at", json!("2026-01-01")), 400, "invalid-field", Some("expires_at")),
        (with("expires_at", json!("2026-01-01T00:00:00Z")), 400, "invalid-field", Some("expires_at")),
        (with("is_valid", json!(true)), 400, "invalid-field", Some("is_valid")),
        (with("granted", json!(true)), 400, "invalid-field", Some("granted")),
    ] {
        let problem = submit(&api, &body).await.problem(StatusCode::from_u16(status).unwrap(), kind);
        assert_eq!(problem.get("field").and_then(Value::as_str), field, "{body}");
    }
    let twice = r#"{"tag":"a","tag":"b"}"#;
    for (content_type, body, status, kind) in [
        (Some("application/json"), twice.to_owned(), 400, "invalid-field"),
        (Some("application/json"), "[".repeat(100_000), 400, "malformed-body"),
        (Some("application/json"), format!("{}{}", garbage(), " ".repeat(2 << 20)), 413, "body-too-large"),
        (Some("application/x-www-form-urlencoded"), garbage().to_string(), 415, "unsupported-media-type"),
        (None, garbage().to_string(), 415, "unsupported-media-type"),
    ] {
        let mut request = api.request(Method::POST, "/api/v1/signatures");
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = api.send(request.body(body.into()).unwrap()).await;
        answer.problem(StatusCode::from_u16(status).unwrap(), kind);
    }
    assert_eq!(listed(&api).await, [] as [Value; 0]);
    assert_eq!(api.get("/api/v1/audit").await.expect(StatusCode::OK)["events"], json!([]));
}

#[tokio::test]
async fn hostile_text_comes_back_unchanged_and_is_no_page() {
    let api = Setup::default().start();
    let mut body = garbage();
    body["signer"] = json!("<script>alert(1)</script>");
    body["metadata"] = json!({"a\n{\"level\":\"error\"}": "\u{1b}[2J\u{202e}", "b": ""});
    let answer = submit(&api, &body).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    let record = answer.expect(StatusCode::CREATED);
    assert_eq!((&record["signer"], &record["metadata"]), (&body["signer"], &body["metadata"]));
    assert_eq!(listed(&api).await, [record]);
}

#[tokio::test]
async fn one_submitter_of_garbage_is_stopped_and_hinders_nobody() {
    let api = Setup::without_auth().start();
    let key = TestKey::generate();
    api.trust_file("release.pub", &key.public_pem());
    let mut stored = 0;
    let refused = loop {
        let mut body = garbage();
        body["signature"] = json!(BASE64_STANDARD.encode(format!("garbage {stored}")));
        let answer = submit(&api, &body).await;
        if answer.status != StatusCode::CREATED {
            break answer;
        }
        stored += 1;
        assert!(stored < 1000, "there is no end of it");
    };
    refused.problem(StatusCode::CONFLICT, "too-many-unverified");

    let record = submit(&api, &submission(&key, "v1")).await.expect(StatusCode::CREATED);
    assert_eq!(record["is_valid"], json!(true), "what verifies is not counted");
    let request = api.request(Method::POST, "/api/v1/signatures").header(header::CONTENT_TYPE, "application/json");
    let mut other = garbage();
    other["signature"] = json!(BASE64_STANDARD.encode("garbage of another"));
    let answer = api.send_from("192.0.2.2:40000", request.body(other.to_string().into()).unwrap()).await;
    answer.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn lists_come_in_pages_that_meet() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    for n in 0..5 {
        submit(&api, &submission(&key, &format!("internal-{n}"))).await.expect(StatusCode::CREATED);
    }
    for path in [format!("/api/v1/signatures?digest={}&", digest()), "/api/v1/tags?type=internal&".to_owned()] {
        let entries = if path.contains("tags") { "tags" } else { "signatures" };
        let (mut seen, mut sizes, mut next) = (Vec::new(), Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{path}limit=2{next}")).await.expect(StatusCode::OK);
            let items = page[entries].as_array().unwrap();
            sizes.push(items.len());
            seen.extend(items.iter().map(|item| item["tag"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(sizes, [2, 2, 1], "{path}");
        assert_eq!(seen, ["internal-0", "internal-1", "internal-2", "internal-3", "internal-4"], "{path}");
    }
    let page = api.get("/api/v1/tags?type=internal&limit=2").await.expect(StatusCode::OK);
    let cursor = page["next"].as_str().unwrap();
    for path in [
        format!("/api/v1/tags?cursor={cursor}"),
        format!("/api/v1/signatures?digest={}&cursor={cursor}", digest()),
        "/api/v1/tags?type=internal&cursor=AAAA".to_owned(),
        format!("/api/v1/audit?cursor={cursor}"),
    ] {
        let problem = api.get(&path).await.problem(StatusCode::BAD_REQUEST, "invalid-parameter");
        assert_eq!(problem["field"], "cursor", "{path}");
    }
}

#[tokio::test]
async fn tags_are_listed_by_type_and_environment() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    for (tag, environment) in
        [("preview-1", None), ("internal-1", Some("test-prod")), ("internal-2", Some("test-staging")), ("v1", None)]
    {
        let mut body = submission(&key, tag);
        body["environment"] = json!(environment);
        submit(&api, &body).await.expect(StatusCode::CREATED);
    }
    for (query, expected) in [
        ("", vec!["internal-1", "internal-2", "preview-1", "v1"]),
        ("?type=preview", vec!["preview-1"]),
        ("?type=internal", vec!["internal-1", "internal-2"]),
        ("?type=internal&environment=test-prod", vec!["internal-1"]),
        ("?environment=test-staging", vec!["internal-2"]),
        ("?type=preview&environment=test-prod", vec![]),
    ] {
        let list = api.get(&format!("/api/v1/tags{query}")).await.expect(StatusCode::OK);
        let entries = list["tags"].as_array().unwrap();
        let mut tags: Vec<_> = entries.iter().map(|entry| entry["tag"].as_str().unwrap()).collect();
        tags.sort_unstable();
        assert_eq!(tags, expected, "{query}");
        for entry in entries {
            assert_eq!(entry["digest"], json!(digest()));
            assert_eq!((&entry["record"]["tag"], &entry["record"]["is_valid"]), (&entry["tag"], &json!(true)));
        }
    }
    for (query, field) in [
        ("type=release", "type"),
        ("environment=Prod", "environment"),
        ("limit=0", "limit"),
        ("tag=v1", "tag"),
        ("type=preview&type=internal", "type"),
    ] {
        let problem =
            api.get(&format!("/api/v1/tags?{query}")).await.problem(StatusCode::BAD_REQUEST, "invalid-parameter");
        assert_eq!(problem["field"], field, "{query}");
    }
}

#[tokio::test]
async fn queries_of_internal_records_are_audited_and_others_are_not() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    submit(&api, &submission(&key, "preview-1")).await.expect(StatusCode::CREATED);
    let actions = async || {
        let list = api.get("/api/v1/audit").await.expect(StatusCode::OK);
        let events = list["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    listed(&api).await;
    assert_eq!(actions().await, ["submitted", "signer-added"]);

    submit(&api, &submission(&key, "internal-1")).await.expect(StatusCode::CREATED);
    listed(&api).await;
    api.get("/api/v1/tags?type=internal").await.expect(StatusCode::OK);
    assert_eq!(actions().await, ["internal-queried", "internal-queried", "promoted", "submitted", "signer-added"]);
    let events = api.get("/api/v1/audit?limit=1").await.expect(StatusCode::OK);
    assert_eq!(
        events["events"],
        json!([{
            "at": "2026-01-01T00:00:00Z", "action": "internal-queried", "account": "admin", "address": "192.0.2.1",
            "reference": "internal-1", "count": 1,
        }])
    );
    let rest = api.get(&format!("/api/v1/audit?cursor={}", events["next"].as_str().unwrap())).await;
    assert_eq!(rest.expect(StatusCode::OK)["events"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn records_survive_a_restart() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    let record = submit(&api, &submission(&key, "preview-v1")).await.expect(StatusCode::CREATED);
    let api = api.restart(Setup::default());
    assert_eq!(listed(&api).await, [record]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_503_and_nothing_is_stored() {
    let mut api = Setup::default().start();
    api.close_store();
    for answer in [
        submit(&api, &garbage()).await,
        api.get(&format!("/api/v1/signatures?digest={}", digest())).await,
        api.get("/api/v1/tags").await,
        api.get("/api/v1/audit").await,
        api.delete("/api/v1/signatures/00000000000000000000000000000000").await,
    ] {
        let problem = answer.problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains(api.directory().to_str().unwrap()), "{detail}");
    }
    let api = api.restart(Setup::default());
    assert_eq!(listed(&api).await, [] as [Value; 0]);
}

#[tokio::test]
async fn what_does_not_exist_is_said_in_the_same_form() {
    let api = Setup::default().start();
    for path in ["/api/v1/nothing", "/api", "/api/v1/signatures/", "/api/v2/signatures"] {
        api.get(path).await.problem(StatusCode::NOT_FOUND, "not-found");
    }
    for id in ["0", "../../etc/passwd", "%00", "%ff", "00000000000000000000000000000000", &"a".repeat(4000)] {
        api.delete(&format!("/api/v1/signatures/{id}")).await.problem(StatusCode::NOT_FOUND, "not-found");
    }
    let put = api.request(Method::PUT, "/api/v1/signatures").body(String::new().into()).unwrap();
    let answer = api.send(put).await;
    answer.problem(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed");
    assert_eq!(answer.headers[header::ALLOW], "GET,HEAD,POST");
    let missing = api.get("/api/v1/signatures").await.problem(StatusCode::BAD_REQUEST, "invalid-parameter");
    assert_eq!(missing["field"], "digest");
}

#[tokio::test]
async fn without_authentication_submitting_and_reading_are_open_and_changing_is_not() {
    let api = Setup::without_auth().start();
    let record = submit(&api, &garbage()).await.expect(StatusCode::CREATED);
    for path in ["/api/v1/tags", "/api/v1/signers", "/api/v1/audit", "/api/v1/openapi.json"] {
        api.get(path).await.expect(StatusCode::OK);
    }
    let path = format!("/api/v1/signatures/{}", record["id"].as_str().unwrap());
    api.delete(&path).await.problem(StatusCode::FORBIDDEN, "auth-required");
    // Credentials that nobody asked for change nothing.
    let request =
        Request::delete(path).header(header::AUTHORIZATION, crate::support::api::ADMIN).body(String::new().into());
    api.send(request.unwrap()).await.problem(StatusCode::FORBIDDEN, "auth-required");
    assert_eq!(listed(&api).await, [record]);
}
