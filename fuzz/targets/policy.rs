//! Documents that say whom to believe: a trust policy of notation, a trusted root of sigstore, a signer.

#![no_main]

use serde_json::{Value, json};
use sig_repo::trust::{Credential, NotationFiles, SignerDocument, SigstoreRoot};
use sig_repo_fuzz::{Target, fixtures, roots};

struct Policy {
    certificate: Vec<u8>,
}

impl Target for Policy {
    fn new() -> Self {
        Self { certificate: fixtures::file("notation/ca.crt") }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let identity = "x509.subject: C=US, ST=WA, O=wabbit-network.io, CN=SecureBuilder";
        let statements = json!({"version": "1.0", "trustPolicies": [
            {"name": "one", "registryScopes": ["registry.example/team/app", "docker.io/library/nginx"],
             "signatureVerification": {"level": "strict", "verifyTimestamp": "afterCertExpiry",
                "override": {"expiry": "log", "revocation": "skip"}},
             "trustStores": ["ca:wabbit", "signingAuthority:acme", "tsa:stamps"], "trustedIdentities": [identity]},
            {"name": "all", "registryScopes": ["*"], "signatureVerification": {"level": "audit"},
             "trustStores": ["ca:wabbit"], "trustedIdentities": ["*"]},
            {"name": "none", "registryScopes": ["docker.io/library/alpine"],
             "signatureVerification": {"level": "skip"}}]});
        let statement = &statements["trustPolicies"][0];
        let certificates = json!({"ca:wabbit": fixtures::text("notation/ca.crt")});
        let credential = json!({"statement": statements["trustPolicies"][1], "certificates": certificates});
        let key = fixtures::text("trust/ecdsa-p256.pub");
        let documents = [
            json!({"public_key": key, "name": "ci", "not_before": "2026-01-01T00:00:00Z"}),
            json!({"openpgp": fixtures::text("openpgp/ed25519.asc"), "not_after": "2027-01-01T00:00:00Z"}),
            json!({"keyless": {"issuer": "https://issuer.example", "subject_pattern": "https://github.com/[a-z]+/.*",
                "claims": {"github_workflow_repository": "team/app", "build_trigger": "release"}}}),
            json!({"notation": credential}),
        ];
        let policies = [
            roots::notation_policy("strict", &["ca:wabbit"], json!(["*"])),
            roots::notation_policy("permissive", &["ca:wabbit"], json!([identity])),
            statement.to_string().into_bytes(),
            statements.to_string().into_bytes(),
        ];
        let trusted =
            [fixtures::file("sigstore/trusted_root.json"), fixtures::file("sigstore/public/staging-trusted-root.json")];
        documents.iter().map(|document| document.to_string().into_bytes()).chain(policies).chain(trusted).collect()
    }

    fn run(&self, input: &[u8]) {
        for policy in ["trustpolicy.json", "trustpolicy.oci.json"] {
            let certificate = ("truststore/x509/ca/wabbit/ca.crt", &self.certificate[..]);
            let files = NotationFiles::read([(policy, input), certificate]);
            files.credentials.into_iter().filter(has_stores).for_each(|one| is_kept(&Credential::Notation(one)));
        }
        if let Ok(root) = SigstoreRoot::parse(input) {
            assert!(input.starts_with(b"{") || input[0].is_ascii_whitespace());
            assert_eq!(SigstoreRoot::parse(input).ok(), Some(root));
        }
        if let Ok(document) = SignerDocument::from_json(input) {
            is_kept(&document.credential);
            assert!(document.not_before.zip(document.not_after).is_none_or(|(from, until)| from < until));
        }
    }
}

/// A credential can be given without its certificates by files only.
fn has_stores(credential: &sig_repo::trust::NotationCredential) -> bool {
    let value = serde_json::to_value(credential).expect("a credential can be written");
    let stores = value["statement"]["trustStores"].as_array().map_or(0, Vec::len);
    stores == value["certificates"].as_object().map_or(0, serde_json::Map::len)
}

/// What is written of a credential is read as the same one, whatever it was read from.
fn is_kept(credential: &Credential) {
    let written: Value = serde_json::to_value(credential).expect("a credential can be written");
    let again: Credential = serde_json::from_value(written.clone())
        .unwrap_or_else(|error| panic!("a credential that was written cannot be read: {error}: {written}"));
    assert_eq!((&again, again.id()), (credential, credential.id()), "{written}");
}

sig_repo_fuzz::target!(Policy);
