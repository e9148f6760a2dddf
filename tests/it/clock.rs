//! A clock that goes back, jumps, or is not the upstream's: no life gets longer, and nothing that has
//! expired counts.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, time::Duration};

use http::StatusCode;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sig_repo::oci::Digest;
use tempfile::TempDir;

use crate::support::{
    key::Key,
    mirror::{CRANE, Mirror, Setup},
    process::{self, Server},
    registry::{Fault, Image, Registry},
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PULL: &str = "/v2/team/app/manifests/preview-v1";

/// A mirror over one image whose preview signature was just submitted.
async fn mirror_with_signed_image() -> (Mirror, Registry, Image) {
    let registry = Registry::start().await;
    let image = registry.push_image("team/app", Some("preview-v1"), &[b"layer"]);
    let key = Key::generate();
    let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
    assert_eq!(mirror.submit(&key, "preview-v1", &image.bytes).await.status, StatusCode::CREATED);
    comes(&mirror, &image).await;
    (mirror, registry, image)
}

async fn comes(mirror: &Mirror, image: &Image) {
    let answer = mirror.get(PULL, CRANE).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes), "{answer:?}");
}

async fn has_expired(mirror: &Mirror) {
    let answer = mirror.get(PULL, CRANE).await;
    assert!(!answer.status.is_success(), "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.body).contains("expired"), "{answer:?}");
}

async fn record(mirror: &Mirror, image: &Image) -> Value {
    let listed = mirror.get(&format!("/api/v1/signatures?digest={}", image.digest), CRANE).await.json();
    assert_eq!(listed["signatures"].as_array().unwrap().len(), 1, "{listed}");
    listed["signatures"][0].clone()
}

#[tokio::test]
async fn an_expired_signature_stays_expired_when_the_clock_goes_back() {
    let (mut mirror, _registry, image) = mirror_with_signed_image().await;
    let start = mirror.clock.now();
    mirror.clock.advance(7 * DAY);
    has_expired(&mirror).await;
    for back in [start, start - 3 * 365 * DAY] {
        mirror.clock.set(back);
        has_expired(&mirror).await;
        assert_eq!(record(&mirror, &image).await["reason"], "expired");
        assert!(mirror.degraded().await.contains("sig-repo clock --accept"), "{}", mirror.degraded().await);
        // Nor after a restart.
        mirror.restart_at(back).await;
        has_expired(&mirror).await;
        assert!(mirror.degraded().await.contains("behind the latest time known"), "{}", mirror.degraded().await);
    }
    // Put right, nothing is wrong any more.
    mirror.clock.set(start + 7 * DAY);
    has_expired(&mirror).await;
    assert_eq!(mirror.degraded().await, "[]");
}

#[tokio::test]
async fn a_life_ends_when_it_would_have_ended_though_the_clock_goes_back() {
    let (mirror, _registry, image) = mirror_with_signed_image().await;
    let start = mirror.clock.now();
    mirror.clock.set(start - 30 * DAY);
    assert_eq!(record(&mirror, &image).await["expires_at"], json!((start + 7 * DAY).to_string()));
    mirror.clock.advance(7 * DAY - Duration::from_secs(1));
    comes(&mirror, &image).await;
    mirror.clock.advance(Duration::from_secs(1));
    has_expired(&mirror).await;
}

#[tokio::test]
async fn what_is_submitted_under_a_clock_that_was_set_back_begins_now() {
    let (mirror, registry, _image) = mirror_with_signed_image().await;
    let start = mirror.clock.now();
    mirror.clock.set(start - 30 * DAY);
    let key = Key::generate();
    fs::write(mirror.trust_dir().join("other.pub"), key.pem()).unwrap();
    let image = registry.push_image("team/app", Some("preview-v2"), &[b"other"]);
    let submitted = mirror.submit(&key, "preview-v2", &image.bytes).await.json();
    for field in ["created_at", "first_seen"] {
        assert_eq!(submitted[field], json!(start.to_string()), "{submitted}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_ends_lives_and_removes_nothing_until_that_has_lasted() {
    let (mut mirror, _registry, image) = mirror_with_signed_image().await;
    let start = mirror.clock.now();
    mirror.clock.set(start + 365 * DAY);
    has_expired(&mirror).await;
    assert!(mirror.degraded().await.contains("jumped"), "{}", mirror.degraded().await);
    // The sweep of a start removes nothing on the word of that clock.
    mirror.restart_at(start + 365 * DAY).await;
    assert_eq!(record(&mirror, &image).await["reason"], "expired");
    mirror.restart_at(start).await;
    has_expired(&mirror).await;
    assert_eq!(record(&mirror, &image).await["reason"], "expired");
}

#[tokio::test]
async fn a_jump_that_was_put_right_has_ended_nothing() {
    let (mirror, _registry, image) = mirror_with_signed_image().await;
    let start = mirror.clock.now();
    mirror.clock.set(start + 365 * DAY);
    has_expired(&mirror).await;
    mirror.clock.advance(9 * MINUTE);
    has_expired(&mirror).await;
    mirror.clock.set(start + 9 * MINUTE);
    // A refusal is kept for a minute at most, and the watch on the clock voids it sooner.
    mirror.until(PULL, 200).await;
    assert_eq!((mirror.degraded().await.as_str(), &record(&mirror, &image).await["is_valid"]), ("[]", &json!(true)));

    mirror.clock.set(start + 365 * DAY);
    has_expired(&mirror).await;
    mirror.clock.advance(10 * MINUTE);
    has_expired(&mirror).await;
    mirror.clock.set(start + 20 * MINUTE);
    has_expired(&mirror).await;
}

#[tokio::test]
async fn the_clock_of_the_upstream_is_nobodys() {
    for date in ["Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"] {
        let registry = Registry::start().await;
        registry.fault("/", Fault::Header("date", date));
        let image = registry.push_image("team/app", Some("preview-v1"), &[b"layer"]);
        let key = Key::generate();
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": "" },
                "image": { "docker-manifest-digest": image.digest.to_string() },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string();
        let signature = key.sign_base64(payload.as_bytes());
        registry.push_cosign_signatures("team/app", &image.digest, &[(payload.as_bytes(), &signature)]);
        let mirror = Setup::over(&registry).trusting("ci", &key).start().await;
        comes(&mirror, &image).await;
        mirror.clock.advance(7 * DAY - Duration::from_secs(1));
        comes(&mirror, &image).await;
        mirror.clock.advance(Duration::from_secs(1));
        has_expired(&mirror).await;
    }
}

/// The program on a system whose clock is set by a file.
struct Faked {
    data_dir: TempDir,
    directory: TempDir,
    library: String,
}

impl Faked {
    fn new(key: &Key) -> Self {
        let [data_dir, directory] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::create_dir(data_dir.path().join("trust")).unwrap();
        fs::write(data_dir.path().join("trust/ci.pub"), key.pem()).unwrap();
        // Read by whoever the process becomes.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let found = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output().unwrap();
        let library = String::from_utf8(found.stdout).unwrap().trim().to_owned();
        let faked = Self { data_dir, directory, library };
        faked.set("+0");
        faked
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("clock")
    }

    /// How far the clock is off from now on, in the words of faketime.
    fn set(&self, offset: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, offset).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("PREVIEW_TAG_TTL", "1h".to_owned()),
        ]
    }

    fn start(&self) -> Server {
        let variables = self.variables();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Server::start(&self.data_dir, &variables)
    }

    /// Says that the clock is right, as an operator does.
    fn accept(&self) -> String {
        let variables = self.variables();
        let mut variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        variables.push(("DATA_DIR", self.data_dir.path().to_str().unwrap()));
        let output = process::run(&["clock", "--accept"], &variables);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn reason(server: &Server, digest: &Digest) -> Value {
    let listed = server.json(&format!("/api/v1/signatures?digest={digest}"));
    assert_eq!(listed["signatures"].as_array().unwrap().len(), 1, "{listed}");
    listed["signatures"][0]["reason"].clone()
}

#[test]
#[ignore = "needs faketime"]
fn the_process_itself_keeps_what_expired_expired_until_its_operator_says_otherwise() {
    let (key, digest) = (Key::generate(), Digest::sha256(b"image"));
    let faked = Faked::new(&key);
    let server = faked.start();
    let signature = key.sign_base64(digest.to_string().as_bytes());
    let body = json!({ "image_digest": digest.to_string(), "tag": "preview-v1", "signature": signature });
    let (status, submitted) = server.post("/api/v1/signatures", &body);
    assert_eq!((status, &submitted["is_valid"]), (201, &json!(true)), "{submitted}");
    let end = |server: Server, signal| {
        server.signal(signal);
        server.ended()
    };
    end(server, Signal::SIGKILL);

    faked.set("+2h");
    let server = faked.start();
    assert_eq!(reason(&server, &digest), "expired");
    end(server, Signal::SIGKILL);

    faked.set("+0");
    let server = faked.start();
    assert_eq!(reason(&server, &digest), "expired");
    assert_eq!(server.post("/api/v1/signatures", &body).0, 409);
    assert!(server.degraded().contains("behind the latest time known"), "{}", server.degraded());
    server.until("the metric", |server| {
        let metrics = server.get("/metrics");
        let behind = metrics.lines().find_map(|line| line.strip_prefix("sig_repo_clock_behind_seconds "));
        behind.is_some_and(|seconds| seconds.parse::<u64>().unwrap() > 7000)
    });
    let log = format!("{}{}", server.beginning.clone(), end(server, Signal::SIGTERM).1);
    assert!(log.contains("behind the latest time known") && log.contains("sig-repo clock --accept"), "{log}");

    let said = faked.accept();
    assert!(said.contains("the latest time known was"), "{said}");
    let server = faked.start();
    assert_eq!((reason(&server, &digest), server.degraded().as_str()), (Value::Null, "[]"));

    // While it runs: ahead, and put right.
    faked.set("+365d");
    server.until("the jump", |server| reason(server, &digest) == "expired");
    assert!(server.degraded().contains("jumped"), "{}", server.degraded());
    faked.set("+0");
    server.until("the return", |server| reason(server, &digest) == Value::Null);
    assert_eq!(server.degraded(), "[]");
    let (status, _) = end(server, Signal::SIGTERM);
    assert_eq!(status.code(), Some(0));
}
