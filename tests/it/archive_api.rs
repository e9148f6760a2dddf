//! What import and export ask of the API: signatures as they were submitted, with their age, and for a digest.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::StatusCode;
use serde_json::{Value, json};
use sig_repo::oci::Digest;

use crate::support::{
    api::{Api, DAY, Setup},
    signing::{TestKey, simple_signing},
};

fn digest() -> Digest {
    Digest::sha256(b"image")
}

fn submission(key: &TestKey, tag: &str) -> Value {
    let payload = simple_signing(&digest());
    let signature = key.sign_base64(&payload);
    let payload = BASE64_STANDARD.encode(payload);
    json!({ "image_digest": digest(), "tag": tag, "signature": signature, "payload": payload })
}

async fn archive(api: &Api, query: &str) -> Value {
    api.get(&format!("/api/v1/archive{query}")).await.expect(StatusCode::OK)
}

#[tokio::test]
async fn an_age_is_stated_by_an_account_only_and_makes_no_life_longer() {
    let open = Setup::without_auth().start();
    let key = TestKey::generate();
    let mut aged = submission(&key, "preview-1");
    aged["first_seen"] = json!("2025-12-30T00:00:00.5Z");
    let problem = open.post("/api/v1/signatures", &aged).await.problem(StatusCode::FORBIDDEN, "auth-required");
    assert!(problem["detail"].as_str().unwrap().starts_with("saying when a signature was first seen needs"));
    assert_eq!(archive(&open, "").await["signatures"], json!([]));

    let api = Setup::default().start();
    api.trust("ci", &key.public_pem()).await;
    let mut future = aged.clone();
    future["first_seen"] = json!("2026-01-01T00:00:01Z");
    let problem = api.post("/api/v1/signatures", &future).await.problem(StatusCode::BAD_REQUEST, "invalid-field");
    assert_eq!(problem["detail"], "first_seen: is in the future");
    let record = api.post("/api/v1/signatures", &aged).await.expect(StatusCode::CREATED);
    assert_eq!((&record["first_seen"], &record["is_valid"]), (&json!("2025-12-30T00:00:00Z"), &json!(true)));
    assert_eq!(record["expires_at"], "2026-01-06T00:00:00Z");
    let kept = &archive(&api, "").await["signatures"][0];
    assert_eq!((&kept["first_seen"], &kept["ends_at"]), (&aged["first_seen"], &json!("2026-01-06T00:00:00.5Z")));
    // A later one, or none, changes nothing; an earlier one counts.
    for (first_seen, expected) in
        [("2025-12-31T00:00:00Z", "2025-12-30T00:00:00Z"), ("2025-12-28T00:00:00Z", "2025-12-28T00:00:00Z")]
    {
        let mut again = aged.clone();
        again["first_seen"] = json!(first_seen);
        assert_eq!(api.post("/api/v1/signatures", &again).await.expect(StatusCode::OK)["first_seen"], expected);
    }
    api.clock.advance(DAY * 4);
    let listed = api.get(&format!("/api/v1/signatures?digest={}", digest())).await.expect(StatusCode::OK);
    assert_eq!(listed["signatures"][0]["reason"], "expired");
}

#[tokio::test]
async fn what_ended_elsewhere_has_ended_here_under_every_name() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("ci", &key.public_pem()).await;
    let mut ended = submission(&key, "preview-1");
    ended["first_seen"] = json!("2025-12-01T00:00:00Z");
    api.post("/api/v1/signatures", &ended).await.problem(StatusCode::CONFLICT, "expired");
    // It is remembered, though nothing was kept: the same without its age is not as good as new.
    api.post("/api/v1/signatures", &submission(&key, "preview-1")).await.problem(StatusCode::CONFLICT, "expired");
    let found = api.post("/api/v1/signatures", &submission(&key, "preview-2")).await;
    found.problem(StatusCode::CONFLICT, "expired");
    assert_eq!(archive(&api, "").await["signatures"], json!([]));
}

#[tokio::test]
async fn a_digests_own_tag_is_for_the_digest() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    api.trust("ci", &key.public_pem()).await;
    let hex = digest().encoded();
    let other = Digest::sha256(b"other").encoded();
    let problem = api.post("/api/v1/signatures", &submission(&key, &format!("sha256-{other}.sig"))).await;
    let problem = problem.problem(StatusCode::BAD_REQUEST, "invalid-field");
    assert_eq!((&problem["field"], problem["detail"].as_str().unwrap().contains(&other)), (&json!("tag"), true));
    for tag in [format!("sha256-{hex}.sig"), format!("sha256-{hex}")] {
        let mut typed = submission(&key, &tag);
        typed["tag_type"] = json!("internal");
        let answer = api.post("/api/v1/signatures", &typed).await;
        answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "tag-type-contradiction");
        let record = api.post("/api/v1/signatures", &submission(&key, &tag)).await.expect(StatusCode::CREATED);
        assert_eq!((&record["tag"], &record["is_valid"]), (&json!(tag), &json!(true)));
        let id = record["id"].as_str().unwrap().parse().unwrap();
        assert!(api.store.record(&id).unwrap().unwrap().of_digest);
    }
    // Under an ordinary tag it is another record, for that tag.
    let record = api.post("/api/v1/signatures", &submission(&key, "v1")).await.expect(StatusCode::CREATED);
    assert!(!api.store.record(&record["id"].as_str().unwrap().parse().unwrap()).unwrap().unwrap().of_digest);
}

#[tokio::test]
async fn the_archive_is_read_in_parts_and_by_filters() {
    let api = Setup::default().start();
    let key = TestKey::generate();
    for (n, tag) in ["preview-1", "internal-1", "v1", "preview-2", "v2"].into_iter().enumerate() {
        let digest = Digest::sha256(&[n as u8]);
        let signature = key.sign_base64(digest.to_string());
        let mut body = json!({ "image_digest": digest, "tag": tag, "signature": signature, "signer": "ci" });
        body["metadata"] = json!({"n": n.to_string()});
        if n > 2 {
            body["repository"] = json!("team/app");
        }
        api.post("/api/v1/signatures", &body).await.expect(StatusCode::CREATED);
    }
    let ids = |page: &Value| {
        let ids = page["signatures"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let all = archive(&api, "").await;
    assert_eq!((ids(&all).len(), &all["next"]), (5, &Value::Null));
    let (mut parts, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let part = archive(&api, &query).await;
        assert!(ids(&part).len() <= 2);
        parts.extend(ids(&part));
        let Some(next) = part["next"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(parts, ids(&all));
    assert_eq!(ids(&archive(&api, &format!("?cursor={}", parts[2])).await), parts[3..], "an id is a place too");
    let digest = Digest::sha256(&[1]);
    for (query, expected) in [
        ("?type=preview".to_owned(), vec![0, 3]),
        ("?type=internal".to_owned(), vec![1]),
        ("?repository=team/app".to_owned(), vec![3, 4]),
        (format!("?digest={digest}"), vec![1]),
        (format!("?digest={digest}&cursor={}", parts[1]), vec![]),
        (format!("?digest={digest}&cursor={}", parts[0]), vec![1]),
        (format!("?digest={digest}&type=preview"), vec![]),
    ] {
        let expected: Vec<String> = expected.into_iter().map(|n: usize| parts[n].clone()).collect();
        assert_eq!(ids(&archive(&api, &query).await), expected, "{query}");
    }
    for (query, field) in [
        ("?digest=x", "digest"),
        ("?repository=A", "repository"),
        ("?type=x", "type"),
        ("?cursor=x", "cursor"),
        ("?limit=0", "limit"),
        ("?tag=v1", "tag"),
    ] {
        let problem = api.get(&format!("/api/v1/archive{query}")).await;
        assert_eq!(problem.problem(StatusCode::BAD_REQUEST, "invalid-parameter")["field"], field, "{query}");
    }
    let events = api.get("/api/v1/audit").await.expect(StatusCode::OK);
    let asked = |event: &&Value| event["action"] == "internal-queried";
    assert!(events["events"].as_array().unwrap().iter().filter(asked).count() > 3, "{events}");
}

#[tokio::test]
async fn the_archive_is_for_who_may_see_what_is_in_it() {
    let api = Setup::default().start();
    let request = http::Request::get("/api/v1/archive").body(axum::body::Body::empty()).unwrap();
    api.send(request).await.problem(StatusCode::UNAUTHORIZED, "not-authenticated");
}
