use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
};

use aws_lc_rs::digest::{Context, SHA256, SHA512};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A content digest of a registered algorithm: image specification, `descriptor.md`, "Digests".
///
/// Only the canonical form is accepted (lower-case hexadecimal of the algorithm's exact length), so
/// that two equal digests are always equal text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    /// The first `algorithm.size()` bytes; the rest is zero.
    bytes: [u8; 64],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest is an algorithm, a colon and hexadecimal digits, as in sha256:…")]
    NoAlgorithm,
    #[error("the digest algorithm is not sha256 or sha512")]
    UnsupportedAlgorithm,
    #[error("a {algorithm} digest has {expected} lower-case hexadecimal digits")]
    Encoding { algorithm: Algorithm, expected: usize },
}

/// Hashes a stream whose digest is known only at its end.
#[derive(Clone)]
pub struct DigestHasher {
    algorithm: Algorithm,
    context: Context,
}

impl Digest {
    /// The digest of bytes that we hold, by the algorithm that registries default to.
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Algorithm::Sha256, bytes)
    }

    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.size()]
    }

    pub fn encoded(&self) -> String {
        hex::encode(self.as_bytes())
    }

    /// Whether these bytes are what the digest names.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(self.algorithm, bytes) == *self
    }

    fn from_parts(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { algorithm, bytes }
    }
}

/// What is behind the digest's length is the same in all, so it is not hashed.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let by = |algorithm: Algorithm| Some((algorithm, text.strip_prefix(algorithm.name())?.strip_prefix(':')?));
        let (algorithm, encoded) = Algorithm::ALL.into_iter().find_map(by).ok_or_else(|| match text.contains(':') {
            true => DigestError::UnsupportedAlgorithm,
            false => DigestError::NoAlgorithm,
        })?;
        let expected = algorithm.size() * 2;
        let malformed = || DigestError::Encoding { algorithm, expected };
        let (pairs, []) = encoded.as_bytes().as_chunks::<2>() else { return Err(malformed()) };
        if pairs.len() != algorithm.size() {
            return Err(malformed());
        }
        let (mut bytes, mut seen) = ([0; 64], 0);
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| NIBBLES[usize::from(digit)]);
            *byte = high << 4 | low;
            seen |= high | low;
        }
        if seen == NO_DIGIT { Err(malformed()) } else { Ok(Self { algorithm, bytes }) }
    }
}

/// What each byte is as a hexadecimal digit. Only small letters are: capital ones would give one digest two spellings.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};
const NO_DIGIT: u8 = 0xff;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut encoded = [0; 128];
        let encoded = &mut encoded[..self.algorithm.size() * 2];
        hex::encode_to_slice(self.as_bytes(), encoded).map_err(|_| fmt::Error)?;
        f.write_str(self.algorithm.name())?;
        f.write_str(":")?;
        f.write_str(str::from_utf8(encoded).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl DigestHasher {
    pub fn new(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest::from_parts(self.algorithm, self.context.finish().as_ref())
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DigestHasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_the_published_one() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        assert!(EMPTY.parse::<Digest>().unwrap().matches(b""));
    }

    #[test]
    fn digest_grammar_is_strict() {
        let sha512 = format!("sha512:{}", "a".repeat(128));
        assert_eq!(sha512.parse::<Digest>().unwrap().to_string(), sha512);
        for (text, expected) in [
            ("", DigestError::NoAlgorithm),
            ("e3b0c442", DigestError::NoAlgorithm),
            ("md5:d41d8cd98f00b204e9800998ecf8427e", DigestError::UnsupportedAlgorithm),
            ("../sha256:00", DigestError::UnsupportedAlgorithm),
            ("SHA256:e3b0", DigestError::UnsupportedAlgorithm),
            ("sha256:", DigestError::Encoding { algorithm: Algorithm::Sha256, expected: 64 }),
            ("sha256:../../../../etc/passwd", DigestError::Encoding { algorithm: Algorithm::Sha256, expected: 64 }),
            (
                &EMPTY.to_uppercase().replace("SHA256", "sha256"),
                DigestError::Encoding { algorithm: Algorithm::Sha256, expected: 64 },
            ),
            (&EMPTY[..EMPTY.len() - 1], DigestError::Encoding { algorithm: Algorithm::Sha256, expected: 64 }),
            (&EMPTY.replace("sha256", "sha512"), DigestError::Encoding { algorithm: Algorithm::Sha512, expected: 128 }),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(expected), "{text}");
        }
    }
}
