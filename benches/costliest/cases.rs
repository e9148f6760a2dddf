use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sig_repo::{
    oci::{Digest, Repository},
    trust::{
        Annotations, Credential, Demands, NotationFiles, OpenPgpKey, PublicKey, Signer, SignerOrigin, SigstoreRoot,
        TrustRoot,
    },
};

use crate::chain;

pub(crate) struct Case {
    pub(crate) format: &'static str,
    pub(crate) what: String,
    pub(crate) root: TrustRoot,
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) repository: Option<Repository>,
    pub(crate) signature: Vec<u8>,
    pub(crate) payload: Option<Vec<u8>>,
    pub(crate) annotations: Annotations,
    pub(crate) now: Timestamp,
    pub(crate) expected: Expected,
}

#[derive(Clone, Copy)]
pub(crate) enum Expected {
    Verified,
    Rejected(&'static str),
}

const FORGED: Expected = Expected::Rejected("no-trusted-key");
const TOO_LARGE: Expected = Expected::Rejected("too-large-to-hash");

/// What our limits let in of each.
const PAYLOAD_BYTES: usize = 1 << 20;
const MANIFEST_BYTES: usize = 4 << 20;
/// What is hashed for SHA-384, SHA-512 and Ed25519 at most.
const REHASHED_BYTES: usize = 256 << 10;
const BUNDLE_BYTES: usize = 1 << 20;
const STATEMENT_BYTES: usize = 128 << 10;
const EVIDENCE: usize = 4;
const CHAIN: usize = 8;

macro_rules! fixture {
    ($name:expr) => {
        include_bytes!(concat!("../../tests/fixtures/", $name)).as_slice()
    };
}

/// Of each kind a key, whose signatures over something else are forgeries here.
const KEYS: [(&str, &[u8], &str); 5] = [
    ("P-256", fixture!("trust/ecdsa-p256.pub"), "ecdsa-p256"),
    ("P-384", fixture!("trust/ecdsa-p384.pub"), "ecdsa-p384"),
    ("P-521", fixture!("trust/ecdsa-p521.pub"), "ecdsa-p521"),
    ("RSA-4096", fixture!("trust/rsa-4096.pub"), "rsa-4096"),
    ("Ed25519", fixture!("trust/ed25519.pub"), "ed25519"),
];

pub(crate) fn all() -> Vec<Case> {
    let by_keys = KEYS.into_iter().flat_map(|(kind, key, name)| {
        [raw(kind, key, forged(name)), simple_signing(kind, key, forged(name)), blob(kind, key, &forged(name))]
    });
    by_keys.chain(statements()).chain(keyless()).chain(notation()).chain(openpgp()).collect()
}

fn raw(kind: &str, key: &[u8], signature: Vec<u8>) -> Case {
    let what = format!("forged for a key on {kind}, over a manifest of 256 KiB");
    Case { signature, what, ..of_manifest("raw", vec![b' '; REHASHED_BYTES], by_key(key)) }
}

fn simple_signing(kind: &str, key: &[u8], signature: Vec<u8>) -> Case {
    let case = of_manifest("cosign classic", b"manifest".to_vec(), by_key(key));
    let payload = |filler: String| {
        let image = json!({"docker-manifest-digest": case.digest});
        let kind = "cosign container image signature";
        let critical = json!({"identity": {"docker-reference": ""}, "image": image, "type": kind});
        json!({"critical": critical, "optional": {"filler": filler}}).to_string()
    };
    let payload = payload("x".repeat(PAYLOAD_BYTES - payload(String::new()).len()));
    let what = format!("forged for a key on {kind}, over a payload of 1 MiB");
    Case { signature, what, payload: Some(payload.into_bytes()), expected: TOO_LARGE, ..case }
}

/// As of `cosign sign-blob`, with the manifest for the blob.
fn blob(kind: &str, key: &[u8], signature: &[u8]) -> Case {
    let case = of_manifest("sigstore bundle", vec![b' '; MANIFEST_BYTES], by_key(key));
    let mut bundle = json(fixture!("sigstore/blob/key-p521-none.json"));
    bundle["messageSignature"] = json!({"signature": STANDARD.encode(signature)});
    let what = format!("forged for a key on {kind}, over a manifest of 4 MiB");
    Case { signature: bundle.to_string().into_bytes(), what, expected: TOO_LARGE, ..case }
}

/// Bundles by the key that is dearest to check.
fn statements() -> [Case; 3] {
    let key = fixture!("sigstore/keys/p521.pub");
    let bundle = || json(fixture!("sigstore/bundle/key-p521-rekor2-tsa.json"));
    let case = |signature: &Value, what: &str, expected| Case {
        signature: signature.to_string().into_bytes(),
        what: what.to_owned(),
        expected,
        ..of_manifest("sigstore bundle", manifest(), by_key(key))
    };
    let mut forged = bundle();
    set_statement(&mut forged, STATEMENT_BYTES, |_| {});
    let mut attestation = bundle();
    // In base64, and something beside it.
    set_statement(&mut attestation, BUNDLE_BYTES / 4 * 3 - (64 << 10), |statement| {
        statement["predicateType"] = "https://spdx.dev/Document".into();
    });
    [
        case(&forged, "forged for a key on P-521, over a statement of 128 KiB", FORGED),
        case(&attestation, "an attestation of 1 MiB", Expected::Rejected("predicate-type")),
        case(&with_evidence(bundle()), "true, by a key on P-521, 4 log entries, 4 timestamps", Expected::Verified),
    ]
}

fn keyless() -> [Case; 3] {
    let identity = json!({"issuer": "http://127.0.0.1:8811", "subject": "dev@lab.example"});
    let identity = || Credential::Keyless(serde_json::from_value(identity.clone()).expect("an identity"));
    let bundle = || json(fixture!("sigstore/bundle/keyless-rekor1-tsa.json"));
    let case = |signature: &Value, what: &str, expected| Case {
        signature: signature.to_string().into_bytes(),
        what: what.to_owned(),
        expected,
        ..of_manifest("sigstore bundle", manifest(), identity())
    };
    let mut forged = with_evidence(bundle());
    set_statement(&mut forged, STATEMENT_BYTES, |_| {});
    let mut other = bundle();
    other["verificationMaterial"]["certificate"] =
        json(fixture!("sigstore/bundle/keyless-github-rekor2-tsa.json"))["verificationMaterial"]["certificate"].take();
    let mismatch = Expected::Rejected("signature-mismatch");
    [
        case(&with_evidence(bundle()), "true, keyless, 4 log entries, 4 timestamps", Expected::Verified),
        case(&forged, "forged with the certificate of one who is trusted, over a statement of 128 KiB", mismatch),
        case(
            &with_evidence(other),
            "by somebody else, 4 log entries, 4 timestamps",
            Expected::Rejected("issuer-mismatch"),
        ),
    ]
}

fn notation() -> [Case; 3] {
    let now: Timestamp = include_str!("../../tests/fixtures/notation/made").trim().parse().expect("a time");
    let manifest = fixture!("notation/manifest");
    let large = |filler: usize| {
        let mut manifest = json(manifest);
        manifest["annotations"] = json!({"filler": "x".repeat(filler)});
        manifest.to_string().into_bytes()
    };
    let large = large(MANIFEST_BYTES - large(0).len());
    let case = |kind, manifest: &[u8], what: &str, expected| {
        let (root, signature) = chain::jws(kind, CHAIN, manifest);
        let what = format!("{what}, {CHAIN} certificates on P-521");
        let case = of_manifest("notation", manifest.to_vec(), by_key(KEYS[0].1));
        Case { root: by_notation(&root), signature, what, now, expected, ..case }
    };
    [
        case(chain::Kind::True, manifest, "true", Expected::Verified),
        case(chain::Kind::True, &large, "true, of a manifest of 4 MiB", Expected::Verified),
        case(chain::Kind::Forged, manifest, "forged beneath a trusted root", Expected::Rejected("notation-chain")),
    ]
}

fn openpgp() -> [Case; 3] {
    let claim = json(fixture!("openpgp/claim"));
    let digest = claim["critical"]["image"]["docker-manifest-digest"].as_str().expect("a digest");
    let digest: Digest = digest.parse().expect("a digest");
    let case = |key: &[u8], signature: &[u8], what: &str, expected| {
        let key = OpenPgpKey::parse_all(key).expect("a key").remove(0);
        Case {
            digest,
            signature: signature.to_vec(),
            what: what.to_owned(),
            now: "2026-12-01T12:00:00Z".parse().expect("a time"),
            expected,
            ..of_manifest("OpenPGP", Vec::new(), Credential::OpenPgp(key))
        }
    };
    [
        case(fixture!("openpgp/rsa4096.asc"), fixture!("openpgp/rsa4096.gpg"), "true, RSA-4096", Expected::Verified),
        case(fixture!("openpgp/nistp521.asc"), fixture!("openpgp/nistp521.gpg"), "true, P-521", Expected::Verified),
        case(
            fixture!("openpgp/rsa4096.asc"),
            fixture!("openpgp/nistp521.gpg"),
            "by somebody else",
            Expected::Rejected("no-trusted-key"),
        ),
    ]
}

/// A case in which everything but the signature is settled.
fn of_manifest(format: &'static str, manifest: Vec<u8>, credential: Credential) -> Case {
    Case {
        format,
        what: String::new(),
        root: by(vec![credential]),
        digest: Digest::sha256(&manifest),
        manifest,
        repository: None,
        signature: Vec::new(),
        payload: None,
        annotations: Annotations::new(),
        now: Timestamp::MAX,
        expected: FORGED,
    }
}

/// With several roots, of which the last is the one that knows the fixtures.
fn by(credentials: Vec<Credential>) -> TrustRoot {
    let roots = [
        SigstoreRoot::public_good(),
        sigstore_root(fixture!("sigstore/public/staging-trusted-root.json")),
        sigstore_root(fixture!("sigstore/trusted_root.json")),
    ];
    let signer = |credential| Signer {
        name: String::new(),
        credential,
        origin: SignerOrigin::File,
        added: Timestamp::UNIX_EPOCH,
        not_before: None,
        not_after: None,
        revoked: None,
    };
    TrustRoot::new(credentials.into_iter().map(signer).collect()).with_sigstore(roots.into(), Demands::default())
}

fn by_key(pem: &[u8]) -> Credential {
    let pem = str::from_utf8(pem).expect("PEM is text");
    Credential::PublicKey(PublicKey::from_pem(pem).expect("the fixture is a key"))
}

fn by_notation(root: &str) -> TrustRoot {
    let policy = r#"{"version":"1.0","trustPolicies":[{"name":"release","registryScopes":["*"],"signatureVerification":
        {"level":"strict"},"trustStores":["ca:wabbit"],"trustedIdentities":["*"]}]}"#;
    let files = [("trustpolicy.json", policy.as_bytes()), ("truststore/x509/ca/wabbit/ca.crt", root.as_bytes())];
    by(NotationFiles::read(files).credentials.into_iter().map(Credential::Notation).collect())
}

fn sigstore_root(json: &[u8]) -> SigstoreRoot {
    SigstoreRoot::parse(json).expect("the fixture is a trusted root")
}

fn manifest() -> Vec<u8> {
    fixture!("sigstore/manifest.json").to_vec()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("the fixture is JSON")
}

fn forged(key: &str) -> Vec<u8> {
    let rows = include_str!("../../tests/fixtures/trust/signatures.tsv").lines();
    let mut rows = rows.map(|line| line.split('\t').collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == key && row[3] == "manifest").expect("every key has signed");
    STANDARD.decode(row[4]).expect("the fixture is base64")
}

/// As often as there is room for it; each is checked, though the same twice says no more.
fn with_evidence(mut bundle: Value) -> Value {
    let material = &mut bundle["verificationMaterial"];
    for list in ["/tlogEntries", "/timestampVerificationData/rfc3161Timestamps"] {
        let list = material.pointer_mut(list).and_then(Value::as_array_mut).expect("the fixture has it");
        *list = vec![list[0].clone(); EVIDENCE];
    }
    bundle
}

/// The statement of a bundle, changed and filled up to this size.
fn set_statement(bundle: &mut Value, bytes: usize, change: impl FnOnce(&mut Value)) {
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().expect("a payload")).expect("base64");
    let mut statement = json(&payload);
    change(&mut statement);
    statement["predicate"] = json!({"filler": ""});
    let filler = "x".repeat(bytes - statement.to_string().len());
    statement["predicate"] = json!({ "filler": filler });
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(statement.to_string()).into();
}
