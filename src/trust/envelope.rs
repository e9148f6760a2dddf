mod foreign;
mod raw;
mod simple_signing;
pub(super) mod strict_json;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{
    notation::{self, NotationFlaw},
    sigstore::{self, BundleFlaw},
};

pub use self::strict_json::JsonFlaw;
pub(super) use self::{
    raw::RawSignature,
    simple_signing::{Claim, ClaimType, SignedReference, SimpleSigning},
};
use super::openpgp::{OpenPgpFlaw, SignedMessage};
use crate::oci::{Digest, Repository, Tag};

/// Larger signatures are refused before they are looked at.
pub const MAX_SIGNATURE_BYTES: usize = 1 << 20;

/// Larger payloads are refused before they are looked at.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// What stands beside a signature has a few KiB; what is larger is made to be slow.
pub(super) const MAX_ANNOTATION_BYTES: usize = 128 << 10;

/// What stands beside a signature to show who made it and when, by the names that cosign gives it in the
/// annotations of a layer.
pub type Annotations = BTreeMap<String, String>;

/// All that belongs there: certificate and chain in PEM, the log's entry, a timestamp.
pub const EVIDENCE_ANNOTATIONS: [&str; 4] = [
    "dev.sigstore.cosign/certificate",
    "dev.sigstore.cosign/chain",
    "dev.sigstore.cosign/bundle",
    "dev.sigstore.cosign/rfc3161timestamp",
];

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
    content: Content,
    normalised_hash: [u8; 32],
}

/// What a signature says that it is for: the signer's words, which count once they are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedImage<'a> {
    pub digest: &'a Digest,
    pub repository: &'a Repository,
    pub tag: Option<&'a Tag>,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Detached(Detached),
    OpenPgp(SignedMessage),
    Sigstore(Box<sigstore::Bundle>),
    Notation(Box<notation::Envelope>),
}

/// A signature by one key, and nothing that says which.
#[derive(Debug, Clone)]
pub(super) struct Detached {
    pub(super) signature: RawSignature,
    /// What the signature is over, if something came with it; else the manifest or its digest.
    pub(super) payload: Option<SimpleSigning>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("a signature of format {format} is recognised, but not supported in this release")]
    Unsupported { format: Format },
    #[error("{flaw}")]
    Malformed { flaw: Flaw },
}

/// What is wrong with a signature or its payload; never any text of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("the signature is empty")]
    Empty,
    #[error("a signature has at most {MAX_SIGNATURE_BYTES} bytes")]
    TooLarge,
    #[error("not a signature of any known algorithm or format")]
    NotASignature,
    #[error("a simple signature comes with the payload that it is over")]
    PayloadMissing,
    #[error("a payload has at most {MAX_PAYLOAD_BYTES} bytes")]
    PayloadTooLarge,
    #[error("not a simple-signing payload: {0}")]
    PayloadJson(#[from] JsonFlaw),
    #[error("the simple-signing payload lacks {name:?}, or it is of another kind")]
    PayloadMember { name: &'static str },
    #[error("the simple-signing payload has a critical member that is not known")]
    PayloadCritical,
    #[error("the simple-signing payload's docker-manifest-digest is not a digest")]
    PayloadDigest,
    #[error("the simple-signing payload's docker-reference is not the name of an image")]
    PayloadReference,
    #[error("each of what stands beside a signature has at most {MAX_ANNOTATION_BYTES} bytes")]
    EvidenceTooLarge,
    #[error("a signature of this format holds what it is over; no payload is expected beside it")]
    PayloadBeside,
    #[error(transparent)]
    OpenPgp(#[from] OpenPgpFlaw),
    #[error("not a sigstore bundle: {0}")]
    Bundle(BundleFlaw),
    #[error("what stands beside the signature is not what cosign puts there: {0}")]
    Evidence(BundleFlaw),
    #[error("not an envelope of the Notary Project: {0}")]
    Notation(#[from] NotationFlaw),
}

impl Envelope {
    /// Reads a signature as it was submitted or found, or the base64 text of one, as `cosign sign-blob`
    /// writes it; `payload` is what it is said to be over, where something came with it, and
    /// `annotations` are those of the layer that cosign keeps it in.
    pub fn recognise(
        signature: &[u8],
        payload: Option<&[u8]>,
        annotations: &Annotations,
    ) -> Result<Self, EnvelopeError> {
        let signature = unwrapped(signature)?;
        let format = match RawSignature::der(&signature) {
            Some(_) => Format::Raw,
            None => foreign::recognise(&signature).unwrap_or(Format::Raw),
        };
        Self::of_format(format, &signature, payload, annotations)
    }

    /// Reads what is said to be of one format, whatever it looks like.
    pub fn parse(
        format: Format,
        signature: &[u8],
        payload: Option<&[u8]>,
        annotations: &Annotations,
    ) -> Result<Self, EnvelopeError> {
        Self::of_format(format, &unwrapped(signature)?, payload, annotations)
    }

    fn of_format(
        format: Format,
        signature: &[u8],
        payload: Option<&[u8]>,
        annotations: &Annotations,
    ) -> Result<Self, EnvelopeError> {
        match format {
            Format::Raw | Format::SimpleSigning => {
                let signature = RawSignature::der(signature).or_else(|| RawSignature::by_length(signature));
                let signature = signature.ok_or(Flaw::NotASignature)?;
                let payload = payload.map(|payload| SimpleSigning::parse(payload, ClaimType::Cosign)).transpose()?;
                if payload.is_none() && format == Format::SimpleSigning {
                    return Err(Flaw::PayloadMissing.into());
                }
                if annotations.values().any(|value| value.len() > MAX_ANNOTATION_BYTES) {
                    return Err(Flaw::EvidenceTooLarge.into());
                }
                let normalised_hash = normalised_hash(&signature, payload.as_ref(), annotations);
                let content = if EVIDENCE_ANNOTATIONS.iter().any(|name| annotations.contains_key(*name)) {
                    let bundle = sigstore::Bundle::of_layer(signature, payload, annotations).map_err(Flaw::Evidence)?;
                    Content::Sigstore(Box::new(bundle))
                } else {
                    Content::Detached(Detached { signature, payload })
                };
                Ok(Self { content, normalised_hash })
            }
            Format::SigstoreBundle => {
                let bundle = sigstore::Bundle::parse(signature).map_err(Flaw::Bundle)?;
                let normalised_hash = bundle.normalised_hash();
                Ok(Self { content: Content::Sigstore(Box::new(bundle)), normalised_hash })
            }
            Format::OpenPgp | Format::NotationJws | Format::NotationCose if payload.is_some() => {
                Err(Flaw::PayloadBeside.into())
            }
            Format::OpenPgp => {
                let message = SignedMessage::parse(signature)?;
                let mut hasher = Context::new(&SHA256);
                message.normalise_into(&mut hasher);
                let normalised_hash = finished(hasher);
                Ok(Self { content: Content::OpenPgp(message), normalised_hash })
            }
            Format::NotationJws => Ok(Self::notation(notation::Envelope::jws(signature).map_err(Flaw::from)?)),
            Format::NotationCose => Ok(Self::notation(notation::Envelope::cose(signature).map_err(Flaw::from)?)),
            Format::Dsse => Err(EnvelopeError::Unsupported { format }),
        }
    }

    fn notation(envelope: notation::Envelope) -> Self {
        let mut hasher = Context::new(&SHA256);
        envelope.normalise_into(&mut hasher);
        let normalised_hash = finished(hasher);
        Self { content: Content::Notation(Box::new(envelope)), normalised_hash }
    }

    pub fn format(&self) -> Format {
        match &self.content {
            Content::Detached(Detached { payload: Some(_), .. }) => Format::SimpleSigning,
            Content::Detached(Detached { payload: None, .. }) => Format::Raw,
            Content::OpenPgp(_) => Format::OpenPgp,
            Content::Sigstore(bundle) => bundle.format(),
            Content::Notation(envelope) => envelope.format(),
        }
    }

    /// Whether it says something of an image other than that somebody signed it.
    pub fn is_attestation(&self) -> bool {
        match &self.content {
            Content::Detached(_) | Content::OpenPgp(_) | Content::Notation(_) => false,
            Content::Sigstore(bundle) => bundle.is_attestation(),
        }
    }

    /// Stands for the signature and what came with it, however it was encoded: ECDSA's two values of
    /// `s` and base64 make no difference.
    pub fn normalised_hash(&self) -> [u8; 32] {
        self.normalised_hash
    }

    /// The image that an OpenPGP signature says it is for, whether or not that is true.
    pub fn names_image(&self) -> Option<NamedImage<'_>> {
        let Content::OpenPgp(message) = &self.content else { return None };
        match message.claim() {
            Claim::Image { digest, reference: Some(reference), .. } => {
                Some(NamedImage { digest, repository: &reference.repository, tag: reference.tag.as_ref() })
            }
            Claim::Image { reference: None, .. } | Claim::OtherType => None,
        }
    }

    /// The SHA-256 of each certificate that comes with an envelope of notation, the signer's first.
    pub fn certificate_thumbprints(&self) -> Vec<[u8; 32]> {
        match &self.content {
            Content::Notation(envelope) => envelope.thumbprints(),
            Content::Detached(_) | Content::OpenPgp(_) | Content::Sigstore(_) => Vec::new(),
        }
    }

    pub(super) fn content(&self) -> &Content {
        &self.content
    }
}

impl From<Flaw> for EnvelopeError {
    fn from(flaw: Flaw) -> Self {
        Self::Malformed { flaw }
    }
}

/// The bytes of a signature that may be one, without the base64 that it may have come in.
pub fn unwrapped(signature: &[u8]) -> Result<Cow<'_, [u8]>, Flaw> {
    match signature.len() {
        0 => Err(Flaw::Empty),
        length if length > MAX_SIGNATURE_BYTES => Err(Flaw::TooLarge),
        _ => Ok(from_base64(signature).map_or(Cow::Borrowed(signature), Cow::Owned)),
    }
}

/// Removes one layer of base64, with line ends. Every format has characters that base64 has not, and
/// a signature of random bytes has them too.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'\r' | b'\n');
    if !text.iter().all(is_base64) {
        return None;
    }
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(text).ok()
}

fn normalised_hash(signature: &RawSignature, payload: Option<&SimpleSigning>, annotations: &Annotations) -> [u8; 32] {
    let mut hasher = Context::new(&SHA256);
    signature.normalise_into(&mut hasher);
    if let Some(payload) = payload {
        hasher.update(b"payload");
        hasher.update(digest(&SHA256, payload.bytes()).as_ref());
    }
    for (key, value) in annotations {
        hasher.update(digest(&SHA256, key.as_bytes()).as_ref());
        hasher.update(digest(&SHA256, value.as_bytes()).as_ref());
    }
    finished(hasher)
}

fn finished(hasher: Context) -> [u8; 32] {
    hasher.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
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
