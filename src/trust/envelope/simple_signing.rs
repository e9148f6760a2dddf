use std::{collections::BTreeMap, fmt};

use super::{
    Flaw, MAX_PAYLOAD_BYTES,
    strict_json::{self, Object, Value},
};
use crate::oci::{Digest, RegistryName, Repository, Tag};

/// The payload of a simple signature. Its bytes are what is signed; what they claim counts only once
/// the signature over them has been verified.
#[derive(Debug, Clone)]
pub(in crate::trust) struct SimpleSigning {
    bytes: Vec<u8>,
    claim: Claim,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) enum Claim {
    Image {
        digest: Digest,
        /// What image it says it is, where it has to say so.
        reference: Option<SignedReference>,
        labels: BTreeMap<String, String>,
    },
    /// Some other kind of claim, which says nothing about an image of ours.
    OtherType,
}

/// Who writes such a payload, and how much of it has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) enum ClaimType {
    /// cosign, whose `docker-reference` is of no consequence.
    Cosign,
    /// podman and skopeo, who take `docker-reference` for what the signer meant to sign, and refuse
    /// whatever they do not know.
    Atomic,
}

/// The image that a signer meant, as in `docker.io/library/nginx:1.27`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) struct SignedReference {
    pub(in crate::trust) repository: Repository,
    pub(in crate::trust) tag: Option<Tag>,
}

impl SimpleSigning {
    pub(in crate::trust) fn parse(bytes: &[u8], claim_type: ClaimType) -> Result<Self, Flaw> {
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(Flaw::PayloadTooLarge);
        }
        Ok(Self { bytes: bytes.to_vec(), claim: Claim::parse(bytes, claim_type)? })
    }

    pub(in crate::trust) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::trust) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Claim {
    fn parse(bytes: &[u8], claim_type: ClaimType) -> Result<Self, Flaw> {
        let Value::Object(payload) = strict_json::parse(bytes)? else {
            return Err(Flaw::PayloadMember { name: "critical" });
        };
        let critical = object(&payload, "critical")?;
        if string(critical, "type")? != claim_type.as_str() {
            return Ok(Self::OtherType);
        }
        // Whoever does not understand all that is critical has not understood the claim.
        only(critical, &["type", "image", "identity"])?;
        let (identity, image) = (object(critical, "identity")?, object(critical, "image")?);
        let reference = string(identity, "docker-reference")?;
        let reference = match claim_type {
            ClaimType::Cosign => None,
            ClaimType::Atomic => {
                only(identity, &["docker-reference"])?;
                only(image, &["docker-manifest-digest"])?;
                Some(SignedReference::parse(reference).ok_or(Flaw::PayloadReference)?)
            }
        };
        let digest = string(image, "docker-manifest-digest")?;
        let digest = digest.parse().map_err(|_| Flaw::PayloadDigest)?;
        let labels = match payload.member("optional")? {
            Some(Value::Object(optional)) => optional.strings(),
            Some(Value::List(_) | Value::Integer(_) | Value::Null | Value::Other) | None => BTreeMap::new(),
            Some(Value::String(_)) => return Err(Flaw::PayloadMember { name: "optional" }),
        };
        Ok(Self::Image { digest, reference, labels })
    }
}

impl ClaimType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Cosign => "cosign container image signature",
            Self::Atomic => "atomic container signature",
        }
    }
}

impl SignedReference {
    /// A name as docker writes it, where one without a registry is Docker Hub's, with a tag or a digest
    /// or both.
    fn parse(text: &str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let hub = RegistryName::DOCKER_HUB.parse().expect("the name of a registry");
        digest.map(str::parse::<Digest>).transpose().ok()?;
        Some(Self { repository: Repository::parse(name, &hub).ok()?, tag: tag.map(str::parse).transpose().ok()? })
    }
}

impl fmt::Display for SignedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.repository),
            None => write!(f, "{}", self.repository),
        }
    }
}

fn only(object: &Object, names: &[&str]) -> Result<(), Flaw> {
    if object.iter().all(|(key, _)| names.contains(&key)) { Ok(()) } else { Err(Flaw::PayloadCritical) }
}

fn object<'a>(within: &'a Object, name: &'static str) -> Result<&'a Object, Flaw> {
    match within.member(name)? {
        Some(Value::Object(object)) => Ok(object),
        Some(_) | None => Err(Flaw::PayloadMember { name }),
    }
}

fn string<'a>(within: &'a Object, name: &'static str) -> Result<&'a str, Flaw> {
    match within.member(name)? {
        Some(Value::String(text)) => Ok(text),
        Some(_) | None => Err(Flaw::PayloadMember { name }),
    }
}
