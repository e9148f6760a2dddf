use base64::{Engine, engine::general_purpose::STANDARD};
use cms::{
    content_info::ContentInfo,
    signed_data::{SignedData, SignerIdentifier},
};
use der::{Any, Decode, Encode};
use serde_json::{Value, json};
use x509_cert::serial_number::SerialNumber;

use super::{super::TimestampFlaw, *};
use crate::trust::TokenFlaw;

const TIMESTAMP: &str = "io.cncf.notary.timestampSignature";

/// A statement that asks for timestamps, over these roots of theirs.
fn stamped(verification: Value, tsa: &[u8]) -> TrustRoot {
    let statement = statement_with(json!({
        "signatureVerification": verification,
        "trustStores": ["ca:wabbit", "tsa:stamps"],
    }));
    root_of(&document(&[statement]), &[("ca/wabbit", CA), ("tsa/stamps", tsa)])
}

fn strict() -> TrustRoot {
    stamped(json!({ "level": "strict" }), TSA)
}

fn flaw(envelope: &[u8], root: &TrustRoot, now: Timestamp) -> TimestampFlaw {
    match rejected(outcome(envelope, root, now)) {
        NotationRejection::Timestamp(flaw) => flaw,
        other => panic!("{other:?}"),
    }
}

fn envelope(name: &str) -> Value {
    serde_json::from_slice(jws(name)).unwrap()
}

fn token() -> Vec<u8> {
    STANDARD.decode(envelope("timestamped")["header"][TIMESTAMP].as_str().unwrap()).unwrap()
}

/// The stamped envelope with this token in the place of its own.
fn with_token(token: &[u8]) -> Vec<u8> {
    let mut changed = envelope("timestamped");
    changed["header"][TIMESTAMP] = STANDARD.encode(token).into();
    changed.to_string().into_bytes()
}

#[test]
fn pitfall_28_an_expired_certificate_counts_with_a_timestamp_and_not_without() {
    let without_stores = root(statement());
    for form in [jws("timestamped"), cose("timestamped")] {
        let before = verified(outcome(form, &strict(), now()));
        let after = verified(outcome(form, &strict(), much_later()));
        let signed_at = after.evidence.signed_at.unwrap();
        assert!(signed_at < now() && signed_at > now() - SignedDuration::from_mins(20), "{signed_at}");
        // With a timestamp that is always looked at, the certificates' end changes nothing.
        assert_eq!((before.evidence.signed_at, before.until, after.until), (Some(signed_at), None, None));
        let expired = rejected(outcome(form, &without_stores, much_later()));
        assert_eq!(expired.code(), "notation-certificate-expired");
        verified(outcome(form, &without_stores, now()));
    }
    assert_eq!(flaw(jws("P-256"), &strict(), now()), TimestampFlaw::Missing);
}

#[test]
fn a_timestamp_may_be_asked_for_only_after_the_certificates_expired() {
    let root = stamped(json!({ "level": "strict", "verifyTimestamp": "afterCertExpiry" }), TSA);
    let before = verified(outcome(jws("timestamped"), &root, now()));
    assert_eq!(before.evidence.signed_at, None);
    let end = before.until.unwrap();
    assert!(verified(outcome(jws("timestamped"), &root, end)).evidence.signed_at.is_some());
    verified(outcome(jws("P-256"), &root, now()));
    assert_eq!(flaw(jws("P-256"), &root, end), TimestampFlaw::Missing);
}

#[test]
fn pitfall_23_only_a_timestamp_of_a_trusted_authority_for_this_signature_counts() {
    let other = stamped(json!({ "level": "strict" }), OTHER_TSA);
    assert_eq!(flaw(jws("timestamped"), &other, now()), TimestampFlaw::Untrusted);
    let mut moved = envelope("P-256");
    moved["header"][TIMESTAMP] = envelope("timestamped")["header"][TIMESTAMP].clone();
    assert_eq!(flaw(moved.to_string().as_bytes(), &strict(), now()), TimestampFlaw::Imprint);
    // Once the authority's own certificates have ended, what it stamped before is as true as it was.
    let end_of_authority = now() + SignedDuration::from_hours(24 * 365 * 11);
    verified(outcome(jws("timestamped"), &strict(), end_of_authority));
}

#[test]
fn pitfall_20_a_token_that_is_changed_cut_or_made_to_be_slow_is_refused() {
    let good = token();
    verified(outcome(&with_token(&good), &strict(), now()));
    let at = |part: &[u8]| good.windows(part.len()).position(|bytes| bytes == part).unwrap();
    let changed = |at: usize| {
        let mut changed = good.clone();
        changed[at] ^= 1;
        flaw(&with_token(&changed), &strict(), now())
    };
    // The time that it states, and its signature's last byte.
    assert_eq!(changed(at(b"20261") + 5), TokenFlaw::Signature.into());
    assert_eq!(changed(good.len() - 1), TokenFlaw::Signature.into());
    for end in (0..good.len()).step_by(61) {
        assert_eq!(flaw(&with_token(&good[..end]), &strict(), now()), TokenFlaw::Encoding.into(), "{end}");
    }
    let numbers = [2, 1, 7].repeat(10_000);
    let set = [&[0x31, 0x82][..], &u16::try_from(numbers.len()).unwrap().to_be_bytes(), &numbers].concat();
    assert_eq!(flaw(&with_token(&set), &strict(), now()), TokenFlaw::Encoding.into());
    for at in (0..good.len()).step_by(19) {
        let mut changed = good.clone();
        changed[at] ^= 0x2a;
        // Whatever the byte was: an answer, and not that it counts unless nothing that counts was changed.
        drop(outcome(&with_token(&changed), &strict(), now()));
    }
}

#[test]
fn a_token_names_the_certificate_that_it_is_signed_with() {
    let info = ContentInfo::from_der(&token()).unwrap();
    let mut data: SignedData = info.content.decode_as().unwrap();
    let mut signers = data.signer_infos.0.into_vec();
    let SignerIdentifier::IssuerAndSerialNumber(named) = &mut signers[0].sid else { panic!() };
    named.serial_number = SerialNumber::new(&[1]).unwrap();
    data.signer_infos = signers.try_into().unwrap();
    let changed = ContentInfo { content: Any::encode_from(&data).unwrap(), ..info }.to_der().unwrap();
    assert_eq!(flaw(&with_token(&changed), &strict(), now()), TimestampFlaw::NoCertificate);
}

#[test]
fn pitfall_27_a_level_that_logs_lets_a_timestamp_pass_and_says_so() {
    let log = json!({ "level": "strict", "override": { "authenticTimestamp": "log" } });
    for (verification, tsa) in [(log, OTHER_TSA), (json!({ "level": "permissive" }), OTHER_TSA)] {
        let found = verified(outcome(jws("timestamped"), &stamped(verification, tsa), much_later()));
        assert_eq!(found.evidence.signed_at, None);
        let expected = format!("passed over: {}", NotationRejection::from(TimestampFlaw::Untrusted));
        assert_eq!(found.evidence.links.last(), Some(&expected));
    }
}
