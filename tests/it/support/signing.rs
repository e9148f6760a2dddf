//! Keys of the tests, and what they sign.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use sig_repo::oci::Digest;

/// An ECDSA key on P-256, as `cosign generate-key-pair` makes it.
pub(crate) struct TestKey(EcdsaKeyPair);

impl TestKey {
    pub(crate) fn generate() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        pem(der.as_ref())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// As it stands in a JSON body.
    pub(crate) fn sign_base64(&self, message: impl AsRef<[u8]>) -> String {
        BASE64_STANDARD.encode(self.sign(message.as_ref()))
    }
}

/// A key whose signatures need the signed bytes themselves.
pub(crate) struct Ed25519Key(Ed25519KeyPair);

impl Ed25519Key {
    pub(crate) fn generate() -> Self {
        Self(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        pem(der.as_ref())
    }

    pub(crate) fn sign_base64(&self, message: impl AsRef<[u8]>) -> String {
        BASE64_STANDARD.encode(self.0.sign(message.as_ref()).as_ref())
    }
}

/// What cosign signs for an image.
pub(crate) fn simple_signing(digest: &Digest) -> String {
    json!({
        "critical": {
            "identity": { "docker-reference": "" },
            "image": { "docker-manifest-digest": digest.to_string() },
            "type": "cosign container image signature"
        },
        "optional": null
    })
    .to_string()
}

fn pem(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}
