//! Signatures that are found beside the image, wherever signers put them, and registries that answer wrongly.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use sig_repo::{oci::Digest, policy::Level};

use crate::support::{
    key::Key,
    mirror::{Answer, CRANE, Mirror, Setup},
    registry::{Fault, Image, Registry, descriptor},
    signing::simple_signing,
};

const REPOSITORY: &str = "team/app";
const SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Where signatures are looked for; the last is the fallback tag.
const PLACES: [&str; 3] = [".sig", "referrers", ""];

/// A mirror that enforces and trusts one key, over a registry with one image that nobody has signed yet.
struct Scene {
    registry: Registry,
    mirror: Mirror,
    key: Key,
    image: Image,
}

impl Scene {
    async fn new() -> Self {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
        let key = Key::generate();
        let mirror = Setup::over(&registry).level(Level::Enforce).trusting("ci", &key).start().await;
        Self { registry, mirror, key, image }
    }

    fn signed_by(&self, key: &Key) -> (String, String) {
        let payload = simple_signing(&self.image.digest);
        let signature = key.sign_base64(payload.as_bytes());
        (payload, signature)
    }

    /// The good signature, in a manifest that refers to the image.
    fn push_referrer(&self) -> Image {
        let (payload, signature) = self.signed_by(&self.key);
        self.registry.push_signature_referrer(REPOSITORY, &self.image, payload.as_bytes(), &signature)
    }

    fn push_tag(&self) {
        let (payload, signature) = self.signed_by(&self.key);
        self.registry.push_cosign_signatures(REPOSITORY, &self.image.digest, &[(payload.as_bytes(), &signature)]);
    }

    async fn pull(&self) -> Answer {
        self.mirror.get(&format!("/v2/{REPOSITORY}/manifests/v1"), CRANE).await
    }

    async fn is_admitted(&self) {
        let answer = self.pull().await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &self.image.bytes), "{answer:?}");
    }

    async fn is_refused(&self, reason: &str) {
        let answer = self.pull().await;
        assert_eq!(answer.status.as_u16(), 403, "{answer:?}");
        assert!(answer.phrase.contains(reason), "{}", answer.phrase);
    }

    fn path(&self, place: &str) -> String {
        match place {
            "referrers" => format!("/v2/{REPOSITORY}/referrers/{}", self.image.digest),
            suffix => format!("/v2/{REPOSITORY}/manifests/sha256-{}{suffix}", self.image.digest.encoded()),
        }
    }

    /// One place alone: the name of the fallback tag is how that of the other begins.
    fn break_place(&self, place: &str, fault: Fault) {
        self.registry.fault(&self.path(place), fault);
        if place.is_empty() {
            self.registry.fault(&self.path(".sig"), Fault::status(404));
        }
    }

    fn asked(&self, path: &str) -> usize {
        self.registry.requests().iter().filter(|request| request.path == path && request.method == "GET").count()
    }
}

#[tokio::test]
async fn a_signature_is_found_wherever_signers_put_it() {
    let scene = Scene::new().await;
    scene.push_tag();
    scene.is_admitted().await;
    for place in PLACES {
        assert_eq!(scene.asked(&scene.path(place)), 1, "{place:?}: {:?}", scene.registry.request_lines());
    }

    let scene = Scene::new().await;
    scene.push_referrer();
    scene.is_admitted().await;

    // Registries without the API have a tag, where cosign enters its signatures as empty artifacts.
    for listed_as in [SIGNATURE, EMPTY, "application/spdx+json"] {
        let scene = Scene::new().await;
        scene.registry.without_referrers(REPOSITORY);
        let referrer = scene.push_referrer();
        scene.registry.push_fallback(REPOSITORY, &scene.image, &[(&referrer, listed_as)]);
        scene.is_admitted().await;
    }
}

#[tokio::test]
async fn looking_upstream_is_one_round_of_questions_side_by_side_and_once_for_all() {
    // Each place is asked before any has answered.
    let scene = Scene::new().await;
    for place in PLACES {
        scene.registry.fault(&scene.path(place), Fault::Hang);
    }
    let all_are_asked = async {
        while PLACES.iter().any(|place| scene.asked(&scene.path(place)) == 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = scene.pull() => panic!("{answer:?}"),
        () = all_are_asked => {}
    }

    // Whoever comes meanwhile, or after, has its answer.
    let scene = Scene::new().await;
    scene.push_referrer();
    join_all((0..16).map(|_| scene.is_admitted())).await;
    scene.is_admitted().await;
    for place in PLACES {
        assert_eq!(scene.asked(&scene.path(place)), 1, "{place:?}: {:?}", scene.registry.request_lines());
    }
}

#[tokio::test]
async fn the_upstream_is_not_asked_where_the_store_suffices() {
    let scene = Scene::new().await;
    scene.push_referrer();
    scene.mirror.submit(&scene.key, "v1", &scene.image.bytes).await;
    scene.is_admitted().await;
    let lines = scene.registry.request_lines();
    assert!(lines.iter().all(|line| !line.contains("referrers") && !line.contains("sha256-")), "{lines:?}");
}

#[tokio::test]
async fn a_list_in_pages_is_read_to_its_end_and_an_endless_one_is_left() {
    let scene = Scene::new().await;
    for sbom in 0..5 {
        let sbom = json!({ "sbom": sbom }).to_string();
        scene.registry.push_referrer(REPOSITORY, &scene.image, "application/spdx+json", sbom.as_bytes());
    }
    scene.push_referrer();
    scene.registry.page_referrers(REPOSITORY, 1);
    scene.is_admitted().await;
    assert_eq!(scene.asked(&scene.path("referrers")), 6);

    let scene = Scene::new().await;
    scene.push_referrer();
    let link = Fault::Header("link", "</v2/team/app/referrers/x?from=0>; rel=\"next\"");
    scene.registry.fault(&scene.path("referrers"), link);
    scene.is_admitted().await;
    assert_eq!(scene.asked(&scene.path("referrers")), 8);
}

/// Each lie spoils itself, and not the signature beside it.
#[tokio::test]
async fn pitfall_19_lists_that_lie_harm_nothing() {
    let scene = Scene::new().await;
    let Scene { registry, image, .. } = &scene;
    let other = registry.push_image(REPOSITORY, None, &[b"other"]);
    let (payload, signature) = scene.signed_by(&scene.key);
    let claim = |entry| registry.claim_referrer(REPOSITORY, &image.digest, entry);
    // A true signature of this image, in a manifest that refers to another one.
    let foreign = registry.push_signature_referrer(REPOSITORY, &other, payload.as_bytes(), &signature);
    claim(descriptor(&foreign));
    scene.is_refused("no valid signature").await;
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(payload.as_bytes()));
    assert_eq!((scene.asked(&format!("/v2/{REPOSITORY}/manifests/{}", foreign.digest)), scene.asked(&blob)), (1, 0));

    let scene = Scene::new().await;
    let Scene { registry, image, .. } = &scene;
    let claim = |entry| registry.claim_referrer(REPOSITORY, &image.digest, entry);
    let good = descriptor(&scene.push_referrer());
    let nothing = Digest::sha256(b"nothing");
    for entry in [
        json!(null),
        json!({ "digest": "sha256:short", "mediaType": "a/b", "size": 1 }),
        json!({ "digest": nothing, "mediaType": good["mediaType"], "size": 1 }),
        json!({ "digest": image.digest, "mediaType": "application/vnd.oci.image.index.v1+json", "size": 1 }),
        descriptor(image),
        good.clone(),
        good.clone(),
    ] {
        claim(entry);
    }
    for (fault, text) in
        [(Fault::WrongBytes, "changed"), (Fault::EndlessBody, "endless"), (Fault::Cut, "cut"), (Fault::Reset, "reset")]
    {
        let referrer = registry.push_referrer(REPOSITORY, image, BUNDLE, text.as_bytes());
        registry.fault(&format!("/v2/{REPOSITORY}/manifests/{}", referrer.digest), fault);
    }
    let huge = json!({ "digest": nothing, "mediaType": BUNDLE, "size": u64::MAX });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": good["mediaType"], "artifactType": BUNDLE, "subject": descriptor(image),
        "config": huge, "layers": [huge],
    });
    registry.push_manifest(REPOSITORY, None, good["mediaType"].as_str().unwrap(), manifest.to_string());
    scene.is_admitted().await;
    let digest = good["digest"].as_str().unwrap();
    assert_eq!(scene.asked(&format!("/v2/{REPOSITORY}/manifests/{digest}")), 1, "three entries are one manifest");
    assert_eq!(scene.asked(&format!("/v2/{REPOSITORY}/blobs/{nothing}")), 0, "what is too large is not asked for");
}

#[tokio::test]
async fn a_signature_whose_bytes_are_others_is_none() {
    for fault in [Fault::WrongBytes, Fault::LongBody, Fault::EndlessBody, Fault::status(404)] {
        let scene = Scene::new().await;
        scene.push_referrer();
        let payload = simple_signing(&scene.image.digest);
        let blob = format!("/v2/{REPOSITORY}/blobs/{}", Digest::sha256(payload.as_bytes()));
        scene.registry.fault(&blob, fault.clone());
        scene.is_refused("no valid signature").await;
    }
}

#[tokio::test]
async fn pitfall_12_whichever_source_fails_nobody_can_tell() {
    for place in PLACES {
        for fault in [Fault::status(429), Fault::status(500), Fault::status(503), Fault::status(402), Fault::Reset] {
            let scene = Scene::new().await;
            scene.break_place(place, fault.clone());
            scene.is_refused("could not be checked: the upstream registry did not answer").await;
        }
        // A good signature elsewhere is one all the same.
        let scene = Scene::new().await;
        if place == "referrers" {
            scene.push_tag();
        } else {
            scene.push_referrer();
        }
        scene.break_place(place, Fault::status(500));
        scene.is_admitted().await;
    }
    // The list is there, what it names is not to be had.
    let scene = Scene::new().await;
    let referrer = scene.push_referrer();
    let path = format!("/v2/{REPOSITORY}/manifests/{}", referrer.digest);
    scene.registry.fault(&path, Fault::status(500));
    scene.is_refused("could not be checked").await;
    scene.registry.heal();
    scene.mirror.clock.advance(std::time::Duration::from_secs(1));
    scene.is_admitted().await;
}

#[tokio::test]
async fn a_registry_that_does_not_know_the_list_says_so_in_many_ways() {
    for fault in [Fault::status(400), Fault::status(404), Fault::status(405), Fault::status(406), Fault::status(501)] {
        let scene = Scene::new().await;
        scene.registry.fault(&scene.path("referrers"), fault);
        scene.is_refused("no valid signature").await;
    }
    let scene = Scene::new().await;
    scene.registry.fault(&scene.path("referrers"), Fault::Header("content-type", "text/html"));
    scene.is_refused("no valid signature").await;
}

/// What the list says about an entry only orders the questions, but it does that.
#[tokio::test]
async fn pitfall_47_others_in_the_list_do_not_hide_the_signature() {
    let scene = Scene::new().await;
    let Scene { registry, image, .. } = &scene;
    for n in 0..100 {
        let attestation = json!({ "n": n }).to_string();
        registry.push_referrer(REPOSITORY, image, BUNDLE, attestation.as_bytes());
    }
    scene.push_referrer();
    scene.is_admitted().await;

    // Nor does a tag full of garbage hide what refers to the image.
    let scene = Scene::new().await;
    let stranger = Key::generate();
    let garbage: Vec<_> = (0..64).map(|_| scene.signed_by(&stranger)).collect();
    let garbage: Vec<_> = garbage.iter().map(|(payload, signature)| (payload.as_bytes(), signature.as_str())).collect();
    scene.registry.push_cosign_signatures(REPOSITORY, &scene.image.digest, &garbage);
    scene.push_referrer();
    scene.is_admitted().await;
}

/// Forgeries for a key on P-521 cost so much that all of them are more than an image's time.
#[tokio::test]
async fn pitfall_47_the_dearest_garbage_puts_the_signature_off_and_does_not_hide_it() {
    let [trusted, stranger] = std::array::from_fn(|_| Key::generate_dear());
    for garbage_is_upstream in [true, false] {
        let registry = Registry::start().await;
        let image = registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
        let key = Key::generate();
        let setup = Setup::over(&registry).level(Level::Enforce).trusting("ci", &key).trusting("dear", &trusted);
        let scene = Scene { mirror: setup.start().await, registry, key, image };
        let Scene { registry, mirror, image, .. } = &scene;
        if garbage_is_upstream {
            let garbage: Vec<_> = (0..64).map(|_| scene.signed_by(&stranger)).collect();
            let garbage: Vec<_> =
                garbage.iter().map(|(payload, signature)| (payload.as_bytes(), signature.as_str())).collect();
            registry.push_cosign_signatures(REPOSITORY, &image.digest, &garbage);
        } else {
            for _ in 0..64 {
                let signature = stranger.sign_base64(&image.bytes);
                let body = json!({ "image_digest": image.digest.to_string(), "tag": "v1", "signature": signature });
                assert_eq!(mirror.post("/api/v1/signatures", &body).await.status, StatusCode::CREATED);
            }
        }
        scene.push_referrer();
        let mut refusals = 0;
        loop {
            let answer = scene.pull().await;
            if answer.status == StatusCode::OK {
                break;
            }
            assert!(answer.phrase.contains("could not be checked"), "{answer:?}");
            refusals += 1;
            assert!(refusals < 64, "{answer:?}");
            // For so long "could not tell" is believed.
            mirror.clock.advance(std::time::Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn pitfall_47_garbage_that_was_found_before_does_not_keep_the_signature_out() {
    let scene = Scene::new().await;
    let stranger = Key::generate();
    let push = |good: Option<(String, String)>| {
        let garbage = (0..63).map(|_| scene.signed_by(&stranger));
        let all: Vec<_> = garbage.chain(good).collect();
        let all: Vec<_> = all.iter().map(|(payload, signature)| (payload.as_bytes(), signature.as_str())).collect();
        scene.registry.push_cosign_signatures(REPOSITORY, &scene.image.digest, &all);
    };
    let later = || scene.mirror.clock.advance(std::time::Duration::from_secs(61));
    // More than is kept of one digest, and each time other ones.
    for _ in 0..6 {
        push(None);
        scene.is_refused("no trusted key").await;
        later();
    }
    push(Some(scene.signed_by(&scene.key)));
    scene.is_admitted().await;
    // What has verified stays, also where it can no longer be found.
    for _ in 0..6 {
        push(None);
        later();
        scene.is_admitted().await;
    }
}
