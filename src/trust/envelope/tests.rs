use proptest::prelude::*;

use super::*;
use crate::{
    oci::Digest,
    trust::{
        Outcome, Subject,
        curve::Curve,
        fixtures::{DIGEST, MANIFEST, PAYLOAD, Signed, digest as image, now, root},
        integers::two_integers,
        verify,
    },
};

fn recognised(signature: &[u8], payload: Option<&[u8]>) -> Result<Envelope, EnvelopeError> {
    Envelope::recognise(signature, payload, &Annotations::new())
}

fn flaw(signature: &[u8], payload: Option<&[u8]>) -> Option<Flaw> {
    match recognised(signature, payload) {
        Err(EnvelopeError::Malformed { flaw }) => Some(flaw),
        Err(EnvelopeError::Unsupported { format }) => panic!("{format}"),
        Ok(_) => None,
    }
}

fn unsupported(signature: &[u8]) -> Option<Format> {
    match recognised(signature, None) {
        Err(EnvelopeError::Unsupported { format }) => Some(format),
        Err(EnvelopeError::Malformed { .. }) | Ok(_) => None,
    }
}

#[test]
fn formats_of_later_releases_are_named() {
    let bytes = include_bytes!("../../../tests/fixtures/trust/foreign-dsse.json");
    assert_eq!(unsupported(bytes), Some(Format::Dsse));
    assert_eq!(unsupported(STANDARD.encode(bytes).as_bytes()), Some(Format::Dsse), "as base64");
    let with_payload = recognised(bytes, Some(PAYLOAD)).unwrap_err();
    assert_eq!(with_payload, EnvelopeError::Unsupported { format: Format::Dsse });
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    assert_eq!("pkcs7".parse::<Format>(), Err(UnknownFormat));
}

#[test]
fn what_looks_like_notations_is_told_what_is_wrong_with_it() {
    let jws = r#"{"payload":"eyJ9","protected":"eyJhbGciOiJQUzI1NiJ9","header":{"x5c":["MIIB"]},"signature":"AAAA"}"#;
    let cose = hex::decode("d28443a10126a118215840".to_owned() + &"5a".repeat(64) + "43010203" + "43040506").unwrap();
    let compact = b"eyJhbGciOiJFUzI1NiJ9.eyJ9.AAAA";
    for bytes in [jws.as_bytes(), compact, &cose, &cose[1..]] {
        for given in [bytes, STANDARD.encode(bytes).as_bytes()] {
            let error = recognised(given, None).unwrap_err();
            assert!(matches!(error, EnvelopeError::Malformed { flaw: Flaw::Notation(_) }), "{error}");
        }
    }
    let cut = recognised(&cose[..cose.len() - 1], None).unwrap_err();
    assert_eq!(cut, EnvelopeError::Malformed { flaw: Flaw::NotASignature });
}

#[test]
fn garbage_is_no_signature_of_any_algorithm() {
    let der = Signed::by_openssl("ecdsa-p256", "sha256", "manifest").file;
    let rsa = Signed::by_openssl("rsa-2048", "sha256", "manifest").file;
    let longer = |der: &[u8]| [&[0x30, 0x81], &der[1..]].concat();
    let negative = |der: &[u8]| [&der[..4], &[der[4] | 0x80], &der[5..]].concat();
    let text = "a text of the length of an RSA signature. ".repeat(7);
    for (name, bytes, expected) in [
        ("nothing", vec![], Flaw::Empty),
        ("a word", b"garbage".to_vec(), Flaw::NotASignature),
        ("base64 of a word", STANDARD.encode("garbage").into_bytes(), Flaw::NotASignature),
        ("base64 twice", STANDARD.encode(STANDARD.encode(&der)).into_bytes(), Flaw::NotASignature),
        ("JSON", b"{\"a\":1}".to_vec(), Flaw::NotASignature),
        ("deep JSON", [b"{\"payload\":", &b"[".repeat(1 << 19)[..]].concat(), Flaw::NotASignature),
        ("text", text.into_bytes(), Flaw::NotASignature),
        ("DER cut short", der[..der.len() - 1].to_vec(), Flaw::NotASignature),
        ("DER and a byte", [&der[..], &[0]].concat(), Flaw::NotASignature),
        ("BER length", longer(&der), Flaw::NotASignature),
        ("negative number", negative(&hex::decode("3006020101020101").unwrap()), Flaw::NotASignature),
        ("r of zero", hex::decode("3006020100020101").unwrap(), Flaw::NotASignature),
        ("RSA too short", rsa[1..].to_vec(), Flaw::NotASignature),
        ("RSA too long", rsa.repeat(2)[..].iter().copied().chain([0]).collect(), Flaw::NotASignature),
        ("endless", vec![0xff; MAX_SIGNATURE_BYTES + 1], Flaw::TooLarge),
    ] {
        assert_eq!(flaw(&bytes, None), Some(expected), "{name}");
        assert_eq!(flaw(&bytes, Some(PAYLOAD)), Some(expected), "{name}");
    }
    assert_eq!(flaw(&der, None), None);
    assert_eq!(flaw(&rsa, None), None);
}

#[test]
fn a_payload_that_two_readers_could_read_differently_is_refused() {
    let signature = Signed::by_openssl("ecdsa-p256", "sha256", "payload").file;
    let payload = str::from_utf8(PAYLOAD).unwrap();
    let member = |name| Some(Flaw::PayloadMember { name });
    let json = |flaw| Some(Flaw::PayloadJson(flaw));
    let other = Digest::sha256(b"another image").to_string();
    let optional = |value: &str| payload.replace(r#"{"tag":"preview-v1","build":7}"#, value);
    let image = format!(r#""docker-manifest-digest":"{DIGEST}""#);
    for (text, expected) in [
        (payload.to_owned(), None),
        (format!(" {payload}\n"), None),
        (optional("null"), None),
        (payload.replace(r#","optional":{"tag":"preview-v1","build":7}"#, ""), None),
        (optional(r#"{"tag":"a","Tag":"b"}"#), None),
        (String::new(), json(JsonFlaw::Syntax)),
        (payload[1..].to_owned(), json(JsonFlaw::Syntax)),
        (format!("{payload}{payload}"), json(JsonFlaw::Syntax)),
        (MANIFEST.escape_ascii().to_string(), json(JsonFlaw::Syntax)),
        (str::from_utf8(MANIFEST).unwrap().to_owned(), member("critical")),
        ("[]".to_owned(), member("critical")),
        (format!(r#"{{"critical":{{}},{}"#, &payload[1..]), json(JsonFlaw::DuplicateKey)),
        (format!(r#"{{"Critical":{{}},{}"#, &payload[1..]), json(JsonFlaw::DuplicateKey)),
        (
            payload.replace(&image, &format!(r#"{image},"docker-manifest-digest":"{other}""#)),
            json(JsonFlaw::DuplicateKey),
        ),
        (
            payload.replace(&image, &format!(r#"{image},"Docker-Manifest-Digest":"{other}""#)),
            json(JsonFlaw::DuplicateKey),
        ),
        (
            payload.replace(&image, &format!(r#"{image},"docker-manife\u017ft-digest":"{other}""#)),
            json(JsonFlaw::DuplicateKey),
        ),
        (optional(r#"{"tag":"a","tag":"b"}"#), json(JsonFlaw::DuplicateKey)),
        (optional(&format!("{}{}", "[".repeat(40), "]".repeat(40))), json(JsonFlaw::TooDeep)),
        (optional(&format!("[{}1]", "1,".repeat(10_000))), json(JsonFlaw::TooMany)),
        (optional("\"\""), member("optional")),
        (payload.replace(r#""type":"#, r#""kind":"#), member("type")),
        (payload.replace(r#""type":"cosign container image signature""#, r#""type":1"#), member("type")),
        (payload.replace(r#""image":{"#, r#""picture":{"#), Some(Flaw::PayloadCritical)),
        (payload.replace(r#""type":"#, r#""more":1,"type":"#), Some(Flaw::PayloadCritical)),
        (payload.replace(&image, r#""digest":"""#), member("docker-manifest-digest")),
        (payload.replace("docker-reference", "reference"), member("docker-reference")),
        (payload.replace(DIGEST, &DIGEST.to_uppercase()), Some(Flaw::PayloadDigest)),
        (payload.replace(DIGEST, &DIGEST[..DIGEST.len() - 1]), Some(Flaw::PayloadDigest)),
        (format!("{payload}{}", " ".repeat(MAX_PAYLOAD_BYTES)), Some(Flaw::PayloadTooLarge)),
    ] {
        assert_eq!(flaw(&signature, Some(text.as_bytes())), expected, "{:.400}", text);
    }
}

/// DER of the two numbers, each at full width.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        let sign: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
        let length = u8::try_from(sign.len() + number.len()).unwrap();
        [&[0x02, length], sign, number].concat()
    };
    let body = [integer(r), integer(s)].concat();
    let length = u8::try_from(body.len()).unwrap();
    let header = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [header, body].concat()
}

/// order − s, digit by digit.
fn negated(curve: Curve, s: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut digits: Vec<u8> = curve
        .order()
        .iter()
        .zip(s)
        .rev()
        .map(|(n, s)| {
            let difference = i32::from(*n) - i32::from(*s) - borrow;
            borrow = i32::from(difference < 0);
            u8::try_from(difference + 256 * borrow).unwrap()
        })
        .collect();
    digits.reverse();
    digits
}

#[test]
fn every_variant_of_a_signature_that_verifies_has_one_hash() {
    for (key, curve) in [("ecdsa-p256", Curve::P256), ("ecdsa-p384", Curve::P384), ("ecdsa-p521", Curve::P521)] {
        for over in ["manifest", "payload", "digest"] {
            let signed = Signed::by_openssl(key, "sha256", over);
            let (r, s) = two_integers(&signed.file).unwrap();
            let (r, s) = (curve.scalar(r).unwrap(), curve.scalar(s).unwrap());
            let other = der(&r, &negated(curve, &s));
            assert_eq!(der(&r, &s), signed.file);
            let wrapped = STANDARD.encode(&other).as_bytes().chunks(64).collect::<Vec<_>>().join(&b'\n');
            let original = recognised(&signed.file, signed.payload()).unwrap();
            for variant in [other, wrapped] {
                let variant = recognised(&variant, signed.payload()).unwrap();
                assert_eq!(variant.normalised_hash(), original.normalised_hash());
                let image = image();
                let subject = Subject::new(&image, Some(MANIFEST), None);
                let outcome = verify(&variant, &subject, &root(), now());
                assert_eq!(outcome, verify(&original, &subject, &root(), now()));
                assert!(matches!(outcome, Outcome::Verified(_)), "{key} {over}: {outcome:?}");
            }
        }
    }
}

#[test]
fn different_signatures_have_different_hashes() {
    let mut hashes: Vec<_> = Signed::accepted()
        .into_iter()
        .map(|signed| recognised(&signed.file, signed.payload()).unwrap().normalised_hash())
        .collect();
    let signed = Signed::by_openssl("ecdsa-p256", "sha256", "payload");
    hashes.push(recognised(&signed.file, None).unwrap().normalised_hash());
    let count = hashes.len();
    hashes.sort();
    hashes.dedup();
    // RSA and Ed25519 sign alike by whatever tool: three of each came twice.
    assert_eq!(hashes.len(), count - 6);
}

proptest! {
    #[test]
    fn random_bytes_of_a_signatures_length_are_left_to_be_one(seed in prop::collection::vec(any::<u8>(), 512), at in 0..4_usize) {
        let bytes = &seed[..[64, 256, 384, 512][at]];
        let envelope = recognised(bytes, None).map(|envelope| envelope.format());
        prop_assert_eq!(envelope, Ok(Format::Raw));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(signature in prop::collection::vec(any::<u8>(), 0..600), payload in prop::option::of("\\PC{0,200}")) {
        let recognised = recognised(&signature, payload.as_ref().map(|payload| payload.as_bytes()));
        prop_assert!(payload.is_none() || recognised.is_err());
    }

    #[test]
    fn nothing_near_a_format_makes_the_reader_panic(
        head in prop::sample::select(vec![&b"\xd2\x84"[..], b"\x84\x9b", b"\xc2\xff", b"\xa3\x01", b"\x90\x0d\x03", b"\x30\x44\x02", b"\x9a\xff\xff\xff\xff", b"{\"payload\":", b"\xc4\xc0"]),
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = [head, &rest].concat();
        let recognised = recognised(&bytes, Some(b"{}"));
        prop_assert!(recognised.is_err());
    }

    #[test]
    fn nothing_near_a_fixture_verifies_or_panics(at in any::<prop::sample::Index>(), index in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut all = Signed::accepted();
        let mut signed = all.swap_remove(at.index(all.len()));
        let changed = index.index(signed.file.len());
        signed.file[changed] ^= 1_u8 << bit;
        if let Ok(envelope) = recognised(&signed.file, signed.payload()) {
            let outcome = verify(&envelope, &Subject::new(&image(), Some(MANIFEST), None), &root(), now());
            prop_assert!(matches!(outcome, Outcome::Rejected(_)), "{:?}", outcome);
        }
    }

    #[test]
    fn nothing_near_a_payload_verifies_or_panics(index in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let signed = Signed::by_openssl("ed25519", "pure", "payload");
        let mut payload = PAYLOAD.to_vec();
        let at = index.index(payload.len());
        prop_assume!(payload[at] != byte);
        payload[at] = byte;
        if let Ok(envelope) = recognised(&signed.file, Some(&payload)) {
            let outcome = verify(&envelope, &Subject::new(&image(), Some(MANIFEST), None), &root(), now());
            prop_assert!(matches!(outcome, Outcome::Rejected(_)), "{:?}", outcome);
        }
    }
}
