//! The private keys that people sign images with: PEM as openssl writes it, and cosign's own form.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_secretbox::{KeyInit as _, XSalsa20Poly1305, aead::Aead as _};
use serde::Deserialize;

pub(super) enum PrivateKey {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Reads a key file; `password` is asked for where it is encrypted.
    pub(super) fn read(path: &Path, password: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("--sign-with {}", path.display()))?;
        Self::parse(&text, password).with_context(|| format!("--sign-with {}", path.display()))
    }

    fn parse(text: &str, password: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<Self> {
        // openssl's `ecparam -genkey` puts the curve before the key.
        let begins =
            |(at, _): &(usize, &str)| text[*at..].lines().next().is_some_and(|line| line.ends_with("PRIVATE KEY-----"));
        let (start, _) = text.match_indices("-----BEGIN ").find(begins).context("not a private key in PEM form")?;
        let block = der::pem::decode_vec(text[start..].trim_end().as_bytes());
        let (label, body) = block.map_err(|_| anyhow!("not a private key in PEM form"))?;
        match label {
            "PRIVATE KEY" => Self::of_pkcs8(&body),
            "ENCRYPTED SIGSTORE PRIVATE KEY" | "ENCRYPTED COSIGN PRIVATE KEY" => {
                Self::of_pkcs8(&decrypted(&body, &password()?)?)
            }
            "EC PRIVATE KEY" => {
                let key = CURVES.iter().find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, &body).ok());
                key.map(Self::Ecdsa).context(NO_KIND)
            }
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&body).map(Self::Rsa).map_err(|_| anyhow!(NO_KIND)),
            "ENCRYPTED PRIVATE KEY" => {
                bail!("it is encrypted; `openssl pkey -in KEY -out PLAIN` writes it without a password")
            }
            _ => bail!("it is not a PRIVATE KEY, EC PRIVATE KEY, RSA PRIVATE KEY or key of cosign's"),
        }
    }

    fn of_pkcs8(body: &[u8]) -> anyhow::Result<Self> {
        let ecdsa = CURVES.iter().find_map(|curve| EcdsaKeyPair::from_pkcs8(curve, body).ok());
        ecdsa
            .map(Self::Ecdsa)
            .or_else(|| RsaKeyPair::from_pkcs8(body).ok().map(Self::Rsa))
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(body).ok().map(Self::Ed25519))
            .context(NO_KIND)
    }

    /// A signature as cosign and openssl make it with this key: over SHA-256, but for Ed25519.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let random = SystemRandom::new();
        let failed = |_| anyhow!("signing failed");
        match self {
            Self::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// What cosign keeps: scrypt makes a key of the password, NaCl's secretbox the ciphertext of a PKCS #8.
#[derive(Deserialize)]
struct Encrypted {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: ScryptParams,
    salt: String,
}

#[derive(Deserialize)]
#[expect(non_snake_case, reason = "the names in the file")]
struct ScryptParams {
    N: u32,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

fn decrypted(body: &[u8], password: &str) -> anyhow::Result<Vec<u8>> {
    let unknown = "it is not encrypted as cosign does it";
    let Encrypted { kdf, cipher, ciphertext } = serde_json::from_slice(body).map_err(|_| anyhow!(unknown))?;
    let ScryptParams { N: cost, r, p } = kdf.params;
    let usual = kdf.name == "scrypt" && cipher.name == "nacl/secretbox" && cost.is_power_of_two();
    // scrypt needs 128 N r bytes and N r p steps.
    ensure!(usual && u64::from(cost) * u64::from(r) * u64::from(p) <= MAX_SCRYPT, unknown);
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| anyhow!(unknown));
    let params = scrypt::Params::new(cost.ilog2() as u8, r, p, KEY_BYTES).map_err(|_| anyhow!(unknown))?;
    let mut key = [0; KEY_BYTES];
    scrypt::scrypt(password.as_bytes(), &bytes(&kdf.salt)?, &params, &mut key).map_err(|_| anyhow!(unknown))?;
    let nonce: [u8; 24] = bytes(&cipher.nonce)?.try_into().map_err(|_| anyhow!(unknown))?;
    let opened = XSalsa20Poly1305::new(&key.into()).decrypt(&nonce.into(), bytes(&ciphertext)?.as_slice());
    opened.map_err(|_| anyhow!("the password does not fit"))
}

const KEY_BYTES: usize = 32;
/// Sixteen times what cosign asks for.
const MAX_SCRYPT: u64 = 16 * 65_536 * 8;

/// Signatures over SHA-256 are what cosign verifies with a key on any curve; on P-384 the library makes none.
const CURVES: [&EcdsaSigningAlgorithm; 2] =
    [&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &signature::ECDSA_P521_SHA256_ASN1_SIGNING];

const NO_KIND: &str = "it is no ECDSA key on P-256 or P-521, RSA key of 2048 to 8192 bits, or Ed25519 key; sign with another \
                       program, and submit with --signature";
