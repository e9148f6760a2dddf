//! What signers push through the registry's own protocol is kept, counts and is read back; nothing else
//! comes in, and nothing at all goes upstream.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sig_repo::{oci::Digest, policy::Level};

use crate::support::{
    key::Key,
    mirror::{Answer, CRANE, DOCKER, Mirror, Setup},
    registry::{Image, Registry},
};

const REPOSITORY: &str = "team/app";
const OURS: &str = "registry.example:5000";
/// `admin:secret`.
const ADMIN: &str = "Basic YWRtaW46c2VjcmV0";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const JOSE: &str = "application/jose+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SPDX: &str = "application/spdx+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A mirror with an account, over a registry with one image that is enforced and not signed.
struct World {
    mirror: Mirror,
    registry: Registry,
    key: Key,
    image: Image,
}

impl World {
    async fn new() -> Self {
        Self::with(|setup| setup).await
    }

    async fn with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some("preview-v1"), &[b"layer"]);
        let key = Key::generate();
        let setup = Setup { auth: Some(("admin", "secret")), registry_hosts: OURS, ..Setup::over(&registry) };
        let mirror = change(setup.trusting("ci", &key)).start().await;
        Self { mirror, registry, key, image }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut all = vec![("host", OURS), ("authorization", ADMIN), ("user-agent", "cosign/v2")];
        all.extend(headers);
        self.mirror.send(method, path, &all, body.into()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// As whoever pulls through the mirror.
    async fn pull(&self, path: &str) -> Answer {
        self.mirror.get(path, CRANE).await
    }

    async fn open(&self) -> String {
        let answer = self.send(Method::POST, &uploads(), &[], "").await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        answer.header("location").unwrap().to_owned()
    }

    /// A blob in the way of most clients: POST, PATCH, PUT. Says how a manifest names it.
    async fn put_blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::sha256(bytes);
        let location = self.open().await;
        let patched = self.send(Method::PATCH, &location, &[], bytes.to_vec()).await;
        assert_eq!(patched.status, StatusCode::ACCEPTED, "{patched:?}");
        let ended = self.send(Method::PUT, &format!("{location}?digest={digest}"), &[], "").await;
        assert_eq!(ended.status, StatusCode::CREATED, "{ended:?}");
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    async fn put_manifest(&self, reference: impl std::fmt::Display, manifest: &Value) -> Answer {
        self.send(Method::PUT, &path(reference), &[("content-type", MANIFEST)], manifest.to_string()).await
    }

    /// A layer of cosign's, uploaded.
    async fn signature(&self, key: &Key, payload: &str) -> Value {
        let mut layer = self.put_blob(SIMPLE_SIGNING, payload.as_bytes()).await;
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": key.sign_base64(payload.as_bytes())});
        layer
    }

    /// What `cosign sign` puts under `sha256-….sig`.
    async fn signatures(&self, layers: &[Value]) -> Value {
        let config = self.put_blob(CONFIG, format!("{{\"layers\":{}}}", layers.len()).as_bytes()).await;
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers })
    }

    fn sig(&self) -> String {
        format!("sha256-{}.sig", self.image.digest.encoded())
    }

    fn subject(&self) -> Value {
        json!({ "mediaType": self.image.media_type, "digest": self.image.digest, "size": self.image.bytes.len() })
    }

    async fn records(&self) -> Vec<Value> {
        let listed = self.get(&format!("/api/v1/signatures?digest={}", self.image.digest)).await.json();
        listed["signatures"].as_array().unwrap().clone()
    }

    fn assert_nothing_was_written_upstream(&self) {
        for request in self.registry.requests() {
            assert!(matches!(request.method, Method::GET | Method::HEAD), "{request:?}");
            assert!(!request.headers.contains_key("authorization"), "{request:?}");
        }
    }
}

fn path(reference: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

fn blob(digest: impl std::fmt::Display) -> String {
    format!("/v2/{REPOSITORY}/blobs/{digest}")
}

fn uploads() -> String {
    format!("/v2/{REPOSITORY}/blobs/uploads/")
}

fn simple_signing(digest: &Digest, optional: &str) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "registry.example:5000/team/app"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": {"by": optional},
    })
    .to_string()
}

fn digest_of(manifest: &Value) -> Digest {
    Digest::sha256(manifest.to_string().as_bytes())
}

/// The code of an error, with its status.
fn error(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["errors"][0]["code"].as_str().unwrap().to_owned())
}

fn denied() -> (u16, String) {
    (403, "DENIED".to_owned())
}

#[tokio::test]
async fn a_signature_that_is_pushed_admits_its_image_and_is_read_back_byte_by_byte() {
    let mut world = World::new().await;
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.get(&path(world.sig())).await.status, StatusCode::NOT_FOUND);
    let payload = simple_signing(&world.image.digest, "ci");
    let layer = world.signature(&world.key, &payload).await;
    let manifest = world.signatures(&[layer]).await;
    let (bytes, digest) = (manifest.to_string(), digest_of(&manifest));
    let put = world.put_manifest(world.sig(), &manifest).await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    assert_eq!(put.header("location"), Some(path(world.sig()).as_str()));
    assert_eq!(put.header("docker-content-digest"), Some(digest.to_string().as_str()));
    assert_eq!(put.header("oci-subject"), Some(world.image.digest.to_string().as_str()));
    for again in 0..2 {
        for reference in [world.sig(), digest.to_string()] {
            let answer = world.pull(&path(&reference)).await;
            assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, bytes.as_bytes()), "{reference}");
            assert_eq!(answer.header("docker-content-digest"), Some(digest.to_string().as_str()));
        }
        for part in [&manifest["config"], &manifest["layers"][0]] {
            let answer = world.pull(&blob(part["digest"].as_str().unwrap())).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
            assert_eq!(json!(Digest::sha256(&answer.body)), part["digest"]);
        }
        for reference in ["preview-v1".to_owned(), world.image.digest.to_string()] {
            let pulled = world.pull(&path(&reference)).await;
            assert_eq!((pulled.status, &pulled.body), (StatusCode::OK, &world.image.bytes), "{reference}");
        }
        let records = world.records().await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((&records[0]["is_valid"], &records[0]["tag"]), (&json!(true), &json!(world.sig())));
        assert_eq!(records[0]["repository"], "docker.io/team/app");
        if again == 0 {
            let again = world.put_manifest(world.sig(), &manifest).await;
            assert_eq!(again.status, StatusCode::CREATED, "{again:?}");
            world.mirror.restart().await;
        }
    }
    // A tag that comes later is signed with it, as it would be by a signature beside the image.
    world.registry.tag(REPOSITORY, "preview-v2", &world.image.digest);
    assert_eq!(world.pull(&path("preview-v2")).await.status, StatusCode::OK);
    let listed = world.get("/api/v1/audit?limit=100").await.json();
    let of = |action: &str| {
        let events = listed["events"].as_array().unwrap().iter();
        events.filter(|event| event["action"] == action && event["account"] == "admin").count()
    };
    assert_eq!((of("submitted"), of("pushed")), (2, 2), "once more when it is pushed again: {listed}");
    world.assert_nothing_was_written_upstream();
}

#[tokio::test]
async fn what_was_pushed_for_one_repository_admits_the_digest_in_no_other() {
    let world = World::new().await;
    world.registry.push_manifest("team/other", Some("preview-v1"), MANIFEST, world.image.bytes.clone());
    let layer = world.signature(&world.key, &simple_signing(&world.image.digest, "ci")).await;
    let manifest = world.signatures(&[layer]).await;
    assert_eq!(world.put_manifest(world.sig(), &manifest).await.status, StatusCode::CREATED);
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::OK);
    for reference in ["preview-v1".to_owned(), world.image.digest.to_string()] {
        let other = world.pull(&format!("/v2/team/other/manifests/{reference}")).await;
        assert_eq!(other.status, StatusCode::FORBIDDEN, "{other:?}");
    }
    for reference in [world.sig(), digest_of(&manifest).to_string()] {
        let other = world.pull(&format!("/v2/team/other/manifests/{reference}")).await;
        assert_ne!(other.status, StatusCode::OK, "{other:?}");
    }
}

#[tokio::test]
async fn two_who_sign_at_once_lose_nothing() {
    let world = World::new().await;
    let other = Key::generate();
    let mut pushed = Vec::new();
    for (key, by) in [(&world.key, "ci"), (&other, "release"), (&world.key, "night")] {
        // As if neither had seen the other's.
        let layer = world.signature(key, &simple_signing(&world.image.digest, by)).await;
        let manifest = world.signatures(&[layer]).await;
        assert_eq!(world.put_manifest(world.sig(), &manifest).await.status, StatusCode::CREATED);
        pushed.push(manifest);
    }
    let merged = world.pull(&path(world.sig())).await.json();
    let layers: Vec<&Value> = pushed.iter().map(|manifest| &manifest["layers"][0]).collect();
    assert_eq!(merged["layers"].as_array().unwrap().iter().collect::<Vec<_>>(), layers);
    for layer in layers {
        assert_eq!(world.pull(&blob(layer["digest"].as_str().unwrap())).await.status, StatusCode::OK);
    }
    assert_eq!(world.pull(&blob(merged["config"]["digest"].as_str().unwrap())).await.status, StatusCode::OK);
    for manifest in &pushed {
        assert_eq!(world.pull(&path(digest_of(manifest))).await.body, manifest.to_string(), "as it was pushed");
    }
    assert_eq!(world.records().await.len(), 3);
    // What has all that is there is all that is there.
    let mut whole = world.signatures(merged["layers"].as_array().unwrap()).await;
    whole["annotations"] = json!({"made": "by a client that read it first"});
    assert_eq!(world.put_manifest(world.sig(), &whole).await.status, StatusCode::CREATED);
    assert_eq!(world.pull(&path(world.sig())).await.body, whole.to_string());
}

#[tokio::test]
async fn artifacts_that_are_no_signature_of_the_image_are_kept_and_make_no_record() {
    let world = World::new().await;
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2});
    for (media_type, content) in [
        (SPDX, br#"{"spdxVersion":"SPDX-2.3"}"#.as_slice()),
        (
            "application/vnd.dsse.envelope.v1+json",
            br#"{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}"#,
        ),
    ] {
        let layer = world.put_blob(media_type, content).await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": media_type,
            "config": empty, "layers": [layer], "subject": world.subject(),
        });
        let digest = digest_of(&manifest);
        let put = world.put_manifest(digest, &manifest).await;
        assert_eq!(
            (put.status, put.header("oci-subject").map(str::to_owned)),
            (StatusCode::CREATED, Some(world.image.digest.to_string())),
            "{put:?}"
        );
        assert_eq!(world.pull(&path(digest)).await.body, manifest.to_string());
        assert_eq!(world.pull(&blob(Digest::sha256(content))).await.body, content);
        assert_eq!(world.pull(&blob(Digest::sha256(b"{}"))).await.body, b"{}".as_ref());
        // It may be signed in its turn.
        let about = json!({"mediaType": MANIFEST, "digest": digest, "size": manifest.to_string().len()});
        let layer = world.put_blob(SPDX, format!("{{\"of\":\"{digest}\"}}").as_bytes()).await;
        let second = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": SPDX, "config": empty, "layers": [layer], "subject": about,
        });
        assert_eq!(world.put_manifest(digest_of(&second), &second).await.status, StatusCode::CREATED);
    }
    assert_eq!(world.records().await, Vec::<Value>::new());
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN);
    world.assert_nothing_was_written_upstream();
}

/// A sigstore bundle of a key's, as cosign 3 writes it without the public log.
fn bundle(key: &Key, digest: &Digest, predicate_type: &str) -> String {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate_type, "predicate": {},
        "subject": [{"name": "", "digest": {"sha256": digest.encoded()}}],
    })
    .to_string();
    let kind = "application/vnd.in-toto+json";
    let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": BASE64_STANDARD.encode(statement), "payloadType": kind,
            "signatures": [{"sig": key.sign_base64(signed.as_bytes()), "keyid": ""}],
        },
    })
    .to_string()
}

#[tokio::test]
async fn a_bundle_counts_only_as_what_it_says_it_is_and_goes_with_its_record() {
    let world = World::new().await;
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2});
    let mut pushed = Vec::new();
    for predicate_type in ["https://spdx.dev/Document", "https://sigstore.dev/cosign/sign/v1"] {
        let layer = world.put_blob(BUNDLE, bundle(&world.key, &world.image.digest, predicate_type).as_bytes()).await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": empty, "layers": [layer], "subject": world.subject(),
        });
        assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN, "before {predicate_type}");
        let put = world.put_manifest(digest_of(&manifest), &manifest).await;
        assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
        assert_eq!(world.pull(&path(digest_of(&manifest))).await.body, manifest.to_string());
        pushed.push(digest_of(&manifest));
    }
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::OK);
    let records = world.records().await;
    assert_eq!(records.len(), 1, "an attestation is no signature: {records:?}");
    assert_eq!((&records[0]["format"], &records[0]["is_valid"]), (&json!("sigstore-bundle"), &json!(true)));
    let withdrawn = format!("/api/v1/signatures/{}", records[0]["id"].as_str().unwrap());
    assert_eq!(world.send(Method::DELETE, &withdrawn, &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.pull(&path(pushed[0])).await.status, StatusCode::OK);
    assert_ne!(world.pull(&path(pushed[1])).await.status, StatusCode::OK, "a withdrawn signature is not shown on");
}

#[tokio::test]
async fn blobs_come_in_every_way_that_the_specification_has() {
    let world = World::new().await;
    let (bytes, digest) = (b"a blob in parts".as_slice(), Digest::sha256(b"a blob in parts"));
    let exists = async || world.send(Method::HEAD, &blob(digest), &[], "").await.status == StatusCode::OK;

    let whole = world.send(Method::POST, &format!("{}?digest={digest}", uploads()), &[], bytes.to_vec()).await;
    assert_eq!((whole.status, whole.header("location")), (StatusCode::CREATED, Some(blob(digest).as_str())));
    assert!(exists().await);
    // Whoever pulls sees nothing of it.
    assert_eq!(world.mirror.head(&blob(digest), CRANE).await.status, StatusCode::NOT_FOUND);
    world.mirror.clock.advance(std::time::Duration::from_secs(600));
    assert!(!exists().await, "what nothing names is forgotten");

    let location = world.open().await;
    let put = world.send(Method::PUT, &format!("{location}?digest={digest}"), &[], bytes.to_vec()).await;
    assert_eq!(
        (put.status, put.header("docker-content-digest")),
        (StatusCode::CREATED, Some(digest.to_string().as_str()))
    );
    let gone = world.send(Method::GET, &location, &[], "").await;
    assert_eq!(error(&gone), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));

    let location = world.open().await;
    let first = world.send(Method::PATCH, &location, &[("content-range", "0-5")], bytes[..6].to_vec()).await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, Some("0-5")));
    for (range, part) in [
        ("0-5", &bytes[..6]),
        ("7-8", &bytes[7..9]),
        ("6-9", &bytes[6..9]),
        ("6-7", &bytes[6..9]),
        ("x", b""),
        ("9-6", b"abc"),
    ] {
        let wrong = world.send(Method::PATCH, &location, &[("content-range", range)], part.to_vec()).await;
        assert_eq!(wrong.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}: {wrong:?}");
        assert_eq!(wrong.header("location"), Some(location.as_str()));
        // What came of a chunk that ended too early counts, so the client asks where to go on.
        let at = world.send(Method::GET, &location, &[], "").await;
        assert_eq!(at.status, StatusCode::NO_CONTENT);
        let received: usize = at.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        assert!(received == 5 || range == "6-9" && received == 8, "{range}: {received}");
        if received == 8 {
            break;
        }
    }
    let rest = format!("9-{}", bytes.len() - 1);
    let last = world
        .send(Method::PUT, &format!("{location}?digest={digest}"), &[("content-range", &rest)], bytes[9..].to_vec())
        .await;
    assert_eq!(last.status, StatusCode::CREATED, "{last:?}");
    assert!(exists().await);

    let location = world.open().await;
    assert_eq!(world.send(Method::DELETE, &location, &[], "").await.status, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        assert_eq!(error(&world.send(method, &location, &[], "").await), (404, "BLOB_UPLOAD_UNKNOWN".to_owned()));
    }

    // A blob of elsewhere is an ordinary upload, one that is here already is not.
    let mount = |digest: &Digest| format!("{}?mount={digest}&from=team/other", uploads());
    let elsewhere = world.registry.push_blob("team/other", b"elsewhere".to_vec());
    assert_eq!(world.send(Method::POST, &mount(&elsewhere), &[], "").await.status, StatusCode::ACCEPTED);
    let here = world.send(Method::POST, &mount(&Digest::sha256(b"layer")), &[], "").await;
    assert_eq!(here.status, StatusCode::CREATED, "{here:?}");
    world.assert_nothing_was_written_upstream();
}

#[tokio::test]
async fn uploads_that_are_wrong_too_large_or_another_repositorys_are_refused_and_gone() {
    let world = World::new().await;
    let location = world.open().await;
    world.send(Method::PATCH, &location, &[], "bytes").await;
    let wrong = world.send(Method::PUT, &format!("{location}?digest={}", Digest::sha256(b"others")), &[], "").await;
    assert_eq!(error(&wrong), (400, "DIGEST_INVALID".to_owned()));
    assert_eq!(world.send(Method::GET, &location, &[], "").await.status, StatusCode::NOT_FOUND);
    for query in ["", "?digest=", "?digest=sha256:x", "?digest=sha256:../../x"] {
        let location = world.open().await;
        let wrong = world.send(Method::PUT, &format!("{location}{query}"), &[], "bytes").await;
        assert_eq!(error(&wrong), (400, "DIGEST_INVALID".to_owned()), "{query}");
    }
    let another = format!("/v2/{REPOSITORY}/manifests/{}", Digest::sha256(b"another"));
    let manifest = json!({ "schemaVersion": 2, "config": {}, "layers": [] }).to_string();
    let wrong = world.send(Method::PUT, &another, &[], manifest).await;
    assert_eq!(error(&wrong), (400, "DIGEST_INVALID".to_owned()));

    let huge = vec![0; (4 << 20) + 1];
    let location = world.open().await;
    let read_past = world.send(Method::PATCH, &location, &[], huge.clone()).await;
    assert_eq!((read_past.status, read_past.header("range")), (StatusCode::ACCEPTED, Some("0-4194304")));
    let end = format!("{location}?digest={}", Digest::sha256(&huge));
    assert_eq!(error(&world.send(Method::PUT, &end, &[], "").await), denied());
    assert_eq!(world.send(Method::GET, &location, &[], "").await.status, StatusCode::NOT_FOUND);
    let whole = format!("{}?digest={}", uploads(), Digest::sha256(&huge));
    assert_eq!(error(&world.send(Method::POST, &whole, &[], huge).await), denied());

    let location = world.open().await;
    let elsewhere = location.replace(REPOSITORY, "team/other");
    assert_eq!(world.send(Method::PATCH, &elsewhere, &[], "x").await.status, StatusCode::NOT_FOUND);
    world.mirror.clock.advance(std::time::Duration::from_secs(600));
    assert_eq!(world.send(Method::GET, &location, &[], "").await.status, StatusCode::NOT_FOUND, "aged");

    let mut opened = 0;
    let refused = loop {
        let answer = world.send(Method::POST, &uploads(), &[], "").await;
        if answer.status != StatusCode::ACCEPTED {
            break answer;
        }
        opened += 1;
        assert!(opened <= 256, "uploads are counted");
    };
    assert_eq!(error(&refused), (429, "TOOMANYREQUESTS".to_owned()));
}

/// GHSA-qg67-7m6v-qg25, GHSA-6pjf-3r9x-m592: what may be written is not what one says it is, but what it is.
#[tokio::test]
async fn pitfall_18_no_image_comes_in_and_nothing_goes_upstream() {
    let world = World::with(|setup| setup.level(Level::Enforce)).await;
    let about = world.subject();
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2});
    let nobody = json!({"mediaType": MANIFEST, "digest": Digest::sha256(b"nobody"), "size": 6});
    let other_sig = format!("sha256-{}.sig", Digest::sha256(b"nobody").encoded());
    let image = |layers: &[&Value], extra: Value| {
        let mut manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": layers});
        manifest.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        manifest
    };
    let sig = world.sig();
    let bare = sig.trim_end_matches(".sig").to_owned();
    let by_digest = String::new;
    for (what, reference, layers, extra) in [
        ("an image under a tag", "v9".to_owned(), vec![LAYER], json!({})),
        ("an image over the one that is there", "preview-v1".to_owned(), vec![LAYER], json!({})),
        ("an image by digest", by_digest(), vec![LAYER], json!({})),
        ("an image that says it is about one", by_digest(), vec![LAYER], json!({"subject": about})),
        (
            "an image that says it is a signature",
            by_digest(),
            vec![LAYER],
            json!({"subject": about, "artifactType": JOSE}),
        ),
        ("an image under a signature's name", sig.clone(), vec![LAYER], json!({})),
        ("a layer between signatures", sig.clone(), vec![SPDX, LAYER], json!({})),
        (
            "a layer with a foreign type",
            sig.clone(),
            vec!["application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"],
            json!({}),
        ),
        ("no layer", by_digest(), vec![], json!({"subject": about})),
        ("an artifact about nothing", by_digest(), vec![SPDX], json!({})),
        ("an artifact about what is not here", by_digest(), vec![SPDX], json!({"subject": nobody})),
        ("an artifact under an ordinary tag", "v9".to_owned(), vec![SPDX], json!({"subject": about})),
        ("an artifact over an image's tag", "preview-v1".to_owned(), vec![SPDX], json!({"subject": about})),
        ("an artifact in the place of a list", bare, vec![SPDX], json!({"subject": about})),
        ("a tag of what is not here", other_sig.clone(), vec![SPDX], json!({})),
        ("a tag of one and a subject of another", other_sig, vec![SPDX], json!({"subject": about})),
    ] {
        let mut uploaded = Vec::new();
        for (n, layer) in layers.iter().enumerate() {
            uploaded.push(world.put_blob(layer, format!("{what} {n}").as_bytes()).await);
        }
        let manifest = image(&uploaded.iter().collect::<Vec<_>>(), extra);
        let digest = digest_of(&manifest);
        let reference = if reference.is_empty() { digest.to_string() } else { reference };
        let put = world.put_manifest(&reference, &manifest).await;
        assert_eq!(error(&put), denied(), "{what}: {put:?}");
        assert_ne!(world.get(&path(digest)).await.body, manifest.to_string(), "{what}");
        for layer in &uploaded {
            let left = world.send(Method::HEAD, &blob(layer["digest"].as_str().unwrap()), &[], "").await;
            assert_eq!(left.status, StatusCode::NOT_FOUND, "{what}: its blobs are cleaned up");
        }
    }
    let index =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [about]});
    let headers = [("content-type", "application/vnd.oci.image.index.v1+json")];
    for reference in [digest_of(&index).to_string(), "v9".to_owned(), sig.trim_end_matches(".sig").to_owned()] {
        let put = world.send(Method::PUT, &path(reference), &headers, index.to_string()).await;
        assert_eq!(error(&put), denied());
    }
    for method in [Method::DELETE, Method::PATCH, Method::POST] {
        let answer = world.send(method, &path("preview-v1"), &[], "").await;
        assert_eq!(error(&answer), (405, "UNSUPPORTED".to_owned()));
    }
    world.assert_nothing_was_written_upstream();
}

#[tokio::test]
async fn a_made_up_artifact_opens_no_blob_of_an_image() {
    let world = World::new().await;
    let layer = Digest::sha256(b"layer");
    assert_eq!(world.send(Method::HEAD, &blob(layer), &[], "").await.status, StatusCode::OK, "it is there");
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2});
    let named = json!({"mediaType": SPDX, "digest": layer, "size": 5});
    for reference in [world.sig(), String::new()] {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": empty, "layers": [named], "subject": world.subject(),
        });
        let reference = if reference.is_empty() { digest_of(&manifest).to_string() } else { reference };
        let put = world.put_manifest(reference, &manifest).await;
        assert_eq!(error(&put), (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    }
    for answer in [world.get(&blob(layer)).await, world.pull(&blob(layer)).await] {
        assert_ne!(answer.status, StatusCode::OK, "{answer:?}");
    }
    // Whoever has the bytes is asked for them when it tries again.
    assert_eq!(world.send(Method::HEAD, &blob(layer), &[], "").await.status, StatusCode::NOT_FOUND);
}

/// `skopeo copy --sign-by` and `podman push --sign-by` put the image back before they sign it.
#[tokio::test]
async fn an_image_put_back_where_it_is_changes_nothing_and_is_no_way_to_its_blobs() {
    let world = World::new().await;
    for child in &world.image.children {
        let head = world.send(Method::HEAD, &blob(child), &[], "").await;
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{head:?}");
        assert!(head.header("content-length").unwrap().parse::<u64>().unwrap() > 0);
        assert_ne!(world.get(&blob(child)).await.status, StatusCode::OK);
        assert_ne!(world.mirror.head(&blob(child), DOCKER).await.status, StatusCode::OK);
    }
    let headers = [("content-type", MANIFEST)];
    for reference in ["preview-v1".to_owned(), world.image.digest.to_string()] {
        let put = world.send(Method::PUT, &path(&reference), &headers, world.image.bytes.clone()).await;
        assert_eq!((put.status, put.header("oci-subject")), (StatusCode::CREATED, None), "{put:?}");
        assert_eq!(put.header("docker-content-digest"), Some(world.image.digest.to_string().as_str()));
    }
    // A client that does not know what is there sends it: a large layer is read past.
    let large = vec![7; (4 << 20) + 1];
    let image = world.registry.push_image(REPOSITORY, Some("preview-large"), &[&large]);
    let location = world.open().await;
    world.send(Method::PATCH, &location, &[], large.clone()).await;
    let ended = world.send(Method::PUT, &format!("{location}?digest={}", image.children[1]), &[], "").await;
    assert_eq!(ended.status, StatusCode::CREATED, "{ended:?}");
    let put = world.send(Method::PUT, &path("preview-large"), &headers, image.bytes.clone()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    assert_ne!(world.get(&blob(image.children[1])).await.status, StatusCode::OK);
    // Under another tag it would be another image's.
    let put = world.send(Method::PUT, &path("preview-v2"), &headers, world.image.bytes.clone()).await;
    assert_eq!(error(&put), denied());
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN, "it is as unsigned as before");
    world.assert_nothing_was_written_upstream();
}

#[tokio::test]
async fn pushing_takes_an_account_and_the_mirror_challenges_nobody_for_it() {
    let manifest = json!({"schemaVersion": 2}).to_string();
    let requests = || {
        [
            (Method::POST, uploads()),
            (Method::POST, format!("{}?digest={}", uploads(), Digest::sha256(b"x"))),
            (Method::GET, format!("{}0123", uploads())),
            (Method::PATCH, format!("{}0123", uploads())),
            (Method::PUT, format!("{}0123", uploads())),
            (Method::DELETE, format!("{}0123", uploads())),
            (Method::PUT, path("v1")),
        ]
    };
    let open = World::with(|setup| Setup { auth: None, ..setup }).await;
    for (method, path) in requests() {
        let answer = open.send(method.clone(), &path, &[], manifest.clone()).await;
        assert_eq!(error(&answer), denied(), "{method} {path}");
        assert!(answer.json()["errors"][0]["message"].as_str().unwrap().starts_with("auth-required: "), "{answer:?}");
    }
    let world = World::new().await;
    for (method, path) in requests() {
        for authorization in ["Basic aHViOnBhc3N3b3Jk", "Bearer x"] {
            for (host, expected) in [("mirror.example", denied()), (OURS, (401, "UNAUTHORIZED".to_owned()))] {
                let headers = [("host", host), ("authorization", authorization)];
                let answer = world.mirror.send(method.clone(), &path, &headers, manifest.clone().into()).await;
                assert_eq!(error(&answer), expected, "{method} {path}");
                assert_eq!(answer.header("www-authenticate").is_some(), host == OURS);
            }
        }
    }
    // Credentials that come unasked are honoured.
    let headers = [("host", "mirror.example"), ("authorization", ADMIN)];
    let opened = world.mirror.send(Method::POST, &uploads(), &headers, Bytes::new()).await;
    assert_eq!(opened.status, StatusCode::ACCEPTED);
    let answer = world.send(Method::POST, "/v2/unknown.example/app/blobs/uploads/", &[], "").await;
    assert_eq!(error(&answer), denied(), "a registry that nobody configured");
}

#[tokio::test]
async fn signatures_that_say_nothing_were_withdrawn_or_are_too_many_are_refused() {
    let world = World::new().await;
    let payload = simple_signing(&world.image.digest, "ci");
    let good = world.signature(&world.key, &payload).await;
    for (what, change) in [
        ("no annotation", json!(null)),
        ("another one", json!({"dev.cosignproject.cosign/other": "AAAA"})),
        ("no base64", json!({"dev.cosignproject.cosign/signature": "!"})),
        ("nothing", json!({"dev.cosignproject.cosign/signature": ""})),
    ] {
        let mut layer = good.clone();
        layer["annotations"] = change;
        if layer["annotations"].is_null() {
            layer.as_object_mut().unwrap().remove("annotations");
        }
        let manifest = world.signatures(&[layer]).await;
        let put = world.put_manifest(world.sig(), &manifest).await;
        assert_eq!(error(&put), denied(), "{what}: {put:?}");
        assert_eq!(world.get(&path(world.sig())).await.status, StatusCode::NOT_FOUND, "{what}");
        world.put_blob(SIMPLE_SIGNING, payload.as_bytes()).await;
    }
    let mut layer = world.signature(&world.key, "no payload of cosign's").await;
    layer["size"] = json!(22);
    let manifest = world.signatures(&[layer]).await;
    assert_eq!(error(&world.put_manifest(world.sig(), &manifest).await), denied());
    assert_eq!(world.records().await, Vec::<Value>::new());

    let again = world.signature(&world.key, &payload).await;
    let manifest = world.signatures(&[again]).await;
    assert_eq!(world.put_manifest(world.sig(), &manifest).await.status, StatusCode::CREATED);
    let id = world.records().await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        world.send(Method::DELETE, &format!("/api/v1/signatures/{id}"), &[], "").await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.pull(&path(world.sig())).await.status, StatusCode::NOT_FOUND, "it is not shown on");
    let again = world.signature(&world.key, &payload).await;
    let manifest = world.signatures(&[again]).await;
    assert_eq!(error(&world.put_manifest(world.sig(), &manifest).await), denied(), "withdrawn");
    assert_eq!(world.pull(&path("preview-v1")).await.status, StatusCode::FORBIDDEN);

    let garbage = Key::generate();
    for n in 0..65 {
        let layer = world.signature(&garbage, &simple_signing(&world.image.digest, &n.to_string())).await;
        let manifest = world.signatures(&[layer]).await;
        let put = world.put_manifest(world.sig(), &manifest).await;
        if n < 63 {
            assert_eq!(put.status, StatusCode::CREATED, "{n}: {put:?}");
        } else if n == 64 {
            assert_eq!(error(&put), denied());
        }
    }
}

#[tokio::test]
async fn pitfall_46_pushing_a_preview_again_gives_it_no_new_life() {
    let world = World::new().await;
    let payload = simple_signing(&world.image.digest, "ci");
    for again in [false, true] {
        // Another signature by the same key over the same payload: ECDSA draws a number for each.
        let layer = world.signature(&world.key, &payload).await;
        let manifest = world.signatures(&[layer]).await;
        assert_eq!(world.put_manifest(world.sig(), &manifest).await.status, StatusCode::CREATED);
        let expected = if again { StatusCode::FORBIDDEN } else { StatusCode::OK };
        assert_eq!(world.pull(&path("preview-v1")).await.status, expected, "again: {again}");
        world.mirror.clock.advance(std::time::Duration::from_secs(7 * 24 * 3600));
        let refused = world.pull(&path("preview-v1")).await;
        assert!(refused.phrase.contains("the signature has expired"), "{refused:?}");
    }
}

#[tokio::test]
async fn what_is_about_an_internal_image_is_shown_to_the_account_alone() {
    let world = World::new().await;
    let internal = world.registry.push_image("team/secret", Some("internal-v1"), &[b"secret"]);
    let there = |kind: &str, last: &str| format!("/v2/team/secret/{kind}/{last}");
    let payload = simple_signing(&internal.digest, "ci");
    let config = world.registry.push_blob("team/secret", b"unused".to_vec());
    assert_eq!(world.send(Method::HEAD, &there("blobs", &config.to_string()), &[], "").await.status, StatusCode::OK);
    let post = |bytes: &str| format!("/v2/team/secret/blobs/uploads/?digest={}", Digest::sha256(bytes.as_bytes()));
    for bytes in [payload.as_str(), "{\"a\":1}"] {
        assert_eq!(world.send(Method::POST, &post(bytes), &[], bytes.to_owned()).await.status, StatusCode::CREATED);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": Digest::sha256(b"{\"a\":1}"), "size": 7},
        "layers": [{
            "mediaType": SIMPLE_SIGNING, "digest": Digest::sha256(payload.as_bytes()), "size": payload.len(),
            "annotations": {"dev.cosignproject.cosign/signature": world.key.sign_base64(payload.as_bytes())},
        }],
    });
    let sig = format!("sha256-{}.sig", internal.digest.encoded());
    let headers = [("content-type", MANIFEST)];
    let put = world.send(Method::PUT, &there("manifests", &sig), &headers, manifest.to_string()).await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    let digest = digest_of(&manifest).to_string();
    let payload = Digest::sha256(payload.as_bytes()).to_string();
    for _ in 0..2 {
        for path in [there("manifests", &sig), there("manifests", &digest), there("blobs", &payload)] {
            assert_eq!(world.get(&path).await.status, StatusCode::OK, "{path}");
            let anonymous = world.pull(&path).await;
            assert_eq!(anonymous.status, StatusCode::NOT_FOUND, "{path}: {anonymous:?}");
        }
        assert_eq!(world.get(&there("manifests", "internal-v1")).await.body, internal.bytes);
        assert_eq!(world.get(&there("blobs", &Digest::sha256(b"secret").to_string())).await.body, b"secret".as_ref());
    }
}

#[tokio::test]
async fn what_was_pushed_is_read_beside_what_the_upstream_has_and_what_was_submitted() {
    let world = World::new().await;
    let digest = world.image.digest;
    let theirs = simple_signing(&digest, "upstream");
    let signature = world.key.sign_base64(theirs.as_bytes());
    world.registry.push_cosign_signatures(REPOSITORY, &digest, &[(theirs.as_bytes(), &signature)]);
    let layer = world.signature(&world.key, &simple_signing(&digest, "pushed")).await;
    let manifest = world.signatures(&[layer]).await;
    assert_eq!(world.put_manifest(world.sig(), &manifest).await.status, StatusCode::CREATED);
    let payload = simple_signing(&digest, "submitted");
    let body = json!({
        "image_digest": digest, "tag": "preview-v1", "signature": world.key.sign_base64(payload.as_bytes()),
        "payload": BASE64_STANDARD.encode(&payload),
    });
    let json = [("content-type", "application/json")];
    let posted = world.send(Method::POST, "/api/v1/signatures", &json, body.to_string()).await;
    assert_eq!(posted.status, StatusCode::CREATED, "{posted:?}");
    let read = world.get(&path(world.sig())).await;
    let mut by = Vec::new();
    for layer in read.json()["layers"].as_array().unwrap() {
        let payload = world.get(&blob(layer["digest"].as_str().unwrap())).await.json();
        by.push(payload["optional"]["by"].as_str().unwrap().to_owned());
    }
    assert_eq!(by, ["pushed", "upstream", "submitted"]);
    let by_digest = world.get(&path(read.header("docker-content-digest").unwrap())).await;
    assert_eq!(by_digest.body, read.body);

    let theirs = world.registry.push_referrer(REPOSITORY, &world.image, JOSE, b"{}");
    let empty = world.put_blob("application/vnd.oci.empty.v1+json", b"{}").await;
    let sbom = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": SPDX, "config": empty, "subject": world.subject(),
        "layers": [world.put_blob(SPDX, b"{\"sbom\":1}").await], "annotations": { "by": "oras" },
    });
    assert_eq!(world.put_manifest(digest_of(&sbom), &sbom).await.status, StatusCode::CREATED);
    let list = async |query: &str| {
        let listed = world.get(&format!("/v2/{REPOSITORY}/referrers/{digest}{query}")).await.json();
        listed["manifests"].as_array().unwrap().clone()
    };
    let listed = list("").await;
    assert_eq!(
        listed.iter().map(|listed| &listed["digest"]).collect::<Vec<_>>(),
        [&json!(theirs.digest), &json!(digest_of(&sbom))]
    );
    assert_eq!(
        (&listed[1]["artifactType"], &listed[1]["annotations"], &listed[1]["size"]),
        (&json!(SPDX), &json!({ "by": "oras" }), &json!(sbom.to_string().len()))
    );
    let filtered = list("?artifactType=application%2Fspdx%2Bjson").await;
    assert_eq!(filtered.iter().map(|listed| &listed["digest"]).collect::<Vec<_>>(), [&json!(digest_of(&sbom))]);
    world.registry.without_referrers(REPOSITORY);
    assert_eq!(list("").await.len(), 1, "ours is there without a list upstream");
    world.assert_nothing_was_written_upstream();
}

#[tokio::test]
async fn an_attestation_is_kept_and_read_however_much_it_says_and_is_no_signature() {
    let world = World::new().await;
    // The first has more values than any signature, the second is larger than one may be.
    for packages in [5_000, 40_000] {
        let packages: Vec<_> = (0..packages).map(|n| json!({ "name": n, "versions": [n] })).collect();
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "", "digest": {"sha256": world.image.digest.encoded()}}],
            "predicateType": "https://spdx.dev/Document",
            "predicate": {"packages": packages},
        });
        let kind = "application/vnd.in-toto+json";
        let statement = statement.to_string();
        let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let bundle = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": BASE64_STANDARD.encode(statement),
                "payloadType": kind,
                "signatures": [{"sig": world.key.sign_base64(signed.as_bytes())}],
            },
        });
        let bundle = bundle.to_string();
        let layer = world.put_blob(BUNDLE, bundle.as_bytes()).await;
        let config = world.put_blob("application/vnd.oci.empty.v1+json", b"{}").await;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": config, "layers": [layer], "subject": world.subject(),
        });
        let digest = Digest::sha256(manifest.to_string().as_bytes());
        let pushed = world.put_manifest(digest, &manifest).await;
        assert_eq!(pushed.status, StatusCode::CREATED, "{pushed:?}");
        assert_eq!(world.get(&path(digest)).await.json(), manifest);
        assert_eq!(world.get(&blob(Digest::sha256(bundle.as_bytes()))).await.body, bundle.as_bytes());
    }
    assert_eq!(world.records().await, Vec::<Value>::new());
    assert_eq!(world.pull(&path("preview-v1")).await.status.as_u16(), 403);
}
