use std::collections::BTreeSet;

use super::{super::message::MAX_REHASHED, Subject, *};
use crate::{
    oci::{Algorithm as DigestAlgorithm, Digest, Repository},
    trust::{
        Annotations, Credential, Envelope, EnvelopeError, Format, NotationRejection, Signer, SignerOrigin,
        SigstoreRejection,
        fixtures::{DIGEST, KEYS, MANIFEST, PAYLOAD, Signed, at, digest, key, now, root, signer},
        verify,
    },
};

fn outcome(signed: &Signed, digest: &Digest, manifest: Option<&[u8]>, root: &TrustRoot) -> Outcome {
    let envelope = Envelope::recognise(&signed.file, signed.payload(), &Annotations::new()).unwrap();
    verify(&envelope, &Subject::new(digest, manifest, None), root, now())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Digest::sha256(bytes).as_bytes().try_into().unwrap()
}

fn name_of(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Verified(verified) => Some(&verified.signer.name),
        Outcome::Rejected(_) | Outcome::Unknown(_) => None,
    }
}

#[test]
fn what_openssl_and_cosign_sign_verifies() {
    let accepted = Signed::accepted();
    let seen: BTreeSet<_> = accepted.iter().map(|signed| (signed.key, signed.scheme, signed.over)).collect();
    for over in ["manifest", "payload", "digest"] {
        for (key, _) in KEYS {
            let schemes: &[&str] = match key {
                "ed25519" => &["pure", "ph"],
                "cosign" => &["sha256"],
                _ => &["sha256", "sha384", "sha512"],
            };
            for scheme in schemes {
                assert!(seen.contains(&(key, scheme, over)), "no fixture of {key} {scheme} {over}");
            }
        }
    }
    for signed in accepted {
        let Outcome::Verified(verified) = outcome(&signed, &digest(), Some(MANIFEST), &root()) else {
            panic!("{signed:?}");
        };
        // `build` is a number, and so no label.
        let (signed_bytes, labels): (&[u8], _) = match signed.over {
            "manifest" => (MANIFEST, vec![]),
            "digest" => (DIGEST.as_bytes(), vec![]),
            _ => (PAYLOAD, vec![("tag".to_owned(), "preview-v1".to_owned())]),
        };
        assert_eq!(verified.signer.id, key(signed.key).id());
        assert_eq!(verified.signer.name, format!("{} signer", signed.key));
        assert_eq!(verified.payload_hash, sha256(signed_bytes));
        assert_eq!(verified.labels.into_iter().collect::<Vec<_>>(), labels);
        assert_eq!(verified.until, None);
    }
}

#[test]
fn nothing_verifies_for_another_image_key_or_signature() {
    let other = Digest::sha256(b"another image");
    for signed in Signed::accepted() {
        let for_other = outcome(&signed, &other, Some(b"another image"), &root());
        let expected = match signed.over {
            "payload" => Rejection::SubjectMismatch { found: digest() },
            _ => Rejection::NoTrustedKey,
        };
        assert_eq!(for_other, Outcome::Rejected(expected), "{signed:?}");

        let without = KEYS.into_iter().filter(|(name, _)| *name != signed.key).map(|(name, _)| signer(name));
        let by_others = outcome(&signed, &digest(), Some(MANIFEST), &TrustRoot::new(without.collect()));
        assert_eq!(by_others, Outcome::Rejected(Rejection::NoTrustedKey), "{signed:?}");

        // cosign's is base64, where a bit changed may leave no base64.
        if signed.tool != "cosign-sign-blob" {
            let mut file = signed.file.clone();
            *file.last_mut().unwrap() ^= 1;
            let changed = outcome(&Signed { file, ..signed }, &digest(), Some(MANIFEST), &root());
            assert_eq!(changed, Outcome::Rejected(Rejection::NoTrustedKey));
        }
    }
}

#[test]
fn sha1_and_pss_are_refused_though_true() {
    let refused: Vec<_> = Signed::all().into_iter().filter(|signed| signed.tool == "refused").collect();
    assert_eq!(refused.len(), 3);
    for signed in refused {
        let rejected = outcome(&signed, &digest(), Some(MANIFEST), &root());
        assert_eq!(rejected, Outcome::Rejected(Rejection::NoTrustedKey), "{signed:?}");
    }
}

#[test]
fn without_the_manifest_its_digest_is_enough_where_that_was_signed() {
    let not_held = Outcome::Unknown(Inconclusive::ManifestNotHeld);
    for signed in Signed::accepted() {
        let held = outcome(&signed, &digest(), Some(MANIFEST), &root());
        let expected = match (signed.over, signed.scheme) {
            ("manifest", scheme) if scheme != "sha256" => not_held.clone(),
            _ => held,
        };
        assert_eq!(outcome(&signed, &digest(), None, &root()), expected, "{signed:?}");
    }
}

#[test]
fn of_a_sha512_image_the_sha512_signature_verifies_from_the_digest() {
    let digest = Digest::of(DigestAlgorithm::Sha512, MANIFEST);
    for key in ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"] {
        let from_digest = outcome(&Signed::by_openssl(key, "sha512", "manifest"), &digest, None, &root());
        let from_bytes = outcome(&Signed::by_openssl(key, "sha256", "manifest"), &digest, Some(MANIFEST), &root());
        assert_eq!(name_of(&from_digest), Some(format!("{key} signer").as_str()));
        // The same identity, whichever way it was verified.
        assert_eq!(from_digest, from_bytes);
    }
}

#[test]
fn bytes_that_are_not_the_subjects_count_as_not_held() {
    let signed = Signed::by_openssl("ed25519", "pure", "manifest");
    let other = Digest::sha256(b"another image");
    assert_eq!(outcome(&signed, &other, Some(MANIFEST), &root()), Outcome::Unknown(Inconclusive::ManifestNotHeld));
}

#[test]
fn an_unknown_key_is_said_even_where_the_manifest_is_not_held() {
    let only_p256 = TrustRoot::new(vec![signer("ecdsa-p256")]);
    for key in ["ecdsa-p384", "rsa-2048"] {
        let signed = Signed::by_openssl(key, "sha384", "manifest");
        let rejected = outcome(&signed, &digest(), None, &only_p256);
        assert_eq!(rejected, Outcome::Rejected(Rejection::NoTrustedKey), "{key}");
    }
}

/// A true signature beside a payload that is not what was signed.
fn with_payload(payload: &str) -> Result<Outcome, EnvelopeError> {
    let signed = Signed::by_openssl("ecdsa-p256", "sha256", "payload");
    let envelope = Envelope::recognise(&signed.file, Some(payload.as_bytes()), &Annotations::new())?;
    assert_eq!(envelope.format(), Format::SimpleSigning);
    Ok(verify(&envelope, &Subject::new(&digest(), Some(MANIFEST), None), &root(), now()))
}

#[test]
fn the_payload_is_verified_as_it_came_and_must_name_the_image() {
    let payload = str::from_utf8(PAYLOAD).unwrap();
    assert_eq!(name_of(&with_payload(payload).unwrap()), Some("ecdsa-p256 signer"));
    let another = Digest::sha256(b"another image");
    for (payload, expected) in [
        (format!("{payload} "), Rejection::NoTrustedKey),
        (payload.replace("preview-v1", "preview-v2"), Rejection::NoTrustedKey),
        (payload.replace(DIGEST, &another.to_string()), Rejection::SubjectMismatch { found: another }),
        (payload.replace("cosign container image", "atomic container"), Rejection::PayloadType),
        (payload.replace("cosign container image", "cosign container"), Rejection::PayloadType),
    ] {
        assert_eq!(with_payload(&payload), Ok(Outcome::Rejected(expected)), "{payload}");
    }
}

#[test]
fn a_signature_over_the_manifest_does_not_vouch_for_a_payload() {
    let signed = Signed::by_openssl("ecdsa-p256", "sha256", "manifest");
    let envelope = Envelope::recognise(&signed.file, Some(PAYLOAD), &Annotations::new()).unwrap();
    let rejected = verify(&envelope, &Subject::new(&digest(), Some(MANIFEST), None), &root(), now());
    assert_eq!(rejected, Outcome::Rejected(Rejection::NoTrustedKey));
}

#[test]
fn a_key_that_verifies_and_does_not_count_says_why() {
    let earlier = at("2026-11-01T00:00:00Z");
    let later = at("2026-12-01T00:00:00Z");
    let name = || "ecdsa-p256 signer".to_owned();
    let p256 = || signer("ecdsa-p256");
    for (bad, expected) in [
        (
            Signer { revoked: Some(crate::trust::Revocation { at: earlier, keeps_earlier: false }), ..p256() },
            Rejection::SignerRevoked { name: name() },
        ),
        (Signer { not_before: Some(later), ..p256() }, Rejection::SignerNotYetValid { name: name(), from: later }),
        (Signer { not_after: Some(earlier), ..p256() }, Rejection::SignerExpired { name: name(), since: earlier }),
    ] {
        let root = TrustRoot::new(vec![signer("cosign"), bad]);
        for over in ["manifest", "payload", "digest"] {
            let signed = Signed::by_openssl("ecdsa-p256", "sha256", over);
            for manifest in [None, Some(MANIFEST)] {
                let rejected = outcome(&signed, &digest(), manifest, &root);
                assert_eq!(rejected, Outcome::Rejected(expected.clone()), "{over}");
            }
        }
    }
}

#[test]
fn a_key_revoked_over_the_api_does_not_come_back_with_its_file() {
    let file = signer("ecdsa-p256");
    let api = Signer {
        origin: SignerOrigin::Api,
        revoked: Some(crate::trust::Revocation { at: now(), keeps_earlier: false }),
        name: "ci".into(),
        ..file.clone()
    };
    let signed = Signed::by_openssl("ecdsa-p256", "sha256", "manifest");
    let rejected = outcome(&signed, &digest(), None, &TrustRoot::new(vec![file, api]));
    assert_eq!(rejected, Outcome::Rejected(Rejection::SignerRevoked { name: "ci".into() }));
}

#[test]
fn the_outcome_ends_with_its_signer() {
    let until = at("2026-11-22T12:00:01Z");
    let root = TrustRoot::new(vec![Signer { not_after: Some(until), ..signer("ed25519") }]);
    let signed = Signed::by_openssl("ed25519", "pure", "digest");
    let envelope = Envelope::recognise(&signed.file, None, &Annotations::new()).unwrap();
    let digest = digest();
    let subject = Subject::new(&digest, None, None);
    let Outcome::Verified(verified) = verify(&envelope, &subject, &root, now()) else { panic!() };
    assert_eq!((verified.until, root.next_change(now(), |_| true)), (Some(until), Some(until)));
    let ended = Rejection::SignerExpired { name: "ed25519 signer".into(), since: until };
    assert_eq!(verify(&envelope, &subject, &root, until), Outcome::Rejected(ended));
}

#[test]
fn pitfall_20_what_is_large_is_not_hashed_anew_for_each_signature() {
    use aws_lc_rs::{
        encoding::{AsDer, PublicKeyX509Der},
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
            KeyPair,
        },
    };
    let judged = |algorithm: &'static EcdsaSigningAlgorithm, bytes: usize, takes_large: bool| {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let key = PublicKey::from_der(der.as_ref().to_vec()).unwrap();
        let root = TrustRoot::new(vec![Signer { credential: Credential::PublicKey(key), ..signer("ed25519") }]);
        let root = if takes_large { root.with_large_files() } else { root };
        let manifest = vec![b' '; bytes];
        let signature = pair.sign(&SystemRandom::new(), &manifest).unwrap();
        let envelope = Envelope::recognise(signature.as_ref(), None, &Annotations::new()).unwrap();
        let digest = Digest::sha256(&manifest);
        verify(&envelope, &Subject::new(&digest, Some(&manifest), None), &root, now())
    };
    for (algorithm, bytes, takes_large, expected) in [
        (&ECDSA_P384_SHA384_ASN1_SIGNING, MAX_REHASHED, false, None),
        (&ECDSA_P384_SHA384_ASN1_SIGNING, MAX_REHASHED + 1, false, Some("too-large-to-hash")),
        // Whoever asks about a file of his own waits for it.
        (&ECDSA_P384_SHA384_ASN1_SIGNING, MAX_REHASHED + 1, true, None),
        // The digest is known, and is what was signed.
        (&ECDSA_P256_SHA256_ASN1_SIGNING, MAX_REHASHED + 1, false, None),
    ] {
        assert_eq!(judged(algorithm, bytes, takes_large).code(), expected, "{algorithm:?} {bytes} {takes_large}");
    }
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let name = || "ci".to_owned();
    let rejections = [
        Rejection::NoTrustedKey,
        Rejection::TooLarge,
        Rejection::Malformed,
        Rejection::Unsupported { format: Format::OpenPgp },
        Rejection::SubjectMismatch { found: digest() },
        Rejection::PayloadType,
        Rejection::RepositoryMismatch { found: Repository::new(&"docker.io".parse().unwrap(), "nginx").unwrap() },
        Rejection::SignerRevoked { name: name() },
        Rejection::SignerNotYetValid { name: name(), from: now() },
        Rejection::SignerExpired { name: name(), since: now() },
        Rejection::Expired,
        Rejection::Withdrawn,
    ];
    assert_eq!(rejections.map(|rejection| rejection.code()), Rejection::CODES);
    let inconclusive = [
        Inconclusive::ManifestNotHeld,
        Inconclusive::BudgetSpent,
        Inconclusive::RevocationUnknown,
        Inconclusive::UpstreamFailed,
        Inconclusive::StoreFailed,
    ];
    assert_eq!(inconclusive.map(Inconclusive::code), Inconclusive::CODES);
    let of_formats = || SigstoreRejection::CODES.into_iter().chain(NotationRejection::CODES);
    let all = || Rejection::CODES.into_iter().chain(Inconclusive::CODES).chain(of_formats());
    assert_eq!(all().collect::<BTreeSet<_>>().len(), all().count());
}
