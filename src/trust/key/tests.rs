use proptest::prelude::*;

use super::*;
use crate::trust::fixtures::KEYS;

const P256: &str = include_str!("../../../tests/fixtures/trust/ecdsa-p256.pub");

#[test]
fn keys_of_every_accepted_kind_are_read_and_written_alike() {
    for (name, pem) in KEYS {
        let key = PublicKey::from_pem(pem).unwrap();
        let expected = if name == "cosign" { "ecdsa-p256" } else { name };
        assert_eq!(key.algorithm(), expected, "{name}");
        assert_eq!(key.to_pem(), pem, "{name}");
        assert_eq!(PublicKey::from_pem(&format!("\n{}  \r\n", pem.replace('\n', "\r\n"))), Ok(key), "{name}");
    }
}

#[test]
fn the_id_is_the_hash_that_openssl_gives() {
    // openssl pkey -pubin -in FILE -outform DER | sha256sum
    for (name, expected) in [
        ("ecdsa-p256", "a0c7ff2bc80a404a9cdeb4c44f1472477fb16d869cef156e72d9e989116a89ae"),
        ("rsa-2048", "48ec95a2e211445744315f38e6b81656877b6855a7afa23de5322862e4ca7810"),
        ("ed25519", "b7ea479428ab6fa5cf17815e129115a5dbc68ba4b70a3be87df6bd71528e24a5"),
    ] {
        let id = crate::trust::fixtures::key(name).id();
        assert_eq!(id.to_string(), format!("sha256:{expected}"), "{name}");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }
    for text in ["", "sha256:", "sha256:00", &"0".repeat(64), &format!("sha256:{}", "A".repeat(64)), "sha512:00"] {
        assert_eq!(text.parse::<SignerId>(), Err(crate::trust::SignerIdError), "{text}");
    }
}

#[test]
fn keys_of_other_kinds_and_sizes_are_refused_by_name() {
    for (pem, expected) in [
        (include_str!("../../../tests/fixtures/trust/refused-secp256k1.pub"), KeyError::Curve),
        (include_str!("../../../tests/fixtures/trust/refused-explicit.pub"), KeyError::Curve),
        (include_str!("../../../tests/fixtures/trust/refused-compressed.pub"), KeyError::Encoding),
        (include_str!("../../../tests/fixtures/trust/refused-rsa-1024.pub"), KeyError::RsaSize { bits: 1024 }),
        (include_str!("../../../tests/fixtures/trust/refused-rsa-2040.pub"), KeyError::RsaSize { bits: 2040 }),
        (include_str!("../../../tests/fixtures/trust/refused-rsa-8192.pub"), KeyError::RsaSize { bits: 8192 }),
        (include_str!("../../../tests/fixtures/trust/refused-rsa-exponent.pub"), KeyError::RsaExponent),
        (include_str!("../../../tests/fixtures/trust/refused-rsa-pss.pub"), KeyError::Algorithm),
        (include_str!("../../../tests/fixtures/trust/refused-ed448.pub"), KeyError::Algorithm),
        (include_str!("../../../tests/fixtures/trust/refused-pkcs1.pub"), KeyError::OtherPem),
    ] {
        assert_eq!(PublicKey::from_pem(pem).unwrap_err(), expected, "{pem}");
    }
}

#[test]
fn one_key_stands_alone_in_its_file() {
    let other = KEYS[1].1;
    for (text, expected) in [
        (String::new(), KeyError::NotPem),
        ("ssh-ed25519 AAAA".into(), KeyError::NotPem),
        (format!("{P256}{other}"), KeyError::NotAlone),
        (format!("{P256}x"), KeyError::NotAlone),
        (format!("{P256}x-----"), KeyError::NotPem),
        (format!("a comment\n{P256}"), KeyError::NotAlone),
        (P256.replace("-----END PUBLIC KEY-----\n", ""), KeyError::NotAlone),
        (P256.replace("END PUBLIC KEY", "END CERTIFICATE"), KeyError::NotPem),
        (P256.replace("PUBLIC KEY", "PRIVATE KEY"), KeyError::PrivateKey),
        (P256.replace("PUBLIC KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"), KeyError::PrivateKey),
        (format!("{P256}-----BEGIN EC PRIVATE KEY-----\n"), KeyError::PrivateKey),
        (P256.replace("PUBLIC KEY", "CERTIFICATE"), KeyError::Certificate),
        (P256.replace("PUBLIC KEY", "PGP PUBLIC KEY BLOCK"), KeyError::OtherPem),
        (" ".repeat(MAX_PEM_BYTES + 1), KeyError::TooLarge),
    ] {
        assert_eq!(PublicKey::from_pem(&text).unwrap_err(), expected, "{text}");
    }
}

/// The PEM of a good key after `change` has been made to its DER.
fn changed(pem: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (label, mut der) = pem::decode_vec(pem.as_bytes()).unwrap();
    change(&mut der);
    pem::encode_string(label, LineEnding::LF, &der).unwrap()
}

#[test]
fn what_is_no_key_of_its_algorithm_is_refused() {
    let ed25519 = KEYS[6].1;
    let with_point = |point: [u8; 32]| changed(ed25519, |der| der[12..].copy_from_slice(&point));
    let mut identity = [0; 32];
    identity[0] = 1;
    // The identity again, as p + 1: a second spelling that decoders take.
    let mut second_spelling = [0xff; 32];
    (second_spelling[0], second_spelling[31]) = (0xee, 0x7f);
    for (text, expected) in [
        (changed(P256, |der| *der.last_mut().unwrap() ^= 1), KeyError::Invalid),
        (changed(P256, |der| der.push(0)), KeyError::Encoding),
        (changed(P256, |der| der.truncate(der.len() - 1)), KeyError::Encoding),
        (with_point([0; 32]), KeyError::Invalid),
        (with_point(identity), KeyError::Invalid),
        (with_point(second_spelling), KeyError::Invalid),
        (changed(KEYS[3].1, |der| *der.last_mut().unwrap() = 0), KeyError::RsaExponent),
    ] {
        assert_eq!(PublicKey::from_pem(&text).unwrap_err(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(at in 0..KEYS.len(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let text = changed(KEYS[at].1, |der| {
            for (index, byte) in &edits {
                let at = index.index(der.len());
                der[at] = *byte;
            }
        });
        if let Ok(key) = PublicKey::from_pem(&text) {
            // Whatever is accepted is accepted in this one encoding.
            prop_assert_eq!(key.to_pem(), text);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(-----BEGIN [A-Z ]{0,12}-----\n)?\\PC{0,80}(\n-----END [A-Z ]{0,12}-----)?") {
        prop_assert!(PublicKey::from_pem(&text).is_err());
    }
}
