use std::{fmt, str::FromStr};

use serde::Serialize;

/// Larger signatures are refused before they are looked at.
pub const MAX_SIGNATURE_BYTES: usize = 1 << 20;

/// Larger payloads are refused before they are looked at.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// The published forms in which a signature of an image comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    Raw,
    SimpleSigning,
    SigstoreBundle,
    Dsse,
    NotationJws,
    NotationCose,
    #[serde(rename = "openpgp")]
    OpenPgp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no signature format has this name")]
pub struct UnknownFormat;

/// A signature that has been recognised and is well formed; whether it is true is for `verify`.
#[derive(Debug, Clone)]
pub struct Envelope {
    format: Format,
    normalised_hash: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("a signature of format {format} is recognised, but not supported in this release")]
    Unsupported { format: Format },
    #[error("{flaw}")]
    Malformed { flaw: Flaw },
}

/// What is wrong with a signature or its payload, without any of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("not a signature of any known algorithm or format")]
    NotASignature,
}

impl Envelope {
    /// Reads a signature as it was submitted or found; `payload` is what it is said to be over, where
    /// something came with it.
    pub fn recognise(_signature: &[u8], _payload: Option<&[u8]>) -> Result<Self, EnvelopeError> {
        Err(EnvelopeError::Malformed { flaw: Flaw::NotASignature })
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// Stands for the signature (and its payload) however it was encoded: ECDSA's two values of `s`
    /// and the base64 around it make no difference.
    pub fn normalised_hash(&self) -> [u8; 32] {
        self.normalised_hash
    }
}

impl Format {
    pub const ALL: [Self; 7] = [
        Self::Raw,
        Self::SimpleSigning,
        Self::SigstoreBundle,
        Self::Dsse,
        Self::NotationJws,
        Self::NotationCose,
        Self::OpenPgp,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::SimpleSigning => "simple-signing",
            Self::SigstoreBundle => "sigstore-bundle",
            Self::Dsse => "dsse",
            Self::NotationJws => "notation-jws",
            Self::NotationCose => "notation-cose",
            Self::OpenPgp => "openpgp",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(UnknownFormat)
    }
}
