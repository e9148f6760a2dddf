use rcgen::CustomExtension;
use serde_json::{Value, json};

use super::{
    super::{NotationFlaw, certificate::CertificateFlaw, envelope::MAX_ENVELOPE_BYTES},
    maker::{Maker, payload, protected},
    *,
};
use crate::trust::{EnvelopeError, Flaw, Format, JsonFlaw};

fn flaw(envelope: &[u8]) -> Option<NotationFlaw> {
    match Envelope::parse(format(envelope), envelope, None, &Annotations::new()) {
        Err(EnvelopeError::Malformed { flaw: Flaw::Notation(flaw) }) => Some(flaw),
        Ok(_) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn format(envelope: &[u8]) -> Format {
    if envelope.first() == Some(&b'{') { Format::NotationJws } else { Format::NotationCose }
}

#[test]
fn envelopes_are_known_by_sight() {
    for (_, jws, cose) in SIGNED {
        for (envelope, expected) in [(jws, Format::NotationJws), (cose, Format::NotationCose)] {
            let recognised = Envelope::recognise(envelope, None, &Annotations::new()).unwrap();
            assert_eq!(recognised.format(), expected);
        }
    }
}

#[test]
fn pitfall_21_json_that_is_doubled_deep_or_not_of_the_form_is_named() {
    let maker = Maker::new();
    let good = || maker.sign(&payload(), &protected());
    let text = good().to_string();
    let envelope = "the envelope";
    let json = |part, flaw| NotationFlaw::Json { part, flaw };
    let member = |part, name| NotationFlaw::Member { part, name };
    let without = |pointer: &str, name: &str| {
        let mut changed = good();
        changed.pointer_mut(pointer).unwrap().as_object_mut().unwrap().remove(name);
        changed.to_string()
    };
    let changed = |pointer: &str, value: Value| {
        let mut changed = good();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let deep = format!("{}{}", "[".repeat(20), "]".repeat(20));
    for (text, expected) in [
        (format!("{text}{text}"), json(envelope, JsonFlaw::Syntax)),
        (text[..text.len() - 1].to_owned(), json(envelope, JsonFlaw::Syntax)),
        (text.replacen('{', r#"{"payload":"","#, 1), json(envelope, JsonFlaw::DuplicateKey)),
        (text.replacen('{', r#"{"Payload":"","#, 1), NotationFlaw::UnknownMember),
        (text.replacen('{', r#"{"signatures":[],"#, 1), NotationFlaw::UnknownMember),
        (text.replacen(r#""x5c":"#, &format!(r#""y":{deep},"x5c":"#), 1), json(envelope, JsonFlaw::TooDeep)),
        (text.replacen(r#""x5c":"#, r#""X5C":[],"x5c":"#, 1), json("the header", JsonFlaw::DuplicateKey)),
        (without("", "payload"), member(envelope, "payload")),
        (without("", "protected"), member(envelope, "protected")),
        (without("", "header"), member(envelope, "header")),
        (without("", "signature"), member(envelope, "signature")),
        (without("/header", "x5c"), member("the header", "x5c")),
        (changed("/signature", json!([])), member(envelope, "signature")),
        (changed("/signature", json!("")), NotationFlaw::NoSignature),
        (changed("/signature", json!("A")), NotationFlaw::Base64 { name: "signature" }),
        (changed("/signature", json!("AB")), NotationFlaw::Base64 { name: "signature" }),
        (changed("/signature", json!("AA==")), NotationFlaw::Base64 { name: "signature" }),
        (changed("/protected", json!("e30=")), NotationFlaw::Base64 { name: "protected" }),
        (changed("/protected", json!("W10")), json("the protected header", JsonFlaw::Syntax)),
        (changed("/header/x5c", json!([])), NotationFlaw::Certificates),
        (changed("/header/x5c", json!([7])), member("the header", "x5c")),
        (changed("/header/x5c", json!(["AA\n=="])), NotationFlaw::Base64 { name: "x5c" }),
        (changed("/header/x5c", json!(["AAAA"])), CertificateFlaw::Encoding.into()),
        (changed("/header/x5c", json!(vec!["AAAA"; 9])), NotationFlaw::Certificates),
    ] {
        assert_eq!(flaw(text.as_bytes()), Some(expected), "{text:.120}");
    }
    assert_eq!(flaw(text.as_bytes()), None);
    let huge = format!("{text}{}", " ".repeat(MAX_ENVELOPE_BYTES));
    assert_eq!(flaw(huge.as_bytes()), Some(NotationFlaw::TooLarge));
}

#[test]
fn a_payload_has_a_target_with_all_its_parts() {
    let maker = Maker::new();
    let target = |name| NotationFlaw::Target { name };
    let digest = Digest::sha256(MANIFEST).to_string();
    for (payload, expected) in [
        (json!([]), target("targetArtifact")),
        (json!({}), target("targetArtifact")),
        (json!({ "targetArtifact": {} }), target("mediaType")),
        (json!({ "targetArtifact": { "mediaType": "a/b", "size": 1 } }), target("digest")),
        (json!({ "targetArtifact": { "mediaType": "a/b", "digest": "sha256:00", "size": 1 } }), target("digest")),
        (json!({ "targetArtifact": { "mediaType": "a/b", "digest": digest, "size": -1 } }), target("size")),
        (json!({ "targetArtifact": { "mediaType": "a/b", "digest": digest, "size": "1" } }), target("size")),
        (
            json!({ "targetArtifact": { "mediaType": "a/b", "digest": digest, "size": 1, "annotations": { "a": 1 } } }),
            target("annotations"),
        ),
    ] {
        let signed = maker.sign(&payload, &protected()).to_string();
        assert_eq!(flaw(signed.as_bytes()), Some(expected), "{payload}");
    }
}

#[test]
fn pitfall_20_a_truncated_envelope_is_refused_and_a_changed_byte_survived() {
    for envelope in [jws("timestamped"), cose("timestamped")] {
        for end in (0..envelope.len()).step_by(5) {
            assert!(Envelope::parse(format(envelope), &envelope[..end], None, &Annotations::new()).is_err(), "{end}");
        }
        let root = stamped_root();
        for at in (0..envelope.len()).step_by(53) {
            let mut changed = envelope.to_vec();
            changed[at] ^= 0x15;
            if let Ok(changed) = Envelope::parse(format(envelope), &changed, None, &Annotations::new()) {
                let digest = Digest::sha256(MANIFEST);
                let subject = Subject::new(&digest, Some(MANIFEST), None);
                // What is not signed may say what it likes, as long as the chain and the timestamp hold.
                drop(verify(&changed, &subject, &root, now()));
            }
        }
    }
}

fn stamped_root() -> TrustRoot {
    let statement = statement_with(json!({ "trustStores": ["ca:wabbit", "tsa:stamps"] }));
    root_of(&document(&[statement]), &[("ca/wabbit", CA), ("tsa/stamps", TSA)])
}

#[test]
fn cose_is_one_tagged_message() {
    let good = cose("P-256");
    let untagged = &good[1..];
    let doubled = [good, good].concat();
    let deep = [&[0xd2, 0x84, 0x40, 0xa1, 0x01][..], &[0x81; 4096], &[0x00, 0x40, 0x40]].concat();
    let boast = [&[0xd2, 0x84, 0x40, 0xa0, 0x5b][..], &[0x7f; 8]].concat();
    for bytes in [untagged, &doubled, &deep, &boast, &[0xd2], &[0xd2, 0x80]] {
        assert_eq!(flaw(bytes), Some(NotationFlaw::Cose), "{:02x?}", &bytes[..bytes.len().min(16)]);
    }
}

#[test]
fn pitfall_20_cose_of_many_values_is_refused_before_it_is_read() {
    // Labels from 1000 on, each with null.
    let map = |labels: u16| {
        let label = |n: u16| [&[0x19][..], &(1000 + n).to_be_bytes(), &[0xf6]].concat();
        [&[0xb9][..], &labels.to_be_bytes(), &(0..labels).flat_map(label).collect::<Vec<_>>()].concat()
    };
    let string = |bytes: &[u8]| [&[0x59][..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let message = |protected: &[u8], unprotected: &[u8]| {
        [&[0xd2, 0x84][..], &string(protected), unprotected, &string(b"{}"), &string(&[1; 64])].concat()
    };
    let few = message(&map(100), &map(100));
    assert_eq!(flaw(&few), Some(NotationFlaw::Certificates));
    for many in [message(&map(100), &map(12_000)), message(&map(12_000), &map(100))] {
        assert_eq!(flaw(&many), Some(NotationFlaw::TooManyItems));
        let recognised = Envelope::recognise(&many, None, &Annotations::new());
        assert_eq!(recognised.unwrap_err(), Flaw::Notation(NotationFlaw::TooManyItems).into());
    }
    // In another spelling of the same list the header would not be where it is looked for.
    let spelled = [&[0xd2, 0x98, 0x04][..], &message(&map(12_000), &map(0))[2..]].concat();
    assert_eq!(flaw(&spelled), Some(NotationFlaw::Cose));
}

#[test]
fn pitfall_45_the_other_s_and_another_agent_make_no_new_signature_and_another_chain_does() {
    let hash = |envelope: &Value| {
        Envelope::recognise(envelope.to_string().as_bytes(), None, &Annotations::new()).unwrap().normalised_hash()
    };
    let maker = Maker::new();
    let good = maker.sign(&payload(), &protected());
    let mut other_s = good.clone();
    other_s["signature"] = negated(good["signature"].as_str().unwrap()).into();
    assert_ne!(other_s, good);
    verified(outcome(other_s.to_string().as_bytes(), &maker.trusted(), now()));
    assert_eq!(hash(&other_s), hash(&good));
    let mut other_agent = good.clone();
    other_agent["header"]["io.cncf.notary.signingAgent"] = "another".into();
    assert_eq!(hash(&other_agent), hash(&good));
    // Whoever sends the signature with a chain that is worth nothing has not sent the good one.
    let mut other_chain = good.clone();
    other_chain["header"]["x5c"].as_array_mut().unwrap().pop();
    assert_ne!(hash(&other_chain), hash(&good));
}

/// The same P-256 signature with order minus s.
fn negated(signature: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = crate::trust::curve::Curve::P256.order();
    let mut borrow = 0;
    for (at, order) in order.iter().enumerate().rev() {
        let difference = i16::from(*order) - i16::from(bytes[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        bytes[32 + at] = difference.rem_euclid(256).to_le_bytes()[0];
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn pitfall_20_certificates_made_to_be_slow_are_refused_before_they_are_read() {
    // A name of a thousand parts in one set, in the order that takes longest to sort.
    let attribute = |n: u16| [&[0x30, 0x0b, 6, 3, 0x55, 4, 3, 0x0c, 4][..], format!("{n:04x}").as_bytes()].concat();
    let set: Vec<u8> = (0..1000).rev().flat_map(attribute).collect();
    let wrapped = |tag: u8, content: &[u8]| {
        [&[tag, 0x82][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    };
    let name = wrapped(0x30, &wrapped(0x31, &set));
    let maker = Maker::new();
    let certificate = wrapped(0x30, &wrapped(0x30, &name));
    let signed = maker.sign_with_chain(&payload(), &protected(), &[certificate]).to_string();
    assert_eq!(flaw(signed.as_bytes()), Some(CertificateFlaw::Encoding.into()));
}

#[test]
fn pitfall_20_a_certificate_of_a_thousand_extensions_is_refused() {
    let with = |count: u64| {
        let extension = |n| CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99, n], vec![5, 0]);
        let maker = Maker::with(|signer| signer.custom_extensions.extend((1..=count).map(extension)), |_| {}, |_| {});
        flaw(maker.sign(&payload(), &protected()).to_string().as_bytes())
    };
    assert_eq!(with(32), None);
    assert_eq!(with(1000), Some(CertificateFlaw::TooManyExtensions.into()));
}
