//! What `tests/fixtures/trust` holds, for the tests of this module.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;

use super::{Credential, PublicKey, Signer, SignerOrigin, TrustRoot};
use crate::oci::Digest;

pub(super) const MANIFEST: &[u8] = include_bytes!("../../tests/fixtures/trust/manifest");
pub(super) const PAYLOAD: &[u8] = include_bytes!("../../tests/fixtures/trust/payload");
pub(super) const DIGEST: &str = include_str!("../../tests/fixtures/trust/digest");
const SIGNATURES: &str = include_str!("../../tests/fixtures/trust/signatures.tsv");

pub(super) const KEYS: [(&str, &str); 8] = [
    ("ecdsa-p256", include_str!("../../tests/fixtures/trust/ecdsa-p256.pub")),
    ("ecdsa-p384", include_str!("../../tests/fixtures/trust/ecdsa-p384.pub")),
    ("ecdsa-p521", include_str!("../../tests/fixtures/trust/ecdsa-p521.pub")),
    ("rsa-2048", include_str!("../../tests/fixtures/trust/rsa-2048.pub")),
    ("rsa-3072", include_str!("../../tests/fixtures/trust/rsa-3072.pub")),
    ("rsa-4096", include_str!("../../tests/fixtures/trust/rsa-4096.pub")),
    ("ed25519", include_str!("../../tests/fixtures/trust/ed25519.pub")),
    ("cosign", include_str!("../../tests/fixtures/trust/cosign.pub")),
];

/// A line of `signatures.tsv`.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) tool: &'static str,
    pub(super) key: &'static str,
    pub(super) scheme: &'static str,
    pub(super) over: &'static str,
    pub(super) file: Vec<u8>,
}

impl Signed {
    pub(super) fn all() -> Vec<Self> {
        SIGNATURES
            .lines()
            .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                [tool, key, scheme, over, file] => {
                    Self { tool, key, scheme, over, file: STANDARD.decode(file).unwrap() }
                }
                _ => panic!("{line}"),
            })
            .collect()
    }

    pub(super) fn accepted() -> Vec<Self> {
        Self::all().into_iter().filter(|signed| signed.tool != "refused").collect()
    }

    pub(super) fn by_openssl(key: &str, scheme: &str, over: &str) -> Self {
        Self::all()
            .into_iter()
            .find(|row| row.tool.starts_with("openssl") && (row.key, row.scheme, row.over) == (key, scheme, over))
            .unwrap()
    }

    /// What is submitted beside the signature.
    pub(super) fn payload(&self) -> Option<&'static [u8]> {
        (self.over == "payload").then_some(PAYLOAD)
    }
}

pub(super) fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn now() -> Timestamp {
    at("2026-11-22T12:00:00Z")
}

pub(super) fn key(name: &str) -> PublicKey {
    let (_, pem) = KEYS.into_iter().find(|(known, _)| *known == name).unwrap();
    PublicKey::from_pem(pem).unwrap()
}

pub(super) fn signer(key_name: &str) -> Signer {
    Signer {
        name: format!("{key_name} signer"),
        credential: Credential::PublicKey(key(key_name)),
        origin: SignerOrigin::File,
        added: at("2026-01-01T00:00:00Z"),
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

/// Every key of the fixtures, always good.
pub(super) fn root() -> TrustRoot {
    TrustRoot::new(KEYS.into_iter().map(|(name, _)| signer(name)).collect())
}
