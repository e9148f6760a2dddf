use std::collections::BTreeMap;

use super::{
    Flaw, MAX_PAYLOAD_BYTES,
    strict_json::{self, Object, Value},
};
use crate::oci::Digest;

/// The payload of a cosign classic signature. Its bytes are what is signed; what they claim counts
/// only once the signature over them has been verified.
#[derive(Debug, Clone)]
pub(in crate::trust) struct SimpleSigning {
    bytes: Vec<u8>,
    claim: Claim,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) enum Claim {
    Image {
        digest: Digest,
        labels: BTreeMap<String, String>,
    },
    /// Some other kind of claim, which says nothing about an image of ours.
    OtherType,
}

impl SimpleSigning {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        if bytes.len() > MAX_PAYLOAD_BYTES {
            return Err(Flaw::PayloadTooLarge);
        }
        Ok(Self { bytes: bytes.to_vec(), claim: Claim::parse(bytes)? })
    }

    pub(in crate::trust) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(in crate::trust) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Claim {
    fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        let Value::Object(payload) = strict_json::parse(bytes)? else {
            return Err(Flaw::PayloadMember { name: "critical" });
        };
        let critical = object(&payload, "critical")?;
        if string(critical, "type")? != COSIGN_TYPE {
            return Ok(Self::OtherType);
        }
        // Whoever does not understand all that is critical has not understood the claim.
        if critical.iter().any(|(key, _)| !matches!(key, "type" | "image" | "identity")) {
            return Err(Flaw::PayloadCritical);
        }
        let identity = object(critical, "identity")?;
        string(identity, "docker-reference")?;
        let digest = string(object(critical, "image")?, "docker-manifest-digest")?;
        let digest = digest.parse().map_err(|_| Flaw::PayloadDigest)?;
        let labels = match payload.member("optional")? {
            Some(Value::Object(optional)) => strings(optional),
            Some(Value::Other) | None => BTreeMap::new(),
            Some(Value::String(_)) => return Err(Flaw::PayloadMember { name: "optional" }),
        };
        Ok(Self::Image { digest, labels })
    }
}

fn strings(object: &Object) -> BTreeMap<String, String> {
    object
        .iter()
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some((key.to_owned(), text.clone())),
            Value::Object(_) | Value::Other => None,
        })
        .collect()
}

fn object<'a>(within: &'a Object, name: &'static str) -> Result<&'a Object, Flaw> {
    match within.member(name)? {
        Some(Value::Object(object)) => Ok(object),
        Some(Value::String(_) | Value::Other) | None => Err(Flaw::PayloadMember { name }),
    }
}

fn string<'a>(within: &'a Object, name: &'static str) -> Result<&'a str, Flaw> {
    match within.member(name)? {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Object(_) | Value::Other) | None => Err(Flaw::PayloadMember { name }),
    }
}

const COSIGN_TYPE: &str = "cosign container image signature";
