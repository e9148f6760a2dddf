mod made;

use std::fs;

use jiff::Timestamp;
use proptest::prelude::*;

use self::made::{Made, Owner, packet};
use super::{packet::Packets, *};
use crate::{
    oci::{Digest, OwnNames, RegistryName, Repository},
    trust::{
        Annotations, Credential, Envelope, EnvelopeError, Flaw, Format, JsonFlaw, KeyError, Outcome, Rejection, Signer,
        SignerOrigin, Subject, TrustRoot, Verified,
        fixtures::{MANIFEST, at},
    },
};

/// What gpg and skopeo made; `make.sh` there says how.
fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/fixtures/openpgp/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn keys(name: &str) -> Vec<OpenPgpKey> {
    OpenPgpKey::parse_all(&fixture(&format!("{name}.asc"))).unwrap()
}

fn root(keys: Vec<OpenPgpKey>) -> TrustRoot {
    let signer = |(at_index, key): (usize, OpenPgpKey)| Signer {
        name: format!("signer {at_index}"),
        credential: Credential::OpenPgp(key),
        origin: SignerOrigin::File,
        added: at("2026-01-01T00:00:00Z"),
        not_before: None,
        not_after: None,
        revoked: None,
    };
    TrustRoot::new(keys.into_iter().enumerate().map(signer).collect())
}

fn repository() -> Repository {
    Repository::new(&"docker.io".parse::<RegistryName>().unwrap(), "team/app").unwrap()
}

fn recognised(signature: &[u8]) -> Result<Envelope, EnvelopeError> {
    Envelope::recognise(signature, None, &Annotations::new())
}

fn judged(signature: &[u8], keys: Vec<OpenPgpKey>, now: &str) -> Outcome {
    let (digest, repository) = (Digest::sha256(MANIFEST), repository());
    let subject = Subject::new(&digest, None, Some(&repository));
    crate::trust::verify(&recognised(signature).unwrap(), &subject, &root(keys), at(now))
}

fn verified(signature: &[u8], keys: Vec<OpenPgpKey>, now: &str) -> Verified {
    match judged(signature, keys, now) {
        Outcome::Verified(verified) => verified,
        other => panic!("{other:?}"),
    }
}

/// The code of a rejection.
fn refused(signature: &[u8], keys: Vec<OpenPgpKey>, now: &str) -> &'static str {
    match judged(signature, keys, now) {
        Outcome::Rejected(rejection) => rejection.code(),
        other => panic!("{other:?}"),
    }
}

fn flaw(signature: &[u8]) -> Flaw {
    match recognised(signature) {
        Err(EnvelopeError::Malformed { flaw }) => flaw,
        other => panic!("{other:?}"),
    }
}

const NOW: &str = "2026-12-01T12:00:00Z";

#[test]
fn keys_of_every_kind_verify_what_gpg_signed_with_them() {
    for name in ["rsa2048", "rsa4096", "nistp256", "nistp384", "nistp521", "ed25519"] {
        let signature = fixture(&format!("{name}.gpg"));
        let found = verified(&signature, keys(name), NOW);
        assert_eq!(found.signer.name, "signer 0");
        assert_eq!(found.signer.id, keys(name)[0].id());
        assert_eq!(found.payload_hash[..], *Digest::sha256(&fixture("claim")).as_bytes());
        assert_eq!(found.labels, [("creator".to_owned(), "make.sh".to_owned())].into());
        assert_eq!(found.until, None);
        let link =
            format!("OpenPGP signature for docker.io/team/app:preview-v1 by the key {}", keys(name)[0].fingerprint());
        assert_eq!(found.evidence.links, [link]);
        assert_eq!(found.evidence.signed_at, None, "nobody else vouches for it");
        assert_eq!(refused(&signature, Vec::new(), NOW), "no-trusted-key");
        assert_eq!(refused(&signature, keys("expiring"), NOW), "no-trusted-key");
    }
}

#[test]
fn every_form_of_one_message_is_the_same_signature() {
    let signature = fixture("ed25519.gpg");
    let hash = recognised(&signature).unwrap().normalised_hash();
    for name in ["zlib", "plain", "armoured", "stream"] {
        let other = fixture(&format!("{name}.gpg"));
        let envelope = recognised(&other).unwrap();
        assert_eq!((envelope.format(), envelope.normalised_hash()), (Format::OpenPgp, hash), "{name}");
        assert_eq!(verified(&other, keys("ed25519"), NOW), verified(&signature, keys("ed25519"), NOW), "{name}");
    }
    for name in ["sha384", "sha512", "expires"] {
        let other = fixture(&format!("{name}.gpg"));
        assert_ne!(recognised(&other).unwrap().normalised_hash(), hash, "{name}");
        verified(&other, keys("ed25519"), "2026-01-02T00:00:00Z");
    }
    let beside = Envelope::recognise(&signature, Some(&fixture("claim")), &Annotations::new());
    assert_eq!(beside.unwrap_err(), Flaw::PayloadBeside.into());
}

#[test]
fn what_skopeo_signs_verifies() {
    verified(&fixture("skopeo-standalone.gpg"), keys("ed25519"), NOW);
    let (digest, repository) = (Digest::sha256(&fixture("skopeo-copy.manifest")), repository());
    let subject = Subject::new(&digest, None, Some(&repository));
    let envelope = recognised(&fixture("skopeo-copy.gpg")).unwrap();
    let outcome = crate::trust::verify(&envelope, &subject, &root(keys("rsa4096")), at(NOW));
    assert!(outcome.is_verified(), "{outcome:?}");
}

/// Rows 5 and 6 of the pitfalls.
#[test]
fn a_signature_counts_for_the_image_and_the_repository_that_it_names_and_for_no_other() {
    let signature = fixture("ed25519.gpg");
    let (digest, root) = (Digest::sha256(MANIFEST), root(keys("ed25519")));
    let envelope = recognised(&signature).unwrap();
    let judge = |digest: &Digest, repository: Option<&str>| {
        let repository = repository.map(|name| Repository::parse(name, &"docker.io".parse().unwrap()).unwrap());
        let subject = Subject::new(digest, None, repository.as_ref());
        crate::trust::verify(&envelope, &subject, &root, at(NOW))
    };
    assert!(judge(&digest, None).is_verified());
    assert!(judge(&digest, Some("team/app")).is_verified());
    for other in ["team/other", "registry.example/team/app", "team/app/app"] {
        let mismatch = Rejection::RepositoryMismatch { found: repository() };
        assert_eq!(judge(&digest, Some(other)), Outcome::Rejected(mismatch), "{other}");
    }
    // A name of our own means the registry that we stand in for.
    let names = ["docker.io", "registry.example"].map(|name| name.parse().unwrap());
    let [ours, canonical] = names;
    let root = root.clone().with_own_names(OwnNames::new(vec![ours], canonical));
    let elsewhere = Repository::parse("registry.example/team/app", &"docker.io".parse().unwrap()).unwrap();
    let subject = Subject::new(&digest, None, Some(&elsewhere));
    assert!(crate::trust::verify(&envelope, &subject, &root, at(NOW)).is_verified());
    let other = Digest::sha256(b"another image");
    assert_eq!(judge(&other, None), Outcome::Rejected(Rejection::SubjectMismatch { found: digest }));
    assert_eq!(refused(&fixture("other-repository.gpg"), keys("ed25519"), NOW), "repository-mismatch");
    assert_eq!(refused(&fixture("other-image.gpg"), keys("ed25519"), NOW), "subject-mismatch");
}

#[test]
fn what_is_not_one_signature_over_one_claim_is_refused_by_its_structure() {
    for (name, expected) in [
        ("bzip2", OpenPgpFlaw::Compression),
        ("refused-two", OpenPgpFlaw::SeveralSignatures),
        ("refused-detached", OpenPgpFlaw::Detached),
        ("refused-clear", OpenPgpFlaw::Detached),
        ("refused-encrypted", OpenPgpFlaw::Encrypted),
        ("refused-store", OpenPgpFlaw::Structure),
        ("refused-bomb", OpenPgpFlaw::TooLarge),
    ] {
        let bytes = fixture(&format!("{name}.gpg"));
        let parsed = Envelope::parse(Format::OpenPgp, &bytes, None, &Annotations::new());
        assert_eq!(parsed.unwrap_err(), Flaw::OpenPgp(expected).into(), "{name}");
    }
    for (name, expected) in [
        ("refused-critical", Flaw::PayloadCritical),
        ("refused-identity", Flaw::PayloadCritical),
        ("refused-duplicate", JsonFlaw::DuplicateKey.into()),
        ("refused-reference", Flaw::PayloadReference),
        ("refused-digest", Flaw::PayloadDigest),
        ("refused-text", JsonFlaw::Syntax.into()),
    ] {
        assert_eq!(flaw(&fixture(&format!("{name}.gpg"))), expected, "{name}");
    }
}

#[test]
fn what_is_changed_in_one_thing_is_refused_with_its_own_reason() {
    for (name, expected) in [
        ("refused-SHA1", "openpgp-weak-hash"),
        ("refused-RIPEMD160", "openpgp-weak-hash"),
        ("refused-SHA224", "openpgp-weak-hash"),
        ("refused-textmode", "openpgp-signature-type"),
        ("refused-notation", "openpgp-critical-subpacket"),
        ("refused-type", "payload-type"),
    ] {
        assert_eq!(refused(&fixture(&format!("{name}.gpg")), keys("ed25519"), NOW), expected, "{name}");
    }
    let plain = fixture("plain.gpg");
    let claim = plain.windows(8).position(|at| at == b"critical").unwrap();
    let mut changed = plain.clone();
    // The time in `optional`: nothing else of what is signed leaves the claim as it is.
    let time = plain.windows(10).position(|at| at == b"1767268800").unwrap();
    assert!(time > claim);
    changed[time] = b'2';
    assert_eq!(refused(&changed, keys("ed25519"), NOW), "openpgp-signature-invalid");
    let mut changed = plain.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&changed, keys("ed25519"), NOW), "openpgp-signature-invalid");
}

/// Row 28 of the pitfalls, for these keys: gpg's own.
#[test]
fn keys_and_signatures_end_when_they_say_so() {
    let end = |verified: Verified| verified.until.map(|until| until.to_string());
    let expiring = fixture("expiring.gpg");
    // gpg lets a key end at noon of the day.
    let last = "2027-01-01T11:59:59Z";
    assert_eq!(end(verified(&expiring, keys("expiring"), last)).as_deref(), Some("2027-01-01T12:00:00Z"));
    assert_eq!(keys("expiring")[0].next_change(at(last)), Some(at("2027-01-01T12:00:00Z")));
    assert_eq!(refused(&expiring, keys("expiring"), "2027-01-01T12:00:00Z"), "openpgp-key-expired");
    verified(&expiring, keys("expiring-extended"), "2027-01-01T12:00:00Z");
    assert_eq!(refused(&expiring, keys("expiring-extended"), "2028-01-01T12:00:00Z"), "openpgp-key-expired");
    assert_eq!(keys("expiring")[0].id(), keys("expiring-extended")[0].id(), "one key, whatever its end");
    assert_eq!(refused(&expiring, keys("expiring"), "2026-01-01T11:59:59Z"), "openpgp-key-not-yet-valid");

    let signature = fixture("expires.gpg");
    assert_eq!(
        end(verified(&signature, keys("ed25519"), "2026-01-02T00:00:00Z")).as_deref(),
        Some("2026-01-31T12:00:00Z")
    );
    assert_eq!(refused(&signature, keys("ed25519"), "2026-01-31T12:00:00Z"), "openpgp-signature-expired");

    let revoked = fixture("revoked.gpg");
    verified(&revoked, keys("revoked"), NOW);
    assert_eq!(refused(&revoked, keys("revoked-since"), NOW), "openpgp-key-revoked");
    for both in [["revoked", "revoked-since"], ["revoked-since", "revoked"]] {
        assert_eq!(refused(&revoked, both.map(keys).concat(), NOW), "openpgp-key-revoked", "a copy knows it");
    }
    assert_eq!(refused(&fixture("certifying.gpg"), keys("certifying"), NOW), "openpgp-key-usage");
}

#[test]
fn a_subkey_signs_for_the_key_that_it_is_bound_to() {
    let (first, second) = (fixture("subkey.gpg"), fixture("subkey-revoked.gpg"));
    let found = verified(&first, keys("subkey"), "2026-12-31T00:00:00Z");
    assert_eq!(found.signer.id, keys("subkey")[0].id());
    assert_eq!(found.evidence.links[1], format!("bound as a subkey to {}", keys("subkey")[0].fingerprint()));
    assert_eq!(found.until.unwrap().strftime("%F").to_string(), "2027-01-01");
    assert_eq!(refused(&first, keys("subkey"), "2027-01-02T00:00:00Z"), "openpgp-key-expired");
    verified(&second, keys("subkey"), "2027-01-02T00:00:00Z");
    assert_eq!(refused(&second, keys("subkey-revoked"), NOW), "openpgp-key-revoked");
    verified(&first, keys("subkey-revoked"), NOW);
}

#[test]
fn several_keys_come_in_one_file_armoured_or_not() {
    let both = [keys("rsa2048"), keys("ed25519")].concat();
    assert_eq!(OpenPgpKey::parse_all(&fixture("rsa2048.pgp")).unwrap(), keys("rsa2048"));
    assert_eq!(OpenPgpKey::parse_all(&fixture("several.pgp")).unwrap(), both);
    assert_eq!(OpenPgpKey::parse_all(&fixture("several.asc")).unwrap(), both);
    let windows = String::from_utf8(fixture("several.asc")).unwrap().replace('\n', "\r\n");
    assert_eq!(OpenPgpKey::parse_all(windows.as_bytes()).unwrap(), both);
    assert_eq!(OpenPgpKey::parse_all(both[1].to_armoured().as_bytes()).unwrap(), keys("ed25519"));
    assert_eq!(both[0].user_ids(), ["rsa2048 <rsa2048@registry.example>"]);
    assert_eq!(both.iter().map(OpenPgpKey::algorithm).collect::<Vec<_>>(), ["rsa-2048", "ed25519"]);
    assert_eq!(verified(&fixture("ed25519.gpg"), both, NOW).signer.name, "signer 1");
}

#[test]
fn keys_that_prove_nothing_are_refused_by_name() {
    let error = |bytes: &[u8]| OpenPgpKey::parse_all(bytes).unwrap_err();
    for (name, expected) in [
        ("refused-dsa2048", KeyError::Algorithm),
        ("refused-rsa1024", KeyError::RsaSize { bits: 1024 }),
        ("refused-secp256k1", KeyError::Curve),
    ] {
        match error(&fixture(&format!("{name}.asc"))) {
            OpenPgpKeyError::Key { source, .. } => assert_eq!(source, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let sha1 = error(&fixture("refused-sha1.asc"));
    assert!(matches!(sha1, OpenPgpKeyError::WeakSelfSignature { .. }), "{sha1:?}");
    let good = fixture("rsa2048.pgp");
    let first = Packets::of(&good).next().unwrap().unwrap().body.len() + 3;
    let no_self = error(&good[..first]);
    assert!(matches!(no_self, OpenPgpKeyError::NoSelfSignature { .. }), "{no_self:?}");
    // The tag of a secret key, in the old form of a packet.
    let secret = [&[good[0] ^ (5 ^ 6) << 2], &good[1..]].concat();
    assert_eq!(error(&secret), OpenPgpKeyError::SecretKey);
    let armoured = String::from_utf8(fixture("rsa2048.asc")).unwrap();
    assert_eq!(error(armoured.replace("PUBLIC", "PRIVATE").as_bytes()), OpenPgpKeyError::SecretKey);
    for (bytes, expected) in [
        (b"".to_vec(), OpenPgpFlaw::Packet.into()),
        (b"notes".to_vec(), OpenPgpFlaw::Armour.into()),
        (armoured.replace("-----END", "----END").into_bytes(), OpenPgpFlaw::Armour.into()),
        (armoured.replacen("\n\n", "\n\n!", 1).into_bytes(), OpenPgpFlaw::Armour.into()),
        (good[..good.len() - 1].to_vec(), OpenPgpFlaw::Packet.into()),
        (good[first..].to_vec(), OpenPgpKeyError::OtherPackets),
        (fixture("ed25519.gpg"), OpenPgpKeyError::OtherPackets),
        (good.repeat(65), OpenPgpKeyError::TooManyKeys),
        (vec![0x99; 300_000], OpenPgpKeyError::TooLarge),
    ] {
        assert_eq!(error(&bytes), expected);
    }
}

#[test]
fn what_binds_a_key_must_be_its_own_and_true() {
    let owner = Owner::new(1);
    let other = Owner::new(2);
    let claim = fixture("claim");
    let count = |made: &Made<'_>, by: &Owner| match judged(&by.message(&claim, 2000), made.parsed().unwrap(), NOW) {
        Outcome::Verified(_) => "verified",
        Outcome::Rejected(rejection) => rejection.code(),
        Outcome::Unknown(_) => panic!(),
    };
    let key = || Made::new(&owner, 1000);
    assert_eq!(count(&key().user_id(1000, &[]), &owner), "verified", "flags are not required of a primary key");
    let with = |subpackets: &[(u8, &[u8])]| count(&key().user_id(1000, subpackets), &owner);
    assert_eq!(with(&[(27, &[0x03])]), "verified");
    assert_eq!(with(&[(27, &[0x01])]), "openpgp-key-usage");
    assert_eq!(with(&[(27, &[])]), "openpgp-key-usage");
    assert_eq!(with(&[(9, &[0, 0, 0, 0])]), "verified", "an end at 0 is none");
    assert_eq!(with(&[(9, &[0, 0, 0, 9])]), "openpgp-key-expired");
    assert_eq!(with(&[(3, &[0, 0, 0, 9])]), "openpgp-key-unbound", "the binding has expired");
    // The last word counts, and of one second the one that grants less.
    let ends: &[(u8, &[u8])] = &[(9, &[0, 0, 0, 9])];
    assert_eq!(count(&key().user_id(1000, ends).user_id(1001, &[]), &owner), "verified");
    assert_eq!(count(&key().user_id(1001, ends).user_id(1000, &[]), &owner), "openpgp-key-expired");
    assert_eq!(count(&key().user_id(1000, ends).user_id(1000, &[]), &owner), "openpgp-key-expired");
    assert_eq!(count(&key().user_id(1000, &[]).direct(1001, ends), &owner), "openpgp-key-expired");
    assert_eq!(count(&key().direct(1000, &[]), &owner), "verified");
    // What says something critical that is not known, or is another's, says nothing.
    let nothing = |made: Made<'_>| matches!(made.parsed(), Err(OpenPgpKeyError::NoSelfSignature { .. }));
    assert!(nothing(key()));
    assert!(nothing(key().user_id(1000, &[(0x80 | 99, &[])])));
    assert!(nothing(key().user_id_by(&other, 1000)));
    assert!(nothing(key().user_id(1000, &[]).user_id_revocation(1000)));
    assert_eq!(count(&key().user_id(1000, &[]).user_id_revocation(1000).user_id(1001, &[]), &owner), "verified");
    // A revocation counts whatever it says of its time, and also where it cannot be checked.
    let revoked = |made: Made<'_>| count(&made.user_id(1000, &[]), &owner);
    assert_eq!(revoked(key().revocation(&owner, 4_000_000_000, 8)), "openpgp-key-revoked");
    assert_eq!(revoked(key().revocation(&owner, 1000, 2)), "openpgp-key-revoked", "over SHA-1");
    assert_eq!(revoked(key().raw_signature(&[3, 5, 0x20, 0, 0])), "openpgp-key-revoked", "of version 3");
    assert_eq!(revoked(key().revocation(&other, 1000, 8)), "verified", "anybody can say that");
    assert_eq!(revoked(key().revocation_in_the_name_of_the_key(&other, 1000)), "verified", "it is not true");
    let revoker = [&[0x80, 22][..], &other.key(1000).fingerprint.0].concat();
    let designated = key().revocation(&other, 1000, 8).direct(1000, &[(12, &revoker)]);
    assert_eq!(count(&designated, &owner), "openpgp-key-revoked");

    let subkey = |flags: &[u8], agrees| {
        let made = key().user_id(1000, &[(27, &[0x01])]).subkey(&other, 1500, &[(27, flags)], agrees);
        count(&made, &other)
    };
    assert_eq!(subkey(&[0x02], true), "verified");
    assert_eq!(subkey(&[0x0c], true), "openpgp-key-usage");
    assert_eq!(subkey(&[0x02], false), "openpgp-key-usage", "it does not say that it belongs there");
    let unflagged = key().user_id(1000, &[]).subkey(&other, 1500, &[], true);
    assert_eq!(count(&unflagged, &other), "openpgp-key-usage");
}

#[test]
fn a_signature_made_before_its_key_or_after_now_does_not_count() {
    let owner = Owner::new(1);
    let key = || Made::new(&owner, 1000).user_id(1000, &[]).parsed().unwrap();
    let now = |seconds| Timestamp::from_second(seconds).unwrap().to_string();
    let claim = fixture("claim");
    assert_eq!(refused(&owner.message(&claim, 999), key(), NOW), "openpgp-signature-older-than-key");
    let ahead = owner.message(&claim, 2000);
    verified(&ahead, key(), &now(1700));
    let early = judged(&ahead, key(), &now(1699));
    assert_eq!((early.code(), early.until()), (Some("openpgp-signature-not-yet-valid"), Some(at(&now(1700)))));
    assert_eq!(refused(&owner.message(&claim, 2000), key(), &now(999)), "openpgp-key-not-yet-valid");
    let names_nobody = owner.message_with(&claim, 2000, |_| Vec::new());
    verified(&names_nobody, key(), NOW);
    let twice = owner.message_with(&claim, 2000, |issuer| [issuer, made::subpacket(2, &[0; 4])].concat());
    assert_eq!(flaw(&twice), OpenPgpFlaw::Time.into());
}

/// Row 21 of the pitfalls.
#[test]
fn bombs_and_endless_messages_are_refused() {
    let bomb = |plain: Vec<u8>| {
        let body = [&[1][..], &miniz_oxide::deflate::compress_to_vec(&plain, 9)].concat();
        packet(8, &body)
    };
    let message = Owner::new(1).message(&fixture("claim"), 2000);
    recognised(&bomb(message.clone())).unwrap();
    assert_eq!(flaw(&bomb(vec![0; 64 << 20])), OpenPgpFlaw::TooLarge.into());
    assert_eq!(flaw(&bomb(bomb(message.clone()))), OpenPgpFlaw::Compressed.into(), "compressed twice");
    assert_eq!(flaw(&bomb([&message[..], &message].concat())), OpenPgpFlaw::SeveralSignatures.into());
    assert_eq!(flaw(&bomb(packet(2, &[]).repeat(9_000))), OpenPgpFlaw::SeveralSignatures.into());
    let parse = |bytes: &[u8]| Envelope::parse(Format::OpenPgp, bytes, None, &Annotations::new()).unwrap_err();
    assert_eq!(parse(&vec![0xa8; 1 << 20]), Flaw::OpenPgp(OpenPgpFlaw::TooLarge).into());
    assert_eq!(parse(b""), Flaw::Empty.into());
    let deep = Owner::new(1).message(&[b"{\"critical\":", &b"[".repeat(1000)[..]].concat(), 2000);
    assert_eq!(parse(&deep), Flaw::from(JsonFlaw::TooDeep).into());
}

#[test]
fn no_part_of_a_message_and_no_change_of_it_makes_another_claim_count() {
    for name in ["plain.gpg", "ed25519.gpg", "rsa2048.gpg", "nistp256.gpg", "armoured.gpg"] {
        let key =
            if name.contains("25") || name.contains("2048") { name.split('.').next().unwrap() } else { "ed25519" };
        let good = fixture(name);
        let verdict = verified(&good, keys(key), NOW);
        let root = root(keys(key));
        let (digest, repository) = (Digest::sha256(MANIFEST), repository());
        let subject = Subject::new(&digest, None, Some(&repository));
        let judge = |bytes: &[u8]| {
            let envelope = Envelope::parse(Format::OpenPgp, bytes, None, &Annotations::new()).ok()?;
            match crate::trust::verify(&envelope, &subject, &root, at(NOW)) {
                Outcome::Verified(verified) => Some(verified),
                _ => None,
            }
        };
        for end in 0..good.len() {
            // Armour may end with its line or without.
            assert!(judge(&good[..end]).is_none() || end == good.len() - 1 && name == "armoured.gpg", "{name} {end}");
        }
        assert!(judge(&good.repeat(2)).is_none());
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut changed = good.clone();
                changed[at] ^= 1 << bit;
                // What is not signed may change: names, hints, lengths that come to the same.
                assert!(judge(&changed).is_none_or(|found| found == verdict), "{name} {at} {bit}");
            }
        }
    }
}

#[test]
fn every_reason_has_a_code_of_its_own() {
    let key = keys("ed25519")[0].fingerprint();
    let (since, from) = (at(NOW), at(NOW));
    let all = [
        OpenPgpRejection::WeakHash,
        OpenPgpRejection::SignatureType,
        OpenPgpRejection::CriticalSubpacket,
        OpenPgpRejection::Invalid { key },
        OpenPgpRejection::WeakKey { key },
        OpenPgpRejection::KeyUsage { key },
        OpenPgpRejection::KeyRevoked { key },
        OpenPgpRejection::KeyExpired { key, since },
        OpenPgpRejection::KeyNotYetValid { key, from },
        OpenPgpRejection::KeyUnbound { key },
        OpenPgpRejection::Expired { since },
        OpenPgpRejection::NotYetValid { from },
        OpenPgpRejection::OlderThanKey { key },
    ];
    assert_eq!(all.map(|rejection| rejection.code()), OpenPgpRejection::CODES);
}

proptest! {
    #[test]
    fn nothing_that_is_sent_makes_the_readers_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        at in any::<prop::sample::Index>(),
        end in any::<prop::sample::Index>(),
    ) {
        let (_, _) = (SignedMessage::parse(&bytes).is_ok(), OpenPgpKey::parse_all(&bytes).is_ok());
        for name in ["plain.gpg", "subkey-revoked.asc", "several.pgp"] {
            let mut good = fixture(name);
            let at = at.index(good.len());
            let end = at + end.index(good.len() - at);
            good.splice(at..end, bytes.iter().copied());
            let (_, _) = (SignedMessage::parse(&good).is_ok(), OpenPgpKey::parse_all(&good).is_ok());
        }
    }
}
