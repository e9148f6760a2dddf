//! The commands that talk to a server: submit, signatures, signers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::process::{Server, run};

const PASSWORD: &str = "hunter2";
const IMAGE: &str = "docker.io/library/app:preview-1";

struct Desk {
    directory: TempDir,
    server: Server,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let accounts = [("AUTH_ENABLED", "true"), ("AUTH_USER", "admin"), ("AUTH_PASSWORD", PASSWORD)];
        let server = Server::start(directory.path().join("data"), &accounts);
        Self { directory, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn try_run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let url = format!("http://{}", self.server.addr);
        let server = ["--server", &url, "--user", "admin"];
        run(&[arguments, &server].concat(), &[variables, &[("SIG_REPO_PASSWORD", PASSWORD)]].concat())
    }

    fn run(&self, arguments: &[&str]) -> String {
        output(&self.try_run(arguments, &[("COSIGN_PASSWORD", "correct-horse")]))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// What a command that fails says.
    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments, &[("COSIGN_PASSWORD", "wrong")]);
        assert!(!output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(PASSWORD), "{text}");
        text.trim_end().trim_start_matches("sig-repo: ").to_owned()
    }

    /// The same key in the form that programs wrote before PKCS #8.
    fn traditional(&self, name: &str) -> String {
        let file = self.path(&format!("{name}-traditional"));
        openssl(&["rsa", "-in", text(&self.path(name)), "-traditional", "-out", text(&file)]);
        text(&file).to_owned()
    }

    /// A private key of openssl's, and its public half.
    fn key(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let (private, public) = (self.path(name), self.path(&format!("{name}.pub")));
        openssl(&[arguments, &["-out", text(&private)]].concat());
        openssl(&["pkey", "-in", text(&private), "-pubout", "-out", text(&public)]);
        (text(&private).to_owned(), text(&public).to_owned())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn output(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_owned()
}

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/trust/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn digest(n: usize) -> String {
    format!("sha256:{n:064x}")
}

#[test]
fn every_kind_of_private_key_signs_and_submits_in_one_step() {
    let desk = Desk::new();
    let keys = [
        desk.key("p256", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        desk.key("p256-sec1", &["ecparam", "-name", "prime256v1", "-genkey"]),
        desk.key("p521", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"]),
        desk.key("rsa", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        desk.key("ed25519", &["genpkey", "-algorithm", "ED25519"]),
        (desk.traditional("rsa"), text(&desk.path("rsa.pub")).to_owned()),
        (fixture("cosign-encrypted.key"), fixture("cosign-encrypted.pub")),
    ];
    for (n, (private, public)) in keys.iter().enumerate() {
        let (name, digest) = (format!("signer-{}", Path::new(public).file_stem().unwrap().display()), digest(n));
        desk.run(&["signers", "add", &name, public]);
        let image = format!("{IMAGE}@{digest}");
        let arguments = ["submit", "--sign-with", private, &image, "--signer", "ci", "--metadata", "commit=a1"];
        let record = desk.json(&arguments);
        assert_eq!(record["verified_by"]["name"], name.as_str(), "{private}: {record}");
        assert_eq!((&record["repository"], &record["tag"]), (&"docker.io/library/app".into(), &"preview-1".into()));
        assert_eq!((&record["signer"], &record["metadata"]["commit"]), (&"ci".into(), &"a1".into()));
        // What cosign can read back has a payload.
        assert_eq!(record["format"], "simple-signing");
        let list = desk.run(&["signatures", "list", &digest]);
        assert!(
            list.contains(record["id"].as_str().unwrap()) && list.contains(&format!("verified by {name:?}")),
            "{list}"
        );
    }
    assert_eq!(desk.run(&["signers", "list"]).lines().count(), keys.len() - 1, "two are forms of one");
}

#[test]
fn a_signature_made_elsewhere_is_submitted_withdrawn_and_loses_its_signer() {
    let desk = Desk::new();
    let (private, public) = desk.key("ci", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let (message, signature) = (desk.path("message"), desk.path("signature"));
    fs::write(&message, digest(1)).unwrap();
    openssl(&["dgst", "-sha256", "-sign", &private, "-out", text(&signature), text(&message)]);
    let submit = ["submit", "--signature", text(&signature), "--tag", "v1", &digest(1)];
    let record = desk.json(&submit);
    assert_eq!(record["reason"], "no-trusted-key");
    assert!(desk.run(&submit).contains("not valid: no trusted key verifies the signature (no-trusted-key)"));

    let described =
        serde_json::json!({"public_key": fs::read_to_string(&public).unwrap(), "not_after": "2100-01-01T00:00:00Z"});
    fs::write(desk.path("ci.json"), described.to_string()).unwrap();
    let added = desk.run(&["signers", "add", "release", text(&desk.path("ci.json"))]);
    assert!(added.contains("release") && added.ends_with("until 2100-01-01T00:00:00Z"), "{added}");
    assert!(desk.run(&submit).ends_with("verified by \"release\""));

    let signer = added.split_whitespace().next().unwrap();
    assert!(desk.run(&["signers", "revoke", signer]).contains("revoked since"));
    assert!(desk.run(&submit).contains("the signer 'release' is revoked"));
    let id = record["id"].as_str().unwrap();
    assert_eq!(desk.run(&["signatures", "withdraw", id]), format!("{id} is withdrawn"));
    assert!(desk.failure(&submit).starts_with("withdrawn: "));
    assert_eq!(desk.run(&["signatures", "list", &digest(1)]), "no signatures");
}

#[test]
fn what_is_wrong_is_named_and_no_secret_is_shown() {
    let desk = Desk::new();
    let encrypted = fixture("cosign-encrypted.key");
    let public = fixture("cosign.pub");
    let (p384, _) = desk.key("p384", &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let image = format!("{IMAGE}@{}", digest(1));
    let with = |key: &str| desk.failure(&["submit", "--sign-with", key, &image]);
    assert!(with(&encrypted).ends_with("the password does not fit"));
    assert!(with(&public).ends_with("not a private key in PEM form"));
    assert!(with(&p384).contains("it is no ECDSA key on P-256 or P-521"));
    assert!(with("/nowhere").contains("--sign-with /nowhere: No such file"));
    let (key, _) = desk.key("ci", &["genpkey", "-algorithm", "ED25519"]);
    let failure = desk.failure(&["submit", "--sign-with", &key, &digest(1)]);
    assert!(failure.starts_with("the signature is for a tag"), "{failure}");
    let failure = desk.failure(&["submit", "--sign-with", &key, &image, "--expires-at", "tomorrow"]);
    assert!(failure.starts_with("invalid-field: expires_at: "), "{failure}");
    let failure = desk.failure(&["signers", "add", "ci", &key]);
    assert!(failure.contains("expected a file *.pub, *.pem or *.json"), "{failure}");
    let url = format!("http://{}", desk.server.addr);
    let stranger = run(&["signers", "list", "--server", &url], &[]);
    assert!(String::from_utf8_lossy(&stranger.stderr).starts_with("sig-repo: not-authenticated: "), "{stranger:?}");
    let nobody = run(&["signers", "list", "--server", "http://127.0.0.1:1"], &[]);
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no answer from http://127.0.0.1:1"), "{nobody:?}");
}
