use super::*;

/// Whose signature a fixture is, by its name.
fn signer_of(name: &str) -> String {
    match name.split('-').collect::<Vec<_>>()[..] {
        ["key", key, ..] => format!("keys/{key}.pub"),
        ["keyless", "github", ..] => "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main".into(),
        _ => "dev@lab.example".into(),
    }
}

fn check_evidence(name: &str, verified: &Verified) {
    let logs = verified.evidence.links.iter().filter(|link| link.starts_with("the log '")).count();
    let stamps = verified.evidence.links.iter().filter(|link| link.starts_with("a timestamp of ")).count();
    assert_eq!(logs > 0, name.contains("rekor"), "{name}: {:?}", verified.evidence);
    assert_eq!(stamps > 0, name.contains("-tsa"), "{name}: {:?}", verified.evidence);
    assert_eq!(verified.evidence.signed_at.is_some(), name.contains("-tsa") || name.contains("rekor1"), "{name}");
    let labels: Vec<_> = verified.labels.iter().collect();
    let build = ("build".to_owned(), "7".to_owned());
    assert_eq!(labels, if name.contains("annotated") { vec![(&build.0, &build.1)] } else { vec![] }, "{name}");
}

#[test]
fn what_cosign_3_signs_verifies() {
    let (root, without_log) = (lab(Demands::default()), lab(Demands { logs: 0, ..Demands::default() }));
    let mut counted = 0;
    for (directory, name) in ["bundle", "blob"]
        .into_iter()
        .flat_map(|directory| names(directory).into_iter().map(move |name| (directory, name)))
    {
        let bundle = file(&format!("{directory}/{name}.json"));
        let outcome = judge(&bundle, &root);
        if name.starts_with("attestation") {
            assert_eq!(outcome, rejected(SigstoreRejection::PredicateType), "{name}");
            continue;
        }
        let outcome = if name.starts_with("keyless") && !name.contains("rekor") {
            assert_eq!(outcome, rejected(SigstoreRejection::LogEntryMissing { needed: 1, found: 0 }), "{name}");
            judge(&bundle, &without_log)
        } else {
            outcome
        };
        let verified = verified(outcome, &name);
        assert_eq!(verified.signer.name, signer_of(&name), "{name}");
        check_evidence(&name, &verified);
        counted += 1;
    }
    assert!(counted >= 20, "{counted}");
}

#[test]
fn what_cosign_2_signs_verifies_with_what_stands_beside_it() {
    let (root, without_log) = (lab(Demands::default()), lab(Demands { logs: 0, ..Demands::default() }));
    let manifest = manifest();
    let digest = Digest::sha256(&manifest);
    let subject = Subject::new(&digest, Some(&manifest), None);
    for name in names("classic") {
        let payload = file(&format!("classic/{name}/payload.json"));
        let mut annotations: Annotations =
            serde_json::from_slice(&file(&format!("classic/{name}/annotations.json"))).unwrap();
        let signature = annotations.remove("dev.cosignproject.cosign/signature").unwrap();
        let envelope = Envelope::recognise(signature.as_bytes(), Some(&payload), &annotations).unwrap();
        assert_eq!(envelope.format(), Format::SimpleSigning, "{name}");
        let root = if name.starts_with("keyless") && !name.contains("rekor") { &without_log } else { &root };
        let verified = verified(verify(&envelope, &subject, root, at(NOW)), &name);
        assert_eq!(verified.signer.name, signer_of(&name), "{name}");
        check_evidence(&name, &verified);

        let other = Digest::sha256(b"another image");
        let for_other = Subject::new(&other, None, None);
        let expected = rejected(Rejection::SubjectMismatch { found: digest });
        assert_eq!(verify(&envelope, &for_other, root, at(NOW)), expected, "{name}");
    }
}

#[test]
fn bundles_of_the_public_instance_verify_with_the_root_that_is_shipped() {
    let person = keyless(json!({
        "issuer": "https://github.com/login/oauth",
        "subject_pattern": r"[a-z.]+@gmail\.com",
    }));
    let release = keyless(json!({
        "issuer": "https://token.actions.githubusercontent.com",
        "subject": "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/v0.1.2",
        "claims": {"github_workflow_repository": "trailofbits/rfc8785.py", "build_trigger": "release"},
    }));
    let beacon = keyless(json!({
        "issuer": "https://token.actions.githubusercontent.com",
        "subject_pattern": "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.*",
    }));
    let root = trust(
        vec![person, release, beacon, key("public/key.pub")],
        vec![SigstoreRoot::public_good()],
        Demands::default(),
    );
    for (name, links) in [
        ("public/blob-rekor1-tsa.json", 4),
        ("public/blob-v0.2-rekor1.json", 3),
        ("public/blob-v0.1-rekor1.json", 3),
        ("public/key-rekor1-tsa.json", 3),
    ] {
        let bundle = file(name);
        let outcome = judge_blob(&bundle, &stated_hash(&json(name)), &root);
        let verified = verified(outcome, name);
        assert_eq!(verified.evidence.links.len(), links, "{name}: {:?}", verified.evidence.links);
        assert!(verified.evidence.signed_at.is_some(), "{name}");

        let other = judge_blob(&bundle, &"0".repeat(64), &root);
        assert_eq!(other, rejected(SigstoreRejection::Blob), "{name}");
    }
}

#[test]
fn of_several_roots_the_one_that_issued_the_certificate_judges() {
    let subject = "https://github.com/sigstore/root-signing-staging/.github/workflows/custom-test.yml@refs/heads/main";
    let staging = keyless(json!({"issuer": "https://token.actions.githubusercontent.com", "subject": subject}));
    let name = "public/staging-rekor2-tsa.json";
    let roots =
        || vec![SigstoreRoot::public_good(), root_of("public/staging-trusted-root.json"), root_of("trusted_root.json")];
    let several = trust(vec![staging.clone(), dev()], roots(), Demands::default());
    let outcome = judge_blob(&file(name), &stated_hash(&json(name)), &several);
    assert_eq!(verified(outcome, name).signer.name, subject);
    let name = "bundle/keyless-rekor2-tsa.json";
    assert_eq!(verified(judge(&file(name), &several), name).signer.name, "dev@lab.example");

    // What one root's authority certified, the logs of another cannot make good.
    let public = trust(vec![staging, dev()], vec![SigstoreRoot::public_good()], Demands::default());
    assert_eq!(judge(&file(name), &public), rejected(SigstoreRejection::Chain));
    assert_eq!(judge(&file(name), &TrustRoot::new(vec![dev()])), rejected(SigstoreRejection::NoRoot));
}

#[test]
fn attestations_of_the_public_instance_are_no_signatures() {
    let root = trust(
        vec![dev()],
        vec![SigstoreRoot::public_good(), root_of("public/github-trusted-root.json")],
        Demands::default(),
    );
    for name in ["attestation-rekor1", "attestation-v0.1-intoto", "attestation-github"] {
        let bundle = json(&format!("public/{name}.json"));
        let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
        let statement: Value = serde_json::from_slice(&payload).unwrap();
        let digests = &statement["subject"][0]["digest"];
        let digest = match (digests["sha256"].as_str(), digests["sha512"].as_str()) {
            (Some(sha256), _) => format!("sha256:{sha256}"),
            (None, Some(sha512)) => format!("sha512:{sha512}"),
            (None, None) => continue,
        };
        let digest = digest.parse().unwrap();
        let subject = Subject::new(&digest, None, None);
        let outcome = judge_for(bundle.to_string().as_bytes(), &subject, &root);
        assert_eq!(outcome, rejected(SigstoreRejection::PredicateType), "{name}");
    }
}

#[test]
fn without_the_manifest_the_digest_is_enough_where_that_was_signed() {
    let root = lab(Demands::default());
    let digest = Digest::sha256(&manifest());
    let subject = Subject::new(&digest, None, None);
    for name in names("bundle").into_iter().filter(|name| name.starts_with("key-")) {
        verified(judge_for(&file(&format!("bundle/{name}.json")), &subject, &root), &name);
    }
    for (name, is_enough) in [("key-p256-none", true), ("key-rsa-none", true), ("key-p384-none", false)] {
        let outcome = judge_for(&file(&format!("blob/{name}.json")), &subject, &root);
        match is_enough {
            true => assert_eq!(verified(outcome, name).signer.name, signer_of(name)),
            false => assert_eq!(outcome, Outcome::Unknown(Inconclusive::ManifestNotHeld), "{name}"),
        }
    }
}

#[test]
fn what_cosign_sign_blob_wrote_before_and_since_bundles_verifies() {
    use crate::trust::fixtures::{MANIFEST, digest, root};
    let digest = digest();
    let subject = Subject::new(&digest, Some(MANIFEST), None);
    for bundle in [
        &include_bytes!("../../../../tests/fixtures/trust/foreign-bundle.json")[..],
        include_bytes!("../../../../tests/fixtures/trust/foreign-bundle-legacy.json"),
    ] {
        let verified = verified(judge_for(bundle, &subject, &root()), "cosign");
        assert_eq!(verified.signer.name, "cosign signer");
        assert_eq!(verified.evidence.links.len(), 1);
    }
}

#[test]
fn whom_two_signers_name_is_one_identity() {
    let pattern = keyless(json!({"issuer": "http://127.0.0.1:8811", "subject_pattern": r"[a-z]+@lab\.example"}));
    let of = |name: &str, signers: Vec<Signer>| {
        let root = trust(signers, vec![root_of("trusted_root.json")], Demands::default());
        verified(judge(&file(name), &root), name)
    };
    let [bundle, another] = ["bundle/keyless-rekor2-tsa.json", "bundle/keyless-rekor1.json"];
    let [exact, by_pattern] = [of(bundle, vec![dev()]), of(another, vec![pattern])];
    assert_ne!(exact.entry, by_pattern.entry);
    assert_eq!(exact.identity, by_pattern.identity);
    let github = "bundle/keyless-github-rekor2-tsa.json";
    assert_ne!(of(github, vec![workflow()]).identity, exact.identity);
}

#[test]
fn the_shipped_root_is_read_once() {
    assert!(std::sync::Arc::ptr_eq(&SigstoreRoot::shipped(), &SigstoreRoot::shipped()));
    assert_eq!(SigstoreRoot::shipped()[..], [SigstoreRoot::public_good()]);
}
