//! Everything below goes through `verify`, as the program does.

mod envelopes;
mod maker;
mod policies;
mod revocation;
mod services;
mod timestamps;
mod verification;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{NotationFiles, NotationRejection};
use crate::{
    oci::{Digest, Repository},
    trust::{
        Annotations, Credential, Envelope, Outcome, Rejection, Signer, SignerOrigin, Subject, TrustRoot, Verified,
        verify,
    },
};

const MANIFEST: &[u8] = include_bytes!("../../../tests/fixtures/notation/manifest");
const CA: &[u8] = include_bytes!("../../../tests/fixtures/notation/ca.crt");
const ISSUER: &[u8] = include_bytes!("../../../tests/fixtures/notation/issuer.crt");
const SELF_SIGNED: &[u8] = include_bytes!("../../../tests/fixtures/notation/self-signed.crt");
const TSA: &[u8] = include_bytes!("../../../tests/fixtures/notation/tsa.crt");
const OTHER_TSA: &[u8] = include_bytes!("../../../tests/fixtures/notation/tsa-other.crt");

macro_rules! signed {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../tests/fixtures/notation/", $name, ".jws")),
            include_bytes!(concat!("../../../tests/fixtures/notation/", $name, ".cose")),
        )
    };
}
/// What notation signed, by the name of its key or of what is special about it.
const SIGNED: [(&str, &[u8], &[u8]); 10] = [
    signed!("P-256"),
    signed!("P-384"),
    signed!("P-521"),
    signed!("rsa-2048"),
    signed!("rsa-3072"),
    signed!("rsa-4096"),
    signed!("revocable"),
    signed!("self-signed"),
    signed!("timestamped"),
    signed!("labelled"),
];

fn jws(name: &str) -> &'static [u8] {
    SIGNED.into_iter().find(|(known, ..)| *known == name).unwrap().1
}

fn cose(name: &str) -> &'static [u8] {
    SIGNED.into_iter().find(|(known, ..)| *known == name).unwrap().2
}

/// Shortly after the fixtures were made.
fn now() -> Timestamp {
    let made: Timestamp = include_str!("../../../tests/fixtures/notation/made").trim().parse().unwrap();
    made + SignedDuration::from_mins(10)
}

/// Once the signers' certificates have expired, and the timestamp authority's have not.
fn much_later() -> Timestamp {
    now() + SignedDuration::from_hours(24 * 400)
}

/// A statement like notation's own quick start writes it.
fn statement() -> Value {
    json!({
        "name": "release",
        "registryScopes": ["*"],
        "signatureVerification": { "level": "strict" },
        "trustStores": ["ca:wabbit"],
        "trustedIdentities": ["*"],
    })
}

/// `statement` with some members otherwise.
fn statement_with(members: Value) -> Value {
    let mut statement = statement();
    for (name, value) in members.as_object().unwrap() {
        statement[name] = value.clone();
    }
    statement
}

fn document(statements: &[Value]) -> Vec<u8> {
    json!({ "version": "1.0", "trustPolicies": statements }).to_string().into_bytes()
}

/// The root that files of notation's layout make, all of which can be used.
fn root_of(policy: &[u8], stores: &[(&str, &[u8])]) -> TrustRoot {
    let policy = ("trustpolicy.json", policy);
    let paths: Vec<_> = stores.iter().map(|(store, pem)| (format!("truststore/x509/{store}/a.pem"), *pem)).collect();
    let stores = paths.iter().map(|(path, pem)| (path.as_str(), *pem));
    let files = NotationFiles::read(stores.chain([policy]));
    assert_eq!(files.problems, []);
    TrustRoot::new(files.credentials.into_iter().map(signer).collect())
}

fn signer(credential: super::NotationCredential) -> Signer {
    Signer {
        name: credential.name().to_owned(),
        credential: Credential::Notation(credential),
        origin: SignerOrigin::File,
        added: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

/// One statement over the fixtures' root.
fn root(statement: Value) -> TrustRoot {
    root_of(&document(&[statement]), &[("ca/wabbit", CA)])
}

fn outcome_in(repository: &str, envelope: &[u8], root: &TrustRoot, now: Timestamp) -> Outcome {
    let envelope = Envelope::recognise(envelope, None, &Annotations::new()).unwrap();
    let repository = Repository::parse(repository, &"docker.io".parse().unwrap()).unwrap();
    let digest = Digest::sha256(MANIFEST);
    verify(&envelope, &Subject::new(&digest, Some(MANIFEST), Some(&repository)), root, now)
}

fn outcome(envelope: &[u8], root: &TrustRoot, now: Timestamp) -> Outcome {
    outcome_in("registry.example/team/app", envelope, root, now)
}

#[track_caller]
fn verified(outcome: Outcome) -> Verified {
    match outcome {
        Outcome::Verified(verified) => verified,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn rejected(outcome: Outcome) -> NotationRejection {
    match outcome {
        Outcome::Rejected(Rejection::Notation(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}
