//! Blobs that are kept: fetched once, served to whoever may have them, and never a wrong byte.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::fs::FileExt,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use nix::sys::signal::Signal;
use serde_json::json;
use sig_repo::{cache::Pace, config::MaxAge, oci::Digest, policy::Level};

use crate::support::{
    api::ADMIN,
    key::Key,
    mirror::{Answer, CRANE, Mirror, Setup},
    process::{Server, run},
    registry::{Fault, Image, Logged, Registry},
};

const REPOSITORY: &str = "team/app";
const OTHER: &str = "other/app";

/// A mirror that audits, over a registry with one image of one layer that a client has the manifest of.
struct Scene {
    registry: Registry,
    mirror: Mirror,
    layer: Bytes,
    blob: Digest,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(setup: impl FnOnce(Setup) -> Setup) -> Self {
        let (scene, _image) = Self::start(setup).await;
        scene.manifest(REPOSITORY).await;
        scene
    }

    /// With everything enforced, and the image signed.
    async fn signed(key: &Key) -> Self {
        let (scene, image) = Self::start(|setup| setup.level(Level::Enforce).trusting("ci", key)).await;
        scene.mirror.submit(key, "v1", &image.bytes).await;
        scene.manifest(REPOSITORY).await;
        scene
    }

    async fn start(setup: impl FnOnce(Setup) -> Setup) -> (Self, Image) {
        let registry = Registry::start().await;
        let layer: Bytes = (0..700_001u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        let image = registry.push_image(REPOSITORY, Some("v1"), &[&layer]);
        let mirror = setup(Setup::over(&registry)).start().await;
        (Self { registry, mirror, blob: Digest::sha256(&layer), layer }, image)
    }

    /// What a client asks for first: from here on its blobs may leave.
    async fn manifest(&self, repository: &str) {
        let answer = self.mirror.get(&format!("/v2/{repository}/manifests/v1"), CRANE).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    fn path(&self, repository: &str) -> String {
        format!("/v2/{repository}/blobs/{}", self.blob)
    }

    async fn get(&self) -> Answer {
        self.get_in(REPOSITORY).await
    }

    async fn get_in(&self, repository: &str) -> Answer {
        self.mirror.get(&self.path(repository), CRANE).await
    }

    async fn is_whole(&self) {
        let answer = self.get().await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, self.layer.len()), "{:?}", answer.headers);
        assert!(answer.body == self.layer);
    }

    /// Fetched, written and there for the next.
    async fn is_kept(&self) {
        self.is_whole().await;
        let kept = async {
            while !self.file().exists() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), kept).await.unwrap();
    }

    async fn ask(&self, headers: &[(&str, &str)]) -> Answer {
        self.mirror.send(Method::GET, &self.path(REPOSITORY), headers, Bytes::new()).await
    }

    /// Asks for what is kept, or that it goes, as the account that may.
    async fn admin(&self, method: Method, query: &str) -> Answer {
        let path = format!("/api/v1/cache{query}");
        self.mirror.send(method, &path, &[("authorization", ADMIN)], Bytes::new()).await
    }

    fn file(&self) -> PathBuf {
        self.file_of(&self.blob)
    }

    fn file_of(&self, blob: &Digest) -> PathBuf {
        let encoded = blob.encoded();
        self.mirror.data_dir().join("cache/blobs/sha256").join(&encoded[..2]).join(encoded)
    }

    /// What a counter of the cache says.
    async fn counted(&self, name: &str) -> u64 {
        let metrics = self.mirror.get("/metrics", CRANE).await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("sig_repo_cache_{name} ")));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    }

    /// The requests for the blob: method, and whether for a part.
    fn asked(&self, repository: &str) -> Vec<String> {
        let path = self.path(repository);
        let requests = self.registry.requests().into_iter().filter(|request| request.path == path);
        let range = |request: &Logged| {
            request.headers.get("range").map(|range| format!(" {}", range.to_str().unwrap())).unwrap_or_default()
        };
        requests.map(|request| format!("{}{}", request.method, range(&request))).collect()
    }
}

#[tokio::test]
async fn a_blob_is_fetched_once_however_many_ask_and_however_often() {
    let scene = Scene::new().await;
    let answers = join_all((0..20).map(|_| scene.get())).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK && answer.body == scene.layer));
    scene.is_kept().await;
    for _ in 0..3 {
        scene.is_whole().await;
    }
    let head = scene.mirror.head(&scene.path(REPOSITORY), CRANE).await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, Some("700001")));
    assert_eq!(scene.asked(REPOSITORY), ["GET"]);
}

#[tokio::test]
async fn what_is_kept_outlasts_a_restart() {
    let mut scene = Scene::new().await;
    scene.is_kept().await;
    scene.mirror.restart().await;
    scene.is_whole().await;
    scene.is_whole().await;
    assert_eq!(scene.asked(REPOSITORY), ["GET"]);
}

#[tokio::test]
async fn without_a_cache_each_goes_to_the_upstream() {
    let scene = Scene::with(|setup| Setup { cache: false, ..setup }).await;
    scene.is_whole().await;
    scene.is_whole().await;
    assert_eq!(
        (scene.asked(REPOSITORY), scene.mirror.data_dir().join("cache").exists()),
        (vec!["GET".to_owned(); 2], false)
    );
}

#[tokio::test]
async fn pitfall_49_what_one_repository_cached_is_served_in_another_only_where_that_has_it_too() {
    let scene = Scene::new().await;
    scene.is_kept().await;
    // Its manifest names the layer; whether it may be had there only its own registry can say.
    scene.registry.push_image(OTHER, Some("v1"), &[&scene.layer]);
    scene.manifest(OTHER).await;
    scene.registry.fault(&scene.path(OTHER), Fault::status(404));
    let answer = scene.get_in(OTHER).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{answer:?}");
    scene.registry.fault(&scene.path(OTHER), Fault::status(403));
    assert!(!scene.get_in(OTHER).await.status.is_success());
    scene.registry.heal();
    let answer = scene.get_in(OTHER).await;
    assert!(answer.status == StatusCode::OK && answer.body == scene.layer);
    assert_eq!(scene.asked(OTHER), ["HEAD", "HEAD", "HEAD"]);
    // Once is enough for an hour.
    assert_eq!(scene.get_in(OTHER).await.status, StatusCode::OK);
    assert_eq!(scene.asked(OTHER).len(), 3);
}

#[tokio::test]
async fn pitfall_33_what_may_no_longer_be_had_is_no_longer_served() {
    for status in [401, 403, 404] {
        let scene = Scene::new().await;
        scene.is_kept().await;
        scene.registry.fault("/v2/", Fault::status(status));
        scene.is_whole().await;
        scene.mirror.clock.advance(Duration::from_secs(3601));
        let answer = scene.get().await;
        assert!(!answer.status.is_success(), "{status}: {answer:?}");
        // Nor when nobody can be asked any more.
        scene.registry.fault("/v2/", Fault::status(500));
        assert!(!scene.get().await.status.is_success(), "{status}");
    }
}

#[tokio::test]
async fn an_upstream_that_fails_is_not_noticed_for_a_day() {
    let scene = Scene::new().await;
    scene.is_kept().await;
    for fault in [Fault::status(500), Fault::status(429), Fault::status(402), Fault::Reset] {
        scene.registry.fault("/v2/", fault);
        scene.mirror.clock.advance(Duration::from_secs(2 * 3600));
        let answer = scene.get().await;
        assert!(answer.status == StatusCode::OK && answer.body == scene.layer);
        let warnings: Vec<_> = answer.headers.get_all("warning").iter().map(|text| text.to_str().unwrap()).collect();
        let [stale, text] = warnings[..] else { panic!("{warnings:?}") };
        assert_eq!(stale, "110 - \"Response is Stale\"");
        assert!(text.starts_with("299 - \"served as it was last known: the upstream"), "{text}");
    }
    scene.mirror.clock.advance(Duration::from_secs(24 * 3600));
    assert!(!scene.get().await.status.is_success());
    scene.registry.heal();
    scene.is_whole().await;
    assert_eq!(scene.asked(REPOSITORY).iter().filter(|asked| *asked == "GET").count(), 1);
}

#[tokio::test]
async fn parts_come_from_what_is_kept() {
    let scene = Scene::new().await;
    scene.is_kept().await;
    for (range, stated, part) in [
        ("bytes=0-0", "bytes 0-0/700001", 0..1),
        ("bytes=650000-", "bytes 650000-700000/700001", 650_000..700_001),
        ("bytes=-10", "bytes 699991-700000/700001", 699_991..700_001),
        ("bytes=5-999999999", "bytes 5-700000/700001", 5..700_001),
    ] {
        let answer = scene.ask(&[("range", range)]).await;
        assert_eq!((answer.status, answer.header("content-range")), (StatusCode::PARTIAL_CONTENT, Some(stated)));
        assert_eq!(answer.header("content-length"), Some(part.len().to_string().as_str()));
        assert!(answer.body == scene.layer.slice(part), "{range}");
    }
    for range in ["bytes=700001-", "bytes=-0", "bytes=999999999-9999999999"] {
        let answer = scene.ask(&[("range", range)]).await;
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (StatusCode::RANGE_NOT_SATISFIABLE, Some("bytes */700001"))
        );
    }
    for range in ["bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=-"] {
        let answer = scene.ask(&[("range", range)]).await;
        assert!(answer.status == StatusCode::OK && answer.body == scene.layer, "{range}");
    }
    let etag = format!("\"{}\"", scene.blob);
    let part = scene.ask(&[("range", "bytes=0-9"), ("if-range", &etag)]).await;
    assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
    let whole = scene.ask(&[("range", "bytes=0-9"), ("if-range", "\"another\"")]).await;
    assert_eq!(whole.status, StatusCode::OK);
    for known in [etag.as_str(), "*", &format!("\"x\", W/{etag}")] {
        let answer = scene.ask(&[("if-none-match", known)]).await;
        assert_eq!(
            (answer.status, answer.body.len(), answer.header("etag")),
            (StatusCode::NOT_MODIFIED, 0, Some(etag.as_str()))
        );
    }
    assert_eq!(scene.ask(&[("if-none-match", "\"another\"")]).await.status, StatusCode::OK);
    assert_eq!(scene.asked(REPOSITORY), ["GET"]);
}

#[tokio::test]
async fn what_the_disk_has_altered_is_fetched_again() {
    type Spoil = fn(&PathBuf);
    let spoils: [(&str, Spoil); 4] = [
        ("altered", |file| {
            let mut bytes = fs::read(file).unwrap();
            bytes[350_000] ^= 0x10;
            fs::write(file, bytes).unwrap();
        }),
        ("cut", |file| fs::File::options().write(true).open(file).unwrap().set_len(10).unwrap()),
        ("gone", |file| fs::remove_file(file).unwrap()),
        ("a directory", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
    ];
    for (how, spoil) in spoils {
        for restarted in [false, true] {
            let mut scene = Scene::new().await;
            scene.is_kept().await;
            spoil(&scene.file());
            if restarted {
                scene.mirror.restart().await;
            }
            // At worst an answer breaks off; what arrives whole is right.
            let again = async {
                for _ in 0..2 {
                    while match scene.mirror.try_get(&scene.path(REPOSITORY), CRANE).await {
                        Some(answer) => {
                            assert!(answer.body == scene.layer, "{how}");
                            false
                        }
                        None => true,
                    } {}
                }
            };
            tokio::time::timeout(Duration::from_secs(10), again).await.expect(how);
        }
    }
}

#[tokio::test]
async fn a_bit_that_flips_on_the_disk_is_found_before_it_is_asked_for() {
    let pace = Pace { pass: Duration::from_millis(20), max_bytes_per_second: 1 << 30 };
    let scene = Scene::with(|setup| Setup { scrub: pace, ..setup }).await;
    scene.is_kept().await;
    // Neither the length nor a time says that anything has happened.
    let modified = fs::metadata(scene.file()).unwrap().modified().unwrap();
    let file = fs::File::options().write(true).open(scene.file()).unwrap();
    file.write_all_at(&[scene.layer[350_000] ^ 0x10], 350_000).unwrap();
    file.set_modified(modified).unwrap();
    let removed = async {
        while scene.file().exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), removed).await.unwrap();
    scene.is_kept().await;
    assert_eq!(scene.asked(REPOSITORY), ["GET", "GET"]);
    assert_eq!(scene.counted("damaged_total").await, 1);
}

#[tokio::test]
async fn verifying_all_at_once_finds_what_is_damaged_and_leaves_a_server_alone() {
    let mut scene = Scene::new().await;
    scene.is_kept().await;
    let verify = |scene: &Scene, arguments: &[&str]| {
        let data_dir = scene.mirror.data_dir();
        let output =
            run(&[["cache", "verify"].as_slice(), arguments].concat(), &[("DATA_DIR", data_dir.to_str().unwrap())]);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, _, error) = verify(&scene, &["--remove"]);
    assert_eq!(code, 2);
    assert!(error.contains("in use by another process") && error.contains("stop it"), "{error}");
    scene.mirror.stop().await;
    assert_eq!(verify(&scene, &[]), (0, "1 blobs of 0 MiB read: 0 damaged\n".to_owned(), String::new()));
    let file = fs::File::options().write(true).open(scene.file()).unwrap();
    file.write_all_at(&[scene.layer[9] ^ 1], 9).unwrap();
    let line = format!("{}  it has another digest", scene.blob);
    let sum = "1 blobs of 0 MiB read: 1 damaged";
    assert_eq!(verify(&scene, &[]), (1, format!("{line}\n{sum}\n"), String::new()));
    file.set_len(10).unwrap();
    let line = format!("{}  it has another digest, removed", scene.blob);
    assert_eq!(verify(&scene, &["--remove"]), (1, format!("{line}\n{sum}, 1 of them removed\n"), String::new()));
    assert!(!scene.file().exists());
    assert_eq!(verify(&scene, &[]).0, 0);
    let empty = tempfile::tempdir().unwrap();
    let output = run(&["cache", "verify"], &[("DATA_DIR", empty.path().to_str().unwrap())]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no cache at"));
    assert!(!empty.path().join("cache").exists());
    let output = run(&["cache", "verify"], &[("CACHE_MAX_SIZE", "0")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("CACHE_MAX_SIZE is 0"));
}

#[tokio::test]
async fn what_the_cache_does_is_counted_and_names_nobody() {
    let scene = Scene::new().await;
    scene.is_kept().await;
    while scene.counted("blobs").await == 0 {}
    scene.is_whole().await;
    assert_eq!(scene.ask(&[("range", "bytes=0-9")]).await.status, StatusCode::PARTIAL_CONTENT);
    for (name, expected) in [
        ("blobs", 1),
        ("bytes", 700_001),
        ("hits_total", 2),
        ("misses_total", 1),
        ("evictions_total", 0),
        ("damaged_total", 0),
        ("fetched_bytes_total", 700_001),
        ("past_disk_total", 0),
    ] {
        assert_eq!(scene.counted(name).await, expected, "{name}");
    }
    let metrics = scene.mirror.get("/metrics", CRANE).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(!text.contains(REPOSITORY) && !text.contains("v1\""), "{text}");
}

#[tokio::test]
async fn what_is_kept_is_told_and_goes_when_an_admin_says_so() {
    let scene = Scene::with(|setup| Setup { auth: Some(("admin", "secure-pass")), ..setup }).await;
    scene.is_kept().await;
    while scene.counted("blobs").await == 0 {}
    scene.is_whole().await;
    assert_eq!(
        scene.admin(Method::GET, "").await.json(),
        json!({
            "limit_bytes": 20u64 << 30, "bytes": 700_001, "blobs": 1, "in_flight": 0, "hits": 1, "misses": 1, "evictions": 0,
            "damaged": 0, "fetched_bytes": 700_001, "past_disk": 0, "since": "2026-11-22T12:00:00Z",
        })
    );
    // Who is not signed in neither sees nor does anything.
    for method in [Method::GET, Method::DELETE] {
        let answer = scene.mirror.send(method, "/api/v1/cache", &[], Bytes::new()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert!(scene.file().exists());
    let removal = scene.admin(Method::DELETE, "").await;
    assert_eq!(removal.json(), json!({"blobs": 1, "bytes": 700_001, "in_use": 0, "shared": 0}));
    assert!(!scene.file().exists());
    assert_eq!(scene.admin(Method::GET, "").await.json()["bytes"], 0);
    scene.is_kept().await;
    assert_eq!(scene.asked(REPOSITORY), ["GET", "GET"]);
    let audit = scene.mirror.send(Method::GET, "/api/v1/audit", &[("authorization", ADMIN)], Bytes::new()).await.json();
    let removals = audit["events"].as_array().unwrap().iter().filter(|event| event["action"] == "cache-removed");
    assert_eq!(removals.map(|event| &event["account"]).collect::<Vec<_>>(), ["admin"]);
}

#[tokio::test]
async fn without_accounts_nobody_removes_what_is_kept() {
    let scene = Scene::new().await;
    scene.is_kept().await;
    for query in ["", "?repository=team/app&reference=v1"] {
        let answer = scene.mirror.send(Method::DELETE, &format!("/api/v1/cache{query}"), &[], Bytes::new()).await;
        assert_eq!(
            (answer.status, answer.json()["type"].as_str()),
            (StatusCode::FORBIDDEN, Some("urn:sig-repo:problem:auth-required"))
        );
    }
    assert!(scene.file().exists());
    assert_eq!(scene.mirror.get("/api/v1/cache", CRANE).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_an_image_go_the_blobs_that_no_other_image_names() {
    let scene = Scene::with(|setup| Setup { auth: Some(("admin", "secure-pass")), ..setup }).await;
    scene.is_kept().await;
    // An index of two platforms: one is of v3 too, the other shares its first layer with v1.
    let (own, of_both) = (b"a layer of its own".as_slice(), b"a layer of v2 and v3".as_slice());
    let alone = scene.registry.push_image(REPOSITORY, None, &[&scene.layer, own]);
    let common = scene.registry.push_image(REPOSITORY, Some("common"), &[of_both]);
    let v2 = scene.registry.push_index(REPOSITORY, Some("v2"), &[&alone, &common]);
    scene.registry.push_index(REPOSITORY, Some("v3"), &[&common]);
    let manifests =
        ["v2", "v3"].map(str::to_owned).into_iter().chain([&alone, &common].map(|image| image.digest.to_string()));
    for reference in manifests {
        let answer = scene.mirror.get(&format!("/v2/{REPOSITORY}/manifests/{reference}"), CRANE).await;
        assert_eq!(answer.status, StatusCode::OK, "{reference}: {answer:?}");
    }
    for blob in [Digest::sha256(own), Digest::sha256(of_both)] {
        let answer = scene.mirror.get(&format!("/v2/{REPOSITORY}/blobs/{blob}"), CRANE).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    while scene.counted("blobs").await < 3 {}
    let removal = scene.admin(Method::DELETE, "?repository=team/app&reference=v2").await;
    // Shared: the first layer, and configuration and layer of the platform of v3.
    assert_eq!(removal.json(), json!({"blobs": 1, "bytes": own.len(), "in_use": 0, "shared": 3}));
    let kept = |bytes| scene.file_of(&Digest::sha256(bytes)).exists();
    assert_eq!([kept(own), kept(of_both), scene.file().exists()], [false, true, true]);
    // Nothing else than bytes is forgotten: the same gate opens to the same manifest.
    let answer = scene.mirror.get(&format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(own)), CRANE).await;
    assert!(answer.status == StatusCode::OK && answer.body == own, "{answer:?}");
    while scene.counted("blobs").await < 3 {}
    // By digest and under the registry's name, too: v1's layer belongs to v2 as well.
    let v1 = scene.admin(Method::DELETE, "?repository=docker.io/team/app&reference=v1").await;
    assert_eq!((v1.json()["blobs"].as_u64(), v1.json()["shared"].as_u64()), (Some(0), Some(1)));
    let by_digest = scene.admin(Method::DELETE, &format!("?repository=team/app&reference={}", v2.digest)).await;
    assert_eq!(by_digest.json()["blobs"], 1);
    for (query, status, kind) in [
        ("?repository=team/app&reference=v9", StatusCode::NOT_FOUND, "not-found"),
        ("?repository=other/app&reference=v1", StatusCode::NOT_FOUND, "not-found"),
        ("?repository=team/app", StatusCode::BAD_REQUEST, "invalid-parameter"),
        ("?reference=v1", StatusCode::BAD_REQUEST, "invalid-parameter"),
        ("?repository=Team/app&reference=v1", StatusCode::BAD_REQUEST, "invalid-parameter"),
        ("?repository=team/app&reference=sha256:1", StatusCode::BAD_REQUEST, "invalid-parameter"),
        ("?image=team/app:v1", StatusCode::BAD_REQUEST, "invalid-parameter"),
    ] {
        let answer = scene.admin(Method::DELETE, query).await;
        let expected = format!("urn:sig-repo:problem:{kind}");
        assert_eq!((answer.status, answer.json()["type"].as_str()), (status, Some(expected.as_str())), "{query}");
    }
}

#[tokio::test]
async fn what_is_not_the_blob_is_never_kept() {
    let scene = Scene::new().await;
    let path = scene.path(REPOSITORY);
    for fault in [Fault::WrongBytes, Fault::Cut, Fault::LongBody, Fault::EndlessBody, Fault::Reset, Fault::status(500)]
    {
        scene.registry.fault(&path, fault.clone());
        if let Some(answer) = scene.mirror.try_get(&path, CRANE).await {
            assert!(!answer.status.is_success(), "{fault:?}: {} {}", answer.status, answer.body.len());
        }
        assert!(!scene.file().exists(), "{fault:?}");
        scene.registry.heal();
    }
    scene.is_kept().await;
}

#[tokio::test]
async fn pitfall_13_a_hit_and_a_miss_meet_the_same_gate() {
    let key = Key::generate();
    let scene = Scene::signed(&key).await;
    scene.is_kept().await;
    let unsigned = scene.registry.push_image(REPOSITORY, Some("v2"), &[b"never to leave"]);
    let refused = scene.mirror.get(&format!("/v2/{REPOSITORY}/manifests/v2"), CRANE).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let layer = format!("/v2/{REPOSITORY}/blobs/{}", unsigned.children[1]);
    assert!(!scene.mirror.get(&layer, CRANE).await.status.is_success());
    assert!(!scene.registry.requests().iter().any(|request| request.path == layer));
    // What lies here is as closed once nobody vouches for it any more.
    fs::remove_file(scene.mirror.trust_dir().join("ci.pub")).unwrap();
    scene.mirror.until(&format!("/v2/{REPOSITORY}/manifests/v1"), 403).await;
    assert!(!scene.get().await.status.is_success());
    assert!(!scene.mirror.head(&scene.path(REPOSITORY), CRANE).await.status.is_success());
    assert_eq!(scene.ask(&[("range", "bytes=0-9")]).await.status, scene.get().await.status);
    assert_eq!(scene.asked(REPOSITORY), ["GET"]);
}

/// The blob is there still when files can be opened again, and until then nobody gets a wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_system_opens_no_file_nothing_kept_is_lost() {
    let registry = Registry::start().await;
    let layer: Bytes = (0..300_001u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    registry.push_image(REPOSITORY, Some("v1"), &[&layer]);
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[("PROXY_REMOTEURL", registry.url().as_str())]);
    let blob = Digest::sha256(&layer);
    let path = format!("/v2/{REPOSITORY}/blobs/{blob}");
    let mut client = KeptAlive::to(&server);
    assert_eq!(client.get(&format!("/v2/{REPOSITORY}/manifests/v1")).0, 200);
    assert!(client.get(&path) == (200, layer.to_vec()));
    let encoded = blob.encoded();
    let file = directory.path().join("cache/blobs/sha256").join(&encoded[..2]).join(encoded);
    server.until("the file of the blob", |_| file.exists());
    let fetched = || registry.requests().iter().filter(|request| request.path == path).count();
    assert!(client.get(&path) == (200, layer.to_vec()));
    assert_eq!(fetched(), 1);

    let (free, limit) = (server.lowest_free_descriptor(), server.limit_of_files());
    server.limit_files(free);
    // The system takes the connection, and we cannot.
    let mut late = TcpStream::connect(server.addr).unwrap();
    late.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let (status, bytes) = client.get(&path);
    assert!(status >= 500 || (status == 200 && bytes == layer), "{status}, {} bytes", bytes.len());
    let waits = late.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(waits, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{waits}");
    server.limit_files(limit);
    late.set_read_timeout(None).unwrap();
    let mut answer = String::new();
    late.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let before = fetched();
    assert!(client.get(&path) == (200, layer.to_vec()));
    assert_eq!(fetched(), before, "it was kept all the while");
    server.signal(Signal::SIGTERM);
    drop(client);
    assert!(server.ended().1.contains("cannot accept connections"));
}

/// That a repository has content says who may have it, so that it is asked for hourly whatever was set.
#[tokio::test]
async fn content_is_asked_for_again_when_its_time_is_over_and_hourly() {
    /// What was pulled within the last minute is answered again without another look.
    const JUST_PULLED: Duration = Duration::from_secs(60);
    let minutes = |count: u64| Duration::from_secs(60 * count);
    for (set, asked_after) in [
        (MaxAge::For(minutes(10)), minutes(10)),
        (MaxAge::For(minutes(600)), minutes(60)),
        (MaxAge::Forever, minutes(60)),
    ] {
        let (scene, image) = Scene::start(|setup| Setup { content_max_age: set, ..setup }).await;
        let path = format!("/v2/{REPOSITORY}/manifests/{}", image.digest);
        assert_eq!(scene.mirror.get(&path, CRANE).await.status, StatusCode::OK);
        for (passed, expected) in [
            (asked_after - JUST_PULLED, vec![]),
            (JUST_PULLED, vec![format!("HEAD {path}")]),
            (asked_after - JUST_PULLED, vec![]),
        ] {
            scene.mirror.clock.advance(passed);
            scene.registry.forget_requests();
            let answer = scene.mirror.get(&path, CRANE).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &image.bytes));
            let asked = scene.registry.request_lines().into_iter().filter(|line| line.ends_with(&path));
            assert_eq!(asked.collect::<Vec<_>>(), expected, "{set:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_never_asked_for_again_stays_what_it_was() {
    let registry = Registry::start().await;
    let first = registry.push_image(REPOSITORY, Some("v1"), &[b"first"]);
    let directory = tempfile::tempdir().unwrap();
    let remote = registry.url();
    let variables = [("PROXY_REMOTEURL", remote.as_str()), ("METADATA_MAX_AGE", "-1")];
    let pull = |server: &Server| KeptAlive::to(server).get(&format!("/v2/{REPOSITORY}/manifests/v1"));
    let server = Server::start(directory.path(), &variables);
    assert!(pull(&server) == (200, first.bytes.to_vec()));
    registry.push_image(REPOSITORY, Some("v1"), &[b"second"]);
    registry.forget_requests();
    assert!(pull(&server) == (200, first.bytes.to_vec()));
    server.signal(Signal::SIGTERM);
    server.ended();
    assert!(pull(&Server::start(directory.path(), &variables)) == (200, first.bytes.to_vec()));
    assert!(!registry.request_lines().iter().any(|line| line.ends_with("/manifests/v1")));
}

/// The manifest has to come before it can be decided on; one that is held is only asked after.
#[tokio::test]
async fn head_of_a_tag_costs_the_upstream_one_request_and_no_blob() {
    let key = Key::generate();
    let (scene, image) = Scene::start(|setup| setup.level(Level::Enforce).trusting("ci", &key)).await;
    scene.mirror.submit(&key, "v1", &image.bytes).await;
    let path = format!("/v2/{REPOSITORY}/manifests/v1");
    for expected in ["GET", "HEAD", "HEAD"] {
        scene.registry.forget_requests();
        let answer = scene.mirror.head(&path, CRANE).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(scene.registry.request_lines(), [format!("{expected} {path}")]);
    }
}

/// A connection that needs no new one, which could not be opened.
struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    fn to(server: &Server) -> Self {
        Self(BufReader::new(TcpStream::connect(server.addr).unwrap()))
    }

    /// Status and body.
    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: test\r\nUser-Agent: {CRANE}\r\n\r\n").unwrap();
        let (mut head, mut length) = (String::new(), None);
        while !head.ends_with("\r\n\r\n") {
            let begins = head.len();
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "it ended after {head:?}");
            let stated = head[begins..].to_ascii_lowercase();
            length = stated.strip_prefix("content-length: ").map(|text| text.trim().parse().unwrap()).or(length);
        }
        let mut body = vec![0; length.unwrap_or_else(|| panic!("no length: {head}"))];
        self.0.read_exact(&mut body).unwrap();
        (head[9..12].parse().unwrap(), body)
    }
}
