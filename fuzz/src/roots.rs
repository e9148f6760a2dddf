//! Whom the program's tests believe, and the images that their signatures are for.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sig_repo::{
    oci::Repository,
    trust::{Annotations, Credential, Demands, Envelope, NotationFiles, SigstoreRoot, TrustRoot},
};

use crate::{Judge, Named, fixtures, keyless, public_key, signer};

/// After whatever time the fixtures are made at again.
pub const SIGSTORE_NOW: &str = "2046-01-01T00:00:00Z";

pub fn sigstore() -> Vec<SigstoreRoot> {
    let root = |name: &str| SigstoreRoot::parse(&fixtures::file(name)).expect("a root");
    vec![
        root("sigstore/trusted_root.json"),
        SigstoreRoot::public_good(),
        root("sigstore/public/staging-trusted-root.json"),
        root("sigstore/public/github-trusted-root.json"),
    ]
}

/// Every sigstore, key and identity of the fixtures; once with the defaults, and once where no log is asked
/// for.
pub fn with_sigstore() -> Vec<TrustRoot> {
    let keys = fixtures::names("sigstore/keys").into_iter().chain(["sigstore/public/key.pub".to_owned()]);
    let keys = keys.chain(TRUST_KEYS.map(|name| format!("trust/{name}.pub")));
    let actions = "https://token.actions.githubusercontent.com";
    let identities = [
        json!({"issuer": "http://127.0.0.1:8811", "subject": "dev@lab.example"}),
        json!({"issuer": "http://127.0.0.1:8812",
            "subject": "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main"}),
        json!({"issuer": "https://github.com/login/oauth", "subject_pattern": r"[a-z.]+@gmail\.com"}),
        json!({"issuer": actions, "subject_pattern": "https://github.com/.*"}),
    ];
    let signers: Vec<_> = keys.map(|name| public_key(&fixtures::text(&name))).chain(identities.map(keyless)).collect();
    let sigstore: Arc<[_]> = sigstore().into();
    let root = |demands| TrustRoot::new(signers.clone()).with_sigstore(sigstore.clone(), demands);
    vec![root(Demands::default()), root(Demands { logs: 0, ..Demands::default() })]
}

const TRUST_KEYS: [&str; 8] =
    ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "cosign"];

/// The image of the private sigstore.
pub fn lab_image() -> Named {
    Named::held(fixtures::file("sigstore/manifest.json"))
}

/// The image that signatures without any evidence are for.
pub fn key_image() -> Named {
    Named::held(fixtures::file("trust/manifest"))
}

/// What a bundle of the public instance is for.
pub fn blob(name: &str) -> Named {
    let bundle = fixtures::json(name);
    let hash = bundle.pointer("/messageSignature/messageDigest/digest").and_then(Value::as_str).expect("a blob");
    Named::sha256(&hex(&fixtures::decoded(hash)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sigstore_judge(images: Vec<Named>, good: impl IntoIterator<Item = Envelope>, at_least: usize) -> Judge {
    Judge::new(with_sigstore(), images, SIGSTORE_NOW, good, at_least)
}

pub fn recognised(envelope: &[u8]) -> Option<Envelope> {
    Envelope::recognise(envelope, None, &Annotations::new()).ok()
}

/// A document of the notation CLI with one statement.
pub fn notation_policy(level: &str, stores: &[&str], identities: Value) -> Vec<u8> {
    let statement = json!({
        "name": "release",
        "registryScopes": ["*"],
        "signatureVerification": { "level": level },
        "trustStores": stores,
        "trustedIdentities": identities,
    });
    json!({ "version": "1.0", "trustPolicies": [statement] }).to_string().into_bytes()
}

/// Every level, with and without timestamps.
pub fn notation() -> Vec<TrustRoot> {
    let documents = [
        notation_policy("strict", &["ca:wabbit"], json!(["*"])),
        notation_policy("permissive", &["ca:wabbit", "tsa:stamps"], json!(["*"])),
        notation_policy("audit", &["ca:alone"], json!(["*"])),
    ];
    documents.iter().map(|document| notation_root(document)).collect()
}

fn notation_root(document: &[u8]) -> TrustRoot {
    let stores = [
        ("truststore/x509/ca/wabbit/ca.crt", fixtures::file("notation/ca.crt")),
        ("truststore/x509/ca/alone/alone.crt", fixtures::file("notation/self-signed.crt")),
        ("truststore/x509/tsa/stamps/tsa.crt", fixtures::file("notation/tsa.crt")),
    ];
    let stores = stores.iter().map(|(path, bytes)| (*path, &bytes[..]));
    let files = NotationFiles::read([("trustpolicy.json", document)].into_iter().chain(stores));
    assert_eq!(files.problems, []);
    let signers = files.credentials.into_iter().map(|credential| signer(Credential::Notation(credential)));
    TrustRoot::new(signers.collect())
}

/// Shortly after the fixtures were made, at which their certificates are valid.
pub fn notation_now() -> String {
    let made: Timestamp = fixtures::text("notation/made").trim().parse().expect("a time");
    (made + SignedDuration::from_mins(10)).to_string()
}

pub fn notation_image() -> Named {
    Named {
        repository: Some(repository("registry.example/team/app")),
        ..Named::held(fixtures::file("notation/manifest"))
    }
}

pub fn repository(name: &str) -> Repository {
    Repository::parse(name, &"docker.io".parse().expect("a registry")).expect("a repository")
}

pub fn notation_judge(good: impl IntoIterator<Item = Envelope>, at_least: usize) -> Judge {
    Judge::new(notation(), vec![notation_image()], &notation_now(), good, at_least)
}

/// Of signatures that count by their timestamps alone: of sigstore without any log, and of notation.
pub fn timestamp_judges(sigstore: Option<Envelope>, notation: Option<Envelope>) -> (Judge, Judge) {
    let without_log = with_sigstore().split_off(1);
    let stamped = notation_root(&notation_policy("strict", &["ca:wabbit", "tsa:stamps"], json!(["*"])));
    (
        Judge::new(without_log, vec![lab_image()], SIGSTORE_NOW, sigstore, 1),
        Judge::new(vec![stamped], vec![notation_image()], &notation_now(), notation, 1),
    )
}
