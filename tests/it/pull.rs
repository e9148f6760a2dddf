//! What a pull gets: the signed image as the upstream has it, and for the unsigned one a refusal.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use sig_repo::{oci::Digest, policy::Level};

use crate::support::{
    key::Key,
    mirror::{CONTAINERD, CRANE, DOCKER, Mirror, PODMAN, Setup},
    registry::{Fault, Image, Registry},
    signing::{Ed25519Key, simple_signing},
};

const TAG: &str = "preview-v1";
const REPOSITORY: &str = "team/app";

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// A mirror that trusts one key, over a registry with one image under a preview tag.
async fn mirror_with_image() -> (Mirror, Registry, Key, Image) {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let key = Key::generate();
    let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
    (mirror, registry, key, image)
}

#[tokio::test]
async fn signed_image_comes_with_the_upstreams_bytes_and_digest() {
    let (mirror, _registry, key, image) = mirror_with_image().await;
    let submitted = mirror.submit(&key, TAG, &image.bytes).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{submitted:?}");
    for path in [manifest(TAG), manifest(image.digest), format!("/v2/docker.io/{REPOSITORY}/manifests/{TAG}")] {
        let answer = mirror.get(&path, DOCKER).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{path}");
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
        assert_eq!(answer.header("content-type"), Some(image.media_type.as_str()));
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        assert_eq!(answer.header("warning"), None);
        let head = mirror.head(&path, DOCKER).await;
        assert_eq!((head.status, &head.body), (StatusCode::OK, &Bytes::new()));
        assert_eq!(head.header("content-length"), Some(image.bytes.len().to_string().as_str()));
    }
}

/// An Ed25519 signature is over the bytes themselves, and nothing has them before the first pull.
#[tokio::test]
async fn the_first_pull_brings_the_bytes_that_a_signature_needs() {
    for by_digest in [false, true] {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
        let key = Ed25519Key::generate();
        let mirror = Setup::over(&registry).trusting_pem("ci", key.public_pem()).level(Level::Enforce);
        let mirror = mirror.start().await;
        let body = json!({ "image_digest": image.digest, "tag": TAG, "signature": key.sign_base64(&image.bytes) });
        let record = mirror.post("/api/v1/signatures", &body).await.json();
        assert_eq!(record["reason"], "manifest-not-held");
        let path = if by_digest { manifest(image.digest) } else { manifest(TAG) };
        let answer = mirror.get(&path, DOCKER).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{path}");
    }
}

#[tokio::test]
async fn unsigned_image_is_refused_in_the_form_that_stops_each_client() {
    let (mirror, _registry, _key, _image) = mirror_with_image().await;
    let message = format!("sig-repo: {REPOSITORY}:{TAG} refused: no valid signature (policy preview)");
    let ended = format!("{message} (no such process)");
    let mismatch = json!({ "schemaVersion": 2, "mediaType": ended });
    let denied = json!({ "errors": [{ "code": "DENIED", "message": message, "detail": null }] });
    let docker = json!({ "errors": [{ "code": "DENIED", "message": ended, "detail": null }] });
    let bare = manifest(TAG);
    let ns = format!("{bare}?ns=docker.io");
    for (path, agent, head, get, phrase, body) in [
        (&bare, DOCKER, 500, 500, Some(&ended), &docker),
        (&bare, PODMAN, 403, 200, None, &mismatch),
        (&bare, CRANE, 403, 403, Some(&message), &denied),
        (&bare, "unheard-of/1", 300, 300, Some(&message), &mismatch),
        (&ns, CONTAINERD, 300, 200, None, &mismatch),
    ] {
        let answer = mirror.get(path, agent).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (get, body.clone()), "{agent}");
        if let Some(phrase) = phrase {
            assert_eq!(&answer.phrase, phrase, "{agent}");
        }
        assert_eq!(answer.header("warning"), Some(format!("299 - \"{message}\"").as_str()), "{agent}");
        assert_eq!(answer.header("cache-control"), Some("private, no-store"));
        assert_eq!(answer.header("location"), None);
        let answer = mirror.head(path, agent).await;
        assert_eq!((answer.status.as_u16(), answer.body), (head, Bytes::new()), "HEAD {agent}");
    }
    let head = mirror.head(&ns, CONTAINERD).await;
    assert_eq!(head.phrase, message);
    let direct = mirror.get(&format!("/v2/docker.io/{REPOSITORY}/manifests/{TAG}"), DOCKER).await;
    let message = message.replace(REPOSITORY, &format!("docker.io/{REPOSITORY}"));
    assert_eq!((direct.status.as_u16(), direct.phrase), (403, message));
}

#[tokio::test]
async fn dockerd_behind_a_hop_gets_the_form_that_survives_a_lost_phrase() {
    let (mirror, _registry, ..) = mirror_with_image().await;
    for hop in [("via", "1.1 lb"), ("x-forwarded-for", "192.0.2.1")] {
        let answer = mirror.send(Method::GET, &manifest(TAG), &[("user-agent", DOCKER), hop], Bytes::new()).await;
        assert_eq!(answer.status.as_u16(), 300, "{hop:?}");
        assert!(answer.json()["mediaType"].as_str().unwrap().ends_with(" (no such process)"));
    }
}

#[tokio::test]
async fn ordinary_tag_is_served_under_audit_with_a_warning() {
    let (mirror, registry, _key, _) = mirror_with_image().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"ordinary"]);
    let answer = mirror.get(&manifest("v1"), DOCKER).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes));
    let warning = format!("299 - \"docker.io/{REPOSITORY}:v1 served unverified: no valid signature (policy default)\"");
    assert_eq!(answer.header("warning"), Some(warning.as_str()));
}

#[tokio::test]
async fn after_a_refused_tag_its_digest_is_refused_too() {
    let (mut mirror, _registry, _key, image) = mirror_with_image().await;
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 500);
    for _ in 0..2 {
        let answer = mirror.get(&manifest(image.digest), "containerd/9").await;
        assert_eq!(answer.status.as_u16(), 300, "{answer:?}");
        assert!(answer.phrase.contains("no valid signature (policy preview)"), "{}", answer.phrase);
        assert_eq!(answer.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
        mirror.restart().await;
    }
}

#[tokio::test]
async fn an_audited_tag_does_not_launder_a_refused_digest() {
    let (mirror, registry, _key, image) = mirror_with_image().await;
    registry.tag(REPOSITORY, "v1", &image.digest);
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 500);
    // The tag itself is audited, and so is dockerd's second step after it.
    assert_eq!(mirror.head(&manifest("v1"), DOCKER).await.status.as_u16(), 200);
    assert_eq!(mirror.get(&manifest(image.digest), DOCKER).await.status.as_u16(), 200);
    // Whoever asks for the digest alone is held to the enforced tag.
    assert_eq!(mirror.get(&manifest(image.digest), CRANE).await.status.as_u16(), 403);
    mirror.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(mirror.get(&manifest(image.digest), DOCKER).await.status.as_u16(), 500);
}

#[tokio::test]
async fn children_of_an_index_share_its_fate() {
    let registry = Registry::start().await;
    let child = registry.push_image(REPOSITORY, None, &[b"linux"]);
    let index = registry.push_index(REPOSITORY, Some(TAG), &[&child]);
    let stranger = registry.push_image(REPOSITORY, None, &[b"stranger"]);
    let key = Key::generate();
    let setup = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry).trusting("ci", &key) };
    let mut mirror = setup.start().await;
    assert_eq!(mirror.get(&manifest(TAG), CRANE).await.status.as_u16(), 403);
    let refused = mirror.get(&manifest(child.digest), CRANE).await;
    assert_eq!((refused.status.as_u16(), refused.phrase.contains("policy preview")), (403, true), "{refused:?}");

    let authorization = ("authorization", "Basic YWRtaW46c2VjcmV0");
    let body =
        json!({ "image_digest": index.digest.to_string(), "tag": TAG, "signature": key.sign_base64(&index.bytes) });
    let headers = [authorization, ("content-type", "application/json")];
    let record = mirror.send(Method::POST, "/api/v1/signatures", &headers, body.to_string().into()).await;
    assert_eq!(record.status, StatusCode::CREATED, "{record:?}");
    for _ in 0..2 {
        assert_eq!(mirror.get(&manifest(TAG), CRANE).await.body, index.bytes);
        assert_eq!(mirror.get(&manifest(child.digest), CRANE).await.body, child.bytes);
        mirror.restart().await;
        // The lineage is read back: the child alone is asked for first.
        assert_eq!(mirror.get(&manifest(child.digest), CRANE).await.body, child.bytes);
    }
    let refused = mirror.get(&manifest(stranger.digest), CRANE).await;
    assert_eq!(refused.status.as_u16(), 403, "an unknown digest beside preview tags is enforced: {refused:?}");

    let id = record.json()["id"].as_str().unwrap().to_owned();
    let withdrawn =
        mirror.send(Method::DELETE, &format!("/api/v1/signatures/{id}"), &[authorization], Bytes::new()).await;
    assert!(withdrawn.status.is_success(), "{withdrawn:?}");
    for reference in [child.digest.to_string(), TAG.to_owned()] {
        assert_eq!(mirror.get(&manifest(reference), CRANE).await.status.as_u16(), 403);
    }
}

#[tokio::test]
async fn a_moved_tag_is_judged_by_what_it_names_now() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    mirror.submit(&key, TAG, &image.bytes).await;
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 200);
    let other = registry.push_image(REPOSITORY, Some(TAG), &[b"other"]);
    assert_ne!(other.digest, image.digest);
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 500);
    // A signature of the first, submitted for the second, is one of something else.
    let signature = key.sign_base64(&image.bytes);
    let body = json!({ "image_digest": other.digest.to_string(), "tag": TAG, "signature": signature });
    assert_eq!(mirror.post("/api/v1/signatures", &body).await.json()["is_valid"], false);
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 500);
}

#[tokio::test]
async fn a_digest_header_of_the_upstream_is_not_believed() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    mirror.submit(&key, TAG, &image.bytes).await;
    let evil = registry.push_image(REPOSITORY, Some("evil"), &[b"evil"]);
    registry.fault("/v2/team/app/manifests/", Fault::WrongDigestHeader);
    let answer = mirror.get(&manifest(TAG), DOCKER).await;
    assert_eq!(answer.header("docker-content-digest"), Some(image.digest.to_string().as_str()));
    registry.heal();
    registry.tag(REPOSITORY, TAG, &evil.digest);
    registry.fault("GET /v2/team/app/manifests/", Fault::WrongBytes);
    for reference in [TAG.to_owned(), evil.digest.to_string()] {
        let answer = mirror.get(&manifest(reference), DOCKER).await;
        assert_eq!(answer.status.as_u16(), 500, "{answer:?}");
        assert!(answer.phrase.contains(" refused: "), "{answer:?}");
    }
}

#[tokio::test]
async fn every_failure_of_the_upstream_is_a_refusal_under_enforce_and_an_error_under_audit() {
    for (fault, code) in [
        (Fault::status(402), "quota-exceeded"),
        (Fault::status(429), "rate-limited"),
        (Fault::status(500), "status"),
        (Fault::status(503), "status"),
        (Fault::Reset, "reset"),
        (Fault::Hang, "timeout"),
    ] {
        let (mirror, registry, _key, _image) = mirror_with_image().await;
        registry.push_image(REPOSITORY, Some("v1"), &[b"ordinary"]);
        registry.fault("/v2/team/app/", fault);
        let refused = mirror.get(&manifest(TAG), DOCKER).await;
        assert_eq!(refused.status.as_u16(), 500, "{code}: {refused:?}");
        assert!(refused.phrase.contains(code) && refused.phrase.ends_with("(no such process)"), "{code}: {refused:?}");
        let error = mirror.get(&manifest("v1"), DOCKER).await;
        let expected = if code == "timeout" { 504 } else { 502 };
        assert_eq!(error.status.as_u16(), expected, "{code}: {error:?}");
        assert!(!error.phrase.contains("no such process"), "{code}");
    }
}

#[tokio::test]
async fn absent_and_refused_look_alike_to_a_mirrors_client_and_404_to_a_direct_one() {
    let (mirror, registry, ..) = mirror_with_image().await;
    let absent = mirror.get(&manifest("preview-gone"), DOCKER).await;
    assert_eq!(absent.status.as_u16(), 500);
    assert_eq!(
        absent.phrase,
        "sig-repo: team/app:preview-gone refused: refused or not found (policy preview) (no such process)"
    );
    let direct = mirror.get("/v2/docker.io/team/app/manifests/preview-gone", DOCKER).await;
    assert_eq!((direct.status.as_u16(), &direct.json()["errors"][0]["code"]), (404, &json!("MANIFEST_UNKNOWN")));
    for status in [401, 403] {
        registry.fault("/v2/team/app/", Fault::status(status));
        let invisible = mirror.get(&manifest("preview-gone"), DOCKER).await;
        assert_eq!(invisible.phrase, absent.phrase, "{status}");
        let direct = mirror.get("/v2/docker.io/team/app/manifests/preview-gone", DOCKER).await;
        assert_eq!(direct.status.as_u16(), 404, "{status}");
        registry.heal();
    }
    let audited = mirror.get(&manifest("v-gone"), DOCKER).await;
    assert_eq!((audited.status.as_u16(), &audited.json()["errors"][0]["code"]), (404, &json!("MANIFEST_UNKNOWN")));
}

#[tokio::test]
async fn a_name_that_is_not_configured_is_refused_and_never_fetched() {
    let (mirror, registry, ..) = mirror_with_image().await;
    for (path, status) in [
        ("/v2/evil.example/team/app/manifests/v1", 403),
        ("/v2/127.0.0.1:1/team/app/manifests/v1", 403),
        ("/v2/localhost/team/app/manifests/v1", 403),
        ("/v2/team/app/manifests/v1?ns=evil.example", 200),
        ("/v2/team/app/manifests/v1?ns=169.254.169.254", 200),
        ("/v2/team/app/manifests/v1?ns=docker.io&ns=evil.example", 200),
        ("/v2/team/app/manifests/v1?ns=", 200),
    ] {
        let answer = mirror.get(path, CONTAINERD).await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.body).contains("not configured here"), "{path}: {answer:?}");
    }
    assert_eq!(registry.request_lines(), Vec::<String>::new());
}

#[tokio::test]
async fn every_spelling_of_a_name_meets_the_same_policy() {
    let registry = Registry::start().await;
    registry.push_image("library/nginx", Some(TAG), &[b"layer"]);
    let mirror = Mirror::over(&registry).await;
    for name in [
        "nginx",
        "library/nginx",
        "docker.io/nginx",
        "docker.io/library/nginx",
        "index.docker.io/library/nginx",
        "registry-1.docker.io/library/nginx",
        "DOCKER.io/library/nginx",
    ] {
        let answer = mirror.get(&format!("/v2/{name}/manifests/{TAG}"), CRANE).await;
        assert_eq!(answer.status.as_u16(), 403, "{name}: {answer:?}");
        assert!(answer.phrase.contains("no valid signature (policy preview)"), "{name}: {answer:?}");
    }
    for (path, code) in [
        ("/v2//nginx/manifests/v1", "NAME_INVALID"),
        ("/v2/library%2fnginx/manifests/v1", "NAME_INVALID"),
        ("/v2/a/../nginx/manifests/v1", "NAME_INVALID"),
        ("/v2/Library/nginx/manifests/v1", "NAME_INVALID"),
        ("/v2/nginx/manifests/sha256:abc", "DIGEST_INVALID"),
        ("/v2/nginx/manifests/-bad", "MANIFEST_INVALID"),
        ("/v2/nginx/blobs/sha256:..%2f..%2fetc", "DIGEST_INVALID"),
        ("/v2/nginx/blobs/latest", "DIGEST_INVALID"),
    ] {
        let answer = mirror.get(path, CRANE).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errors"][0]["code"]), (400, &json!(code)), "{path}");
    }
}

#[tokio::test]
async fn a_cosign_signature_in_the_upstream_admits_its_image() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    let payload = simple_signing(&image.digest);
    registry.push_cosign_signatures(
        REPOSITORY,
        &image.digest,
        &[(payload.as_bytes(), &key.sign_base64(payload.as_bytes()))],
    );
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.body, image.bytes);
    // Found once, it is kept: the upstream is not asked for it again.
    registry.forget_requests();
    registry.fault(&format!("/v2/team/app/manifests/sha256-{}.sig", image.digest.encoded()), Fault::status(500));
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.body, image.bytes);
    assert!(registry.request_lines().iter().all(|line| !line.contains("sha256-")), "{:?}", registry.request_lines());
    // A preview signature ends by when it was first seen, wherever it was found.
    mirror.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600));
    registry.heal();
    let expired = mirror.get(&manifest(TAG), DOCKER).await;
    assert_eq!(expired.status.as_u16(), 500, "{expired:?}");
    assert!(expired.phrase.contains("expired"), "{expired:?}");
}

#[tokio::test]
async fn a_preview_that_is_found_again_is_as_old_as_it_was() {
    let (mut mirror, registry, key, image) = mirror_with_image().await;
    let payload = simple_signing(&image.digest);
    let signature = key.sign_base64(payload.as_bytes());
    registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), &signature)]);
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.body, image.bytes);
    mirror.stop().await;
    std::fs::remove_file(mirror.data_dir().join("memory.redb")).unwrap();
    mirror.restart().await;
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.body, image.bytes);
    mirror.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600));
    assert!(mirror.get(&manifest(TAG), DOCKER).await.phrase.contains("expired"));
    mirror.stop().await;
    std::fs::remove_file(mirror.data_dir().join("memory.redb")).unwrap();
    mirror.restart().await;
    let again = mirror.get(&manifest(TAG), DOCKER).await;
    assert!(again.phrase.contains("expired"), "{again:?}");
    // Nor does it count when somebody submits it.
    let body = json!({
        "image_digest": image.digest.to_string(), "tag": TAG, "signature": signature,
        "payload": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, payload),
    });
    let posted = mirror.post("/api/v1/signatures", &body).await;
    assert_eq!(posted.status, StatusCode::CONFLICT, "{posted:?}");
}

#[tokio::test]
async fn a_cosign_signature_of_another_image_or_key_admits_nothing() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    let other = simple_signing(&Digest::sha256(b"other"));
    let own = simple_signing(&image.digest);
    let stranger = Key::generate();
    registry.push_cosign_signatures(
        REPOSITORY,
        &image.digest,
        &[
            (other.as_bytes(), &key.sign_base64(other.as_bytes())),
            (own.as_bytes(), &stranger.sign_base64(own.as_bytes())),
        ],
    );
    let answer = mirror.get(&manifest(TAG), DOCKER).await;
    assert_eq!(answer.status.as_u16(), 500);
    assert!(answer.phrase.contains(&format!("the signature is over {}", Digest::sha256(b"other"))), "{answer:?}");
}

#[tokio::test]
async fn signatures_that_could_not_be_looked_for_are_could_not_tell() {
    for fault in [Fault::status(429), Fault::status(500), Fault::Reset] {
        let (mirror, registry, _key, image) = mirror_with_image().await;
        registry.fault(&format!("/v2/team/app/manifests/sha256-{}.sig", image.digest.encoded()), fault);
        let answer = mirror.get(&manifest(TAG), DOCKER).await;
        assert_eq!(answer.status.as_u16(), 500);
        assert!(answer.phrase.contains("could not be checked: the upstream registry did not answer"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_record_bears_on_the_repository_and_the_tag_it_names() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    registry.push_image("team/other", Some(TAG), &[b"layer"]);
    let copy = registry.push_manifest("team/other", Some(TAG), &image.media_type, image.bytes.clone());
    registry.tag(REPOSITORY, "preview-v2", &image.digest);
    assert_eq!(copy.digest, image.digest);
    let body = json!({
        "image_digest": image.digest.to_string(), "tag": TAG, "repository": REPOSITORY,
        "signature": key.sign_base64(&image.bytes),
    });
    assert_eq!(mirror.post("/api/v1/signatures", &body).await.status, StatusCode::CREATED);
    for _ in 0..2 {
        assert_eq!(mirror.get(&manifest(TAG), CRANE).await.status.as_u16(), 200);
        assert_eq!(mirror.get(&format!("/v2/team/other/manifests/{TAG}"), CRANE).await.status.as_u16(), 403);
        assert_eq!(mirror.get(&format!("/v2/team/other/manifests/{}", image.digest), CRANE).await.status.as_u16(), 403);
        assert_eq!(mirror.get(&manifest("preview-v2"), CRANE).await.status.as_u16(), 403);
    }
}

#[tokio::test]
async fn garbage_does_not_hide_the_good_signature() {
    let (mirror, _registry, key, image) = mirror_with_image().await;
    for _ in 0..64 {
        let garbage = Key::generate().sign_base64(&image.bytes);
        let body = json!({ "image_digest": image.digest.to_string(), "tag": TAG, "signature": garbage });
        mirror.post("/api/v1/signatures", &body).await;
    }
    assert_eq!(mirror.submit(&key, TAG, &image.bytes).await.status, StatusCode::CREATED);
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_key_put_into_the_directory_counts_and_one_taken_out_stops_counting() {
    let (mirror, _registry, key, image) = mirror_with_image().await;
    mirror.submit(&key, TAG, &image.bytes).await;
    assert_eq!(mirror.get(&manifest(TAG), CRANE).await.status.as_u16(), 200);
    let file = mirror.trust_dir().join("ci.pub");
    std::fs::remove_file(&file).unwrap();
    mirror.until(&manifest(TAG), 403).await;
    std::fs::write(&file, key.pem()).unwrap();
    mirror.until(&manifest(TAG), 200).await;
}

#[tokio::test]
async fn blobs_leave_only_where_an_admitted_manifest_of_the_repository_names_them() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    let layer = Digest::sha256(b"layer");
    let blob = format!("/v2/{REPOSITORY}/blobs/{layer}");
    assert_eq!(mirror.get(&blob, DOCKER).await.status.as_u16(), 404, "nothing is known of it yet");
    assert_eq!(mirror.get(&manifest(TAG), DOCKER).await.status.as_u16(), 500);
    assert_eq!(mirror.get(&blob, DOCKER).await.status.as_u16(), 403, "the image is refused");
    mirror.submit(&key, TAG, &image.bytes).await;
    let answer = mirror.get(&blob, DOCKER).await;
    assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, b"layer".as_ref()));
    assert_eq!(answer.header("docker-content-digest"), Some(layer.to_string().as_str()));
    assert_eq!(answer.header("cache-control"), Some("private"));
    let range = [("range", "bytes=1-2"), ("user-agent", DOCKER)];
    let part = mirror.send(Method::GET, &blob, &range, Bytes::new()).await;
    assert_eq!((part.status.as_u16(), part.body.as_ref()), (206, b"ay".as_ref()));
    let head = mirror.head(&blob, DOCKER).await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("5")));
    registry.push_blob("team/other", b"layer".to_vec());
    assert_eq!(mirror.get(&format!("/v2/team/other/blobs/{layer}"), DOCKER).await.status.as_u16(), 404);
    // Without the key the blobs go with the image.
    std::fs::remove_file(mirror.trust_dir().join("ci.pub")).unwrap();
    mirror.until(&blob, 403).await;
}

#[tokio::test]
async fn signature_artifacts_are_readable_and_a_runnable_image_under_such_a_name_is_gated() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let payload = simple_signing(&image.digest);
    let signature = registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), "AAAA")]);
    let referrer = registry.push_referrer(REPOSITORY, &image, "application/vnd.dev.sigstore.bundle.v0.3+json", b"{}");
    let mirror = Setup::over(&registry).level(Level::Enforce).start().await;
    let name = |digest: &Digest| format!("sha256-{}.sig", digest.encoded());
    let answer = mirror.get(&manifest(name(&image.digest)), "cosign/2").await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &signature.bytes));
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(payload.as_bytes()));
    assert_eq!(mirror.get(&blob, "cosign/2").await.body, payload.as_bytes());
    assert_eq!(mirror.get(&manifest(referrer.digest), "cosign/3").await.body, referrer.bytes);
    let listed = mirror.get(&format!("/v2/{REPOSITORY}/referrers/{}", image.digest), "oras/1").await;
    assert_eq!(listed.json()["manifests"][0]["digest"], referrer.digest.to_string());
    let other = Digest::sha256(b"nobody");
    assert_eq!(mirror.get(&manifest(name(&other)), "cosign/2").await.status.as_u16(), 404);
    registry.tag(REPOSITORY, &name(&other), &image.digest);
    assert_eq!(mirror.get(&manifest(name(&other)), CRANE).await.status.as_u16(), 403);
}

#[tokio::test]
async fn internal_images_are_as_absent_to_everybody_once_there_are_accounts() {
    let registry = Registry::start().await;
    let key = Key::generate();
    let image = registry.push_image(REPOSITORY, Some("internal-v1"), &[b"secret"]);
    registry.push_image(REPOSITORY, Some("v1"), &[b"open"]);
    let payload = simple_signing(&image.digest);
    let signature = key.sign_base64(payload.as_bytes());
    registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), &signature)]);
    let setup = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry).trusting("ci", &key) };
    let mirror = setup.start().await;
    let listed = mirror.get(&format!("/v2/{REPOSITORY}/tags/list"), DOCKER).await;
    assert_eq!(listed.json()["tags"], json!(["v1"]));
    let refused = mirror.get(&manifest("internal-v1"), DOCKER).await;
    assert!(refused.phrase.contains("refused or not found (policy internal) (no such process)"), "{refused:?}");
    let absent = mirror.get(&manifest("internal-v2"), DOCKER).await;
    assert_eq!(refused.phrase.replace("v1", "v2"), absent.phrase);
    for path in ["internal-v1".to_owned(), image.digest.to_string(), format!("sha256-{}.sig", image.digest.encoded())] {
        let direct = mirror.get(&format!("/v2/docker.io/{REPOSITORY}/manifests/{path}"), DOCKER).await;
        assert_eq!(direct.status.as_u16(), 404, "{path}: {direct:?}");
    }
    let referrers = |digest: Digest| format!("/v2/{REPOSITORY}/referrers/{digest}");
    registry.push_referrer(REPOSITORY, &image, "application/jose+json", b"{}");
    let hidden = mirror.get(&referrers(image.digest), DOCKER).await;
    let nobodys = mirror.get(&referrers(Digest::sha256(b"nobody")), DOCKER).await;
    assert_eq!((hidden.status, &hidden.body), (nobodys.status, &nobodys.body));
    assert_eq!(hidden.json()["manifests"], json!([]));

    let mut open = Setup { auth: None, ..Setup::over(&registry).trusting("ci", &key) }.start().await;
    assert_eq!(open.get(&manifest("internal-v1"), DOCKER).await.body, image.bytes, "served if signed");
    open.stop().await;
}

#[tokio::test]
async fn an_internal_digest_is_hidden_by_a_node_that_has_seen_nothing_yet() {
    let registry = Registry::start().await;
    let internal = registry.push_image(REPOSITORY, Some("internal-v1"), &[b"secret"]);
    let public = registry.push_image("team/public", Some("v1"), &[b"open"]);
    let setup = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry) };
    let mirror = setup.start().await;
    registry.fault_once("GET /v2/team/app/tags/list", Fault::status(500));
    for _ in 0..2 {
        let answer = mirror.get(&manifest(internal.digest), CRANE).await;
        assert_eq!(answer.status.as_u16(), 403, "{answer:?}");
        mirror.clock.advance(std::time::Duration::from_secs(5));
    }
    let answer = mirror.get(&manifest(internal.digest), CRANE).await;
    assert!(answer.phrase.contains("refused or not found"), "{answer:?}");
    let open = mirror.get(&format!("/v2/team/public/manifests/{}", public.digest), CRANE).await;
    assert_eq!(open.body, public.bytes, "{open:?}");
}

#[tokio::test]
async fn garbage_that_says_internal_hides_no_public_image() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"open"]);
    let mirror = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry) }.start().await;
    let headers = [("authorization", "Basic YWRtaW46c2VjcmV0"), ("content-type", "application/json")];
    let body = json!({
        "image_digest": image.digest.to_string(), "tag": "v1", "tag_type": "internal", "repository": REPOSITORY,
        "signature": Key::generate().sign_base64(&image.bytes),
    });
    let posted = mirror.send(Method::POST, "/api/v1/signatures", &headers, body.to_string().into()).await;
    assert_eq!(posted.status, StatusCode::CREATED, "{posted:?}");
    for reference in ["v1".to_owned(), image.digest.to_string()] {
        assert_eq!(mirror.get(&manifest(reference), CRANE).await.body, image.bytes);
    }
}

#[tokio::test]
async fn a_record_can_class_an_ordinary_tag() {
    let (mirror, registry, key, _) = mirror_with_image().await;
    let image = registry.push_image(REPOSITORY, Some("rc1"), &[b"candidate"]);
    let body = json!({
        "image_digest": image.digest.to_string(), "tag": "rc1", "tag_type": "preview", "repository": REPOSITORY,
        "signature": key.sign_base64(&image.bytes),
    });
    assert_eq!(mirror.post("/api/v1/signatures", &body).await.status, StatusCode::CREATED);
    assert_eq!(mirror.get(&manifest("rc1"), CRANE).await.status.as_u16(), 200);
    mirror.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600));
    let expired = mirror.get(&manifest("rc1"), CRANE).await;
    assert_eq!(expired.status.as_u16(), 403, "{expired:?}");
    registry.fault("/v2/team/app/", Fault::status(500));
    assert_eq!(mirror.get(&manifest("rc1"), CRANE).await.status.as_u16(), 403, "also while the upstream is away");
}

#[tokio::test]
async fn a_clients_credentials_go_nowhere() {
    let (mirror, registry, ..) = mirror_with_image().await;
    let headers = [("authorization", "Basic aHViOnNlY3JldA=="), ("user-agent", DOCKER)];
    let answer = mirror.send(Method::GET, &manifest(TAG), &headers, Bytes::new()).await;
    assert_eq!(answer.status.as_u16(), 500);
    assert!(!registry.requests().is_empty());
    assert!(registry.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn the_rest_of_the_surface_answers_as_the_specification_says() {
    let (mirror, registry, ..) = mirror_with_image().await;
    let base = mirror.get("/v2/", DOCKER).await;
    assert_eq!((base.status.as_u16(), base.body.as_ref()), (200, b"{}".as_ref()));
    assert_eq!(base.header("docker-distribution-api-version"), Some("registry/2.0"));
    let extensions = mirror.get("/v2/_oci/ext/discover", DOCKER).await.json();
    assert_eq!(extensions["extensions"][0]["endpoints"], json!(["_oci/ext/discover"]));
    let old = mirror.get("/v1/_ping", DOCKER).await;
    assert!(String::from_utf8_lossy(&old.body).contains("Docker 20.10 or newer"));
    for (method, path) in [
        (Method::PUT, format!("/v2/{REPOSITORY}/tags/list")),
        (Method::POST, manifest("v9")),
        (Method::PATCH, format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"layer"))),
        (Method::DELETE, manifest(TAG)),
    ] {
        let answer = mirror.send(method.clone(), &path, &[], Bytes::from_static(b"{}")).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["errors"][0]["code"]),
            (405, &json!("UNSUPPORTED")),
            "{method}"
        );
    }
    assert_eq!(registry.request_lines(), Vec::<String>::new());
}

#[tokio::test]
async fn decisions_are_audited() {
    let (mirror, registry, key, image) = mirror_with_image().await;
    registry.push_image(REPOSITORY, Some("v1"), &[b"ordinary"]);
    for _ in 0..3 {
        mirror.get(&manifest(TAG), DOCKER).await;
    }
    mirror.get(&manifest("v1"), DOCKER).await;
    let events = mirror.events(|events| events.len() >= 2).await;
    let refused = events.iter().find(|event| event["action"] == "refused").unwrap();
    assert_eq!(refused["repository"], format!("docker.io/{REPOSITORY}"));
    assert_eq!((&refused["reference"], &refused["reason"]), (&json!(TAG), &json!("unsigned")));
    assert_eq!((&refused["statement"], &refused["address"]), (&json!("preview"), &json!("127.0.0.1")));
    let warned = events.iter().find(|event| event["action"] == "warned").unwrap();
    assert_eq!((&warned["reference"], &warned["user_agent"]), (&json!("v1"), &json!(DOCKER)));
    // What comes over the API is somebody's, too.
    mirror.submit(&key, TAG, &image.bytes).await;
    let events = mirror.events(|events| events.iter().any(|event| event["action"] == "submitted")).await;
    let submitted = events.iter().find(|event| event["action"] == "submitted").unwrap();
    assert_eq!(submitted["address"], "127.0.0.1");
}
