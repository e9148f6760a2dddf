//! What is no bundle, no trusted root, or was made to be slow.

use proptest::prelude::*;

use super::*;

fn flaw(bundle: &[u8]) -> Option<BundleFlaw> {
    match Envelope::parse(Format::SigstoreBundle, bundle, None, &Annotations::new()) {
        Err(EnvelopeError::Malformed { flaw: Flaw::Bundle(flaw) }) => Some(flaw),
        Err(other) => panic!("{other}"),
        Ok(_) => None,
    }
}

#[test]
fn what_is_no_bundle_is_told_which_part_is_wrong() {
    let good = logged();
    let with = |pointer: &str, value: Value| {
        let mut bundle = good.clone();
        set(&mut bundle, pointer, value);
        bundle.to_string()
    };
    let kind = |name| BundleFlaw::Json(MemberFlaw::Kind { name });
    let base64 = |name| BundleFlaw::Json(MemberFlaw::Base64 { name });
    let too_many = |name, limit| BundleFlaw::Json(MemberFlaw::TooMany { name, limit });
    let json_flaw = |flaw| BundleFlaw::Json(MemberFlaw::Json(flaw));
    let entry = "/verificationMaterial/tlogEntries/0";
    let entries = vec![good.pointer(entry).unwrap().clone(); 5];
    let text = good.to_string();
    let hash = STANDARD.encode([0; 32]);
    use crate::trust::JsonFlaw;
    for (name, bundle, expected) in [
        ("cut short", text[..text.len() - 1].to_owned(), json_flaw(JsonFlaw::Syntax)),
        ("doubled", format!("{text}{text}"), json_flaw(JsonFlaw::Syntax)),
        ("deep", format!("{{\"mediaType\":{}", "[".repeat(1000)), json_flaw(JsonFlaw::TooDeep)),
        ("key twice", format!("{{\"mediaType\":\"x\",{}", &text[1..]), json_flaw(JsonFlaw::DuplicateKey)),
        ("key twice but for case", format!("{{\"MediaType\":\"x\",{}", &text[1..]), json_flaw(JsonFlaw::DuplicateKey)),
        ("a list", "[]".to_owned(), kind("bundle")),
        (
            "media type",
            with("/mediaType", "application/vnd.dev.sigstore.bundle.v0.4+json".into()),
            BundleFlaw::MediaType,
        ),
        ("no material", with("/verificationMaterial", Value::Null), kind("verificationMaterial")),
        (
            "no certificate",
            with("/verificationMaterial/certificate", Value::Null),
            BundleFlaw::NotOne { one: "certificate", other: "publicKey" },
        ),
        (
            "certificate not in DER",
            with("/verificationMaterial/certificate/rawBytes", "MAAA".into()),
            BundleFlaw::Certificate(CertificateFlaw::Encoding),
        ),
        (
            "certificate not in base64",
            with("/verificationMaterial/certificate/rawBytes", "M-_A".into()),
            base64("rawBytes"),
        ),
        ("no signature", with("/dsseEnvelope/signatures", json!([])), BundleFlaw::Signatures),
        (
            "two signatures",
            with("/dsseEnvelope/signatures", json!([{"sig": "AAAA"}, {"sig": "AAAA"}])),
            BundleFlaw::Signatures,
        ),
        ("no signature's bytes", with("/dsseEnvelope/signatures/0/sig", "AAAA".into()), BundleFlaw::NotASignature),
        ("payload no JSON", with("/dsseEnvelope/payload", STANDARD.encode("{").into()), json_flaw(JsonFlaw::Syntax)),
        (
            "statement without subject's digest",
            with(
                "/dsseEnvelope/payload",
                STANDARD
                    .encode(
                        r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"x","subject":[{"name":"x"}]}"#,
                    )
                    .into(),
            ),
            kind("digest"),
        ),
        ("too many entries", with("/verificationMaterial/tlogEntries", entries.into()), too_many("tlogEntries", 4)),
        (
            "too many timestamps",
            with(
                "/verificationMaterial/timestampVerificationData/rfc3161Timestamps",
                vec![json!({"signedTimestamp": "AAAA"}); 5].into(),
            ),
            too_many("rfc3161Timestamps", 4),
        ),
        (
            "too many hashes",
            with(&format!("{entry}/inclusionProof/hashes"), vec![hash; 65].into()),
            too_many("hashes", 64),
        ),
        (
            "short hash",
            with(&format!("{entry}/inclusionProof/hashes/0"), "AAAA".into()),
            BundleFlaw::Json(MemberFlaw::Length { name: "hashes", expected: 32 }),
        ),
        ("checkpoint", with(&format!("{entry}/inclusionProof/checkpoint/envelope"), "x".into()), kind("checkpoint")),
        ("entry's kind", with(&format!("{entry}/kindVersion/version"), "0.0.1".into()), kind("kindVersion")),
        (
            "entry of a kind of its own",
            with(
                &format!("{entry}/canonicalizedBody"),
                STANDARD.encode(r#"{"kind":"tuf","apiVersion":"0.0.1","spec":{}}"#).into(),
            ),
            kind("kind"),
        ),
        ("index below zero", with(&format!("{entry}/logIndex"), "-1".into()), kind("logIndex")),
    ] {
        assert_eq!(flaw(bundle.as_bytes()), Some(expected), "{name}");
    }
    let mut both = good.clone();
    both["messageSignature"] = json("blob/keyless-rekor2-tsa.json")["messageSignature"].take();
    let expected = BundleFlaw::NotOne { one: "dsseEnvelope", other: "messageSignature" };
    assert_eq!(flaw(both.to_string().as_bytes()), Some(expected));
    let mut chain = good.clone();
    let material = &mut chain["verificationMaterial"];
    let certificate = material["certificate"].take();
    material["x509CertificateChain"] = json!({"certificates": [certificate]});
    assert_eq!(flaw(chain.to_string().as_bytes()), Some(BundleFlaw::Chain));
}

#[test]
fn a_certificate_with_a_set_that_takes_long_to_sort_is_not_read() {
    use x509_cert::{
        Certificate,
        attr::AttributeTypeAndValue,
        der::{Any, Decode, Encode, Tag, asn1::ObjectIdentifier},
        name::{RdnSequence, RelativeDistinguishedName},
    };
    let bundle = logged();
    let der = STANDARD.decode(bundle["verificationMaterial"]["certificate"]["rawBytes"].as_str().unwrap()).unwrap();
    let with_names = |count: u32| {
        let mut certificate = Certificate::from_der(&der).unwrap();
        let name = |number| AttributeTypeAndValue {
            oid: ObjectIdentifier::new_unwrap("2.5.4").push_arc(number).unwrap(),
            value: Any::new(Tag::Null, []).unwrap(),
        };
        let names = RelativeDistinguishedName::try_from((0..count).map(name).collect::<Vec<_>>()).unwrap();
        certificate.tbs_certificate.subject = RdnSequence(vec![names]);
        let mut bundle = bundle.clone();
        let text = STANDARD.encode(certificate.to_der().unwrap());
        set(&mut bundle, "/verificationMaterial/certificate/rawBytes", text.into());
        flaw(bundle.to_string().as_bytes())
    };
    assert_eq!(with_names(32), None);
    assert_eq!(with_names(33), Some(BundleFlaw::Certificate(CertificateFlaw::Encoding)));
}

#[test]
fn what_is_no_trusted_root_is_told_why() {
    let good = json("trusted_root.json");
    let with = |pointer: &str, value: Value| {
        let mut root = good.clone();
        *root.pointer_mut(pointer).unwrap() = value;
        SigstoreRoot::parse(root.to_string().as_bytes()).unwrap_err()
    };
    assert_eq!(with("/mediaType", "x".into()), SigstoreRootError::MediaType);
    let log = good["tlogs"][0].clone();
    assert_eq!(with("/tlogs", json!([log, log])), SigstoreRootError::SameLogTwice { list: "tlogs" });
    let window = json!({"start": "2026-01-02T00:00:00Z", "end": "2026-01-01T00:00:00Z"});
    assert_eq!(with("/tlogs/0/publicKey/validFor", window), SigstoreRootError::EndsBeforeItBegins);
    let no_start = SigstoreRootError::Json(MemberFlaw::Kind { name: "start" });
    for validity in ["/tlogs/0/publicKey/validFor", "/ctlogs/0/publicKey/validFor", "/timestampAuthorities/0/validFor"]
    {
        assert_eq!(with(validity, json!({"end": "2036-01-02T00:00:00Z"})), no_start, "{validity}");
    }
    let key = with("/tlogs/0/publicKey/rawBytes", "AAAA".into());
    assert!(matches!(key, SigstoreRootError::Key { list: "tlogs", at: 0, .. }), "{key}");
    let authority = good["certificateAuthorities"][0].clone();
    assert_eq!(with("/timestampAuthorities", json!([authority])), SigstoreRootError::NotATimestampSigner { at: 0 });
    let certificate = with("/certificateAuthorities/0/certChain/certificates/1/rawBytes", "MAAA".into());
    assert_eq!(certificate, SigstoreRootError::Certificate { list: "certificateAuthorities", at: 1 });
    let empty = json!({"mediaType": good["mediaType"]}).to_string();
    assert_eq!(SigstoreRoot::parse(empty.as_bytes()).unwrap_err(), SigstoreRootError::Empty);
    assert_eq!(SigstoreRoot::parse(&vec![b' '; MAX_ROOT_BYTES + 1]).unwrap_err(), SigstoreRootError::TooLarge);
    assert!(matches!(SigstoreRoot::parse(b"{}"), Err(SigstoreRootError::Json(_))));

    let mut unknown_key = good.clone();
    for log in unknown_key["tlogs"].as_array_mut().unwrap() {
        log["publicKey"]["keyDetails"] = "ML_DSA_65".into();
    }
    let root = SigstoreRoot::parse(unknown_key.to_string().as_bytes()).unwrap();
    let outcome = judge(&file("bundle/keyless-rekor2-tsa.json"), &trust(vec![dev()], vec![root], Demands::default()));
    assert_eq!(outcome, rejected(SigstoreRejection::LogUnknown), "a log that cannot be read is not as good as none");
}

#[test]
fn a_chain_of_a_bundle_before_v0_3_holds_no_root() {
    let with = |above: &[&str]| {
        let mut bundle = json("public/blob-v0.2-rekor1.json");
        let chain = at_pointer(&mut bundle, "/verificationMaterial/x509CertificateChain/certificates");
        chain.as_array_mut().unwrap().extend(above.iter().map(|der| json!({"rawBytes": der})));
        flaw(bundle.to_string().as_bytes())
    };
    let root = json("trusted_root.json");
    let chain = root.pointer("/certificateAuthorities/0/certChain/certificates").unwrap();
    let [intermediate, root] = [0, 1].map(|at| chain[at]["rawBytes"].as_str().unwrap());
    assert_eq!(with(&[intermediate]), None);
    assert_eq!(with(&[root]), Some(BundleFlaw::RootInChain));
    assert_eq!(with(&[intermediate, root]), Some(BundleFlaw::RootInChain));
    assert_eq!(with(&["MAAA"]), Some(BundleFlaw::Certificate(CertificateFlaw::Encoding)));
}

/// Some clients wrap at another length than 64, or not at all.
#[test]
fn pem_is_read_in_lines_of_any_length_and_is_one_block() {
    let rewrapped = |pem: &str| {
        let lines: Vec<_> = pem.trim().lines().collect();
        format!("{}\n{}\n{}", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1])
    };
    let name = "classic/keyless-rekor1-tsa";
    let payload = file(&format!("{name}/payload.json"));
    let mut annotations: Annotations = serde_json::from_slice(&file(&format!("{name}/annotations.json"))).unwrap();
    let signature = annotations.remove("dev.cosignproject.cosign/signature").unwrap();
    let certificate = annotations.get_mut("dev.sigstore.cosign/certificate").unwrap();
    *certificate = rewrapped(certificate);
    let doubled = format!("{certificate}\n{certificate}");
    let manifest = manifest();
    let digest = Digest::sha256(&manifest);
    let subject = Subject::new(&digest, Some(&manifest), None);
    let envelope = Envelope::recognise(signature.as_bytes(), Some(&payload), &annotations).unwrap();
    verified(verify(&envelope, &subject, &lab(Demands::default()), at(NOW)), name);

    annotations.insert("dev.sigstore.cosign/certificate".to_owned(), doubled);
    let error = Envelope::recognise(signature.as_bytes(), Some(&payload), &annotations).unwrap_err();
    assert!(matches!(error, EnvelopeError::Malformed { flaw: Flaw::Evidence(_) }), "{error}");

    // In a log's entry: it is the signer's certificate, and the entry another than the log has.
    let mut bundle = json("bundle/keyless-rekor1.json");
    let text = at_pointer(&mut bundle, "/verificationMaterial/tlogEntries/0/canonicalizedBody");
    let mut body: Value = serde_json::from_slice(&STANDARD.decode(text.as_str().unwrap()).unwrap()).unwrap();
    let pem = at_pointer(&mut body, "/spec/signatures/0/verifier");
    let certificate = String::from_utf8(STANDARD.decode(pem.as_str().unwrap()).unwrap()).unwrap();
    *pem = STANDARD.encode(rewrapped(&certificate)).into();
    *text = STANDARD.encode(body.to_string()).into();
    let outcome = judge(bundle.to_string().as_bytes(), &lab(Demands::default()));
    assert_eq!(outcome, rejected(SigstoreRejection::InclusionProof));
}

#[test]
fn what_stands_beside_a_classic_signature_is_read_or_refused() {
    let name = "classic/key-p256-tsa";
    let payload = file(&format!("{name}/payload.json"));
    let mut annotations: Annotations = serde_json::from_slice(&file(&format!("{name}/annotations.json"))).unwrap();
    let signature = annotations.remove("dev.cosignproject.cosign/signature").unwrap();
    for (annotation, value) in [
        ("certificate", "x"),
        ("certificate", "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"),
        ("bundle", "{}"),
        ("bundle", "{\"Payload\":{},\"Payload\":{}}"),
        ("rfc3161timestamp", "{\"SignedRFC3161Timestamp\":1}"),
    ] {
        let mut changed = annotations.clone();
        changed.insert(format!("dev.sigstore.cosign/{annotation}"), value.to_owned());
        let error = Envelope::recognise(signature.as_bytes(), Some(&payload), &changed).unwrap_err();
        assert!(matches!(error, EnvelopeError::Malformed { flaw: Flaw::Evidence(_) }), "{annotation}: {error}");
    }
}

#[test]
fn pitfall_20_a_certificate_beside_a_signature_is_no_larger_than_one_in_a_bundle() {
    // Nothing but an extension over and over: how often takes the time.
    let der = |content: &[u8]| {
        [&[0x30, 0x83][..], &u32::try_from(content.len()).unwrap().to_be_bytes()[1..], content].concat()
    };
    let extensions = [0x30, 8, 6, 2, 0x2a, 3, 4, 2, 5, 0].repeat(40_000);
    let too_large = |flaw| assert_eq!(flaw, BundleFlaw::Certificate(CertificateFlaw::TooLarge));
    let pem = |certificate: &[u8]| {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
    };
    let signature = STANDARD.encode([0x30, 6, 2, 1, 1, 2, 1, 1]);
    // As `cosign sign-blob` wrote it before bundles.
    let bundle = json!({"base64Signature": signature, "cert": STANDARD.encode(pem(&der(&extensions)))}).to_string();
    match Envelope::recognise(bundle.as_bytes(), None, &Annotations::new()) {
        Err(EnvelopeError::Malformed { flaw: Flaw::Bundle(flaw) }) => too_large(flaw),
        other => panic!("{other:?}"),
    }
    let beside = |certificate: String| {
        let annotations = Annotations::from([("dev.sigstore.cosign/certificate".to_owned(), certificate)]);
        match Envelope::recognise(signature.as_bytes(), None, &annotations) {
            Err(EnvelopeError::Malformed { flaw }) => flaw,
            other => panic!("{other:?}"),
        }
    };
    match beside(pem(&der(&extensions[..60_000]))) {
        Flaw::Evidence(flaw) => too_large(flaw),
        other => panic!("{other:?}"),
    }
    assert_eq!(beside(pem(&der(&extensions))), Flaw::EvidenceTooLarge);
}

#[test]
fn the_hash_of_a_bundle_is_of_what_it_says_and_not_of_its_spaces() {
    let hash = |bundle: &[u8]| Envelope::recognise(bundle, None, &Annotations::new()).unwrap().normalised_hash();
    let good = logged();
    let pretty = serde_json::to_vec_pretty(&good).unwrap();
    assert_eq!(hash(&pretty), hash(good.to_string().as_bytes()));
    let mut hashes = vec![hash(&pretty)];
    for (pointer, value) in [
        ("/verificationMaterial/tlogEntries/0/logIndex", json!(77)),
        ("/verificationMaterial/tlogEntries/0/inclusionProof/hashes", json!([])),
        ("/verificationMaterial/timestampVerificationData", Value::Null),
        ("/verificationMaterial/tlogEntries", json!([])),
        ("/dsseEnvelope/payloadType", json!("x")),
    ] {
        let mut changed = good.clone();
        set(&mut changed, pointer, value);
        hashes.push(hash(changed.to_string().as_bytes()));
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_near_a_bundle_verifies_otherwise_or_panics(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
        let root = lab(Demands::default());
        let mut bundle = logged().to_string().into_bytes();
        let good = judge(&bundle, &root);
        let at = at.index(bundle.len());
        bundle[at] = byte;
        let outcome = match Envelope::parse(Format::SigstoreBundle, &bundle, None, &Annotations::new()) {
            Ok(_) => judge(&bundle, &root),
            Err(_) => Outcome::Rejected(Rejection::Malformed),
        };
        // A hint, or a field that Rekor 2 leaves unsigned, may change without a change of what is true.
        match (outcome, good) {
            (Outcome::Verified(found), Outcome::Verified(good)) => {
                prop_assert_eq!((found.signer, found.payload_hash), (good.signer, good.payload_hash));
            }
            (Outcome::Rejected(_), _) => {}
            (other, _) => prop_assert!(false, "{:?}", other),
        }
    }
}
