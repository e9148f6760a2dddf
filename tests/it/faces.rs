//! One port with two faces, told apart by the name that a client asks for: a registry of our own, which
//! asks who is there, and the mirror, which never does.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::json;
use sig_repo::{oci::Digest, policy::Level};

use crate::support::{
    key::Key,
    mirror::{Answer, CONTAINERD, CRANE, DOCKER, Mirror, PODMAN, Setup},
    registry::{Auth, Fault, Registry},
};

const REPOSITORY: &str = "team/app";
const OURS: &str = "registry.example:5000";

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn setup(registry: &Registry) -> Setup {
    Setup { auth: Some(("admin", "secret")), registry_hosts: OURS, ..Setup::over(registry) }
}

/// Asks under a name of its own choice, with credentials or without.
async fn ask(mirror: &Mirror, method: Method, host: &str, path: &str, credentials: Option<&str>) -> Answer {
    let basic = credentials.map(|credentials| format!("Basic {}", BASE64_STANDARD.encode(credentials)));
    let mut headers = vec![("host", host), ("user-agent", DOCKER)];
    headers.extend(basic.iter().map(|basic| ("authorization", basic.as_str())));
    mirror.send(method, path, &headers, Bytes::new()).await
}

async fn get(mirror: &Mirror, host: &str, path: &str, credentials: Option<&str>) -> Answer {
    ask(mirror, Method::GET, host, path, credentials).await
}

const ADMIN: Option<&str> = Some("admin:secret");

#[tokio::test]
async fn only_our_own_name_challenges_and_its_realm_is_not_the_clients() {
    let registry = Registry::start().await;
    registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let mirror = setup(&registry).start().await;
    let paths = [
        "/v2/".to_owned(),
        "/v2/_oci/ext/discover".to_owned(),
        manifest("v1"),
        manifest("v2"),
        "/v2/no%20path".to_owned(),
    ];
    for path in &paths {
        for credentials in [None, Some("admin:wrong"), Some("hub:password")] {
            for host in [OURS, "REGISTRY.example:5000"] {
                let answer = get(&mirror, host, path, credentials).await;
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {credentials:?}");
                assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"sig-repo\""));
                assert_eq!(answer.json()["errors"][0]["code"], "UNAUTHORIZED");
            }
            for host in ["mirror.example:5000", "registry.example", "registry.example:5001", "127.0.0.1"] {
                let answer = get(&mirror, host, path, credentials).await;
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{host} {path} {credentials:?}");
                assert_eq!(answer.header("www-authenticate"), None);
            }
        }
        let answer = get(&mirror, OURS, path, ADMIN).await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(get(&mirror, OURS, "/v2/", ADMIN).await.status, StatusCode::OK, "docker login");
    assert!(registry.requests().iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test]
async fn what_is_decided_a_moment_ago_is_not_handed_to_whoever_has_no_account() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let mirror = setup(&registry).start().await;
    for _ in 0..3 {
        assert_eq!(get(&mirror, OURS, &manifest(image.digest), ADMIN).await.body, image.bytes);
        assert_eq!(get(&mirror, "mirror.example", &manifest(image.digest), None).await.body, image.bytes);
        assert_eq!(get(&mirror, OURS, &manifest(image.digest), None).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn without_accounts_no_name_challenges() {
    let registry = Registry::start().await;
    registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let mirror = Setup { auth: None, ..setup(&registry) }.start().await;
    for path in ["/v2/".to_owned(), manifest("v1")] {
        assert_eq!(get(&mirror, OURS, &path, None).await.status, StatusCode::OK);
        assert_eq!(get(&mirror, OURS, &path, ADMIN).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_account_sees_internal_images_under_every_name_and_nobody_else_does() {
    let registry = Registry::start().await;
    let key = Key::generate();
    let image = registry.push_image(REPOSITORY, Some("internal-v1"), &[b"secret"]);
    let layer = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"secret"));
    let sig = format!("sha256-{}.sig", image.digest.encoded());
    let payload =
        br#"{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":""},"type":"x"}}"#;
    registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload, "AAAA")]);
    let payload = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(payload));
    let mirror = setup(&registry).trusting("ci", &key).start().await;
    let body =
        json!({ "image_digest": image.digest, "tag": "internal-v1", "signature": key.sign_base64(&image.bytes) });
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:secret"));
    let headers = [("content-type", "application/json"), ("authorization", basic.as_str())];
    let submitted = mirror.send(Method::POST, "/api/v1/signatures", &headers, body.to_string().into()).await;
    assert_eq!(submitted.status, StatusCode::CREATED, "{submitted:?}");
    let tags = format!("/v2/{REPOSITORY}/tags/list");
    let referrers = format!("/v2/{REPOSITORY}/referrers/{}", image.digest);
    // Twice, as what was shown to the account must not be at hand for the next.
    for _ in 0..2 {
        for host in [OURS, "mirror.example"] {
            for path in [manifest("internal-v1"), manifest(image.digest)] {
                assert_eq!(get(&mirror, host, &path, ADMIN).await.body, image.bytes, "{host} {path}");
            }
            assert_eq!(get(&mirror, host, &layer, ADMIN).await.body, b"secret".as_ref());
            assert_eq!(get(&mirror, host, &manifest(&sig), ADMIN).await.status, StatusCode::OK);
            assert_eq!(get(&mirror, host, &payload, ADMIN).await.status, StatusCode::OK);
            assert_eq!(get(&mirror, host, &referrers, ADMIN).await.status, StatusCode::OK);
            assert_eq!(get(&mirror, host, &tags, ADMIN).await.json()["tags"], json!(["internal-v1", sig]));
        }
        for credentials in [None, Some("admin:wrong")] {
            for path in [manifest("internal-v1"), manifest(image.digest)] {
                let refused = get(&mirror, "mirror.example", &path, credentials).await;
                assert!(refused.phrase.contains("refused or not found"), "{path}: {refused:?}");
            }
            let listed = get(&mirror, "mirror.example", &referrers, credentials).await;
            assert_eq!(listed.json()["manifests"], json!([]), "as for what nothing refers to");
            for path in [&layer, &manifest(&sig), &payload] {
                let answer = get(&mirror, "mirror.example", path, credentials).await;
                assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
            }
            assert_eq!(get(&mirror, "mirror.example", &tags, credentials).await.json()["tags"], json!([]));
        }
    }
    let answer = get(&mirror, OURS, "/api/v1/audit", ADMIN).await.json();
    let events = answer["events"].as_array().unwrap();
    assert!(events.iter().any(|event| event["action"] == "admitted" && event["account"] == "admin"), "{events:?}");
}

#[tokio::test]
async fn a_signer_reads_an_unsigned_manifest_by_our_own_name_and_never_its_blobs() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let index = registry.push_index(REPOSITORY, Some("preview-2"), &[&image]);
    let mirror = setup(&registry).level(Level::Enforce).start().await;
    for reference in ["v1".to_owned(), image.digest.to_string()] {
        let answer = get(&mirror, OURS, &manifest(&reference), ADMIN).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{reference}");
        assert!(answer.header("warning").unwrap().contains("served to be signed: no valid signature"), "{answer:?}");
    }
    assert_eq!(get(&mirror, OURS, &manifest("preview-2"), ADMIN).await.body, index.bytes);
    let blobs = image.children.iter().map(|child| format!("/v2/{REPOSITORY}/blobs/{child}"));
    for blob in blobs {
        let answer = get(&mirror, OURS, &blob, ADMIN).await;
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["code"]),
            (StatusCode::FORBIDDEN, &json!("DENIED")),
            "{answer:?}"
        );
    }
    // Whoever pulls through the mirror is no signer, whatever credentials come along.
    for (credentials, host) in [(ADMIN, "mirror.example"), (None, "mirror.example")] {
        for reference in ["v1".to_owned(), image.digest.to_string(), "preview-2".to_owned()] {
            let refused = get(&mirror, host, &manifest(&reference), credentials).await;
            assert_eq!(refused.status.as_u16(), 500, "{reference}: {refused:?}");
        }
    }
    let listed = get(&mirror, OURS, "/api/v1/audit?limit=100", ADMIN).await.json();
    let events = listed["events"].as_array().unwrap();
    let read: Vec<_> = events.iter().filter(|event| event["action"] == "read-to-sign").collect();
    assert_eq!(read.len(), 3, "{events:?}");
    assert!(read.iter().all(|event| event["account"] == "admin" && event["reason"] == "unsigned"), "{read:?}");
}

#[tokio::test]
async fn a_signer_reads_nothing_that_is_not_there_or_is_no_manifest() {
    let registry = Registry::start().await;
    registry.push_manifest(REPOSITORY, Some("bad"), "application/vnd.oci.image.manifest.v1+json", "{}");
    let mirror = setup(&registry).level(Level::Enforce).start().await;
    let absent = get(&mirror, OURS, &format!("/v2/docker.io/{REPOSITORY}/manifests/v9"), ADMIN).await;
    assert_eq!(absent.status, StatusCode::NOT_FOUND);
    assert_eq!(get(&mirror, OURS, &manifest("bad"), ADMIN).await.status.as_u16(), 500);
    registry.fault("GET /v2/", Fault::status(500));
    assert_eq!(get(&mirror, OURS, &manifest("bad"), ADMIN).await.status.as_u16(), 500);
}

#[tokio::test]
async fn a_bare_path_is_refused_in_the_mirrors_form_under_our_own_name_too() {
    let registry = Registry::start().await;
    let mirror = setup(&registry).level(Level::Enforce).start().await;
    let basic = format!("Basic {}", BASE64_STANDARD.encode("admin:secret"));
    // A tool that knows no mirrors, and may have come to push, is told that nothing is there.
    for (agent, status) in [(DOCKER, 500), (CONTAINERD, 300), (PODMAN, 200), (CRANE, 404)] {
        let headers = [("host", OURS), ("user-agent", agent), ("authorization", basic.as_str())];
        let answer = mirror.send(Method::GET, &manifest("v1"), &headers, Bytes::new()).await;
        assert_eq!(answer.status.as_u16(), status, "{agent}: {answer:?}");
    }
}

#[tokio::test]
async fn our_credentials_open_a_private_repository_to_the_account_and_to_nobody_else() {
    let registry = Registry::with_auth(Auth::public(&[]).user("mirror", "pass")).await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let mut upstream = registry.upstream("docker.io");
    upstream.username = Some("mirror".to_owned());
    upstream.password = Some("pass".to_owned().into());
    let mirror = Setup { upstreams: vec![upstream], ..setup(&registry) }.start().await;
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(b"layer"));
    for _ in 0..2 {
        assert_eq!(get(&mirror, OURS, &manifest("v1"), ADMIN).await.body, image.bytes);
        assert_eq!(get(&mirror, OURS, &blob, ADMIN).await.body, b"layer".as_ref());
        for path in [manifest("v1"), manifest(image.digest), blob.clone(), format!("/v2/{REPOSITORY}/tags/list")] {
            let answer = get(&mirror, "mirror.example", &path, None).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn who_guesses_passwords_is_told_to_wait_and_no_pull_through_the_mirror_is_turned_away_for_it() {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let hidden = registry.push_image("team/hidden", Some("internal-v1"), &[b"secret"]);
    let mirror = Setup { trusted_proxies: vec!["127.0.0.1/32"], ..setup(&registry) }.start().await;
    let from = async |client: &str, host: &str, path: &str, credentials: Option<&str>| {
        let basic = credentials.map(|credentials| format!("Basic {}", BASE64_STANDARD.encode(credentials)));
        let mut headers = vec![("host", host), ("user-agent", CRANE), ("x-forwarded-for", client)];
        headers.extend(basic.iter().map(|basic| ("authorization", basic.as_str())));
        mirror.send(Method::GET, path, &headers, Bytes::new()).await
    };
    let (guesser, shared) = ("192.0.2.1", "192.0.2.2");
    assert_eq!(from(shared, OURS, "/v2/", ADMIN).await.status, StatusCode::OK);
    for client in [guesser, shared] {
        for guess in 0..10 {
            // Both faces and the API are one door: what could not be found out at one could be at another.
            let host = if guess % 2 == 0 { OURS } else { "mirror.example" };
            let answer = from(client, host, "/v2/", Some(&format!("admin:{guess}"))).await;
            assert_eq!(answer.status.as_u16(), if guess % 2 == 0 { 401 } else { 200 });
        }
        let answer = from(client, OURS, "/v2/", Some("admin:another")).await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
        assert_eq!(answer.json()["errors"][0]["code"], "TOOMANYREQUESTS");
        assert_eq!((answer.header("retry-after"), answer.header("www-authenticate")), (Some("30"), None));
        // The mirror's clients are as they were, whatever they send.
        for credentials in [None, Some("admin:another"), Some("hub:password")] {
            let answer = from(client, "mirror.example", &manifest("v1"), credentials).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{client} {credentials:?}");
        }
        assert_eq!(from(client, OURS, "/v2/", None).await.status, StatusCode::UNAUTHORIZED);
    }
    // Where somebody had signed in, the right password works on, under both names; where nobody had, it is not
    // looked at, so that nothing is learnt of it.
    let internal = "/v2/team/hidden/manifests/internal-v1";
    let is_hidden_from = async |client| {
        let answer = from(client, "mirror.example", internal, ADMIN).await;
        assert_ne!(answer.body, hidden.bytes, "it is not signed");
        answer.header("warning").unwrap().contains("refused or not found")
    };
    assert!(!is_hidden_from(shared).await);
    assert!(is_hidden_from(guesser).await);
    assert_eq!(from(shared, OURS, "/v2/", ADMIN).await.status, StatusCode::OK);
    assert_eq!(from(guesser, OURS, "/v2/", ADMIN).await.status, StatusCode::TOO_MANY_REQUESTS);
}
