//! `sig-repo trust update`: what a TUF repository may say, and what happens when it lies.

use std::{fs, path::PathBuf, process::Stdio, rc::Rc};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use sig_repo::oci::Digest;
use tempfile::TempDir;

use crate::support::{
    forward::ForwardProxy,
    process::{Server, command, run},
    tuf::{Answer, Signer, Site, Tuf, again, signed},
};

const LAB: &[u8] = include_bytes!("../fixtures/sigstore/trusted_root.json");
const PUBLIC: &[u8] = include_bytes!("../../src/trust/sigstore/public-good.json");
const FILE: &str = "lab.trusted_root.json";
const STATE: &str = ".lab.trusted_root.tuf.json";

/// Somebody who updates from a repository of his own.
struct Desk {
    directory: TempDir,
    tuf: Tuf,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap(), tuf: Tuf::new(LAB) };
        fs::write(desk.directory.path().join("root.json"), desk.tuf.first_root()).unwrap();
        desk
    }

    /// After a first update, with a second version of everything published.
    fn updated() -> Self {
        let mut desk = Self::new();
        assert_eq!(desk.update(&[]).0, 0);
        desk.tuf.publish_next();
        desk.tuf.site.asked();
        desk
    }

    fn trust(&self, name: &str) -> PathBuf {
        self.directory.path().join("trust").join(name)
    }

    fn arguments(&self) -> Vec<String> {
        let root = self.directory.path().join("root.json").display().to_string();
        ["trust", "update", "--name", "lab", "--url", &self.tuf.site.url(), "--root", &root].map(str::to_owned).to_vec()
    }

    /// Exit code, and what was said on standard output or, where that is nothing, as the error.
    fn update(&self, more: &[&str]) -> (i32, String) {
        let arguments = self.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let trust = self.trust("").display().to_string();
        let output = run(&arguments, &[("TRUST_DIR", &trust)]);
        let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn json(&self, more: &[&str]) -> (i32, Value) {
        let (code, said) = self.update(&[more, &["--json"]].concat());
        (code, serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}")))
    }

    /// That an update is refused for this, and that nothing is in force but what was.
    fn refuses(&self, expected: &str) {
        let installed = fs::read(self.trust(FILE)).unwrap();
        let (code, said) = self.update(&[]);
        assert!(code == 2 && said.contains(expected), "expected {expected:?}, exit code {code}: {said}");
        assert!(said.starts_with(&format!("sig-repo: {}", self.tuf.site.url())), "{said}");
        assert_eq!(fs::read(self.trust(FILE)).unwrap(), installed);
        assert_eq!(visible(self), [FILE]);
    }
}

/// What lies in the directory for a server to read.
fn visible(desk: &Desk) -> Vec<String> {
    let names = fs::read_dir(desk.trust("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_trusted_root_is_put_in_force_and_what_changed_is_said() {
    let mut desk = Desk::new();
    let (code, would) = desk.json(&["--check"]);
    assert_eq!((code, &would["outcome"], &would["before"]["from"]), (1, &"would-install".into(), &"nothing".into()));
    assert!(!desk.trust("").exists(), "--check writes nothing");

    let (code, answer) = desk.json(&[]);
    assert_eq!((code, &answer["outcome"]), (0, &"installed".into()), "{answer}");
    assert_eq!(answer["changes"], would["changes"]);
    assert_eq!(answer["changes"].as_array().unwrap().len(), 6, "{answer}");
    assert!(answer["changes"].as_array().unwrap().iter().all(|change| change["change"] == "added"));
    assert_eq!(answer["tuf"]["timestamp"]["version"], 1);
    assert_eq!(fs::read(desk.trust(FILE)).unwrap(), LAB);
    assert!(desk.trust(STATE).exists());

    for more in [&["--check"][..], &["--dry-run"], &[]] {
        let (code, answer) = desk.json(more);
        assert_eq!((code, &answer["outcome"], &answer["changes"]), (0, &"unchanged".into(), &json!([])));
    }

    let mut root: Value = serde_json::from_slice(LAB).unwrap();
    root["timestampAuthorities"] = json!([]);
    root["tlogs"][0]["publicKey"]["validFor"]["end"] = "2030-01-01T00:00:00Z".into();
    desk.tuf.target = root.to_string().into_bytes();
    desk.tuf.publish_next();
    let (code, said) = desk.update(&["--check"]);
    assert!(
        code == 1 && said.contains("would be installed from") && said.contains("\n- timestamp authority "),
        "{said}"
    );
    let (code, said) = desk.update(&[]);
    assert!(code == 0 && said.contains("\n~ transparency log ") && said.contains(" to 2030-01-01T00:00:00Z, before "));
    assert!(said.contains("\nTUF: root 1 (until ") && said.contains("timestamp 2 (until "), "{said}");
    assert_eq!(fs::read(desk.trust(FILE)).unwrap(), desk.tuf.target);
    fs::write(desk.trust("older.trusted_root.json"), PUBLIC).unwrap();
    assert_eq!(desk.json(&[]).1["beside"], json!(["older.trusted_root.json"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_through_the_proxy() {
    let desk = Desk::new();
    let proxy = ForwardProxy::to(desk.tuf.site.addr()).await;
    let beyond = |argument: String| argument.replace(&desk.tuf.site.url(), "http://tuf.example/tuf");
    let arguments: Vec<_> = desk.arguments().into_iter().map(beyond).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let trust = desk.trust("").display().to_string();
    let output = run(&arguments, &[("TRUST_DIR", &trust), ("http_proxy", &proxy.url(""))]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read(desk.trust(FILE)).unwrap(), LAB);
    let requests = proxy.requests();
    assert!(requests.len() > 3, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with("GET http://tuf.example/tuf/")), "{requests:?}");
}

#[test]
fn a_repository_without_consistent_snapshots_is_read_too() {
    let mut desk = Desk::new();
    desk.tuf.publish_root(|tuf| tuf.consistent = false);
    desk.tuf.publish();
    assert_eq!(desk.update(&[]).0, 0);
    let asked = desk.tuf.site.asked();
    assert_eq!(asked.last().unwrap(), "/tuf/targets/trusted_root.json");
    assert!(asked.contains(&"/tuf/snapshot.json".to_owned()), "{asked:?}");
}

#[test]
fn pitfall_26_fewer_signers_than_the_threshold_are_none() {
    let mut desk = Desk::updated();
    desk.tuf.publish_root(|_| ());
    let says = desk.tuf.root_says();
    desk.tuf.site.put("2.root.json", signed(&says, &desk.tuf.root.signers[..1]));
    desk.refuses("2.root.json: signed by 1 keys of the role root as root 1 names them; expected 2 different ones");

    // The new root's own signers, without those that were trusted.
    let mut desk = Desk::updated();
    desk.tuf.publish_root(|tuf| tuf.root.signers = vec![Signer::p256("n1"), Signer::p256("n2")]);
    let says = desk.tuf.root_says();
    desk.tuf.site.put("2.root.json", signed(&says, &desk.tuf.root.signers));
    desk.refuses("2.root.json: signed by 0 keys of the role root as root 1 names them");

    // Those that were trusted, without the new root's own.
    let mut desk = Desk::updated();
    let old = desk.tuf.root.signers.clone();
    desk.tuf.publish_root(|tuf| tuf.root.signers = vec![Signer::p256("n1"), Signer::p256("n2")]);
    let says = desk.tuf.root_says();
    desk.tuf.site.put("2.root.json", signed(&says, &old));
    desk.refuses("2.root.json: signed by 0 keys of the role root as root 2 names them");

    for (role, file) in
        [("timestamp", "timestamp.json"), ("snapshot", "2.snapshot.json"), ("targets", "2.targets.json")]
    {
        let mut desk = Desk::updated();
        let stranger = vec![Signer::p256("t1"), Signer::p256("s1"), Signer::p256("g1")];
        match role {
            "timestamp" => desk.tuf.timestamp.signers = stranger,
            "snapshot" => desk.tuf.snapshot.signers = stranger,
            _ => desk.tuf.targets.signers = stranger,
        }
        desk.tuf.publish();
        desk.refuses(&format!("{file}: signed by 0 keys of the role {role} as root 1 names them; expected 1"));
    }
}

#[test]
fn pitfall_26_one_key_counts_once_under_however_many_ids() {
    let mut desk = Desk::updated();
    let one = Signer::ed25519("one");
    desk.tuf.publish_root(|tuf| {
        tuf.timestamp.signers = vec![Rc::clone(&one), again(&one, "two"), Signer::p256("three")];
        tuf.timestamp.threshold = 2;
    });
    desk.tuf.timestamp.signers = vec![Rc::clone(&one), again(&one, "two"), Rc::clone(&one)];
    desk.tuf.publish_next();
    desk.refuses(
        "timestamp.json: signed by 1 keys of the role timestamp as root 2 names them; expected 2 different ones",
    );
}

#[test]
fn pitfall_26_a_root_is_the_next_one_or_none() {
    // Skipped.
    let mut desk = Desk::updated();
    desk.tuf.publish_root(|tuf| tuf.root.version = 3);
    desk.tuf.site.put("2.root.json", desk.tuf.site.file("3.root.json"));
    desk.refuses("2.root.json: version 3 of the role root; expected 2");
    // Rolled back.
    let desk = Desk::updated();
    desk.tuf.site.put("2.root.json", desk.tuf.first_root());
    desk.refuses("2.root.json: version 1 of the role root; expected 2");

    // A root that was seen stays, whatever the repository shows later.
    let mut desk = Desk::updated();
    let old = desk.tuf.timestamp.clone();
    desk.tuf.publish_root(|tuf| tuf.timestamp.signers = vec![Signer::p256("t2")]);
    desk.tuf.publish_next();
    assert_eq!(desk.update(&[]).0, 0);
    desk.tuf.site.remove("2.root.json");
    desk.tuf.timestamp.signers = old.signers;
    desk.tuf.publish_next();
    desk.refuses("timestamp.json: signed by 0 keys of the role timestamp as root 2 names them");
}

#[test]
fn pitfall_26_no_version_goes_back_over_any_number_of_runs() {
    let desk = || {
        let mut desk = Desk::updated();
        assert_eq!(desk.update(&[]).0, 0);
        desk.tuf.publish_next();
        desk
    };
    let mut rolled = desk();
    rolled.tuf.timestamp.version = 1;
    rolled.tuf.publish();
    rolled.refuses("timestamp.json: rolled back: version 1 of timestamp.json; expected 2, which was seen before");
    let mut rolled = desk();
    rolled.tuf.snapshot.version = 1;
    rolled.tuf.publish();
    rolled.refuses("timestamp.json: rolled back: version 1 of snapshot.json; expected 2");
    let mut rolled = desk();
    rolled.tuf.targets.version = 1;
    rolled.tuf.publish();
    rolled.refuses("3.snapshot.json: rolled back: version 1 of targets.json; expected 2");

    // A snapshot that never came does not take the memory of the one before it along.
    let mut rolled = desk();
    rolled.tuf.site.remove("3.snapshot.json");
    rolled.refuses("3.snapshot.json: the repository does not have it");
    rolled.tuf.targets.version = 1;
    rolled.tuf.publish();
    rolled.refuses("3.snapshot.json: rolled back: version 1 of targets.json; expected 2");

    let withdrawn = desk();
    let text = String::from_utf8(withdrawn.tuf.site.file("3.snapshot.json")).unwrap();
    let mut says = serde_json::from_str::<Value>(&text).unwrap()["signed"].take();
    says["meta"].as_object_mut().unwrap().remove("old.json");
    withdrawn.tuf.site.put("3.snapshot.json", signed(&says, &withdrawn.tuf.snapshot.signers));
    let mut timestamp = serde_json::from_slice::<Value>(&withdrawn.tuf.site.file("timestamp.json")).unwrap();
    let mut says = timestamp["signed"].take();
    says["meta"] = json!({ "snapshot.json": { "version": 3 } });
    withdrawn.tuf.site.put("timestamp.json", signed(&says, &withdrawn.tuf.timestamp.signers));
    withdrawn.refuses("3.snapshot.json: it does not list old.json, which it did before");
}

#[test]
fn pitfall_26_a_frozen_repository_is_an_error_that_says_since_when() {
    for (role, file) in [
        ("root", "2.root.json"),
        ("timestamp", "timestamp.json"),
        ("snapshot", "3.snapshot.json"),
        ("targets", "3.targets.json"),
    ] {
        let mut desk = Desk::updated();
        match role {
            "root" => desk.tuf.publish_root(|tuf| tuf.root.hours = -1),
            "timestamp" => desk.tuf.timestamp.hours = -1,
            "snapshot" => desk.tuf.snapshot.hours = -1,
            _ => desk.tuf.targets.hours = -1,
        }
        desk.tuf.publish_next();
        let version = if role == "root" { 2 } else { 3 };
        desk.refuses(&format!("{file}: version {version} of the role {role} expired at 20"));
    }
    // A root that expired leads to the next one all the same.
    let mut desk = Desk::updated();
    desk.tuf.publish_root(|tuf| tuf.root.hours = -1);
    desk.tuf.publish_root(|tuf| tuf.root.hours = 1);
    assert_eq!(desk.update(&[]).0, 0);
}

#[test]
fn pitfall_26_parts_of_different_times_do_not_fit_together() {
    let desk = Desk::updated();
    let site = &desk.tuf.site;
    site.put("2.snapshot.json", site.file("1.snapshot.json"));
    desk.refuses("2.snapshot.json: its sha256 is another one than the metadata says");
    let mut timestamp = serde_json::from_slice::<Value>(&site.file("timestamp.json")).unwrap()["signed"].take();
    timestamp["meta"] = json!({ "snapshot.json": { "version": 2 } });
    site.put("timestamp.json", signed(&timestamp, &desk.tuf.timestamp.signers));
    desk.refuses("2.snapshot.json: version 1 of the role snapshot; expected 2");

    let desk = Desk::updated();
    let site = &desk.tuf.site;
    let mut targets = site.file("2.targets.json");
    targets.push(b' ');
    site.put("2.targets.json", targets);
    desk.refuses("2.targets.json: the upstream's file is larger than ");
    site.put("2.targets.json", b"{}".to_vec());
    desk.refuses("2.targets.json: 2 bytes; expected ");
}

#[test]
fn pitfall_26_a_target_is_what_its_length_and_its_hash_say() {
    let hash = Digest::sha256(LAB).to_string().replace("sha256:", "");
    let path = format!("targets/{hash}.trusted_root.json");
    let desk = Desk::updated();
    let mut other = LAB.to_vec();
    other[0] = b' ';
    desk.tuf.site.put(&path, other);
    desk.refuses(&format!("{path}: its sha256 is another one than the metadata says"));
    desk.tuf.site.put(&path, LAB[1..].to_vec());
    desk.refuses(&format!("{path}: {} bytes; expected {}", LAB.len() - 1, LAB.len()));
    desk.tuf.site.put(&path, [LAB, b" "].concat());
    desk.refuses(&format!("{path}: the upstream's file is larger than {} bytes", LAB.len()));
    desk.tuf.site.remove(&path);
    desk.refuses(&format!("{path}: the repository does not have it"));

    let mut desk = Desk::updated();
    desk.tuf.targets.version = 3;
    desk.tuf.publish_target(&hash, 1 << 30);
    desk.refuses("3.targets.json: trusted_root.json has 1073741824 bytes, of which at most 262144 are read");
    let mut desk = Desk::updated();
    desk.tuf.target = b"{\"mediaType\":\"application/json\"}".to_vec();
    desk.tuf.publish_next();
    desk.refuses("the trusted root is not put in force: the media type is not that of a sigstore trusted root");
}

#[test]
fn pitfall_26_no_name_in_metadata_leads_out_of_the_repository_or_the_directory() {
    let mut desk = Desk::updated();
    for hash in ["../../../../etc/passwd", "..%2f..%2fetc", "//elsewhere.example/", "etc"] {
        desk.tuf.publish_next();
        desk.tuf.publish_target(hash, LAB.len());
        desk.refuses(&format!(
            "{}.targets.json: no SHA-256 and no SHA-512 in hexadecimal digits",
            desk.tuf.targets.version
        ));
    }
    assert!(!desk.tuf.site.was_asked_for("etc") && !desk.tuf.site.was_asked_for("elsewhere"));
    for name in ["../escaped", "/tmp/escaped", ".hidden", "a/b", ""] {
        let site = desk.tuf.site.url();
        let output = run(&["trust", "update", "--url", &site, "--name", name], &[("TRUST_DIR", "/nowhere/trust")]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--name") && said.contains("expected at most 64 letters"), "{said}");
    }
}

#[test]
fn pitfall_26_endless_answers_and_redirects_are_not_followed() {
    let desk = Desk::updated();
    for (path, limit) in [("2.root.json", "65536"), ("timestamp.json", "16384"), ("2.targets.json", "")] {
        let before = (path != "2.root.json").then(|| desk.tuf.site.file(path));
        desk.tuf.site.answer(path, Answer::Endless);
        desk.refuses(&format!("{path}: the upstream's file is larger than {limit}"));
        match before {
            Some(bytes) => desk.tuf.site.put(path, bytes),
            None => desk.tuf.site.remove(path),
        }
    }
    let elsewhere = Site::start();
    elsewhere.put("timestamp.json", desk.tuf.site.file("timestamp.json"));
    desk.tuf.site.answer("timestamp.json", Answer::Redirect(format!("{}/timestamp.json", elsewhere.url())));
    desk.refuses("timestamp.json: the upstream's redirect is not followed (none is followed here)");
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn versions_begin_anew_once_the_keys_were_changed() {
    let mut desk = Desk::updated();
    // A thief of the key has signed the highest numbers.
    (desk.tuf.timestamp.version, desk.tuf.snapshot.version) = (u64::MAX / 2, u64::MAX / 2);
    desk.tuf.publish();
    assert_eq!(desk.update(&[]).0, 0);
    (desk.tuf.timestamp.version, desk.tuf.snapshot.version) = (3, 3);
    desk.tuf.publish();
    desk.refuses("timestamp.json: rolled back: version 3 of timestamp.json");
    desk.tuf.publish_root(|tuf| {
        tuf.timestamp.signers = vec![Signer::ed25519("t2")];
        tuf.snapshot.signers = vec![Signer::p256("s2")];
    });
    desk.tuf.publish();
    assert_eq!(desk.update(&[]).0, 0);
    desk.tuf.timestamp.version = 2;
    desk.tuf.publish();
    desk.refuses("timestamp.json: rolled back: version 2 of timestamp.json; expected 3");
}

#[test]
fn what_an_update_knows_is_of_one_repository_and_unbroken() {
    let mut desk = Desk::updated();
    desk.tuf = Tuf::new(PUBLIC);
    let first = desk.directory.path().join("root.json");
    let own = fs::read(&first).unwrap();
    fs::write(&first, desk.tuf.first_root()).unwrap();
    let (code, said) = desk.update(&[]);
    assert!(code == 2 && said.contains(STATE) && said.contains("is of another repository"), "{said}");
    assert_eq!(fs::read(desk.trust(FILE)).unwrap(), LAB);
    fs::write(&first, own).unwrap();
    fs::write(desk.trust(STATE), "{}").unwrap();
    let (code, said) = desk.update(&[]);
    assert!(code == 2 && said.contains(STATE) && said.contains("not what an update left there"), "{said}");
    fs::write(&first, "{}").unwrap();
    fs::remove_file(desk.trust(STATE)).unwrap();
    let (code, said) = desk.update(&[]);
    assert!(code == 2 && said.contains("the first root: \"signed\" or \"signatures\" is missing"), "{said}");
}

#[test]
fn a_killed_update_leaves_the_old_root_in_force() {
    let mut desk = Desk::updated();
    let mut root: Value = serde_json::from_slice(LAB).unwrap();
    root["timestampAuthorities"] = json!([]);
    desk.tuf.target = root.to_string().into_bytes();
    desk.tuf.publish_next();
    let hash = Digest::sha256(&desk.tuf.target).to_string().replace("sha256:", "");
    for path in ["timestamp.json".to_owned(), "3.snapshot.json".to_owned(), desk.tuf.target_path(&hash)] {
        let bytes = desk.tuf.site.file(&path);
        desk.tuf.site.answer(&path, Answer::Silence);
        desk.tuf.site.asked();
        let (arguments, trust) = (desk.arguments(), desk.trust("").display().to_string());
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut updating = command(&arguments, &[("TRUST_DIR", &trust)]).stderr(Stdio::null()).spawn().unwrap();
        while !desk.tuf.site.was_asked_for(&path) {
            assert!(updating.try_wait().unwrap().is_none(), "it ended before it asked for {path}");
        }
        let (code, said) = desk.update(&[]);
        assert!(code == 2 && said.contains("another update is running"), "{said}");
        kill(Pid::from_raw(updating.id().try_into().unwrap()), Signal::SIGKILL).unwrap();
        updating.wait().unwrap();
        desk.tuf.site.put(&path, bytes);
        assert_eq!(fs::read(desk.trust(FILE)).unwrap(), LAB);
        assert_eq!(visible(&desk), [FILE]);
    }
    // What it was killed in the middle of writing is in nobody's way.
    fs::write(desk.trust(&format!(".{FILE}.new")), "{").unwrap();
    assert_eq!(desk.update(&[]).0, 0);
    assert_eq!(fs::read(desk.trust(FILE)).unwrap(), desk.tuf.target);
    assert!(!desk.trust(&format!(".{FILE}.new")).exists());
}

#[test]
fn a_running_server_verifies_with_the_updated_root_and_so_does_verify_blob() {
    let desk = Desk::new();
    let fixture = |name: &str| format!("{}/tests/fixtures/sigstore/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(desk.trust("")).unwrap();
    let signer = json!({ "keyless": { "issuer": "http://127.0.0.1:8811", "subject": "dev@lab.example" } });
    fs::write(desk.trust("dev.json"), signer.to_string()).unwrap();
    let trust = desk.trust("").display().to_string();
    let server = Server::start(desk.directory.path().join("data"), &[("TRUST_DIR", &trust)]);
    let digest = Digest::sha256(&fs::read(fixture("manifest.json")).unwrap()).to_string();
    let bundle = STANDARD.encode(fs::read(fixture("bundle/keyless-rekor2-tsa.json")).unwrap());
    let record = json!({ "image_digest": digest, "tag": "preview-1", "tag_type": "preview", "signature": bundle });
    let (status, answer) = server.post("/api/v1/signatures", &record);
    assert_eq!((status, &answer["is_valid"], &answer["reason"]), (201, &false.into(), &"certificate-chain".into()));
    let (manifest, bundle) = (fixture("manifest.json"), fixture("blob/keyless-rekor2-tsa.json"));
    let verify_blob = || {
        let identity =
            ["--certificate-identity", "dev@lab.example", "--certificate-oidc-issuer", "http://127.0.0.1:8811"];
        let arguments = [&["verify-blob", &manifest, "--bundle", &bundle][..], &identity].concat();
        run(&arguments, &[("TRUST_DIR", &trust)]).status.success()
    };
    assert!(!verify_blob());

    assert_eq!(desk.update(&[]).0, 0);
    server.until("the updated root", |server| {
        server.json(&format!("/api/v1/signatures?digest={digest}"))["signatures"][0]["is_valid"] == true
    });
    assert!(verify_blob());
}

#[test]
fn the_public_repository_as_it_was_in_august_2026_is_refused_as_frozen() {
    let directory = tempfile::tempdir().unwrap();
    let trust = directory.path().join("trust").display().to_string();
    let site = Site::start();
    for file in ["timestamp.json", "165.snapshot.json", "14.targets.json"] {
        let path = format!("{}/tests/fixtures/tuf/public-good/{file}", env!("CARGO_MANIFEST_DIR"));
        site.put(file, fs::read(path).unwrap());
    }
    let output = run(&["trust", "update", "--url", &site.url()], &[("TRUST_DIR", &trust)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("15.root.json: version 15 of the role root expired at 2026-11-20T13:58:18Z"), "{said}");
    assert_eq!(site.asked(), ["/tuf/16.root.json"]);
}

#[test]
fn bad_arguments_are_named() {
    for (arguments, expected) in [
        (&["--url", "http://user:hunter2@127.0.0.1:1/"][..], "--url: expected an http:// or https:// URL"),
        (&["--url", "ftp://127.0.0.1/"], "--url: expected an http:// or https:// URL"),
        (&["--url", "http://127.0.0.1:1/?x=y"], "--url: expected an http:// or https:// URL"),
        (&["--url", "http://169.254.169.254/"], "leads to an address that is not public"),
        (&["--url", "http://127.0.0.1:1/"], "16.root.json: the upstream cannot be reached"),
        (&["--url", "http://127.0.0.1:1/", "--root", "/nowhere"], "--root /nowhere: No such file"),
        (&["--ca", "/nowhere"], "--ca /nowhere: No such file"),
        (&["--ca", "Cargo.toml"], "--ca Cargo.toml: no usable certificate"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let trust = directory.path().join("trust").display().to_string();
        let output = run(&[&["trust", "update"], arguments].concat(), &[("TRUST_DIR", &trust)]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
