use std::collections::BTreeMap;

use super::envelope::NotationFlaw;
use crate::{
    oci::Digest,
    trust::envelope::strict_json::{self, Object, Value},
};

/// The descriptor of what was signed.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// The signer's own words about it, which the signature covers.
    pub(super) labels: BTreeMap<String, String>,
}

impl Target {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, NotationFlaw> {
        let json = |flaw| NotationFlaw::Json { part: "the payload", flaw };
        let Value::Object(payload) = strict_json::parse(payload).map_err(json)? else {
            return Err(NotationFlaw::Target { name: "targetArtifact" });
        };
        let Some(Value::Object(target)) = payload.member("targetArtifact").map_err(json)? else {
            return Err(NotationFlaw::Target { name: "targetArtifact" });
        };
        let member = |name: &'static str| {
            let found = target.member(name).map_err(json)?;
            found.ok_or(NotationFlaw::Target { name })
        };
        let Value::String(media_type) = member("mediaType")? else {
            return Err(NotationFlaw::Target { name: "mediaType" });
        };
        let digest = match member("digest")? {
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let size = match member("size")? {
            Value::Integer(size) => u64::try_from(*size).ok(),
            _ => None,
        };
        let labels = match target.member("annotations").map_err(json)? {
            Some(Value::Object(annotations)) => strings(annotations),
            None => Some(BTreeMap::new()),
            Some(_) => None,
        };
        Ok(Self {
            media_type: media_type.clone(),
            digest: digest.ok_or(NotationFlaw::Target { name: "digest" })?,
            size: size.ok_or(NotationFlaw::Target { name: "size" })?,
            labels: labels.ok_or(NotationFlaw::Target { name: "annotations" })?,
        })
    }
}

fn strings(object: &Object) -> Option<BTreeMap<String, String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    };
    object.iter().map(|(key, value)| Some((key.to_owned(), text(value)?))).collect()
}
