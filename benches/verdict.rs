//! What a verdict costs: one signature recognised and verified, by algorithm, and the search that ends
//! in no key. Beside each format the signatures alone that have to be checked for it.

use std::hint::black_box;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
        ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use jiff::Timestamp;
use sig_repo::{
    oci::Digest,
    trust::{
        Annotations, Credential, Demands, Envelope, NotationFiles, Outcome, PublicKey, Rejection, Signer, SignerOrigin,
        SigstoreRoot, Subject, TrustRoot, verify,
    },
};

const MANIFEST: &[u8] = include_bytes!("../tests/fixtures/trust/manifest");
const PAYLOAD: &[u8] = include_bytes!("../tests/fixtures/trust/payload");
const SIGNATURES: &str = include_str!("../tests/fixtures/trust/signatures.tsv");

const KEYS: [(&str, &str); 7] = [
    ("ecdsa-p256", include_str!("../tests/fixtures/trust/ecdsa-p256.pub")),
    ("ecdsa-p384", include_str!("../tests/fixtures/trust/ecdsa-p384.pub")),
    ("ecdsa-p521", include_str!("../tests/fixtures/trust/ecdsa-p521.pub")),
    ("rsa-2048", include_str!("../tests/fixtures/trust/rsa-2048.pub")),
    ("rsa-3072", include_str!("../tests/fixtures/trust/rsa-3072.pub")),
    ("rsa-4096", include_str!("../tests/fixtures/trust/rsa-4096.pub")),
    ("ed25519", include_str!("../tests/fixtures/trust/ed25519.pub")),
];

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn signer((name, pem): (&str, &str)) -> Signer {
    let key = PublicKey::from_pem(pem).expect("the fixture is a key");
    Signer { name: name.to_owned(), ..signer_with(Credential::PublicKey(key)) }
}

fn signer_with(credential: Credential) -> Signer {
    Signer {
        name: String::new(),
        credential,
        origin: SignerOrigin::File,
        added: NOW,
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

fn signature(key: &str, scheme: &str, over: &str) -> Vec<u8> {
    let row = SIGNATURES
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .find(|row| row[1..4] == [key, scheme, over])
        .expect("the fixture is there");
    STANDARD.decode(row[4]).expect("the fixture is base64")
}

/// One envelope against every key of the fixtures, as it comes from the store: parsed anew each time.
fn one_verification(criterion: &mut Criterion) {
    let root = TrustRoot::new(KEYS.map(signer).to_vec());
    let digest = Digest::sha256(MANIFEST);
    let subject = Subject::new(&digest, Some(MANIFEST), None);
    let judge = |signature: &[u8], payload: Option<&[u8]>| {
        let envelope =
            Envelope::recognise(signature, payload, &Annotations::new()).expect("the fixture is an envelope");
        verify(&envelope, &subject, &root, NOW)
    };

    let mut group = criterion.benchmark_group("verify");
    for (key, _) in KEYS {
        let schemes: &[&str] = if key == "ed25519" { &["pure", "ph"] } else { &["sha256"] };
        for scheme in schemes {
            let signature = signature(key, scheme, "manifest");
            assert!(judge(&signature, None).is_verified());
            group.bench_function(format!("{key} {scheme} manifest"), |bencher| {
                bencher.iter(|| judge(black_box(&signature), None));
            });
        }
    }
    let signature = signature("ecdsa-p256", "sha256", "payload");
    assert!(judge(&signature, Some(PAYLOAD)).is_verified());
    group.bench_function("ecdsa-p256 sha256 simple-signing", |bencher| {
        bencher.iter(|| judge(black_box(&signature), Some(PAYLOAD)));
    });
    alone(&mut group, "ecdsa-p256 sha256 simple-signing", &[Key::P256]);
    group.finish();
}

/// The dearest answer: every scheme and message tried with the one key that fits, in vain.
fn no_trusted_key(criterion: &mut Criterion) {
    let root = TrustRoot::new(KEYS.map(signer).to_vec());
    let other = b"another image";
    let digest = Digest::sha256(other);
    let subject = Subject::new(&digest, Some(other), None);

    let mut group = criterion.benchmark_group("no trusted key");
    for (key, _) in KEYS {
        let scheme = if key == "ed25519" { "pure" } else { "sha256" };
        let envelope = Envelope::recognise(&signature(key, scheme, "manifest"), None, &Annotations::new())
            .expect("the fixture is an envelope");
        assert_eq!(verify(&envelope, &subject, &root, NOW), Outcome::Rejected(Rejection::NoTrustedKey));
        group.bench_function(key, |bencher| bencher.iter(|| verify(black_box(&envelope), &subject, &root, NOW)));
    }
    group.finish();
}

/// Bundles with all their evidence, as they come from the store.
fn sigstore(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sigstore");
    let identity = r#"{"issuer": "https://github.com/login/oauth", "subject_pattern": ".+@gmail[.]com"}"#;
    let identity = Credential::Keyless(serde_json::from_str(identity).expect("an identity"));
    let key = Credential::PublicKey(PublicKey::from_pem(COSIGN_3_KEY).expect("the fixture is a key"));
    for (name, credential, bundle, artifact, signatures) in [
        ("bundle with a key", key, COSIGN_3, COSIGN_3_MANIFEST, &[Key::P256][..]),
        // Of the blob, certificate's log, log twice, timestamp; of the certificate by its authority.
        (
            "full keyless",
            identity,
            KEYLESS,
            KEYLESS_BLOB,
            &[Key::P256, Key::P256, Key::P256, Key::P256, Key::P256, Key::P384],
        ),
    ] {
        let root = TrustRoot::new(vec![signer_with(credential)]);
        let root = root.with_sigstore([SigstoreRoot::public_good()].into(), Demands::default());
        let digest = Digest::sha256(artifact);
        let subject = Subject::new(&digest, Some(artifact), None);
        let now = Timestamp::MAX;
        let judge = |bundle: &[u8]| {
            let envelope = Envelope::recognise(bundle, None, &Annotations::new()).expect("the fixture is a bundle");
            verify(&envelope, &subject, &root, now)
        };
        assert!(judge(bundle).is_verified(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| judge(black_box(bundle))));
        alone(&mut group, name, signatures);
    }
    group.finish();
}

/// An envelope of notation, as it comes from the store, with a chain of three certificates; with the
/// timestamp that its authority's chain is checked for.
fn notation(criterion: &mut Criterion) {
    let policy = |stores: &str| {
        format!(
            r#"{{"version":"1.0","trustPolicies":[{{"name":"release","registryScopes":["*"],"signatureVerification":
            {{"level":"strict"}},"trustStores":[{stores}],"trustedIdentities":["*"]}}]}}"#
        )
    };
    let root = |stores: &str| {
        let policy = policy(stores);
        let files = NotationFiles::read([
            ("trustpolicy.json", policy.as_bytes()),
            ("truststore/x509/ca/wabbit/ca.crt", include_bytes!("../tests/fixtures/notation/ca.crt")),
            ("truststore/x509/tsa/stamps/tsa.crt", include_bytes!("../tests/fixtures/notation/tsa.crt")),
        ]);
        let signers = files.credentials.into_iter().map(|credential| Signer {
            name: credential.name().to_owned(),
            credential: Credential::Notation(credential),
            ..signer(KEYS[0])
        });
        TrustRoot::new(signers.collect())
    };
    let made: Timestamp = include_str!("../tests/fixtures/notation/made").trim().parse().expect("a time");
    let manifest: &[u8] = include_bytes!("../tests/fixtures/notation/manifest");
    let digest = Digest::sha256(manifest);
    let subject = Subject::new(&digest, Some(manifest), None);
    let mut group = criterion.benchmark_group("notation");
    // Of the root by itself, of the issuer by the root, of the signer by the issuer.
    let chain = [Key::P384, Key::P384, Key::Rsa("rsa-3072")];
    // Of the timestamp; of the authority's root by itself, of the authority by its root.
    let stamp = [Key::P256, Key::Rsa("rsa-2048"), Key::Rsa("rsa-2048")];
    for (name, stores, envelope, key) in NOTATION {
        let root = root(stores);
        let judge = |envelope: &[u8]| {
            let envelope =
                Envelope::recognise(envelope, None, &Annotations::new()).expect("the fixture is an envelope");
            verify(&envelope, &subject, &root, made)
        };
        assert!(judge(envelope).is_verified(), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| judge(black_box(envelope))));
        let stamp = if stores.contains("tsa:") { &stamp[..] } else { &[] };
        alone(&mut group, name, &[&chain[..], &[key], stamp].concat());
    }
    group.finish();
}

/// Whose signature is to be checked: an RSA key is one of the fixtures.
#[derive(Clone, Copy)]
enum Key {
    P256,
    P384,
    P521,
    Rsa(&'static str),
}

/// What no verifier could leave out.
fn alone(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, keys: &[Key]) {
    let signed: Vec<_> = keys
        .iter()
        .map(|key| match key {
            Key::P256 => signed(&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_ASN1),
            Key::P384 => signed(&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1),
            Key::P521 => signed(&ECDSA_P521_SHA512_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1),
            Key::Rsa(name) => {
                let pem = KEYS.iter().find(|(key, _)| key == name).expect("the fixture is there").1;
                let (_, der) = der::pem::decode_vec(pem.as_bytes()).expect("the fixture is PEM");
                let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &der).expect("the fixture is a key");
                (key, signature(name, "sha256", "manifest"))
            }
        })
        .collect();
    group.bench_function(format!("{name}, its signatures alone"), |bencher| {
        bencher.iter(|| {
            for (key, signature) in &signed {
                key.verify_sig(black_box(MANIFEST), signature).expect("it was signed so");
            }
        });
    });
}

fn signed(
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static dyn VerificationAlgorithm,
) -> (ParsedPublicKey, Vec<u8>) {
    let key = EcdsaKeyPair::generate(signing).expect("a key");
    let signature = key.sign(&SystemRandom::new(), MANIFEST).expect("a signature").as_ref().to_vec();
    (ParsedPublicKey::new(verifying, key.public_key().as_ref()).expect("its key"), signature)
}

const COSIGN_3: &[u8] = include_bytes!("../tests/fixtures/sigstore/bundle/key-p256-none.json");
const COSIGN_3_KEY: &str = include_str!("../tests/fixtures/sigstore/keys/p256.pub");
const COSIGN_3_MANIFEST: &[u8] = include_bytes!("../tests/fixtures/sigstore/manifest.json");
const KEYLESS: &[u8] = include_bytes!("../tests/fixtures/sigstore/public/blob-rekor1-tsa.json");
const KEYLESS_BLOB: &[u8] = include_bytes!("../tests/fixtures/sigstore/public/blob-rekor1-tsa.txt");

const NOTATION: [(&str, &str, &[u8], Key); 5] = [
    ("ecdsa-p256 jws", r#""ca:wabbit""#, include_bytes!("../tests/fixtures/notation/P-256.jws"), Key::P256),
    ("ecdsa-p256 cose", r#""ca:wabbit""#, include_bytes!("../tests/fixtures/notation/P-256.cose"), Key::P256),
    ("ecdsa-p521 jws", r#""ca:wabbit""#, include_bytes!("../tests/fixtures/notation/P-521.jws"), Key::P521),
    (
        "rsa-4096 cose",
        r#""ca:wabbit""#,
        include_bytes!("../tests/fixtures/notation/rsa-4096.cose"),
        Key::Rsa("rsa-4096"),
    ),
    (
        "ecdsa-p256 jws with a timestamp",
        r#""ca:wabbit","tsa:stamps""#,
        include_bytes!("../tests/fixtures/notation/timestamped.jws"),
        Key::P256,
    ),
];

criterion_group!(benches, one_verification, no_trusted_key, sigstore, notation);
criterion_main!(benches);
