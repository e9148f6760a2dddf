//! `sig-repo verify-blob`: cosign's question, with its flags and exit codes.

use std::{
    fs,
    process::{Output, Stdio},
};

use crate::support::process::{command, run};

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/sigstore/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What it says of a bundle of the fixtures, and whether it ends well.
fn verify_blob(blob: &str, bundle: &str, options: &[&str]) -> Result<String, String> {
    let blob = if blob.starts_with("sha256:") { blob.to_owned() } else { fixture(blob) };
    let options = options.iter().map(|text| text.replace("FIXTURES/", &fixture("")));
    let options: Vec<String> = options.chain(["--bundle".to_owned(), fixture(bundle)]).collect();
    let arguments: Vec<&str> = ["verify-blob", &blob].into_iter().chain(options.iter().map(String::as_str)).collect();
    let Output { status, stdout, stderr } = run(&arguments, &[]);
    match status.success() {
        true => Ok(String::from_utf8(stdout).unwrap()),
        false => Err(String::from_utf8(stderr).unwrap()),
    }
}

const LAB: [&str; 2] = ["--trusted-root", "FIXTURES/trusted_root.json"];
const DEV: [&str; 4] =
    ["--certificate-identity", "dev@lab.example", "--certificate-oidc-issuer", "http://127.0.0.1:8811"];

#[test]
fn files_are_verified_by_bundles_with_cosigns_flags() {
    let by_dev = [&LAB[..], &DEV].concat();
    for (bundle, options) in [
        ("blob/keyless-rekor1.json", by_dev.clone()),
        ("blob/keyless-rekor2-tsa.json", by_dev.clone()),
        ("blob/key-p256-none.json", vec!["--key", "FIXTURES/keys/p256.pub", "--insecure-ignore-tlog"]),
        ("blob/key-p256-none.json", vec!["--key", "FIXTURES/keys/p256.pub", "--insecure-ignore-tlog=true"]),
        ("unlogged/keyless-rekor2-tsa.json", [&by_dev[..], &["--insecure-ignore-sct"]].concat()),
        ("bundle/keyless-tsa.json", [&by_dev[..], &["--insecure-ignore-tlog"]].concat()),
        ("bundle/keyless-tsa.json", [&by_dev[..], &["--insecure-ignore-tlog", "--use-signed-timestamps"]].concat()),
        ("blob/key-p384-rekor2-tsa.json", [&LAB[..], &["--key", "FIXTURES/keys/p384.pub"]].concat()),
        ("blob/key-rsa-rekor2-tsa.json", [&LAB[..], &["--key", "FIXTURES/keys/rsa.pub"]].concat()),
        // A statement about the file, whatever it states.
        ("bundle/keyless-rekor2-tsa.json", by_dev.clone()),
        ("bundle/attestation-keyless-rekor2-tsa.json", by_dev.clone()),
    ] {
        let said = verify_blob("manifest.json", bundle, &options).unwrap_or_else(|error| panic!("{bundle}: {error}"));
        assert!(said.starts_with("Verified OK\n"), "{said}");
    }
    let pattern =
        ["--certificate-identity-regexp", ".+@lab[.]example", "--certificate-oidc-issuer-regexp", "http://.+"];
    verify_blob("manifest.json", "blob/keyless-rekor1.json", &[&LAB[..], &pattern].concat()).unwrap();
    let digest = sig_repo::oci::Digest::sha256(&fs::read(fixture("manifest.json")).unwrap()).to_string();
    verify_blob(&digest, "blob/keyless-rekor2-tsa.json", &by_dev).unwrap();
    let upper = digest.to_ascii_uppercase().replace("SHA256", "sha256");
    verify_blob(&upper, "blob/keyless-rekor2-tsa.json", &by_dev).unwrap();
}

#[test]
fn what_looks_like_a_digest_and_is_a_file_is_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let of_nothing = format!("sha256:{}", "0".repeat(64));
    let manifest = fs::read(fixture("manifest.json")).unwrap();
    fs::write(directory.path().join(&of_nothing), &manifest).unwrap();
    let (bundle, root) = (fixture("blob/keyless-rekor1.json"), fixture("trusted_root.json"));
    let verify = |blob: &str, stdin: Stdio| {
        let arguments = [&["verify-blob", "--trusted-root", &root, "--bundle", &bundle, blob], &DEV[..]].concat();
        let output = command(&arguments, &[]).current_dir(directory.path()).stdin(stdin).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let good = (Some(0), String::new());
    assert_eq!(verify(&of_nothing, Stdio::null()), good);
    let (code, said) = verify(&of_nothing.replace('0', "1"), Stdio::null());
    assert!(code == Some(1) && said.contains("blob-mismatch"), "{said}");
    assert_eq!(verify("-", fs::File::open(fixture("manifest.json")).unwrap().into()), good);
    let (code, said) = verify("-", Stdio::null());
    assert!(code == Some(1) && said.contains("blob-mismatch"), "{said}");
}

/// Also where the command line is wrong: 1, as by cosign.
#[test]
fn every_failure_has_the_exit_code_that_cosign_has() {
    let blob = fixture("manifest.json");
    for arguments in [
        &["verify-blob"][..],
        &["verify-blob", &blob],
        &["verify-blob", "--nonsense", &blob],
        &["verify-blob", "--bundle", "/nowhere", "--key", "/nowhere", &blob],
        &["verify-blob", "--bundle", "/nowhere", "--insecure-ignore-tlog=maybe", "--key", "/nowhere", &blob],
    ] {
        let Output { status, stdout, stderr } = run(arguments, &[]);
        assert_eq!((status.code(), stdout.len(), stderr.is_empty()), (Some(1), 0, false), "{arguments:?}");
    }
    assert_eq!(run(&["verify-blob", "--help"], &[]).status.code(), Some(0));
    assert_eq!(run(&["verify", "--nonsense"], &[]).status.code(), Some(2));
}

#[test]
fn claims_of_githubs_workflows_are_demanded_by_cosigns_flags() {
    let workflow = [
        "--certificate-identity=https://github.com/team/app/.github/workflows/release.yml@refs/heads/main",
        "--certificate-oidc-issuer=http://127.0.0.1:8812",
    ];
    let verify = |claims: &[&str]| {
        let options = [&LAB[..], &workflow, claims].concat();
        verify_blob("manifest.json", "bundle/keyless-github-rekor2-tsa.json", &options)
    };
    let all = [
        "--certificate-github-workflow-trigger=push",
        "--certificate-github-workflow-sha=0123456789abcdef0123456789abcdef01234567",
        "--certificate-github-workflow-name=release",
        "--certificate-github-workflow-repository=team/app",
        "--certificate-github-workflow-ref=refs/heads/main",
    ];
    verify(&all).unwrap();
    for flag in all {
        let (flag, _) = flag.split_once('=').unwrap();
        let said = verify(&[&format!("{flag}=other")]).unwrap_err();
        assert!(said.contains("(claim-mismatch)"), "{flag}: {said}");
    }
}

#[test]
fn a_file_that_is_not_verified_says_why() {
    let with = |more: &[&'static str]| [&LAB[..], more].concat();
    let other = |identity, issuer| with(&["--certificate-identity", identity, "--certificate-oidc-issuer", issuer]);
    for (blob, bundle, options, expected) in [
        ("README.md", "blob/keyless-rekor1.json", with(&DEV), "blob-mismatch"),
        ("manifest.json", "blob/keyless-rekor1.json", DEV.to_vec(), "certificate-chain"),
        ("manifest.json", "blob/keyless-rekor1.json", other("dev@lab", "http://127.0.0.1:8811"), "identity-mismatch"),
        (
            "manifest.json",
            "blob/keyless-rekor1.json",
            other("dev@lab.example", "http://127.0.0.1:8812"),
            "issuer-mismatch",
        ),
        ("manifest.json", "blob/key-p256-none.json", with(&["--key", "FIXTURES/keys/p384.pub"]), "no-trusted-key"),
        ("manifest.json", "blob/key-p256-none.json", with(&["--key", "FIXTURES/keys/p256.pub"]), "log-entry-missing"),
        (
            "manifest.json",
            "blob/key-p256-none.json",
            with(&["--key", "FIXTURES/keys/p256.pub", "--insecure-ignore-tlog=false"]),
            "log-entry-missing",
        ),
        (
            "manifest.json",
            "blob/key-p256-none.json",
            with(&["--key", "FIXTURES/keys/p256.pub", "--insecure-ignore-tlog", "--use-signed-timestamps"]),
            "timestamp-missing",
        ),
        (
            "manifest.json",
            "blob/keyless-rekor1.json",
            [&with(&DEV)[..], &["--use-signed-timestamps"]].concat(),
            "timestamp-missing",
        ),
        ("manifest.json", "unlogged/keyless-rekor2-tsa.json", with(&DEV), "sct-missing"),
        ("manifest.json", "blob/key-p256-none.json", with(&[]), "expected --key, or --certificate-identity"),
        ("manifest.json", "trusted_root.json", with(&DEV), "--bundle"),
        ("manifest.json", "blob/key-p256-none.json", vec!["--key", "/nowhere"], "--key /nowhere"),
    ] {
        let said = verify_blob(blob, bundle, &options).unwrap_err();
        assert!(said.contains(expected), "{bundle} {options:?}: {said}");
    }
}
