use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::Value;
use spki::AlgorithmIdentifierOwned;

use super::{info::generalized_time, *};

/// A token of a real authority, the signature that it is over, and the authority's certificate.
fn stamped() -> (Vec<u8>, Vec<u8>, Certificate) {
    let json = |name: &str| -> Value {
        let path = format!("{}/tests/fixtures/sigstore/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let bytes = |of: &Value, pointer: &str| STANDARD.decode(of.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
    let bundle = json("public/blob-rekor1-tsa.json");
    let token = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let root: Value = serde_json::from_slice(include_bytes!("../sigstore/public-good.json")).unwrap();
    let certificate = bytes(&root, "/timestampAuthorities/0/certChain/certificates/0/rawBytes");
    (bytes(&bundle, token), bytes(&bundle, "/messageSignature/signature"), Certificate::from_der(&certificate).unwrap())
}

fn key_of(certificate: &Certificate) -> PublicKey {
    PublicKey::from_der(certificate.tbs_certificate.subject_public_key_info.to_der().unwrap()).unwrap()
}

fn is_by(token: &TimestampToken, certificate: &Certificate) -> bool {
    token.check_signer(&certificate.to_der().unwrap(), &key_of(certificate)).is_ok()
}

#[test]
fn a_token_says_who_saw_what_when() {
    let (bytes, signature, certificate) = stamped();
    let token = TimestampToken::parse_granted(&bytes).unwrap();
    assert_eq!(token.time().to_string(), "2025-12-03T18:36:42Z");
    assert!(token.is_over(&signature) && token.names(&certificate) && is_by(&token, &certificate));
    assert!(!token.is_over(b"another signature"));

    // The token alone, without the response around it, is the same.
    let response = Response::from_der(&bytes).unwrap();
    let alone = TimestampToken::parse_granted(&response.token.unwrap().to_der().unwrap()).unwrap();
    assert!(alone.is_over(&signature) && is_by(&alone, &certificate));

    let refused = [&bytes[..8], &[2], &bytes[9..]].concat();
    assert_eq!((bytes[8], TimestampToken::parse_granted(&refused).is_err()), (0, true), "not granted");
    for cut in 0..bytes.len() {
        assert!(TimestampToken::parse_granted(&bytes[..cut]).is_err(), "{cut}");
    }
    assert!(TimestampToken::parse_granted(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
    assert!(TimestampToken::parse_granted(&vec![0x30; MAX_TOKEN_BYTES + 1]).is_err(), "too large");
    assert!(TimestampToken::parse_granted(&[0x30, 0x80].repeat(10_000)).is_err(), "nested without an end");
    assert!(TimestampToken::parse_granted(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).is_err(), "a boast of its length");
}

#[test]
fn a_token_is_by_the_certificate_that_it_was_signed_with_and_by_no_other_with_its_key() {
    let (bytes, _, certificate) = stamped();
    let token = TimestampToken::parse_granted(&bytes).unwrap();
    let key = key_of(&certificate);
    let mut renewed = certificate.clone();
    renewed.tbs_certificate.validity.not_after = renewed.tbs_certificate.validity.not_before;
    assert!(token.names(&renewed));
    assert_eq!(token.check_signer(&renewed.to_der().unwrap(), &key), Err(TokenFlaw::OtherCertificate));
    assert_eq!(token.check_signer(&certificate.to_der().unwrap(), &key), Ok(()));
}

#[test]
fn a_time_has_one_form_and_maybe_a_fraction() {
    let time = |text: &str| generalized_time(text.as_bytes()).map(|time| time.to_string());
    assert_eq!(time("20240229235959Z").as_deref(), Some("2024-02-29T23:59:59Z"));
    assert_eq!(time("20240229235959.125Z").as_deref(), Some("2024-02-29T23:59:59.125Z"));
    for wrong in [
        "20230229235959Z",
        "20240229235959",
        "202402292359Z",
        "20240229235959.Z",
        "2024022923595+Z",
        "é0240229235959Z",
        "20240229235960Z",
        "20240229235959.1234567890Z",
    ] {
        assert_eq!(time(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn nothing_near_a_token_is_true_otherwise_or_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (mut bytes, signature, certificate) = stamped();
        let good = TimestampToken::parse_granted(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(token) = TimestampToken::parse_granted(&bytes)
            && token.names(&certificate)
            && token.is_over(&signature)
            && is_by(&token, &certificate)
        {
            prop_assert_eq!(token.time(), good.time());
        }
    }
}

#[test]
fn a_token_with_a_set_that_takes_long_to_sort_is_not_read() {
    let (bytes, signature, certificate) = stamped();
    let with_algorithms = |count: u32| {
        let token = Response::from_der(&bytes).unwrap().token.unwrap();
        let info: ContentInfo = token.decode_as().unwrap();
        let mut data: SignedData = info.content.decode_as().unwrap();
        for number in 1..count {
            let oid = SIGNED_DATA.push_arc(number).unwrap();
            data.digest_algorithms.insert(AlgorithmIdentifierOwned { oid, parameters: None }).unwrap();
        }
        let content = Any::encode_from(&data).unwrap();
        ContentInfo { content_type: SIGNED_DATA, content }.to_der().unwrap()
    };
    // Nobody signs what algorithms a token says to have used.
    let token = TimestampToken::parse_granted(&with_algorithms(32)).unwrap();
    assert!(token.is_over(&signature) && is_by(&token, &certificate));
    assert_eq!(TimestampToken::parse_granted(&with_algorithms(33)).unwrap_err(), TokenFlaw::Encoding);
}
