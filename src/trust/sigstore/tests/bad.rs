//! Good signatures with one thing changed, each refused with the reason of its own.

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::trust::Revocation;

const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

/// Changes one bit in the middle of what stands there in base64.
fn flip(bundle: &mut Value, pointer: &str) {
    change(bundle, pointer, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

fn change(bundle: &mut Value, pointer: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let text = at_pointer(bundle, pointer);
    let mut bytes = STANDARD.decode(text.as_str().unwrap()).unwrap();
    change(&mut bytes);
    *text = STANDARD.encode(bytes).into();
}

/// Changes text of the same length in what stands there in base64.
fn replace(bundle: &mut Value, pointer: &str, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    change(bundle, pointer, |bytes| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("no {from} at {pointer}"));
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    });
}

fn body(bundle: &mut Value, edit: impl FnOnce(&mut Value)) {
    change(bundle, &format!("{ENTRY}/canonicalizedBody"), |bytes| {
        let mut body = serde_json::from_slice(bytes).unwrap();
        edit(&mut body);
        *bytes = serde_json::to_vec(&body).unwrap();
    });
}

fn remove(bundle: &mut Value, pointer: &str, member: &str) {
    at_pointer(bundle, pointer).as_object_mut().unwrap().remove(member).unwrap();
}

fn other(pointer: &str, bundle: &str) -> Value {
    json(bundle).pointer(pointer).unwrap().clone()
}

fn checkpoint(bundle: &mut Value, edit: impl FnOnce(&str) -> String) {
    let envelope = at_pointer(bundle, &format!("{ENTRY}/inclusionProof/checkpoint/envelope"));
    let edited = edit(envelope.as_str().unwrap());
    assert_ne!(envelope, &Value::from(edited.as_str()));
    *envelope = edited.into();
}

#[test]
fn a_keyless_bundle_with_one_thing_changed_is_refused_for_that_thing() {
    type Edit = fn(&mut Value);
    let digest = hex::encode(Digest::sha256(&manifest()).as_bytes());
    let mismatch = |part| SigstoreRejection::LogEntryMismatch { part };
    let cases: Vec<(&str, Edit, Rejection)> = vec![
        ("signature", |b| flip(b, "/dsseEnvelope/signatures/0/sig"), SigstoreRejection::Signature.into()),
        (
            "payload",
            |b| replace(b, "/dsseEnvelope/payload", "\"predicate\":{}", "\"predicate\":[]"),
            SigstoreRejection::Signature.into(),
        ),
        (
            "predicate type",
            |b| replace(b, "/dsseEnvelope/payload", "cosign/sign/v1", "cosign/sign/v2"),
            SigstoreRejection::PredicateType.into(),
        ),
        ("payload type", |b| set(b, "/dsseEnvelope/payloadType", "application/json".into()), Rejection::PayloadType),
        (
            "statement type",
            |b| replace(b, "/dsseEnvelope/payload", "in-toto.io/Statement/v1", "in-toto.io/Statement/v2"),
            Rejection::PayloadType,
        ),
        (
            "certificate of another signer",
            |b| {
                let certificate = "/verificationMaterial/certificate";
                set(b, certificate, other(certificate, "bundle/keyless-github-rekor2-tsa.json"));
            },
            SigstoreRejection::Signature.into(),
        ),
        (
            "certificate's signature",
            |b| {
                change(b, "/verificationMaterial/certificate/rawBytes", |der| *der.last_mut().unwrap() ^= 1);
            },
            SigstoreRejection::Chain.into(),
        ),
        (
            "subject of the certificate",
            |b| replace(b, "/verificationMaterial/certificate/rawBytes", "dev@lab", "dev@lob"),
            SigstoreRejection::Chain.into(),
        ),
        (
            "timestamp of another signature",
            |b| {
                let stamps = "/verificationMaterial/timestampVerificationData";
                set(b, stamps, other(stamps, "bundle/keyless-github-rekor2-tsa.json"));
            },
            SigstoreRejection::TimestampMismatch.into(),
        ),
        (
            "timestamp's signature",
            |b| {
                let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
                change(b, stamp, |der| *der.last_mut().unwrap() ^= 1);
            },
            SigstoreRejection::TimestampInvalid.into(),
        ),
        (
            "time in the timestamp",
            |b| {
                let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
                change(b, stamp, |der| {
                    let time = der.windows(2).position(|window| window == [0x18, 15]).unwrap();
                    der[time + 2 + "YYY".len()] ^= 1;
                });
            },
            SigstoreRejection::TimestampInvalid.into(),
        ),
        (
            "timestamp cut short",
            |b| {
                let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
                change(b, stamp, |der| der.truncate(40));
            },
            SigstoreRejection::TimestampMalformed.into(),
        ),
        (
            "no timestamp",
            |b| remove(b, "/verificationMaterial", "timestampVerificationData"),
            SigstoreRejection::TimeMissing.into(),
        ),
        (
            "no log entry",
            |b| set(b, "/verificationMaterial/tlogEntries", json!([])),
            SigstoreRejection::LogEntryMissing { needed: 1, found: 0 }.into(),
        ),
        (
            "entry of another signature",
            |b| set(b, ENTRY, other(ENTRY, "bundle/attestation-keyless-rekor2-tsa.json")),
            mismatch(EntryPart::Payload).into(),
        ),
        (
            "entry's hash",
            |b| {
                body(b, |body| {
                    let digest = "/spec/hashedRekordV002/data/digest";
                    *body.pointer_mut(digest).unwrap() = STANDARD.encode([0; 32]).into();
                })
            },
            mismatch(EntryPart::Payload).into(),
        ),
        (
            "entry's signature",
            |b| {
                body(b, |body| {
                    let content = "/spec/hashedRekordV002/signature/content";
                    *body.pointer_mut(content).unwrap() = STANDARD.encode(b"another").into();
                })
            },
            mismatch(EntryPart::Signature).into(),
        ),
        (
            "entry's certificate",
            |b| {
                body(b, |body| {
                    let certificate = "/spec/hashedRekordV002/signature/verifier/x509Certificate/rawBytes";
                    *body.pointer_mut(certificate).unwrap() = STANDARD.encode(b"another").into();
                })
            },
            mismatch(EntryPart::Key).into(),
        ),
        (
            "entry's body beside what it is about",
            |b| body(b, |body| body["more"] = 1.into()),
            SigstoreRejection::InclusionProof.into(),
        ),
        ("proof", |b| flip(b, &format!("{ENTRY}/inclusionProof/hashes/0")), SigstoreRejection::InclusionProof.into()),
        ("index", |b| set(b, &format!("{ENTRY}/logIndex"), "0".into()), SigstoreRejection::InclusionProof.into()),
        ("no proof", |b| remove(b, ENTRY, "inclusionProof"), SigstoreRejection::InclusionProofMissing.into()),
        (
            "no proof, and relabelled to a version that needs none",
            |b| {
                set(b, "/mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1".into());
                remove(b, ENTRY, "inclusionProof");
            },
            SigstoreRejection::InclusionProofMissing.into(),
        ),
        (
            "checkpoint of another tree",
            |b| {
                let proof = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint";
                set(b, proof, other(proof, "bundle/keyless-github-rekor2-tsa.json"));
            },
            SigstoreRejection::InclusionProof.into(),
        ),
        (
            "checkpoint's signature",
            |b| {
                checkpoint(b, |text| {
                    let (head, encoded) = text.trim_end().rsplit_once(' ').unwrap();
                    let mut bytes = STANDARD.decode(encoded).unwrap();
                    bytes[30] ^= 1;
                    format!("{head} {}\n", STANDARD.encode(bytes))
                })
            },
            SigstoreRejection::Checkpoint.into(),
        ),
        (
            "checkpoint's origin",
            |b| checkpoint(b, |text| format!("other{}", &text[5..])),
            SigstoreRejection::Checkpoint.into(),
        ),
        ("log that nobody knows", |b| flip(b, &format!("{ENTRY}/logId/keyId")), SigstoreRejection::LogUnknown.into()),
    ];
    let root = lab(Demands::default());
    let good = logged();
    assert!(judge(good.to_string().as_bytes(), &root).is_verified());
    for (name, edit, expected) in cases {
        let mut bundle = good.clone();
        edit(&mut bundle);
        assert_eq!(judge(bundle.to_string().as_bytes(), &root), Outcome::Rejected(expected), "{name}");
    }

    // Of another image: the signature is true, and says nothing of this one.
    let other = Digest::sha256(b"another image");
    let subject = Subject::new(&other, None, None);
    let found = format!("sha256:{digest}").parse().unwrap();
    let outcome = judge_for(good.to_string().as_bytes(), &subject, &root);
    assert_eq!(outcome, rejected(Rejection::SubjectMismatch { found }));
}

/// A trusted root with one thing changed.
fn changed_root(file_name: &str, edit: impl Fn(&mut Value)) -> SigstoreRoot {
    let mut root = json(file_name);
    edit(&mut root);
    SigstoreRoot::parse(root.to_string().as_bytes()).unwrap()
}

/// A log of the second generation that a root lists.
fn rekor_2(root: &mut Value) -> &mut Value {
    let logs = root["tlogs"].as_array_mut().unwrap().iter_mut();
    logs.rev().find(|log| log["publicKey"]["keyDetails"] == "PKIX_ED25519").unwrap()
}

#[test]
fn a_root_that_believes_less_refuses_more() {
    let judge_under = |edit: &dyn Fn(&mut Value)| {
        let root = changed_root("trusted_root.json", edit);
        judge(logged().to_string().as_bytes(), &trust(vec![dev()], vec![root], Demands::default()))
    };
    assert!(judge_under(&|_| ()).is_verified());
    let over = |root: &mut Value, list: &str| {
        let window = &mut root[list][0]["validFor"];
        window["end"] = window["start"].clone();
    };
    let outcome = judge_under(&|root| over(root, "certificateAuthorities"));
    assert_eq!(outcome, rejected(SigstoreRejection::AuthorityTime));
    let outcome = judge_under(&|root| over(root, "timestampAuthorities"));
    let is_time = matches!(outcome, Outcome::Rejected(Rejection::Sigstore(SigstoreRejection::TimestampTime { .. })));
    assert!(is_time, "{outcome:?}");
    let outcome = judge_under(&|root| {
        let window = &mut rekor_2(root)["publicKey"]["validFor"];
        window["end"] = window["start"].clone();
    });
    let is_time = matches!(outcome, Outcome::Rejected(Rejection::Sigstore(SigstoreRejection::LogTime { .. })));
    assert!(is_time, "{outcome:?}");
    for (edit, expected) in [
        ((|root| root["certificateAuthorities"] = json!([])) as fn(&mut Value), SigstoreRejection::Chain),
        (|root| root["timestampAuthorities"] = json!([]), SigstoreRejection::TimestampAuthorityUnknown),
        (|root| rekor_2(root)["logId"]["keyId"] = STANDARD.encode([0; 32]).into(), SigstoreRejection::LogUnknown),
        // Another log's key under this log's name.
        (
            |root| {
                let mut staging = json("public/staging-trusted-root.json");
                rekor_2(root)["publicKey"] = rekor_2(&mut staging)["publicKey"].take();
            },
            SigstoreRejection::Checkpoint,
        ),
        (
            |root| root["ctlogs"] = json("public/staging-trusted-root.json")["ctlogs"].take(),
            SigstoreRejection::SctInvalid,
        ),
    ] {
        assert_eq!(judge_under(&edit), rejected(expected), "{expected}");
    }
}

#[test]
fn a_bundle_of_rekor_1_with_one_thing_changed_is_refused_for_that_thing() {
    type Edit = fn(&mut Value);
    let name = "public/blob-rekor1-tsa.json";
    let signer = keyless(json!({"issuer": "https://github.com/login/oauth", "subject_pattern": ".+@gmail[.]com"}));
    let root = |demands| trust(vec![signer.clone()], vec![SigstoreRoot::public_good()], demands);
    let strict = root(Demands { inclusion_proof: true, ..Demands::default() });
    let root = root(Demands::default());
    let good = json(name);
    let blob = file("public/blob-rekor1-tsa.txt");
    let digest = Digest::sha256(&blob);
    let subject = Subject::new(&digest, Some(&blob), None);
    let judge = |bundle: &[u8], root: &TrustRoot| judge_for(bundle, &subject, root);
    let cases: Vec<(&str, Edit, SigstoreRejection)> = vec![
        (
            "time",
            |b| set(b, &format!("{ENTRY}/integratedTime"), "1764787004".into()),
            SigstoreRejection::SignedEntryTimestamp,
        ),
        (
            "index",
            |b| set(b, &format!("{ENTRY}/logIndex"), "738312749".into()),
            SigstoreRejection::SignedEntryTimestamp,
        ),
        (
            "promise",
            |b| flip(b, &format!("{ENTRY}/inclusionPromise/signedEntryTimestamp")),
            SigstoreRejection::SignedEntryTimestamp,
        ),
        (
            "size",
            |b| set(b, &format!("{ENTRY}/inclusionProof/treeSize"), 616408489.into()),
            SigstoreRejection::Checkpoint,
        ),
        ("root", |b| flip(b, &format!("{ENTRY}/inclusionProof/rootHash")), SigstoreRejection::Checkpoint),
        (
            "index in the proof",
            |b| set(b, &format!("{ENTRY}/inclusionProof/logIndex"), 616408485.into()),
            SigstoreRejection::InclusionProof,
        ),
        ("no proof", |b| remove(b, ENTRY, "inclusionProof"), SigstoreRejection::InclusionProofMissing),
        ("signature", |b| flip(b, "/messageSignature/signature"), SigstoreRejection::Signature),
        (
            "hash",
            |b| set(b, "/messageSignature/messageDigest/digest", STANDARD.encode([0; 32]).into()),
            SigstoreRejection::Blob,
        ),
    ];
    assert!(judge(&file(name), &root).is_verified());
    for (name, edit, expected) in cases {
        let mut bundle = good.clone();
        edit(&mut bundle);
        assert_eq!(judge(bundle.to_string().as_bytes(), &root), rejected(expected), "{name}");
    }

    // Who relabels it to a version where the log's promise is enough has the promise still, and gains
    // nothing where the proof is demanded.
    let mut old = good.clone();
    set(&mut old, "/mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1".into());
    remove(&mut old, ENTRY, "inclusionProof");
    let old = old.to_string();
    assert!(judge(old.as_bytes(), &root).is_verified());
    assert_eq!(judge(old.as_bytes(), &strict), rejected(SigstoreRejection::InclusionProofMissing));

    // Of a log that does not know it yet, or no longer.
    let ended = |root: &mut Value| root["tlogs"][0]["publicKey"]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    let public: Value = serde_json::from_slice(include_bytes!("../public-good.json")).unwrap();
    let mut changed = public.clone();
    ended(&mut changed);
    let changed = SigstoreRoot::parse(changed.to_string().as_bytes()).unwrap();
    let outcome = judge(&file(name), &trust(vec![signer.clone()], vec![changed], Demands::default()));
    let at = at("2025-12-03T18:36:43Z");
    assert_eq!(outcome, rejected(SigstoreRejection::LogTime { at }));
}

/// Version 0.1 had such proofs; its promise is what counts.
#[test]
fn a_proof_without_a_checkpoint_is_as_good_as_none() {
    let bare = |name: &str| {
        let mut bundle = json(name);
        remove(&mut bundle, &format!("{ENTRY}/inclusionProof"), "checkpoint");
        bundle
    };
    let judged = |bundle: &Value, inclusion_proof| {
        let beacon = keyless(json!({"issuer": "https://token.actions.githubusercontent.com", "subject_pattern": ".+"}));
        let demands = Demands { inclusion_proof, ..Demands::default() };
        let root = trust(vec![beacon], vec![SigstoreRoot::public_good()], demands);
        judge_blob(bundle.to_string().as_bytes(), &stated_hash(bundle), &root)
    };
    let mut old = bare("public/blob-v0.1-rekor1.json");
    let links = verified(judged(&old, false), "v0.1").evidence.links;
    assert!(links.iter().any(|link| link.contains("promised entry")), "{links:?}");
    assert_eq!(judged(&old, true), rejected(SigstoreRejection::InclusionProofMissing));
    remove(&mut old, ENTRY, "inclusionPromise");
    assert_eq!(judged(&old, false), rejected(SigstoreRejection::InclusionProofMissing));
    assert_eq!(judged(&bare("public/blob-v0.2-rekor1.json"), false), rejected(Rejection::Malformed));
}

#[test]
fn a_certificate_of_a_log_with_another_key_is_refused() {
    let name = "public/blob-v0.1-rekor1.json";
    let beacon = || {
        keyless(json!({
            "issuer": "https://token.actions.githubusercontent.com",
            "subject_pattern": "https://github.com/sigstore-conformance/.*",
        }))
    };
    let hash = stated_hash(&json(name));
    let judge_under = |root| judge_blob(&file(name), &hash, &trust(vec![beacon()], vec![root], Demands::default()));
    assert!(judge_under(SigstoreRoot::public_good()).is_verified());
    let outcome = judge_under(root_of("public/other-ct-key-trusted-root.json"));
    assert_eq!(outcome, rejected(SigstoreRejection::SctInvalid));

    let root = SigstoreRoot::public_good();
    let bare = &root.timestamp_authorities[0].certificate;
    assert_eq!(sct::verify(bare, &[], &root.certificate_logs.known), Err(SigstoreRejection::SctMissing));
}

#[test]
fn a_certificate_in_no_log_is_refused_where_the_root_has_one() {
    let (root, without) = (root_of("trusted_root.json"), root_without_certificate_logs());
    for name in names("unlogged") {
        let judge_under =
            |root| judge(&file(&format!("unlogged/{name}.json")), &trust(vec![dev()], vec![root], Demands::default()));
        assert_eq!(judge_under(root.clone()), rejected(SigstoreRejection::SctMissing), "{name}");
        assert!(judge_under(without.clone()).is_verified(), "{name}");
    }
}

/// The authority's own key certified these: only what the certificate says, or when, is wrong.
#[test]
fn a_certificate_that_the_authority_does_not_issue_is_refused_for_what_is_wrong_in_it() {
    let root = trust(vec![dev()], vec![root_without_certificate_logs()], Demands { logs: 0, ..Demands::default() });
    let judge_forged = |name: &str| judge(&file(&format!("forged/{name}.json")), &root);
    assert!(judge_forged("true").is_verified());
    let cases = [
        ("early", "certificate-time"),
        ("expired", "certificate-time"),
        ("no-issuer", "identity-missing"),
        ("no-usage", "certificate-usage"),
        ("usage", "certificate-usage"),
    ];
    assert_eq!(names("forged").len(), cases.len() + 1);
    for (name, code) in cases {
        let Outcome::Rejected(rejection) = judge_forged(name) else { panic!("{name} was not rejected") };
        assert_eq!(rejection.code(), code, "{name}");
    }
}

fn root_without_certificate_logs() -> SigstoreRoot {
    let mut root = json("trusted_root.json");
    remove(&mut root, "", "ctlogs");
    SigstoreRoot::parse(root.to_string().as_bytes()).unwrap()
}

#[test]
fn two_entries_of_one_log_are_one_log() {
    let mut bundle = logged();
    let entry = bundle.pointer(ENTRY).unwrap().clone();
    at_pointer(&mut bundle, "/verificationMaterial/tlogEntries").as_array_mut().unwrap().push(entry);
    let bundle = bundle.to_string();
    assert!(judge(bundle.as_bytes(), &lab(Demands::default())).is_verified());
    let two = lab(Demands { logs: 2, ..Demands::default() });
    let expected = SigstoreRejection::LogEntryMissing { needed: 2, found: 1 };
    assert_eq!(judge(bundle.as_bytes(), &two), rejected(expected));
}

#[test]
fn a_key_needs_no_log_but_what_is_there_is_true() {
    let root = lab(Demands::default());
    let demanding = lab(Demands { logs_for_keys: true, ..Demands::default() });
    let logged = file("bundle/key-p256-rekor2-tsa.json");
    let bare = file("bundle/key-p256-none.json");
    assert!(judge(&logged, &demanding).is_verified());
    assert!(judge(&bare, &root).is_verified());
    let expected = SigstoreRejection::LogEntryMissing { needed: 1, found: 0 };
    assert_eq!(judge(&bare, &demanding), rejected(expected));

    let mut changed = json("bundle/key-p256-rekor2-tsa.json");
    body(&mut changed, |body| body["more"] = 1.into());
    assert_eq!(judge(changed.to_string().as_bytes(), &root), rejected(SigstoreRejection::InclusionProof));
    let mut changed = json("bundle/key-p256-rekor2-tsa.json");
    set(&mut changed, ENTRY, other(ENTRY, "bundle/key-p384-rekor2-tsa.json"));
    let outcome = judge(changed.to_string().as_bytes(), &root);
    assert!(matches!(outcome, Outcome::Rejected(Rejection::Sigstore(SigstoreRejection::LogEntryMismatch { .. }))));

    // By another key than the ones that are trusted.
    let only_384 = trust(vec![key("keys/p384.pub")], vec![root_of("trusted_root.json")], Demands::default());
    assert_eq!(judge(&logged, &only_384), rejected(Rejection::NoTrustedKey));
}

#[test]
fn a_signer_who_no_longer_counts_is_named_with_that_reason() {
    let judged = |revoked_at, keeps_earlier| {
        let revoked = Some(Revocation { at: revoked_at, keeps_earlier });
        let root = vec![root_of("trusted_root.json")];
        judge(logged().to_string().as_bytes(), &trust(vec![Signer { revoked, ..dev() }], root, Demands::default()))
    };
    let Outcome::Verified(verified) = judged(Timestamp::MAX, false) else { panic!("it will be revoked") };
    let signed_at = verified.evidence.signed_at.unwrap();
    let expected = rejected(Rejection::SignerRevoked { name: "dev@lab.example".into() });
    let after = signed_at + SignedDuration::from_secs(1);
    assert_eq!(judged(after, false), expected);
    assert_eq!(judged(signed_at, true), expected);
    // The timestamp authority saw it before.
    assert!(judged(after, true).is_verified());
}
