use aws_lc_rs::digest::Context;

use crate::trust::{curve::Curve, integers::two_integers, key::Algorithm};

/// A detached signature by one key, told apart by its shape; which key, and over what, it does not say.
#[derive(Debug, Clone)]
pub(in crate::trust) struct RawSignature {
    bytes: Vec<u8>,
    shape: Shape,
}

#[derive(Debug, Clone)]
enum Shape {
    /// Both numbers at the curve's width. The curve is the smallest that has room for them: a larger
    /// one's numbers are that short once in 2^128 signatures.
    Ecdsa {
        curve: Curve,
        r: Vec<u8>,
        s: Vec<u8>,
    },
    Rsa,
    Ed25519,
}

impl RawSignature {
    /// ECDSA as strict DER: what such a signature says of its own structure leaves no doubt.
    pub(in crate::trust) fn der(bytes: &[u8]) -> Option<Self> {
        let (r, s) = two_integers(bytes)?;
        let (curve, r, s) =
            Curve::ALL.into_iter().find_map(|curve| Some((curve, curve.scalar(r)?, curve.scalar(s)?)))?;
        Some(Self { bytes: bytes.to_vec(), shape: Shape::Ecdsa { curve, r, s } })
    }

    /// RSA and Ed25519, which have no structure but their length.
    pub(in crate::trust) fn by_length(bytes: &[u8]) -> Option<Self> {
        // A signature looks random: one that is printable from end to end is a text.
        if bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
            return None;
        }
        let shape = match bytes.len() {
            ED25519_BYTES => Shape::Ed25519,
            MIN_RSA_BYTES..=MAX_RSA_BYTES => Shape::Rsa,
            _ => return None,
        };
        Some(Self { bytes: bytes.to_vec(), shape })
    }

    pub(in crate::trust) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a key of this algorithm could have made it: no other key is worth a try.
    pub(in crate::trust) fn fits(&self, algorithm: Algorithm) -> bool {
        match (&self.shape, algorithm) {
            (Shape::Ecdsa { curve, .. }, Algorithm::Ecdsa(of_key)) => *curve == of_key,
            (Shape::Rsa, Algorithm::Rsa { modulus_bits }) => self.bytes.len() == modulus_bits.div_ceil(8),
            (Shape::Ed25519, Algorithm::Ed25519) => true,
            (Shape::Ecdsa { .. } | Shape::Rsa | Shape::Ed25519, _) => false,
        }
    }

    /// Feeds what is the same in every variant of this signature that verifies. RSA and Ed25519 have
    /// one form each: a number out of range is refused by whoever verifies.
    pub(in crate::trust) fn normalise_into(&self, hasher: &mut Context) {
        match &self.shape {
            Shape::Ecdsa { curve, r, s } => {
                hasher.update(b"ecdsa");
                hasher.update(&[*curve as u8]);
                hasher.update(r);
                hasher.update(&curve.low(s.clone()));
            }
            Shape::Rsa => {
                hasher.update(b"rsa");
                hasher.update(&self.bytes);
            }
            Shape::Ed25519 => {
                hasher.update(b"ed25519");
                hasher.update(&self.bytes);
            }
        }
    }
}

const ED25519_BYTES: usize = 64;
const MIN_RSA_BYTES: usize = 256;
const MAX_RSA_BYTES: usize = 512;
