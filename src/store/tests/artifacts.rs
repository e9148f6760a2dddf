//! Artifacts that were pushed: what one account may have, and what goes to make room.

use super::*;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn subject() -> Digest {
    Digest::sha256(b"image")
}

fn tag() -> Tag {
    format!("sha256-{}.sig", subject().encoded()).parse().unwrap()
}

/// A manifest with one layer, which makes it unlike any other.
fn artifact(layer: &[u8], refers: bool) -> NewArtifact {
    let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({ "mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len() });
    let config = b"{}";
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor("application/vnd.oci.empty.v1+json", config),
        "layers": [descriptor("application/spdx+json", layer)],
    });
    let bytes = bytes::Bytes::from(manifest.to_string());
    let blobs = [config.as_slice(), layer].map(|blob| (Digest::sha256(blob), bytes::Bytes::copy_from_slice(blob)));
    let manifest = HeldManifest { bytes: bytes.clone(), media_type: MANIFEST.to_owned() };
    let artifact = Artifact { digest: Digest::sha256(&bytes), subject: subject(), refers, manifest };
    NewArtifact { artifact, blobs: blobs.into() }
}

fn capture(new: &NewArtifact, account: &str) -> Capture {
    let (repository, account) = (repository("team/app"), account.to_owned());
    Capture { repository, artifacts: vec![new.clone()], tag: None, account }
}

fn tagged(new: &NewArtifact, from: Option<&NewArtifact>, account: &str) -> Capture {
    let retag = Retag { tag: tag(), from: from.map(|from| from.artifact.digest), to: new.artifact.digest };
    Capture { tag: Some(retag), ..capture(new, account) }
}

#[tokio::test]
async fn what_was_pushed_comes_back_as_it_was_and_survives_reopening() {
    let (dir, running) = start();
    let (referrer, signatures) = (artifact(b"sbom", true), artifact(b"signature", false));
    for push in [capture(&referrer, "ci"), tagged(&signatures, None, "ci")] {
        assert_eq!(running.store.capture(push.clone()).await.unwrap(), Captured::Kept);
        assert_eq!(running.store.capture(Capture { tag: None, ..push }).await.unwrap(), Captured::Kept, "again");
    }
    let clock = running.clock.clone();
    drop(running);
    let running = Running::at(dir.path(), &clock);
    let (store, here, elsewhere) = (&running.store, repository("team/app"), repository("team/other"));
    for new in [&referrer, &signatures] {
        let digest = new.artifact.digest;
        assert_eq!(store.artifact(&here, &digest).unwrap().as_ref(), Some(&new.artifact));
        assert_eq!(store.artifact(&elsewhere, &digest).unwrap(), None);
        for (digest, bytes) in &new.blobs {
            let blob = store.artifact_blob(&here, digest).unwrap().unwrap();
            assert_eq!((&blob.bytes, blob.subjects.as_slice()), (bytes, [subject()].as_slice()));
            assert_eq!(store.artifact_blob(&elsewhere, digest).unwrap(), None);
        }
    }
    assert_eq!(store.artifacts_of(&here, &subject()).unwrap(), [referrer.artifact]);
    assert_eq!(store.artifact_tagged(&here, &tag()).unwrap(), Some(signatures.artifact));
    assert_eq!(store.artifact_tagged(&elsewhere, &tag()).unwrap(), None);
}

#[tokio::test]
async fn a_tag_moves_only_from_where_it_was_seen() {
    let (_dir, running) = start();
    let [one, two, three] = [b"one".as_slice(), b"two", b"three"].map(|layer| artifact(layer, false));
    let push = async |push| running.store.capture(push).await.unwrap();
    assert_eq!(push(tagged(&one, None, "ci")).await, Captured::Kept);
    assert_eq!(push(tagged(&two, None, "ci")).await, Captured::TagMoved);
    assert_eq!(
        running.store.artifact(&repository("team/app"), &two.artifact.digest).unwrap(),
        None,
        "nothing is written"
    );
    assert_eq!(push(tagged(&two, Some(&one), "ci")).await, Captured::Kept);
    assert_eq!(push(tagged(&three, Some(&one), "ci")).await, Captured::TagMoved);
    assert_eq!(running.store.artifact_tagged(&repository("team/app"), &tag()).unwrap(), Some(two.artifact));
    assert_eq!(running.store.artifact(&repository("team/app"), &one.artifact.digest).unwrap(), Some(one.artifact));
}

/// Whoever signs an image each night leaves a manifest behind each time, which no tag leads to.
#[tokio::test]
async fn one_account_fills_its_own_place_and_what_nothing_leads_to_gives_way() {
    let (_dir, running) = start();
    let push = async |push| running.store.capture(push).await.unwrap();
    let mut last: Option<NewArtifact> = None;
    for n in 0..300_u32 {
        running.clock.advance(Duration::from_secs(86_400));
        let new = artifact(&n.to_be_bytes(), false);
        assert_eq!(push(tagged(&new, last.as_ref(), "ci")).await, Captured::Kept, "{n}");
        last = Some(new);
    }
    let first = artifact(&0_u32.to_be_bytes(), false);
    let here = repository("team/app");
    assert_eq!(running.store.artifact(&here, &first.artifact.digest).unwrap(), None);
    assert_eq!(running.store.artifact_blob(&here, &first.blobs[1].0).unwrap(), None, "its layer went with it");
    assert!(running.store.artifact_blob(&here, &first.blobs[0].0).unwrap().is_some(), "others have the same config");
    assert_eq!(running.store.artifact_tagged(&here, &tag()).unwrap(), last.map(|last| last.artifact));

    let mut kept = 0;
    let full = loop {
        match push(capture(&artifact(format!("referrer {kept}").as_bytes(), true), "other")).await {
            Captured::Kept => kept += 1,
            full => break full,
        }
    };
    assert_eq!((full, kept), (Captured::SubjectFull, 128));
    assert_eq!(push(capture(&artifact(b"another's", true), "ci")).await, Captured::Kept, "others have their own");
    let large = artifact(&vec![0; 33 << 20], true);
    assert_eq!(push(capture(&large, "third")).await, Captured::SubjectFull);
}
