use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;
use crate::{
    oci::Digest,
    trust::{
        Annotations, Credential, Envelope, EnvelopeError, Flaw, Format, Inconclusive, Outcome, PublicKey, Rejection,
        Signer, SignerOrigin, Subject, TrustRoot, Verified, fixtures::at, verify,
    },
};

mod bad;
mod good;
mod inputs;
mod keyless;
mod own_authority;

/// After whatever time the fixtures are made at again.
const NOW: &str = "2046-01-01T00:00:00Z";

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/sigstore", name].iter().collect()
}

fn file(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&file(name)).unwrap()
}

/// The names of the fixtures in a directory, without `.json`.
fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(path(directory)).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(name).map(|name| name.trim_end_matches(".json").to_owned()).collect();
    names.sort();
    names
}

/// A keyless bundle whose entry is not the first in its log.
fn logged() -> Value {
    let mut bundles =
        names("bundle").into_iter().filter(|name| name.starts_with("keyless") && name.ends_with("rekor2-tsa"));
    let bundle = bundles.find_map(|name| {
        let bundle = json(&format!("bundle/{name}.json"));
        let is_first = bundle.pointer("/verificationMaterial/tlogEntries/0/inclusionProof/hashes").is_none();
        (!is_first && !name.contains("github")).then_some(bundle)
    });
    bundle.unwrap()
}

fn at_pointer<'a>(bundle: &'a mut Value, pointer: &str) -> &'a mut Value {
    bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("nothing at {pointer}"))
}

/// Also what is left out because it is zero.
fn set(bundle: &mut Value, pointer: &str, value: Value) {
    match bundle.pointer_mut(pointer) {
        Some(old) => *old = value,
        None => {
            let (object, member) = pointer.rsplit_once('/').unwrap();
            at_pointer(bundle, object)[member] = value;
        }
    }
}

fn manifest() -> Vec<u8> {
    file("manifest.json")
}

fn signer(name: &str, credential: Credential) -> Signer {
    Signer {
        name: name.to_owned(),
        credential,
        origin: SignerOrigin::File,
        added: at("2026-01-01T00:00:00Z"),
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

fn key(name: &str) -> Signer {
    let pem = String::from_utf8(file(name)).unwrap();
    signer(name, Credential::PublicKey(PublicKey::from_pem(&pem).unwrap()))
}

fn keyless(form: Value) -> Signer {
    let name = form.get("subject").or(form.get("subject_pattern")).unwrap().as_str().unwrap().to_owned();
    let keyless: Keyless = serde_json::from_value(form).unwrap();
    signer(&name, Credential::Keyless(keyless))
}

/// The signers of the private sigstore: a person and a workflow.
fn dev() -> Signer {
    keyless(json!({"issuer": "http://127.0.0.1:8811", "subject": "dev@lab.example"}))
}

fn workflow() -> Signer {
    let subject = "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main";
    keyless(json!({"issuer": "http://127.0.0.1:8812", "subject": subject}))
}

fn root_of(file_name: &str) -> SigstoreRoot {
    SigstoreRoot::parse(&file(file_name)).unwrap()
}

fn trust(signers: Vec<Signer>, roots: Vec<SigstoreRoot>, demands: Demands) -> TrustRoot {
    TrustRoot::new(signers).with_sigstore(roots.into(), demands)
}

/// The private sigstore, its two identities and every key.
fn lab(demands: Demands) -> TrustRoot {
    let keys = names("keys").into_iter().map(|name| key(&format!("keys/{name}")));
    trust(keys.chain([dev(), workflow()]).collect(), vec![root_of("trusted_root.json")], demands)
}

/// What comes of bytes as they would come from a store, for the image of the private sigstore.
fn judge(bundle: &[u8], root: &TrustRoot) -> Outcome {
    let manifest = manifest();
    let digest = Digest::sha256(&manifest);
    judge_for(bundle, &Subject::new(&digest, Some(&manifest), None), root)
}

fn judge_for(bundle: &[u8], subject: &Subject<'_>, root: &TrustRoot) -> Outcome {
    match Envelope::recognise(bundle, None, &Annotations::new()) {
        Ok(envelope) => {
            assert_eq!(envelope.format(), Format::SigstoreBundle);
            verify(&envelope, subject, root, at(NOW))
        }
        Err(error) => Outcome::Rejected(Rejection::from(&error)),
    }
}

/// For the blob of this digest, whose bytes are not held.
fn judge_blob(bundle: &[u8], sha256: &str, root: &TrustRoot) -> Outcome {
    let digest = format!("sha256:{sha256}").parse().unwrap();
    judge_for(bundle, &Subject::new(&digest, None, None), root)
}

fn verified(outcome: Outcome, name: &str) -> Verified {
    match outcome {
        Outcome::Verified(verified) => verified,
        other => panic!("{name}: {other:?}"),
    }
}

fn rejected(rejection: impl Into<Rejection>) -> Outcome {
    Outcome::Rejected(rejection.into())
}

/// The hash that a blob's bundle says the blob to have.
fn stated_hash(bundle: &Value) -> String {
    let hash = bundle["messageSignature"]["messageDigest"]["digest"].as_str().unwrap();
    hex::encode(STANDARD.decode(hash).unwrap())
}
