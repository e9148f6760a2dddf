//! `sig-repo verify`: the server's question asked by hand.

use std::{fs, process::Output};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::support::{key::Key, process::run, registry::Registry};

const REPOSITORY: &str = "team/app";

struct Desk {
    trust: TempDir,
    registry: Registry,
}

impl Desk {
    async fn new() -> Self {
        Self { trust: tempfile::tempdir().unwrap(), registry: Registry::start().await }
    }

    /// Exit code, and the answer in JSON or what was said.
    async fn verify(&self, image: &str, level: &str) -> (i32, Result<Value, String>) {
        let (image, level) = (image.to_owned(), level.to_owned());
        let (trust, remote) = (self.trust.path().to_str().unwrap().to_owned(), self.registry.url().to_string());
        let output = spawn_blocking(move || {
            let settings = [("TRUST_DIR", trust.as_str()), ("PROXY_REMOTEURL", &remote), ("POLICY_DEFAULT", &level)];
            run(&["verify", &image, "--json"], &settings)
        });
        let Output { status, stdout, stderr } = output.await.unwrap();
        let answer = serde_json::from_slice(&stdout).map_err(|_| String::from_utf8(stderr).unwrap());
        (status.code().unwrap(), answer)
    }

    fn trust(&self, key: &Key) {
        fs::write(self.trust.path().join("release.pub"), key.pem()).unwrap();
    }
}

#[tokio::test]
async fn an_image_is_verified_as_the_server_would() {
    let desk = Desk::new().await;
    let key = Key::generate();
    let image = desk.registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let name = format!("{REPOSITORY}:v1");
    let (code, answer) = desk.verify(&name, "audit").await;
    let answer = answer.unwrap();
    assert_eq!((code, &answer["verdict"], &answer["served"]), (1, &"rejected".into(), &true.into()), "{answer}");
    let (code, answer) = desk.verify(&name, "enforce").await;
    assert_eq!((code, &answer.unwrap()["served"]), (1, &false.into()));

    let payload = payload(&image.digest.to_string());
    let signature = key.sign_base64(payload.as_bytes());
    desk.registry.push_cosign_signatures(REPOSITORY, &image.digest, &[(payload.as_bytes(), &signature)]);
    let (code, answer) = desk.verify(&name, "enforce").await;
    assert_eq!((code, &answer.unwrap()["signatures"][0]["reason"]), (1, &"no-trusted-key".into()));
    desk.trust(&key);
    for (name, level) in [(&name, "enforce"), (&name, "audit"), (&format!("{REPOSITORY}@{}", image.digest), "enforce")]
    {
        let (code, answer) = desk.verify(name, level).await;
        let answer = answer.unwrap();
        assert_eq!((code, &answer["verdict"]), (0, &"verified".into()), "{answer}");
        assert_eq!((&answer["digest"], &answer["level"]), (&image.digest.to_string().into(), &level.into()));
        assert_eq!(answer["verified_by"][0]["name"], "release");
        assert!(answer["signatures"][0]["evidence"][0].as_str().unwrap().contains("over the payload"), "{answer}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_not_called_unsigned() {
    let desk = Desk::new().await;
    let (code, answer) = desk.verify(&format!("{REPOSITORY}:none"), "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("team/app:none: refused or not found (absent)"));
    desk.registry.push_image(REPOSITORY, Some("v1"), &[b"layer"]);
    let (code, answer) = desk.verify(&format!("registry.example.com/{REPOSITORY}:v1"), "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("(unknown-registry)"));
    let (code, answer) = desk.verify("Not An Image", "enforce").await;
    assert!(code == 2 && answer.unwrap_err().contains("is no repository"));
}

/// What `verify-blob` says of a bundle of the fixtures, and whether it ends well.
fn verify_blob(blob: &str, bundle: &str, options: &[&str]) -> Result<String, String> {
    let of_fixture = |name: &str| format!("{}/tests/fixtures/sigstore/{name}", env!("CARGO_MANIFEST_DIR"));
    let blob = if blob.starts_with("sha256:") { blob.to_owned() } else { of_fixture(blob) };
    let options = options.iter().map(|text| text.replace("FIXTURES/", &of_fixture("")));
    let options: Vec<String> = options.chain(["--bundle".to_owned(), of_fixture(bundle)]).collect();
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
        ("blob/key-p256-none.json", vec!["--key", "FIXTURES/keys/p256.pub"]),
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
    let manifest = fs::read(format!("{}/tests/fixtures/sigstore/manifest.json", env!("CARGO_MANIFEST_DIR")));
    let digest = sig_repo::oci::Digest::sha256(&manifest.unwrap()).to_string();
    verify_blob(&digest, "blob/keyless-rekor2-tsa.json", &by_dev).unwrap();
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
        ("manifest.json", "blob/key-p256-none.json", with(&[]), "expected --key, or --certificate-identity"),
        ("manifest.json", "trusted_root.json", with(&DEV), "--bundle"),
        ("manifest.json", "blob/key-p256-none.json", vec!["--key", "/nowhere"], "--key /nowhere"),
    ] {
        let said = verify_blob(blob, bundle, &options).unwrap_err();
        assert!(said.contains(expected), "{bundle} {options:?}: {said}");
    }
}

fn payload(digest: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":""}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}
