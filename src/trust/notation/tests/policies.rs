use serde_json::{Value, json};

use super::{
    super::{IdentityFlaw, NotationFileProblem, NotationFiles, PolicyError, PolicyProblem, StoreFlaw},
    *,
};
use crate::trust::{JsonFlaw, SignerDocument};

fn error(policy: &[u8]) -> Option<PolicyError> {
    let files = NotationFiles::read([("trustpolicy.json", policy)]);
    files.problems.into_iter().find_map(|(_, problem)| match problem {
        NotationFileProblem::Policy(error) => Some(error),
        _ => None,
    })
}

#[test]
fn what_is_wrong_with_a_document_is_told_by_statement_and_field() {
    let with = |members: Value| document(&[statement_with(members)]);
    let verification = |verification: Value| with(json!({ "signatureVerification": verification }));
    let mut unknown = statement();
    unknown["trustStore"] = json!([]);
    let value = |value: &str, expected| PolicyProblem::Value { value: value.into(), expected };
    let scope = |scope: &str| PolicyProblem::Scope { scope: scope.into() };
    let store = |store: &str| PolicyProblem::Store { store: store.into() };
    let list = PolicyProblem::Missing { expected: "a list of texts, one at least" };
    let release = Some("release");
    for (policy, statement, field, problem) in [
        (b"{".to_vec(), None, "", PolicyProblem::Json(JsonFlaw::Syntax)),
        (b"[]".to_vec(), None, "", PolicyProblem::Missing { expected: "an object" }),
        (br#"{"version":"1.0","version":"1.0"}"#.to_vec(), None, "", PolicyProblem::Json(JsonFlaw::DuplicateKey)),
        (br#"{"version":"2.0","trustPolicies":[]}"#.to_vec(), None, "version", PolicyProblem::Version),
        (document(&[]), None, "trustPolicies", PolicyProblem::NoStatement),
        (document(&[json!({})]), None, "name", PolicyProblem::Missing { expected: "a text" }),
        (document(&[statement(), statement()]), release, "name", PolicyProblem::NameTwice),
        (document(&[unknown]), release, "", PolicyProblem::Unknown { name: "trustStore".into() }),
        (with(json!({ "registryScopes": [] })), release, "registryScopes", list.clone()),
        (with(json!({ "registryScopes": ["*", "a.example/b"] })), release, "registryScopes", scope("*")),
        (with(json!({ "registryScopes": ["a.example/*"] })), release, "registryScopes", scope("a.example/*")),
        (with(json!({ "registryScopes": ["nginx"] })), release, "registryScopes", scope("nginx")),
        (
            document(&[statement(), statement_with(json!({ "name": "second" }))]),
            Some("second"),
            "registryScopes",
            PolicyProblem::ScopeTwice { scope: "*".into() },
        ),
        (
            verification(json!("strict")),
            release,
            "signatureVerification",
            PolicyProblem::Missing { expected: "an object with a level" },
        ),
        (verification(json!({ "level": "lax" })), release, "level", value("lax", "strict, permissive, audit and skip")),
        (
            verification(json!({ "level": "strict", "override": { "expiry": "skip" } })),
            release,
            "override",
            value("skip", "enforce and log"),
        ),
        (
            verification(json!({ "level": "strict", "override": { "integrity": "log" } })),
            release,
            "override",
            value("integrity", "authenticity, authenticTimestamp, expiry and revocation"),
        ),
        (
            verification(json!({ "level": "skip", "override": { "expiry": "log" } })),
            release,
            "override",
            PolicyProblem::Skip,
        ),
        (verification(json!({ "level": "skip" })), release, "signatureVerification", PolicyProblem::Skip),
        (
            verification(json!({ "level": "strict", "verifyTimestamp": "never" })),
            release,
            "verifyTimestamp",
            value("never", "always and afterCertExpiry"),
        ),
        (with(json!({ "trustStores": [] })), release, "trustStores", list.clone()),
        (with(json!({ "trustStores": ["wabbit"] })), release, "trustStores", store("wabbit")),
        (with(json!({ "trustStores": ["ca:../etc"] })), release, "trustStores", store("ca:../etc")),
        (with(json!({ "trustStores": ["root:wabbit"] })), release, "trustStores", store("root:wabbit")),
        (with(json!({ "trustedIdentities": [] })), release, "trustedIdentities", list),
        (
            with(json!({ "trustedIdentities": ["x509.subject: C=US"] })),
            release,
            "trustedIdentities",
            PolicyProblem::Identity(IdentityFlaw::Incomplete),
        ),
    ] {
        let expected = PolicyError { statement: statement.map(str::to_owned), field, problem };
        assert_eq!(error(&policy), Some(expected), "{}", String::from_utf8_lossy(&policy));
    }
    let text = error(&with(json!({ "trustedIdentities": ["x509.subject: C=US"] }))).unwrap().to_string();
    assert_eq!(text, "statement 'release': trustedIdentities: C, ST (or S) and O are required");
}

#[test]
fn pitfall_28_a_statement_is_for_the_repositories_it_names_and_the_global_one_for_the_rest() {
    let named = statement_with(
        json!({ "name": "named", "registryScopes": ["registry.example/team/app", "docker.io/library/nginx"] }),
    );
    let skipped = json!({
        "name": "skipped",
        "registryScopes": ["registry.example/unsigned"],
        "signatureVerification": { "level": "skip" },
    });
    let stores = [("ca/wabbit", CA)];
    let global = root_of(&document(&[named.clone(), statement(), skipped]), &stores);
    let by = |repository| verified(outcome_in(repository, jws("P-256"), &global, now())).signer.name;
    assert_eq!(by("registry.example/team/app"), "named");
    assert_eq!(by("index.docker.io/nginx"), "named");
    assert_eq!(by("registry.example/team/other"), "release");
    let unsigned = rejected(outcome_in("registry.example/unsigned", jws("P-256"), &global, now()));
    assert_eq!(unsigned, NotationRejection::Skipped { statement: "skipped".into() });
    let only = root_of(&document(&[named]), &stores);
    let elsewhere = outcome_in("registry.example/team/other", jws("P-256"), &only, now());
    assert_eq!(rejected(elsewhere), NotationRejection::Scope);
}

#[test]
fn pitfall_27_the_level_decides_about_expiry_and_never_about_integrity_or_authenticity() {
    let later = now() + SignedDuration::from_hours(48);
    let at = |verification: Value| root(statement_with(json!({ "signatureVerification": verification })));
    for (verification, counts) in [
        (json!({ "level": "strict" }), false),
        (json!({ "level": "strict", "override": { "expiry": "log" } }), true),
        (json!({ "level": "permissive" }), true),
        (json!({ "level": "permissive", "override": { "expiry": "enforce" } }), false),
        (json!({ "level": "audit", "override": { "authenticity": "log" } }), true),
    ] {
        let found = outcome(jws("labelled"), &at(verification.clone()), later);
        match counts {
            true => {
                assert!(verified(found).evidence.links.last().unwrap().starts_with("passed over: "), "{verification}")
            }
            false => assert_eq!(rejected(found).code(), "notation-expired", "{verification}"),
        }
        let other = statement_with(json!({ "signatureVerification": verification }));
        let other = root_of(&document(&[other]), &[("ca/wabbit", SELF_SIGNED)]);
        assert_eq!(rejected(outcome(jws("labelled"), &other, later)).code(), "notation-store");
    }
}

#[test]
fn the_layout_of_notation_is_read_as_it_is() {
    let policy = document(&[statement()]);
    let newer = document(&[statement_with(json!({ "name": "newer" }))]);
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let read = NotationFiles::read([
        ("truststore/x509/ca/wabbit/root.crt", CA),
        ("truststore/x509/ca/wabbit/README", b"for people".as_slice()),
        ("truststore/x509/ca/wabbit/deeper/root.crt", CA),
        ("truststore/x509/ca/wabbit/broken.pem", broken),
        ("truststore/x509/ca/wabbit/empty.pem", b""),
        ("truststore/x509/other/wabbit/root.crt", CA),
        ("truststore/x509/tsa/stamps/issuer.pem", ISSUER),
        ("trustpolicy.json", &policy),
        ("trustpolicy.oci.json", &newer),
        ("trustpolicy.blob.json", b"of blobs, not of images"),
    ]);
    let names: Vec<_> = read.credentials.iter().map(|credential| credential.name()).collect();
    assert_eq!(names, ["newer"]);
    let problems: Vec<_> = read.problems.iter().map(|(path, problem)| (path.as_str(), problem.to_string())).collect();
    let name = "only *.pem, *.crt and *.cer files in a directory for each store are read";
    let expected = [
        ("truststore/x509/ca/wabbit/README", name),
        ("truststore/x509/ca/wabbit/deeper/root.crt", name),
        ("truststore/x509/ca/wabbit/broken.pem", "a certificate is not strict DER of X.509"),
        ("truststore/x509/ca/wabbit/empty.pem", &StoreFlaw::Empty.to_string()),
        ("truststore/x509/other/wabbit/root.crt", name),
        ("truststore/x509/tsa/stamps/issuer.pem", &StoreFlaw::NoTimestampRoot.to_string()),
        ("trustpolicy.json", "it is not used: trustpolicy.oci.json takes its place"),
    ];
    assert_eq!(problems, expected.map(|(path, text)| (path, text.to_owned())));
    let missing = NotationFiles::read([("trustpolicy.json", policy.as_slice())]).problems;
    assert_eq!(
        missing[0].1.to_string(),
        "statement 'release': the store ca:wabbit has no certificate that can be used"
    );
}

#[test]
fn a_statement_and_its_stores_are_a_signer_that_can_be_written_and_read() {
    let verification = json!({
        "level": "permissive",
        "override": { "expiry": "enforce", "revocation": "skip" },
        "verifyTimestamp": "afterCertExpiry",
    });
    let global =
        statement_with(json!({ "signatureVerification": verification, "trustStores": ["ca:wabbit", "tsa:stamps"] }));
    let named = statement_with(json!({ "name": "named", "registryScopes": ["registry.example/team/app"] }));
    let root = root_of(&document(&[global, named]), &[("ca/wabbit", CA), ("tsa/stamps", TSA)]);
    for signer in root.signers() {
        let members = signer.credential.to_members();
        let read = Credential::from_members(members.clone()).unwrap();
        assert_eq!((&read, read.id()), (&signer.credential, signer.credential.id()), "{members:?}");
        let document = SignerDocument::from_json(json!(members).to_string().as_bytes()).unwrap();
        assert_eq!(document.credential, signer.credential);
    }
    let members = root.signers()[0].credential.to_members();
    assert_eq!(members["notation"]["except"], json!(["registry.example/team/app"]));
    for (path, value, expected) in [
        ("/notation/certificates", json!({}), "certificates: those of ca:wabbit are missing"),
        ("/notation/certificates/ca:wabbit", json!("x"), "certificates: ca:wabbit: there is no certificate in it"),
        ("/notation/statement/trustedIdentities", json!(["me"]), "statement 'release': trustedIdentities: "),
        ("/notation/statement/name", json!(7), "name: it is missing, or of another kind"),
    ] {
        let mut changed = json!(members);
        *changed.pointer_mut(path).unwrap() = value;
        let error = SignerDocument::from_json(changed.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("notation: {expected}")), "{error}");
    }
}
