use std::fs;

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

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

#[test]
fn a_token_says_who_saw_what_when() {
    let (bytes, signature, certificate) = stamped();
    let token = TimestampToken::parse(&bytes).unwrap();
    assert_eq!(token.time().to_string(), "2025-12-03T18:36:42Z");
    assert!(token.is_over(&signature) && token.names(&certificate) && token.is_by(&key_of(&certificate)));
    assert!(!token.is_over(b"another signature"));

    // The token alone, without the response around it, is the same.
    let response = Response::from_der(&bytes).unwrap();
    let alone = TimestampToken::parse(&response.token.unwrap().to_der().unwrap()).unwrap();
    assert!(alone.is_over(&signature) && alone.is_by(&key_of(&certificate)));

    let refused = [&bytes[..8], &[2], &bytes[9..]].concat();
    assert_eq!((bytes[8], TimestampToken::parse(&refused).is_none()), (0, true), "not granted");
    for cut in 0..bytes.len() {
        assert!(TimestampToken::parse(&bytes[..cut]).is_none(), "{cut}");
    }
    assert!(TimestampToken::parse(&[&bytes[..], &[0]].concat()).is_none(), "a byte too many");
    assert!(TimestampToken::parse(&vec![0x30; MAX_TOKEN_BYTES + 1]).is_none(), "too large");
    assert!(TimestampToken::parse(&[0x30, 0x80].repeat(10_000)).is_none(), "nested without an end");
    assert!(TimestampToken::parse(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).is_none(), "a boast of its length");
}

#[test]
fn a_time_has_one_form_and_maybe_a_fraction() {
    let time = |text: &str| {
        let value = [&[0x18, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        general_time(AnyRef::from_der(&value).unwrap()).map(|time| time.to_string())
    };
    assert_eq!(time("20240229235959Z").as_deref(), Some("2024-02-29T23:59:59Z"));
    assert_eq!(time("20240229235959.125Z").as_deref(), Some("2024-02-29T23:59:59Z"));
    for wrong in
        ["20230229235959Z", "20240229235959", "202402292359Z", "20240229235959.Z", "2024022923595+Z", "é0240229235959Z"]
    {
        assert_eq!(time(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn nothing_near_a_token_is_true_otherwise_or_panics(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (mut bytes, signature, certificate) = stamped();
        let good = TimestampToken::parse(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Some(token) = TimestampToken::parse(&bytes)
            && token.names(&certificate)
            && token.is_over(&signature)
            && token.is_by(&key_of(&certificate))
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
            let oid = SHA256.push_arc(number).unwrap();
            data.digest_algorithms.insert(AlgorithmIdentifierOwned { oid, parameters: None }).unwrap();
        }
        let content = Any::encode_from(&data).unwrap();
        ContentInfo { content_type: SIGNED_DATA, content }.to_der().unwrap()
    };
    // Nobody signs what algorithms a token says to have used.
    let token = TimestampToken::parse(&with_algorithms(32)).unwrap();
    assert!(token.is_over(&signature) && token.is_by(&key_of(&certificate)));
    assert!(TimestampToken::parse(&with_algorithms(33)).is_none());
}
