use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Digest, DigestError};

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

/// A tag: distribution specification, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// A tag whose name says that it holds the artifacts of a digest, as in `sha256-<hex>.sig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactTag {
    pub subject: Digest,
    /// What follows the digest: `.sig`, `.att`, `.sbom`, or nothing for the referrers fallback.
    pub suffix: String,
}

/// The classes of tags that have a life of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagType {
    /// Signatures of it expire by themselves.
    Preview,
    /// Isolated, and audited without loss.
    Internal,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tag has 1 to 128 letters, digits, '_', '.' and '-', and begins with none of the last two")]
pub struct TagError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error(transparent)]
    Tag(#[from] TagError),
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The class that the first word of the tag says; it ends at `-`, `.`, `_` or the end and is
    /// compared without case, so `preview-internal-1.2` is preview.
    pub fn stated_type(&self) -> Option<TagType> {
        let word = self.0.split(['-', '.', '_']).next().unwrap_or_default();
        TagType::ALL.into_iter().find(|known| word.eq_ignore_ascii_case(known.as_str()))
    }

    /// The tag under which registries without a list of referrers keep one: distribution specification,
    /// "Referrers Tag Schema".
    pub fn fallback(subject: &Digest) -> Self {
        let encoded = subject.encoded();
        let encoded = encoded.get(..FALLBACK_ENCODED_MAX).unwrap_or(&encoded);
        Self(format!("{}-{encoded}", subject.algorithm()).into())
    }

    pub fn artifact(&self) -> Option<ArtifactTag> {
        let rest = self.0.strip_prefix("sha256-")?;
        let (encoded, suffix) = rest.split_at_checked(64)?;
        let subject = format!("sha256:{encoded}").parse().ok()?;
        (suffix.is_empty() || suffix.starts_with('.')).then(|| ArtifactTag { subject, suffix: suffix.to_owned() })
    }
}

impl TagType {
    pub const ALL: [Self; 2] = [Self::Preview, Self::Internal];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview => "preview",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for TagType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let first_ok = text.bytes().next().is_some_and(word);
        if !first_ok || text.len() > 128 || !text.bytes().all(|b| word(b) || b == b'.' || b == b'-') {
            return Err(TagError);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // A colon never stands in a tag, so what has one was meant as a digest and is reported as such.
        match text.parse() {
            Err(DigestError::NoAlgorithm) => Ok(Self::Tag(text.parse()?)),
            digest => Ok(Self::Digest(digest?)),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Serialize for Tag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How much of a digest's hexadecimal part a fallback tag holds.
const FALLBACK_ENCODED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_is_a_tag_or_a_digest() {
        let digest = Digest::sha256(b"x");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
        assert_eq!("v1.0".parse(), Ok(Reference::Tag("v1.0".parse().unwrap())));
        assert_eq!(
            "sha256:abc".parse::<Reference>().unwrap_err().to_string(),
            "a sha256 digest has 64 lower-case hexadecimal digits"
        );
        for bad in ["", ".a", "-a", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert_eq!(bad.parse::<Reference>(), Err(ReferenceError::Tag(TagError)), "{bad}");
        }
    }

    #[test]
    fn the_first_word_of_a_tag_decides_its_type() {
        for (tag, expected) in [
            ("preview-v1.2.3-rc1", Some(TagType::Preview)),
            ("preview-internal-1.2", Some(TagType::Preview)),
            ("PREVIEW", Some(TagType::Preview)),
            ("preview.1", Some(TagType::Preview)),
            ("Internal_1", Some(TagType::Internal)),
            ("internal-v1.2.3", Some(TagType::Internal)),
            ("internally", None),
            ("v1-preview", None),
            ("_preview", None),
            ("latest", None),
        ] {
            assert_eq!(tag.parse::<Tag>().unwrap().stated_type(), expected, "{tag}");
        }
    }

    #[test]
    fn artifact_tags_name_their_subject() {
        let digest = Digest::sha256(b"x");
        let tag = |suffix: &str| format!("sha256-{}{suffix}", digest.encoded()).parse::<Tag>().unwrap();
        assert_eq!(tag(".sig").artifact().unwrap(), ArtifactTag { subject: digest, suffix: ".sig".into() });
        assert_eq!(tag("").artifact().unwrap().suffix, "");
        assert_eq!(tag("0").artifact(), None);
        assert_eq!("sha256-abc.sig".parse::<Tag>().unwrap().artifact(), None);
        assert_eq!("latest".parse::<Tag>().unwrap().artifact(), None);
    }
}
