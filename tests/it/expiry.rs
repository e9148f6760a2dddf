//! The end of a preview signature: to the second, by the settings in force, and for good.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use sig_repo::oci::Digest;

use crate::support::{
    api::{Answer, Api, DAY, Setup},
    signing::TestKey,
};

const SECOND: Duration = Duration::from_secs(1);

fn digest() -> Digest {
    Digest::sha256(b"image")
}

fn body(key: &TestKey, tag: &str, expires_at: Option<&str>) -> Value {
    json!({
        "image_digest": digest(), "tag": tag, "signature": key.sign_base64(digest().to_string()),
        "expires_at": expires_at,
    })
}

async fn submit(api: &Api, body: &Value) -> Answer {
    api.post("/api/v1/signatures", body).await
}

async fn only(api: &Api) -> Value {
    let list = api.get(&format!("/api/v1/signatures?digest={}", digest())).await.expect(StatusCode::OK);
    assert_eq!(list["signatures"].as_array().unwrap().len(), 1);
    list["signatures"][0].clone()
}

async fn with_key(setup: Setup) -> (Api, TestKey) {
    let api = setup.start();
    let key = TestKey::generate();
    api.trust("release", &key.public_pem()).await;
    (api, key)
}

#[tokio::test]
async fn a_preview_signature_ends_to_the_second_and_others_do_not() {
    for (tag, ends) in [("preview-v1", Some("2026-01-08T00:00:00Z")), ("internal-v1", None), ("v1", None)] {
        let (api, key) = with_key(Setup::default()).await;
        let record = submit(&api, &body(&key, tag, None)).await.expect(StatusCode::CREATED);
        assert_eq!(record["expires_at"], json!(ends), "{tag}");
        api.clock.advance(7 * DAY - SECOND);
        assert_eq!(only(&api).await["is_valid"], json!(true), "{tag}");
        api.clock.advance(SECOND);
        let now = only(&api).await;
        assert_eq!(now["is_valid"], json!(ends.is_none()), "{tag}");
        assert_eq!(now["reason"], if ends.is_some() { json!("expired") } else { Value::Null }, "{tag}");
    }
}

#[tokio::test]
async fn an_end_of_its_own_counts_where_it_is_earlier() {
    for (tag, expires_at, ends) in [
        ("preview-v1", "2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("preview-v1", "2027-01-01T00:00:00Z", "2026-01-08T00:00:00Z"),
        ("v1", "2026-01-02T01:00:00+01:00", "2026-01-02T00:00:00Z"),
    ] {
        let (api, key) = with_key(Setup::default()).await;
        let record = submit(&api, &body(&key, tag, Some(expires_at))).await.expect(StatusCode::CREATED);
        assert_eq!(record["expires_at"], ends, "{tag} {expires_at}");
        let ends: Timestamp = ends.parse().unwrap();
        api.clock.set(ends - SECOND);
        assert_eq!(only(&api).await["is_valid"], json!(true), "{tag} {expires_at}");
        api.clock.set(ends);
        assert_eq!(only(&api).await["reason"], "expired", "{tag} {expires_at}");
    }
}

#[tokio::test]
async fn what_has_expired_is_not_taken_again() {
    for (tag, expires_at) in [("preview-v1", None), ("v1", Some("2026-01-02T00:00:00Z"))] {
        let (api, key) = with_key(Setup::default()).await;
        let first = body(&key, tag, expires_at);
        submit(&api, &first).await.expect(StatusCode::CREATED);
        api.clock.advance(8 * DAY);
        // The same bytes, a fresh signature of the same, one with an end in the future, another preview tag.
        for again in [
            first.clone(),
            body(&key, tag, None),
            body(&key, tag, Some("2027-01-01T00:00:00Z")),
            body(&key, "preview-v2", None),
        ] {
            submit(&api, &again).await.problem(StatusCode::CONFLICT, "expired");
        }
        // Nor after the record was removed, nor after a restart.
        let removed = api.store.sweep(Some(api.clock.now() - 7 * DAY), api.clock.now(), Duration::ZERO, 100).await;
        assert_eq!(removed.unwrap(), 1, "{tag}");
        submit(&api, &first).await.problem(StatusCode::CONFLICT, "expired");
        let api = api.restart(Setup::default());
        submit(&api, &first).await.problem(StatusCode::CONFLICT, "expired");
        submit(&api, &body(&key, tag, None)).await.problem(StatusCode::CONFLICT, "expired");
    }
}

#[tokio::test]
async fn without_a_life_time_only_an_end_of_its_own_counts() {
    let (api, key) = with_key(Setup::with_ttl(None)).await;
    let record = submit(&api, &body(&key, "preview-v1", None)).await.expect(StatusCode::CREATED);
    assert_eq!(record["expires_at"], Value::Null);
    api.clock.advance(3650 * DAY);
    assert_eq!(only(&api).await["is_valid"], json!(true));
    submit(&api, &body(&key, "preview-v1", None)).await.expect(StatusCode::OK);

    let (api, key) = with_key(Setup::with_ttl(None)).await;
    let record = submit(&api, &body(&key, "preview-v1", Some("2026-01-01T00:00:01Z"))).await;
    assert_eq!(record.expect(StatusCode::CREATED)["expires_at"], "2026-01-01T00:00:01Z");
    api.clock.advance(SECOND);
    assert_eq!(only(&api).await["reason"], "expired");
}

#[tokio::test]
async fn a_new_life_time_counts_for_what_is_stored() {
    let (api, key) = with_key(Setup::default()).await;
    submit(&api, &body(&key, "preview-v1", None)).await.expect(StatusCode::CREATED);
    api.clock.advance(2 * DAY);
    let api = api.restart(Setup::with_ttl(Some(DAY)));
    let record = only(&api).await;
    assert_eq!((&record["reason"], &record["expires_at"]), (&json!("expired"), &json!("2026-01-02T00:00:00Z")));
    let api = api.restart(Setup::with_ttl(None));
    assert_eq!(only(&api).await["is_valid"], json!(true));
    let api = api.restart(Setup::with_ttl(Some(30 * DAY)));
    assert_eq!(only(&api).await["expires_at"], "2026-01-31T00:00:00Z");
}

#[tokio::test]
async fn a_life_counts_from_the_first_sight_whatever_comes_later() {
    let (api, key) = with_key(Setup::default()).await;
    let first = body(&key, "preview-v1", None);
    submit(&api, &first).await.expect(StatusCode::CREATED);
    api.clock.advance(3 * DAY);
    for again in [first, body(&key, "preview-v1", None)] {
        let record = submit(&api, &again).await.expect(StatusCode::OK);
        assert_eq!(record["expires_at"], "2026-01-08T00:00:00Z");
    }
    // Another tag for the same signature begins no new life either.
    let promoted = submit(&api, &body(&key, "preview-v2", None)).await.expect(StatusCode::CREATED);
    assert_eq!(promoted["created_at"], "2026-01-04T00:00:00Z");
    assert_eq!(
        (&promoted["first_seen"], &promoted["expires_at"]),
        (&json!("2026-01-01T00:00:00Z"), &json!("2026-01-08T00:00:00Z"))
    );
}

#[tokio::test]
async fn a_clock_that_is_set_back_extends_nothing() {
    let (api, key) = with_key(Setup::default()).await;
    let first = body(&key, "preview-v1", None);
    submit(&api, &first).await.expect(StatusCode::CREATED);
    let start = api.clock.now();
    api.clock.set(start - 3 * DAY);
    assert_eq!(only(&api).await["expires_at"], "2026-01-08T00:00:00Z");
    let record = submit(&api, &first).await.expect(StatusCode::OK);
    assert_eq!(record["expires_at"], "2026-01-08T00:00:00Z");
    api.clock.set(start + 7 * DAY);
    assert_eq!(only(&api).await["reason"], "expired");
    submit(&api, &first).await.problem(StatusCode::CONFLICT, "expired");
}
