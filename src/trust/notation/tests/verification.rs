use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose as Purpose, IsCa, KeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

use super::{
    super::{AttributeFlaw, ChainFlaw},
    maker::{Maker, extended, payload, protected, uncritical_key_usage},
    *,
};
use crate::trust::Inconclusive;

#[test]
fn what_notation_signs_counts_in_both_forms_and_with_every_kind_of_key() {
    let both = root_of(
        &document(&[statement_with(json!({
            "signatureVerification": { "level": "strict", "override": { "revocation": "skip" } },
            "trustStores": ["ca:wabbit", "ca:alone"],
        }))]),
        &[("ca/wabbit", CA), ("ca/alone", SELF_SIGNED)],
    );
    for (name, jws, cose) in SIGNED {
        let [by_jws, by_cose] = [jws, cose].map(|envelope| verified(outcome(envelope, &both, now())));
        assert_eq!(by_jws.signer.name, "release", "{name}");
        // The signer is the same in either form, and nobody else.
        assert_eq!(by_jws.identity, by_cose.identity, "{name}");
        assert_ne!(by_jws.payload_hash, by_cose.payload_hash, "{name}");
        let subject = match name {
            "self-signed" => "CN=self-signed,O=Alone\\, Inc.,ST=WA,C=US".to_owned(),
            "revocable" => "CN=revocable,OU=Release,O=Wabbit Networks,L=Seattle,ST=WA,C=US".to_owned(),
            "timestamped" | "labelled" => {
                "CN=signer P-256,OU=Release,O=Wabbit Networks,L=Seattle,ST=WA,C=US".to_owned()
            }
            key => format!("CN=signer {key},OU=Release,O=Wabbit Networks,L=Seattle,ST=WA,C=US"),
        };
        assert_eq!(by_jws.evidence.links[0], format!("signed by {subject}"), "{name}");
        let labels: &[_] = if name == "labelled" { &[("build", "7"), ("tag", "preview-v1")] } else { &[] };
        let found: Vec<_> = by_cose.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, labels, "{name}");
    }
}

#[test]
fn an_outcome_ends_with_the_signature_or_the_first_certificate() {
    let root = root(statement());
    let with_certificate = verified(outcome(jws("P-256"), &root, now())).until.unwrap();
    assert!(with_certificate > now() + SignedDuration::from_hours(24 * 360));
    assert_eq!(rejected(outcome(jws("P-256"), &root, with_certificate)).code(), "notation-certificate-expired");
    let with_signature = verified(outcome(cose("labelled"), &root, now())).until.unwrap();
    assert!(with_signature < now() + SignedDuration::from_hours(24));
    let expired = NotationRejection::Expired { since: with_signature };
    assert_eq!(rejected(outcome(cose("labelled"), &root, with_signature)), expired);
}

/// What one made by `maker` with this payload and header comes to.
fn made(maker: &Maker, payload: &Value, protected: &Value) -> Outcome {
    outcome(maker.sign(payload, protected).to_string().as_bytes(), &maker.trusted(), now())
}

/// Sets one member of an object, or takes it away.
fn with(mut object: Value, path: &str, value: Value) -> Value {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(parent.remove(name)),
        value => drop(parent.insert(name.to_owned(), value)),
    }
    object
}

#[test]
fn pitfall_5_digest_size_and_media_type_of_the_target_all_count() {
    let maker = Maker::new();
    verified(made(&maker, &payload(), &protected()));
    let another = Digest::sha256(b"another image");
    let other_digest = with(payload(), "/targetArtifact/digest", another.to_string().into());
    let mismatch = Outcome::Rejected(Rejection::SubjectMismatch { found: another });
    assert_eq!(made(&maker, &other_digest, &protected()), mismatch);
    let size = MANIFEST.len() as u64;
    let other_size = with(payload(), "/targetArtifact/size", (size + 1).into());
    let expected = NotationRejection::Size { signed: size + 1, actual: size };
    assert_eq!(rejected(made(&maker, &other_size, &protected())), expected);
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let other_type = with(payload(), "/targetArtifact/mediaType", docker.into());
    let actual = "application/vnd.oci.image.manifest.v1+json".to_owned();
    assert_eq!(rejected(made(&maker, &other_type, &protected())), NotationRejection::MediaType { actual });
}

#[test]
fn without_the_manifest_nothing_can_be_said() {
    let envelope = Envelope::recognise(jws("P-256"), None, &Annotations::new()).unwrap();
    let digest = Digest::sha256(MANIFEST);
    let not_held = Outcome::Unknown(Inconclusive::ManifestNotHeld);
    for manifest in [None, Some(b"other bytes".as_slice())] {
        let subject = Subject::new(&digest, manifest, None);
        assert_eq!(verify(&envelope, &subject, &root(statement()), now()), not_held);
    }
}

#[test]
fn pitfall_28_signed_attributes_are_known_critical_and_in_their_place() {
    let maker = Maker::new();
    let scheme = "/io.cncf.notary.signingScheme";
    let critical = |names: &[&str]| with(protected(), "/crit", json!(names));
    let expiring = |header| with(header, "/io.cncf.notary.expiry", "2027-01-01T00:00:00Z".into());
    const SCHEME: &str = "io.cncf.notary.signingScheme";
    const EXPIRY: &str = "io.cncf.notary.expiry";
    for (header, expected) in [
        (with(protected(), "/cty", "text/plain".into()), AttributeFlaw::ContentType),
        (with(protected(), "/cty", Value::Null), AttributeFlaw::ContentType),
        (with(protected(), "/alg", "none".into()), AttributeFlaw::Algorithm),
        (with(protected(), "/alg", "HS256".into()), AttributeFlaw::Algorithm),
        (with(protected(), scheme, "notary.x509.another".into()), AttributeFlaw::SigningScheme),
        (with(protected(), scheme, Value::Null), AttributeFlaw::SigningScheme),
        (critical(&[SCHEME, "example.unknown"]), AttributeFlaw::Critical),
        (critical(&[SCHEME, "alg"]), AttributeFlaw::Critical),
        (with(protected(), "/io.cncf.notary.verificationPlugin", "example".into()), AttributeFlaw::Critical),
        (critical(&[]), AttributeFlaw::NotCritical { name: SCHEME }),
        (with(protected(), "/crit", Value::Null), AttributeFlaw::NotCritical { name: SCHEME }),
        (expiring(protected()), AttributeFlaw::NotCritical { name: EXPIRY }),
        (critical(&[SCHEME, EXPIRY]), AttributeFlaw::Attribute { name: EXPIRY }),
        (
            with(expiring(critical(&[SCHEME, EXPIRY])), "/io.cncf.notary.expiry", "2026-11-26T02:00:00Z".into()),
            AttributeFlaw::ExpiryBeforeSigning,
        ),
        (
            with(protected(), "/io.cncf.notary.signingTime", "yesterday".into()),
            AttributeFlaw::Attribute { name: "io.cncf.notary.signingTime" },
        ),
        (
            with(protected(), "/io.cncf.notary.authenticSigningTime", "2026-11-26T02:00:00Z".into()),
            AttributeFlaw::Attribute { name: "io.cncf.notary.authenticSigningTime" },
        ),
    ] {
        assert_eq!(rejected(made(&maker, &payload(), &header)), expected.into(), "{header}");
    }
    let fine = with(expiring(critical(&[SCHEME, EXPIRY])), "/example.informative", json!({ "any": "thing" }));
    verified(made(&maker, &payload(), &fine));
}

#[test]
fn the_algorithm_follows_the_signers_key() {
    for name in ["PS256", "ES384", "ES512"] {
        let header = with(protected(), "/alg", name.into());
        assert_eq!(rejected(made(&Maker::new(), &payload(), &header)), NotationRejection::Algorithm, "{name}");
    }
}

#[test]
fn any_bit_of_what_is_signed_or_of_the_signature_is_missed() {
    let root = root(statement());
    for form in [jws("P-256"), cose("P-256"), jws("rsa-2048"), cose("P-521")] {
        let envelope = super::super::Envelope::jws(form).or_else(|_| super::super::Envelope::cose(form)).unwrap();
        let signature = envelope.signature.clone();
        // COSE has its parts as bytes, so that they can be found and changed where they are.
        if let Some(at) = form.windows(signature.len()).position(|bytes| bytes == signature) {
            for bit in [0, signature.len() - 1] {
                let mut changed = form.to_vec();
                changed[at + bit] ^= 1;
                assert_eq!(rejected(outcome(&changed, &root, now())), NotationRejection::Signature);
            }
            let mut changed = form.to_vec();
            let name = b"notary.x509";
            let at = changed.windows(name.len()).position(|bytes| bytes == name).unwrap();
            changed[at] ^= 1;
            assert_eq!(rejected(outcome(&changed, &root, now())), AttributeFlaw::SigningScheme.into());
        }
    }
    let maker = Maker::new();
    let signed = maker.sign(&payload(), &protected());
    let other =
        maker.sign(&payload(), &with(protected(), "/io.cncf.notary.signingTime", "2026-11-26T03:00:00Z".into()));
    for part in ["signature", "protected"] {
        let mut mixed = signed.clone();
        mixed[part] = other[part].clone();
        let found = outcome(mixed.to_string().as_bytes(), &maker.trusted(), now());
        assert_eq!(rejected(found), NotationRejection::Signature, "{part}");
    }
}

#[test]
fn a_chain_is_whole_in_order_and_of_certificates_for_this() {
    let chained = |chain: fn(&[Vec<u8>]) -> Vec<Vec<u8>>| {
        let maker = Maker::new();
        let signed = maker.sign_with_chain(&payload(), &protected(), &chain(maker.chain()));
        let root = root_of(
            &document(&[statement()]),
            &[("ca/wabbit", &[maker.chain()[1].clone(), maker.chain()[2].clone()].map(pem).concat())],
        );
        outcome(signed.to_string().as_bytes(), &root, now())
    };
    let of = |maker: Maker| made(&maker, &payload(), &protected());
    let signer = |change: fn(&mut rcgen::CertificateParams)| of(Maker::with(change, |_| {}, |_| {}));
    let key_usage = |at, expected| ChainFlaw::KeyUsage { at, expected };
    let code = ChainFlaw::ExtendedKeyUsage { purpose: "signing code alone" };
    for (found, expected) in [
        (chained(|chain| chain[..2].to_vec()), ChainFlaw::NoRoot),
        (chained(|chain| vec![chain[0].clone(), chain[2].clone()]), ChainFlaw::NotIssued { at: 0 }),
        // The issuer is trusted too, and what stands before it is a root.
        (chained(|chain| vec![chain[0].clone(), chain[2].clone(), chain[1].clone()]), ChainFlaw::RootWithin { at: 1 }),
        (chained(|chain| [chain, &chain[2..]].concat()), ChainFlaw::RootWithin { at: 2 }),
        (
            // Both links are false; that to what is trusted is looked at first, and ends it.
            chained(|chain| vec![chain[0].clone(), Maker::new().chain()[1].clone(), chain[2].clone()]),
            ChainFlaw::NotIssued { at: 1 },
        ),
        (signer(|params| params.key_usages.clear()), key_usage(0, "digitalSignature")),
        (signer(uncritical_key_usage), key_usage(0, "digitalSignature")),
        (signer(|params| params.key_usages.push(KeyUsagePurpose::KeyAgreement)), key_usage(0, "digitalSignature")),
        (signer(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), ChainFlaw::SignerIsAuthority),
        (signer(|params| extended(Purpose::ServerAuth)(params)), code.clone()),
        (signer(|params| extended(Purpose::TimeStamping)(params)), code.clone()),
        (signer(|params| extended(Purpose::Any)(params)), code.clone()),
        (of(Maker::alone(|params| extended(Purpose::EmailProtection)(params))), code),
        (
            of(Maker::with(|_| {}, |params| params.is_ca = IsCa::ExplicitNoCa, |_| {})),
            ChainFlaw::NotAuthority { at: 1 },
        ),
        (
            of(Maker::with(|_| {}, |params| params.key_usages = vec![KeyUsagePurpose::CrlSign], |_| {})),
            key_usage(1, "keyCertSign"),
        ),
        (
            of(Maker::with(|_| {}, |_| {}, |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
            ChainFlaw::PathLength { at: 2 },
        ),
    ] {
        assert_eq!(rejected(found), expected.into());
    }
    for fine in [
        Maker::with(
            extended(Purpose::CodeSigning),
            |params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            },
            |_| {},
        ),
        Maker::with(|params| params.key_usages.push(KeyUsagePurpose::ContentCommitment), |_| {}, |_| {}),
        Maker::alone(|_| {}),
    ] {
        verified(of(fine));
    }
}

fn pem(der: Vec<u8>) -> Vec<u8> {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, &der).unwrap().into_bytes()
}

#[test]
fn certificates_count_within_their_times() {
    let early = Maker::with(|_| {}, |params| params.not_before = date_time_ymd(2027, 1, 1), |_| {});
    let from = "2027-01-01T00:00:00Z".parse().unwrap();
    let found = rejected(made(&early, &payload(), &protected()));
    assert_eq!(found, NotationRejection::CertificateNotYetValid { from });
    let late = Maker::with(|_| {}, |_| {}, |params| params.not_after = date_time_ymd(2026, 2, 1));
    let since = "2026-02-01T00:00:00Z".parse().unwrap();
    assert_eq!(rejected(made(&late, &payload(), &protected())), NotationRejection::CertificateExpired { since });
}

#[test]
fn a_signing_authority_has_its_own_store_and_its_own_time() {
    let header = |at: &str| {
        let header = with(protected(), "/io.cncf.notary.signingScheme", "notary.x509.signingAuthority".into());
        let header = with(header, "/io.cncf.notary.signingTime", Value::Null);
        let header = with(header, "/io.cncf.notary.authenticSigningTime", at.into());
        with(header, "/crit", json!(["io.cncf.notary.signingScheme", "io.cncf.notary.authenticSigningTime"]))
    };
    let maker = Maker::new();
    let signed = |at| maker.sign(&payload(), &header(at)).to_string().into_bytes();
    let by = |store, at, now| outcome(&signed(at), &maker.trusted_as(store), now);
    let at = "2026-11-26T02:00:00Z";
    let good = verified(by("signingAuthority", at, now()));
    assert_eq!((good.evidence.signed_at, good.until), (Some(at.parse().unwrap()), None));
    // It was signed while the certificates were valid, so that they may have expired since.
    verified(by("signingAuthority", at, much_later()));
    let expected = NotationRejection::Store { statement: "release".into(), store: "signingAuthority" };
    assert_eq!(rejected(by("ca", at, now())), expected);
    let before = NotationRejection::SigningTime { at: "2025-01-01T00:00:00Z".parse().unwrap() };
    assert_eq!(rejected(by("signingAuthority", "2025-01-01T00:00:00Z", now())), before);
    let expected = NotationRejection::Store { statement: "release".into(), store: "ca" };
    let unsigned = maker.sign(&payload(), &protected()).to_string();
    assert_eq!(rejected(outcome(unsigned.as_bytes(), &maker.trusted_as("signingAuthority"), now())), expected);
}

#[test]
fn who_is_not_in_the_store_or_not_among_the_identities_is_told_so() {
    let other = root_of(&document(&[statement()]), &[("ca/wabbit", SELF_SIGNED)]);
    let store = NotationRejection::Store { statement: "release".into(), store: "ca" };
    assert_eq!(rejected(outcome(jws("P-256"), &other, now())), store);
    // An intermediate certificate in the store vouches for what it issued.
    verified(outcome(jws("P-256"), &root_of(&document(&[statement()]), &[("ca/wabbit", ISSUER)]), now()));
    let known = |identity: &str| root(statement_with(json!({ "trustedIdentities": [identity] })));
    verified(outcome(jws("P-256"), &known("x509.subject: C=US, ST=WA, O=Wabbit Networks, OU=Release"), now()));
    let identity = NotationRejection::Identity { statement: "release".into() };
    for wrong in ["x509.subject: C=US, ST=WA, O=Wabbit Networks, OU=Test", "x509.subject: C=US, ST=WA, O=Wabbit"] {
        assert_eq!(rejected(outcome(cose("P-256"), &known(wrong), now())), identity, "{wrong}");
    }
}

#[test]
fn a_signer_that_does_not_count_says_why() {
    let mut signers = root(statement()).signers().to_vec();
    signers[0].revoked = Some(crate::trust::Revocation { at: now(), keeps_earlier: false });
    let revoked = Rejection::SignerRevoked { name: "release".into() };
    assert_eq!(outcome(jws("P-256"), &TrustRoot::new(signers), now()), Outcome::Rejected(revoked));
    assert_eq!(rejected(outcome(jws("P-256"), &TrustRoot::default(), now())), NotationRejection::Scope);
}
