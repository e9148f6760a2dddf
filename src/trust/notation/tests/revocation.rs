use std::sync::Arc;

use rcgen::CrlDistributionPoint;
use serde_json::json;

use super::{
    super::{RevocationCheck, RevocationFlaw, Revocations, Status},
    maker::{Maker, payload, protected},
    *,
};
use crate::trust::{Inconclusive, revocation_checks};

const GOOD_OCSP: &[u8] = include_bytes!("../../../../tests/fixtures/notation/good.ocsp");
const REVOKED_OCSP: &[u8] = include_bytes!("../../../../tests/fixtures/notation/revoked.ocsp");
const GOOD_CRL: &[u8] = include_bytes!("../../../../tests/fixtures/notation/good.crl");
const REVOKED_CRL: &[u8] = include_bytes!("../../../../tests/fixtures/notation/revoked.crl");

fn checks(envelope: &[u8], root: &TrustRoot) -> Vec<RevocationCheck> {
    let envelope = Envelope::recognise(envelope, None, &Annotations::new()).unwrap();
    let digest = Digest::sha256(MANIFEST);
    let subject = Subject::new(&digest, Some(MANIFEST), None);
    revocation_checks(&envelope, &subject, root, now())
}

fn check() -> RevocationCheck {
    let [check] = <[_; 1]>::try_from(checks(jws("revocable"), &root(statement()))).unwrap();
    check
}

fn knowing(root: TrustRoot, status: Status) -> TrustRoot {
    let known = Revocations::default().with([(check().id(), status)], now());
    root.with_revocations(Arc::new(known))
}

#[test]
fn what_has_to_be_asked_is_what_the_certificates_of_a_signature_that_counts_otherwise_name() {
    let check = check();
    assert_eq!(check.ocsp_urls(), ["http://revocation.example/ocsp"]);
    assert_eq!(check.crl_urls(), ["http://revocation.example/crl"]);
    let unknown = Outcome::Unknown(Inconclusive::RevocationUnknown);
    for form in [jws("revocable"), cose("revocable")] {
        assert_eq!(outcome(form, &root(statement()), now()), unknown);
    }
    assert_eq!(checks(jws("P-256"), &root(statement())), []);
    // Nobody whom we do not trust has us ask anybody anything.
    let other = root_of(&document(&[statement()]), &[("ca/wabbit", SELF_SIGNED)]);
    assert_eq!(checks(jws("revocable"), &other), []);
    for verification in
        [json!({ "level": "permissive" }), json!({ "level": "strict", "override": { "revocation": "skip" } })]
    {
        let lax = root(statement_with(json!({ "signatureVerification": verification })));
        assert_eq!(checks(jws("revocable"), &lax), []);
        verified(outcome(jws("revocable"), &lax, now()));
    }
}

#[test]
fn pitfall_28_a_revoked_certificate_is_told_by_its_service_and_by_its_list() {
    let (check, now) = (check(), now());
    let statuses = |ocsp, crl| [check.ocsp_status(ocsp, now).unwrap(), check.crl_status(crl, None, now).unwrap()];
    for good in statuses(GOOD_OCSP, GOOD_CRL) {
        let found = verified(outcome(jws("revocable"), &knowing(root(statement()), good), now));
        assert_eq!(found.until, Some(good.until()));
        // An answer holds as long as it says, and then has to be asked for again.
        let stale = outcome(jws("revocable"), &knowing(root(statement()), good), good.until());
        assert_eq!(stale, Outcome::Unknown(Inconclusive::RevocationUnknown));
    }
    for revoked in statuses(REVOKED_OCSP, REVOKED_CRL) {
        let found = rejected(outcome(cose("revocable"), &knowing(root(statement()), revoked), now));
        assert_eq!(found, NotationRejection::Revoked { at: 0 });
        let lax = statement_with(json!({ "signatureVerification": { "level": "permissive" } }));
        verified(outcome(cose("revocable"), &knowing(root(lax), revoked), now));
    }
}

#[test]
fn an_answer_is_of_the_issuer_about_the_certificate_and_for_this_time() {
    let check = check();
    let (before, after) = (now() - SignedDuration::from_hours(1), now() + SignedDuration::from_hours(24 * 8));
    assert_eq!(check.ocsp_status(GOOD_OCSP, after), Err(RevocationFlaw::Stale));
    for time in [before, after] {
        assert_eq!(check.crl_status(GOOD_CRL, None, time), Err(RevocationFlaw::Stale));
    }
    let last = |bytes: &[u8]| {
        let mut changed = bytes.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        changed
    };
    assert_eq!(check.crl_status(&last(GOOD_CRL), None, now()), Err(RevocationFlaw::Signature));
    for (at, bytes) in [(GOOD_OCSP.len() / 8, GOOD_OCSP), (GOOD_OCSP.len() / 4, GOOD_OCSP)] {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        assert!(check.ocsp_status(&changed, now()).is_err(), "{at}");
    }
    // Somebody else's certificate.
    let other = other_check();
    assert_eq!(other.ocsp_status(GOOD_OCSP, now()), Err(RevocationFlaw::OtherCertificate));
    assert_eq!(other.crl_status(GOOD_CRL, None, now()), Err(RevocationFlaw::Signer));
    assert_eq!(check.crl_status(GOOD_CRL, Some(GOOD_CRL), now()), Err(RevocationFlaw::Delta));
    assert_eq!(check.delta_urls(GOOD_CRL), Ok(Vec::new()));
    for garbage in [&b""[..], b"\x30", b"not found", &[0x31; 300]] {
        assert_eq!(check.ocsp_status(garbage, now()), Err(RevocationFlaw::Encoding));
        assert_eq!(check.crl_status(garbage, None, now()), Err(RevocationFlaw::Encoding));
    }
    // `try later`, as a service writes it.
    assert_eq!(check.ocsp_status(&[0x30, 3, 0x0a, 1, 3], now()), Err(RevocationFlaw::Refused));
}

#[test]
fn pitfall_19_answers_are_capped() {
    let check = check();
    let long = vec![0x30; super::super::MAX_OCSP_BYTES + 1];
    assert_eq!(check.ocsp_status(&long, now()), Err(RevocationFlaw::OcspTooLarge));
    let long = vec![0x30; super::super::MAX_CRL_BYTES + 1];
    assert_eq!(check.crl_status(&long, None, now()), Err(RevocationFlaw::CrlTooLarge));
}

#[test]
fn what_was_there_before_the_key_was_in_other_hands_counts_on_an_authentic_word() {
    let maker = naming_a_list();
    let names = ["io.cncf.notary.signingScheme", "io.cncf.notary.authenticSigningTime"];
    let mut header = json!({
        "alg": "ES256",
        "crit": names,
        "cty": "application/vnd.cncf.notary.payload.v1+json",
    });
    header[names[0]] = "notary.x509.signingAuthority".into();
    header[names[1]] = "2026-11-10T00:00:00Z".into();
    let of_authority = maker.sign(&payload(), &header).to_string();
    let of_signer = maker.sign(&payload(), &protected()).to_string();
    for (invalid_since, counts) in [(Some((2026, 11, 15)), true), (Some((2026, 11, 5)), false), (None, false)] {
        let list = maker.revocation_list(invalid_since);
        let knowing = |envelope: &str, store| {
            let root = maker.trusted_as(store);
            let check = checks(envelope.as_bytes(), &root).remove(0);
            let status = check.crl_status(&list, None, now()).unwrap();
            root.with_revocations(Arc::new(Revocations::default().with([(check.id(), status)], now())))
        };
        let found = outcome(of_authority.as_bytes(), &knowing(&of_authority, "signingAuthority"), now());
        assert_eq!(found.is_verified(), counts, "{invalid_since:?}");
        // A signer's own word for the time is nobody else's.
        let found = rejected(outcome(of_signer.as_bytes(), &knowing(&of_signer, "ca"), now()));
        assert_eq!(found, NotationRejection::Revoked { at: 0 });
    }
}

/// About the certificate of somebody whom another root vouches for.
fn other_check() -> RevocationCheck {
    let maker = naming_a_list();
    let signed = maker.sign(&payload(), &protected()).to_string();
    checks(signed.as_bytes(), &maker.trusted()).remove(0)
}

fn naming_a_list() -> Maker {
    let list = || CrlDistributionPoint { uris: vec!["http://other.example/crl".to_owned()] };
    Maker::with(|signer| signer.crl_distribution_points = vec![list()], |_| {}, |_| {})
}
