//! OpenPGP signatures as podman, skopeo and CRI-O read and write them at a registry that supports them.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sig_repo::oci::Digest;

use crate::support::{
    mirror::{Answer, CRANE, Mirror, PODMAN, Setup},
    registry::Registry,
};

const REPOSITORY: &str = "team/app";
const TAG: &str = "preview-v1";
const MANIFEST: &[u8] = include_bytes!("../fixtures/trust/manifest");
/// Over the manifest, as docker.io/team/app:preview-v1.
const SIGNATURE: &[u8] = include_bytes!("../fixtures/openpgp/ed25519.gpg");
const OURS: &str = "registry.example:5000";
const ADMIN: (&str, &str) = ("authorization", "Basic YWRtaW46c2VjcmV0");

fn path() -> String {
    format!("/extensions/v2/{REPOSITORY}/signatures/{}", Digest::sha256(MANIFEST))
}

fn atomic(content: &[u8]) -> Value {
    let name = format!("{}@{:032x}", Digest::sha256(MANIFEST), 7);
    json!({ "schemaVersion": 2, "name": name, "type": "atomic", "content": BASE64_STANDARD.encode(content) })
}

async fn put(mirror: &Mirror, path: &str, body: impl ToString, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("user-agent", PODMAN)], headers].concat();
    mirror.send(Method::PUT, path, &headers, Bytes::from(body.to_string())).await
}

fn contents(listed: &Answer) -> Vec<Vec<u8>> {
    let signatures = listed.json()["signatures"].as_array().unwrap().clone();
    signatures.iter().map(|one| BASE64_STANDARD.decode(one["content"].as_str().unwrap()).unwrap()).collect()
}

/// An upstream with the image, and what trusts the key that signed it.
async fn signed() -> (Registry, Setup) {
    let registry = Registry::start().await;
    registry.push_blob(REPOSITORY, &b"{}"[..]);
    registry.push_blob(REPOSITORY, &b""[..]);
    registry.push_manifest(REPOSITORY, Some(TAG), "application/vnd.oci.image.manifest.v1+json", MANIFEST);
    let key = include_str!("../fixtures/openpgp/ed25519.asc").to_owned();
    let setup = Setup::over(&registry).trusting_file("team.asc", key);
    (registry, setup)
}

#[tokio::test]
async fn what_podman_puts_admits_the_image_and_is_what_podman_gets() {
    let (registry, setup) = signed().await;
    let mirror = setup.start().await;
    let base = mirror.get("/v2/", PODMAN).await;
    assert_eq!(base.header("x-registry-supports-signatures"), Some("1"));
    let extensions = mirror.get("/v2/_oci/ext/discover", PODMAN).await.json();
    assert_eq!(extensions["extensions"][1]["endpoints"][0], "/extensions/v2/{name}/signatures/{digest}");

    let manifest = format!("/v2/{REPOSITORY}/manifests/{TAG}");
    assert_eq!(mirror.get(&manifest, CRANE).await.status, StatusCode::FORBIDDEN);
    assert_eq!(mirror.get(&path(), PODMAN).await.json(), json!({ "signatures": [] }));
    for _ in 0..2 {
        let answer = put(&mirror, &path(), atomic(SIGNATURE), &[]).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::CREATED, 0));
    }
    assert_eq!(mirror.get(&manifest, CRANE).await.body, MANIFEST);

    let listed = mirror.get(&path(), PODMAN).await;
    assert_eq!(listed.header("content-type"), Some("application/json"));
    assert_eq!(contents(&listed), [SIGNATURE]);
    let signature = &listed.json()["signatures"][0];
    assert_eq!((&signature["schemaVersion"], &signature["type"]), (&json!(2), &json!("atomic")));
    let id = hex::encode(&Digest::sha256(SIGNATURE).as_bytes()[..16]);
    assert_eq!(signature["name"], format!("{}@{id}", Digest::sha256(MANIFEST)));
    let direct = path().replace(REPOSITORY, "docker.io/team/app");
    assert_eq!(contents(&mirror.get(&direct, PODMAN).await), [SIGNATURE]);
    let head = mirror.head(&path(), PODMAN).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    for other in
        [path().replace(REPOSITORY, "team/other"), path().replace("signatures/sha256:9", "signatures/sha256:8")]
    {
        assert_eq!(mirror.get(&other, PODMAN).await.json(), json!({ "signatures": [] }), "{other}");
    }

    let records = mirror.get(&format!("/api/v1/signatures?digest={}", Digest::sha256(MANIFEST)), CRANE).await.json();
    let record = &records["signatures"][0];
    assert_eq!(records["signatures"].as_array().unwrap().len(), 1);
    assert_eq!((&record["tag"], &record["repository"]), (&json!(TAG), &json!("docker.io/team/app")));
    assert_eq!((&record["format"], &record["is_valid"]), (&json!("openpgp"), &json!(true)));
    assert_eq!(record["verified_by"]["name"], "team");
    let evidence = record["verified_by"]["evidence"][0].as_str().unwrap();
    assert!(evidence.starts_with("OpenPGP signature for docker.io/team/app:preview-v1 by the key "), "{evidence}");
    let is_submission = |event: &Value| event["action"] == "submitted";
    mirror.events(|events| events.iter().any(is_submission)).await;
    let upstream = registry.requests();
    assert!(upstream.iter().all(|request| !request.path.contains("extensions")), "nothing of it goes upstream");
}

#[tokio::test]
async fn the_same_over_rest_is_one_record() {
    let (_registry, setup) = signed().await;
    let mirror = setup.start().await;
    let body = json!({
        "image_digest": Digest::sha256(MANIFEST), "tag": TAG, "repository": REPOSITORY,
        "signature": BASE64_STANDARD.encode(SIGNATURE),
    });
    let posted = mirror.post("/api/v1/signatures", &body).await;
    assert_eq!((posted.status, posted.json()["is_valid"].as_bool()), (StatusCode::CREATED, Some(true)));
    assert_eq!(put(&mirror, &path(), atomic(SIGNATURE), &[]).await.status, StatusCode::CREATED);
    assert_eq!(contents(&mirror.get(&path(), PODMAN).await), [SIGNATURE]);
}

#[tokio::test]
async fn only_an_account_submits_where_there_are_accounts() {
    let (_registry, setup) = signed().await;
    let mirror = Setup { auth: Some(("admin", "secret")), registry_hosts: OURS, ..setup }.start().await;
    let challenge = mirror.send(Method::GET, "/v2/", &[("host", OURS)], Bytes::new()).await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    assert_eq!(challenge.header("x-registry-supports-signatures"), Some("1"), "podman looks at no later answer");
    for headers in [&[][..], &[("authorization", "Basic YWRtaW46d3Jvbmc=")]] {
        let answer = put(&mirror, &path(), atomic(SIGNATURE), headers).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (StatusCode::FORBIDDEN, None));
        assert_eq!(answer.json()["errors"][0]["code"], "DENIED");
        let answer = put(&mirror, &path(), atomic(SIGNATURE), &[headers, &[("host", OURS)]].concat()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(contents(&mirror.get(&path(), PODMAN).await), [[0; 0]; 0]);
    let answer = put(&mirror, &path(), atomic(SIGNATURE), &[("host", OURS), ADMIN]).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(contents(&mirror.get(&path(), PODMAN).await), [SIGNATURE], "reading is for everybody");
}

#[tokio::test]
async fn what_does_not_fit_the_path_is_refused_and_not_stored() {
    let (_registry, setup) = signed().await;
    let mirror = setup.start().await;
    let changed = |member: &str, value: Value| {
        let mut body = atomic(SIGNATURE);
        body[member] = value;
        body.to_string()
    };
    let content = |bytes: &[u8]| atomic(bytes).to_string();
    for (body, text) in [
        (String::new(), "expected JSON"),
        ("[]".to_owned(), "expected JSON"),
        (changed("schemaVersion", json!(1)), "schemaVersion 2"),
        (changed("type", json!("cosign")), "type atomic"),
        (changed("name", json!("x@1")), "expected a name"),
        (changed("content", json!("!")), "not base64"),
        (content(b"not OpenPGP"), "armour"),
        (content(MANIFEST), "armour"),
        (content(include_bytes!("../fixtures/openpgp/refused-two.gpg")), "more than one signature"),
        (content(include_bytes!("../fixtures/openpgp/refused-type.gpg")), "of type 'atomic"),
        (content(include_bytes!("../fixtures/openpgp/other-image.gpg")), "the signature is over sha256:0000"),
        (content(include_bytes!("../fixtures/openpgp/other-repository.gpg")), "is for docker.io/team/other"),
        ("x".repeat(300 * 1024), "longer than 256 KiB"),
    ] {
        let answer = put(&mirror, &path(), &body, &[]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{text}");
        let message = answer.json()["errors"][0]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(text), "{message}, not {text}");
    }
    for (method, path, status) in [
        (Method::POST, path(), StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, path(), StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/extensions".to_owned(), StatusCode::NOT_FOUND),
        (Method::GET, "/extensions/v2/team/app/signatures".to_owned(), StatusCode::NOT_FOUND),
        (Method::GET, path().replace("signatures", "manifests"), StatusCode::NOT_FOUND),
        (Method::GET, path().replace("sha256:", "sha256:X"), StatusCode::BAD_REQUEST),
        (Method::GET, path().replace(REPOSITORY, "Team/App"), StatusCode::BAD_REQUEST),
        (Method::PUT, path().replace(REPOSITORY, "unknown.example/app"), StatusCode::FORBIDDEN),
    ] {
        let answer = mirror.send(method, &path, &[("user-agent", PODMAN)], Bytes::new()).await;
        assert_eq!(answer.status, status, "{path}");
    }
    let records = mirror.get(&format!("/api/v1/signatures?digest={}", Digest::sha256(MANIFEST)), CRANE).await.json();
    assert_eq!(records["signatures"], json!([]));
}

#[tokio::test]
async fn a_preview_whose_life_is_over_is_listed_no_longer() {
    let (_registry, setup) = signed().await;
    let mirror = setup.start().await;
    put(&mirror, &path(), atomic(SIGNATURE), &[]).await;
    mirror.clock.advance(Duration::from_secs(7 * 24 * 3600));
    assert_eq!(mirror.get(&path(), PODMAN).await.json(), json!({ "signatures": [] }));
    let again = put(&mirror, &path(), atomic(SIGNATURE), &[]).await;
    assert_eq!((again.status, again.json()["errors"][0]["code"].clone()), (StatusCode::FORBIDDEN, json!("DENIED")));
}

/// Row 38 of the pitfalls.
#[tokio::test]
async fn signatures_of_internal_images_are_for_those_who_see_the_images() {
    let (registry, setup) = signed().await;
    registry.push_manifest("team/inner", Some("internal-v1"), "application/vnd.oci.image.manifest.v1+json", MANIFEST);
    let mirror = Setup { auth: Some(("admin", "secret")), registry_hosts: OURS, ..setup }.start().await;
    let inner = path().replace(REPOSITORY, "team/inner");
    let body = json!({
        "image_digest": Digest::sha256(MANIFEST), "tag": "internal-v1", "repository": "team/inner",
        "signature": BASE64_STANDARD.encode(SIGNATURE),
    });
    let headers = [("content-type", "application/json"), ADMIN];
    let posted = mirror.send(Method::POST, "/api/v1/signatures", &headers, body.to_string().into()).await;
    assert_eq!(posted.status, StatusCode::CREATED);
    mirror.send(Method::GET, "/v2/team/inner/manifests/internal-v1", &[("host", OURS), ADMIN], Bytes::new()).await;
    let asked = async |headers: &[(&str, &str)]| mirror.send(Method::GET, &inner, headers, Bytes::new()).await;
    assert_eq!(contents(&asked(&[]).await), [[0; 0]; 0]);
    assert_eq!(contents(&asked(&[ADMIN]).await), [SIGNATURE]);
}
