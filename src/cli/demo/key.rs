//! The key pair of the demo's signer.

use anyhow::anyhow;
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use der::pem::{self, LineEnding};

/// A fresh ECDSA key on P-256, the kind that cosign makes, in the form that openssl reads.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    pub(super) private_pem: String,
    pub(super) public_pem: String,
}

impl SigningKey {
    pub(super) fn generate() -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| anyhow!("no key could be made"))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, private.as_ref())
            .map_err(|error| anyhow!("the key just made is refused: {error}"))?;
        let public: PublicKeyX509Der<'_> =
            pair.public_key().as_der().map_err(|_| anyhow!("the public key has no encoding"))?;
        let pem =
            |label, bytes: &[u8]| pem::encode_string(label, LineEnding::LF, bytes).map_err(|error| anyhow!("{error}"));
        Ok(Self {
            private_pem: pem("PRIVATE KEY", private.as_ref())?,
            public_pem: pem("PUBLIC KEY", public.as_ref())?,
            pair,
        })
    }

    /// What `openssl dgst -sha256 -sign` would write for this file.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| anyhow!("signing failed"))?;
        Ok(signature.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{KeyError, PublicKey};

    #[test]
    fn the_public_key_is_one_that_can_be_trusted() {
        let key = SigningKey::generate().unwrap();
        let public = PublicKey::from_pem(&key.public_pem).unwrap();
        assert_eq!(public.algorithm(), "ecdsa-p256");
        assert_eq!(PublicKey::from_pem(&key.private_pem).unwrap_err(), KeyError::PrivateKey);
    }
}
