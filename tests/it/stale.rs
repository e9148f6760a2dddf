//! What is served while the upstream fails: what it said last, for a day at most, through the same gate.

mod lists;

use std::{fs, time::Duration};

use http::{Method, StatusCode};
use jiff::SignedDuration;
use serde_json::json;
use sig_repo::{policy::Level, upstream::UpstreamConfig};

use self::lists::list;
use crate::support::{
    key::Key,
    mirror::{Answer, CRANE, DOCKER, Mirror, Setup},
    registry::{Auth, Fault, Image, Registry},
};

const REPOSITORY: &str = "team/app";
const TAG: &str = "v1";
const HOUR: Duration = Duration::from_secs(3600);

fn manifest(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

/// Every way in which an upstream fails that says nothing of what was asked, and its name in metrics.
fn outages() -> [(Fault, &'static str); 7] {
    [
        (Fault::status(402), "quota-exceeded"),
        (Fault::status(429), "rate-limited"),
        (Fault::status_with(429, "retry-after", "3600"), "rate-limited"),
        (Fault::status(500), "status"),
        (Fault::status(503), "status"),
        (Fault::Reset, "reset"),
        (Fault::Hang, "timeout"),
    ]
}

/// A mirror that enforces, and has served one signed image by its tag while all was well.
struct Scene {
    registry: Registry,
    mirror: Mirror,
    image: Image,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let key = Key::generate();
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
        let setup = setup(Setup::over(&registry).level(Level::Enforce).trusting("ci", &key));
        let mirror = setup.start().await;
        mirror.submit(&key, TAG, &image.bytes).await;
        let scene = Self { registry, mirror, image };
        scene.comes_fresh().await;
        scene
    }

    async fn get(&self) -> Answer {
        self.mirror.get(&manifest(TAG), CRANE).await
    }

    async fn comes_fresh(&self) {
        let answer = self.get().await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &self.image.bytes), "{answer:?}");
        assert_eq!(answer.header("warning"), None);
    }

    async fn comes_stale(&self) {
        let answer = self.get().await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &self.image.bytes), "{answer:?}");
        assert_eq!(warnings(&answer)[0], STALE, "{answer:?}");
    }

    async fn is_refused(&self, reason: &str) {
        let answer = self.get().await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
        assert!(answer.phrase.contains(reason), "{answer:?}");
        assert!(!warnings(&answer).contains(&STALE.to_owned()));
    }

    /// How often something was served stale.
    async fn counted(&self, what: &str, reason: &str) -> u64 {
        let text = self.mirror.get("/metrics", CRANE).await;
        let text = String::from_utf8(text.body.to_vec()).unwrap();
        let all: Vec<_> = text.lines().filter(|line| line.starts_with("sig_repo_served_stale_total")).collect();
        assert!(all.iter().all(|line| !line.contains(REPOSITORY) && !line.contains(TAG)), "{all:?}");
        let name = format!("sig_repo_served_stale_total{{what=\"{what}\",reason=\"{reason}\"}} ");
        all.iter().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
    }
}

const STALE: &str = "110 - \"Response is Stale\"";

fn warnings(answer: &Answer) -> Vec<String> {
    answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_tag_comes_as_it_was_last_known_whatever_way_the_upstream_fails() {
    for (fault, code) in outages() {
        let mut scene = Scene::new().await;
        scene.registry.fault("/", fault);
        for restarted in [false, true] {
            if restarted {
                scene.mirror.restart().await;
            }
            let answer = scene.get().await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &scene.image.bytes), "{code}: {answer:?}");
            assert_eq!(answer.header("docker-content-digest"), Some(scene.image.digest.to_string().as_str()));
            assert_eq!(answer.header("cache-control"), Some("private, no-store"));
            let [stale, text] = &warnings(&answer)[..] else { panic!("{code}: {answer:?}") };
            assert_eq!(stale, STALE);
            assert!(text.starts_with("299 - \"served as it was last known: the upstream"), "{text}");
            assert_eq!(scene.counted("manifest", code).await, 1, "{code}");
        }
        // What follows in the same pull comes too.
        let digest = scene.mirror.get(&manifest(scene.image.digest), CRANE).await;
        assert_eq!((digest.status, &digest.body), (StatusCode::OK, &scene.image.bytes), "{code}");
        scene.registry.heal();
    }
}

#[tokio::test]
async fn a_tag_comes_as_it_was_last_known_from_an_upstream_that_is_gone() {
    let Scene { registry, mut mirror, image } = Scene::new().await;
    drop(registry);
    // More than it takes to open the circuit.
    for round in 0..6 {
        if round == 3 {
            mirror.restart().await;
        }
        let answer = mirror.get(&manifest(TAG), CRANE).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{answer:?}");
        assert_eq!(warnings(&answer)[0], STALE);
    }
    let answer = mirror.get(&manifest("v-never-seen"), CRANE).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{answer:?}");
    assert!(answer.phrase.contains("could not be asked: connect"), "{answer:?}");
}

#[tokio::test]
async fn an_upstream_that_keeps_us_waiting_is_not_waited_for_to_the_end() {
    let scene = Scene::with(|setup| Setup { head_limit: Duration::from_secs(60), ..setup }).await;
    scene.registry.fault("/", Fault::Hang);
    scene.comes_stale().await;
    scene.mirror.clock.advance(2 * HOUR);
    let digest = scene.mirror.get(&manifest(scene.image.digest), CRANE).await;
    assert_eq!((digest.status, &digest.body), (StatusCode::OK, &scene.image.bytes));
    assert_eq!((warnings(&digest)[0].as_str(), scene.counted("manifest", "timeout").await), (STALE, 2));
}

#[tokio::test]
async fn what_an_audited_tag_lacks_is_said_beside_its_age() {
    let scene = Scene::with(|setup| setup.level(Level::Audit)).await;
    let image = scene.registry.push_image(REPOSITORY, Some("v2"), &[b"unsigned"]);
    assert_eq!(scene.mirror.get(&manifest("v2"), CRANE).await.status, StatusCode::OK);
    scene.registry.fault("/", Fault::status(503));
    let answer = scene.mirror.get(&manifest("v2"), CRANE).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes));
    let unsigned = "299 - \"docker.io/team/app:v2 served unverified: no valid signature (policy default)\"";
    let age = "299 - \"served as it was last known: the upstream answered with status 503\"";
    assert_eq!(warnings(&answer), [STALE, age, unsigned]);
}

#[tokio::test]
async fn a_tag_is_served_stale_for_a_day_after_the_upstream_confirmed_it_and_no_longer() {
    let mut scene = Scene::new().await;
    scene.mirror.clock.advance(5 * HOUR);
    scene.comes_fresh().await;
    scene.registry.fault("/", Fault::status(500));
    // Serving it confirms nothing.
    for _ in 0..23 {
        scene.mirror.clock.advance(HOUR);
        scene.comes_stale().await;
    }
    scene.mirror.clock.advance(HOUR - Duration::from_secs(1));
    scene.comes_stale().await;
    scene.mirror.clock.advance(Duration::from_secs(1));
    scene.is_refused("could not be asked: status").await;
    scene.mirror.restart().await;
    scene.is_refused("could not be asked: status").await;
    scene.registry.heal();
    scene.comes_fresh().await;
    scene.registry.fault("/", Fault::status(500));
    scene.comes_stale().await;
}

#[tokio::test]
async fn a_clock_that_is_set_back_lengthens_no_day() {
    let mut scene = Scene::new().await;
    scene.registry.fault("/", Fault::status(500));
    let start = scene.mirror.clock.now();
    scene.mirror.clock.advance(12 * HOUR);
    scene.comes_stale().await;
    // Twelve hours have passed, and the clock says that none have.
    scene.mirror.clock.set(start);
    scene.mirror.clock.advance(11 * HOUR);
    scene.comes_stale().await;
    scene.mirror.restart_at(start.checked_sub(SignedDuration::from_hours(10)).unwrap()).await;
    scene.comes_stale().await;
    scene.mirror.clock.advance(HOUR);
    scene.is_refused("could not be asked: status").await;
}

#[tokio::test]
async fn what_was_confirmed_ahead_of_a_clock_that_was_put_right_says_nothing() {
    let scene = Scene::new().await;
    let right = scene.mirror.clock.now();
    scene.mirror.clock.set(right.checked_add(SignedDuration::from_hours(20)).unwrap());
    scene.comes_fresh().await;
    scene.mirror.clock.set(right);
    scene.registry.fault("/", Fault::status(500));
    scene.is_refused("could not be asked: status").await;
    scene.registry.heal();
    scene.comes_fresh().await;
    scene.registry.fault("/", Fault::status(500));
    scene.comes_stale().await;
}

#[tokio::test]
async fn a_tag_that_the_upstream_denies_or_has_no_more_is_forgotten() {
    for status in [401, 403, 404] {
        let mut scene = Scene::new().await;
        scene.registry.fault("/", Fault::status(status));
        scene.is_refused("refused or not found").await;
        scene.registry.fault("/", Fault::status(500));
        scene.is_refused("could not be asked: status").await;
        scene.mirror.restart().await;
        scene.is_refused("could not be asked: status").await;
        // And is known again once it is there again.
        scene.registry.heal();
        scene.comes_fresh().await;
        scene.registry.fault("/", Fault::status(500));
        scene.comes_stale().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_wrong_is_no_outage() {
    let scene = Scene::new().await;
    scene.registry.push_image(REPOSITORY, Some(TAG), &[b"another"]);
    scene.registry.fault("GET /", Fault::Header("content-type", "application/vnd.oci.image.index.v1+json"));
    scene.is_refused("sent no valid manifest").await;
    scene.registry.fault("/", Fault::status(400));
    scene.is_refused("could not be asked: status").await;
}

#[tokio::test]
async fn a_tag_that_came_back_to_an_earlier_image_is_last_known_by_that() {
    let scene = Scene::new().await;
    let other = scene.registry.push_image(REPOSITORY, Some(TAG), &[b"other"]);
    scene.is_refused("no valid signature").await;
    // Last known is what it named last, signed or not.
    scene.registry.fault("/", Fault::status(500));
    let refused = scene.get().await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    scene.registry.heal();
    scene.registry.tag(REPOSITORY, TAG, &scene.image.digest);
    scene.comes_fresh().await;
    scene.registry.fault("/", Fault::status(500));
    scene.comes_stale().await;
    assert_ne!(other.digest, scene.image.digest);
}

#[tokio::test]
async fn the_gate_is_the_same_for_what_is_stale() {
    let scene = Scene::new().await;
    scene.registry.push_image(REPOSITORY, Some("v2"), &[b"unsigned"]);
    let unsigned = scene.mirror.get(&manifest("v2"), CRANE).await;
    assert!(unsigned.phrase.contains("no valid signature"), "{unsigned:?}");
    scene.registry.fault("/", Fault::status(503));
    let unsigned = scene.mirror.get(&manifest("v2"), DOCKER).await;
    assert_eq!(unsigned.status, StatusCode::INTERNAL_SERVER_ERROR, "{unsigned:?}");
    assert!(unsigned.phrase.contains("no valid signature"), "{unsigned:?}");
    assert!(unsigned.phrase.ends_with("(no such process)"), "{unsigned:?}");
    // A while later it is looked for again, in vain.
    scene.mirror.clock.advance(HOUR);
    let unsigned = scene.mirror.get(&manifest("v2"), CRANE).await;
    assert!(unsigned.phrase.contains("the upstream registry did not answer"), "{unsigned:?}");
    scene.comes_stale().await;
    fs::remove_file(scene.mirror.trust_dir().join("ci.pub")).unwrap();
    scene.mirror.until(&manifest(TAG), 403).await;
    assert_eq!(scene.mirror.get(&manifest(scene.image.digest), CRANE).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_key_that_is_revoked_refuses_what_is_stale() {
    let key = Key::generate();
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let setup = Setup { auth: Some(("admin", "secret")), ..Setup::over(&registry).level(Level::Enforce) };
    let mirror = setup.start().await;
    let headers = [("authorization", "Basic YWRtaW46c2VjcmV0"), ("content-type", "application/json")];
    let send = |method, path: String, body: String| {
        let mirror = &mirror;
        async move { mirror.send(method, &path, &headers, body.into()).await }
    };
    let signer = json!({ "name": "ci", "public_key": key.pem() }).to_string();
    let signer = send(Method::POST, "/api/v1/signers".into(), signer).await;
    assert_eq!(signer.status, StatusCode::CREATED, "{signer:?}");
    let record =
        json!({ "image_digest": image.digest, "tag": TAG, "signature": key.sign_base64(&image.bytes) }).to_string();
    assert_eq!(send(Method::POST, "/api/v1/signatures".into(), record).await.status, StatusCode::CREATED);
    assert_eq!(mirror.get(&manifest(TAG), CRANE).await.status, StatusCode::OK);
    registry.fault("/", Fault::status(500));
    assert_eq!(warnings(&mirror.get(&manifest(TAG), CRANE).await)[0], STALE);
    let id = signer.json()["id"].as_str().unwrap().to_owned();
    let revoked = send(Method::DELETE, format!("/api/v1/signers/{id}"), String::new()).await;
    assert!(revoked.status.is_success(), "{revoked:?}");
    let refused = mirror.get(&manifest(TAG), CRANE).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    // Whether somebody else has signed it nobody can say.
    assert!(refused.phrase.contains("the upstream registry did not answer"), "{refused:?}");
}

#[tokio::test]
async fn within_metadata_max_age_the_upstream_is_not_asked_also_after_a_restart() {
    let mut scene = Scene::with(|setup| Setup { metadata_max_age: HOUR, ..setup }).await;
    scene.registry.forget_requests();
    for restarted in [false, true] {
        if restarted {
            scene.mirror.restart().await;
        }
        scene.mirror.clock.advance(HOUR / 4);
        scene.comes_fresh().await;
        assert_eq!(scene.registry.request_lines(), [""; 0], "{restarted}");
    }
    scene.mirror.clock.advance(HOUR / 2);
    scene.comes_fresh().await;
    assert_eq!(scene.registry.request_lines(), [format!("HEAD {}", manifest(TAG))]);
}

/// Over a registry that gives this account all, and anonymous clients one repository.
async fn with_account() -> (Registry, Mirror, Image) {
    let key = Key::generate();
    let registry = Registry::with_auth(Auth::public(&[REPOSITORY]).user("mirror", "of-the-mirror")).await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let upstream = registry.upstream("docker.io");
    let (username, password) = (Some("mirror".to_owned()), Some("of-the-mirror".to_owned().into()));
    let upstream = UpstreamConfig { username, password, ..upstream };
    let setup = Setup { upstreams: vec![upstream], ..Setup::over(&registry) };
    let mirror = setup.level(Level::Enforce).trusting("ci", &key).start().await;
    mirror.submit(&key, TAG, &image.bytes).await;
    (registry, mirror, image)
}

#[tokio::test]
async fn what_the_upstream_gives_anonymous_clients_they_get_while_it_fails() {
    let (registry, mut mirror, image) = with_account().await;
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", image.children[1]);
    let paths = [manifest(TAG), manifest(image.digest), list(""), blob];
    for path in &paths {
        assert_eq!(mirror.get(path, CRANE).await.status, StatusCode::OK, "{path}");
    }
    for (round, fault) in [Fault::status(429), Fault::Reset, Fault::Hang, Fault::status(503)].into_iter().enumerate() {
        registry.fault("/", fault.clone());
        // Longer than what was said of anonymous clients is believed without asking.
        mirror.clock.advance(2 * HOUR);
        if round % 2 == 1 {
            mirror.restart().await;
        }
        for path in &paths {
            let answer = mirror.get(path, CRANE).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {fault:?}: {answer:?}");
            assert_eq!(warnings(&answer)[0], STALE, "{path} {fault:?}");
        }
    }
    mirror.clock.advance(16 * HOUR);
    for path in &paths {
        assert!(!mirror.get(path, CRANE).await.status.is_success(), "{path}: the day is over");
    }
}

#[tokio::test]
async fn what_the_upstream_no_longer_gives_anonymous_clients_they_do_not_get_while_it_fails() {
    let (registry, mut mirror, image) = with_account().await;
    let paths = [manifest(TAG), manifest(image.digest), list("")];
    for path in &paths {
        assert_eq!(mirror.get(path, CRANE).await.status, StatusCode::OK, "{path}");
    }
    mirror.clock.advance(HOUR);
    registry.fault("GET /v2/team/app/tags/list", Fault::status(403));
    assert_eq!(mirror.get(&manifest(TAG), CRANE).await.status, StatusCode::FORBIDDEN);
    registry.fault("/", Fault::status(503));
    for restarted in [false, true] {
        if restarted {
            mirror.restart().await;
        }
        mirror.clock.advance(HOUR);
        for path in &paths {
            assert!(!mirror.get(path, CRANE).await.status.is_success(), "{path}");
        }
    }
}
