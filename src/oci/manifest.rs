use std::sync::OnceLock;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

use super::{Descriptor, Digest, MediaType};

/// Larger manifests are refused: the limit that registries and clients share.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;

/// More entries than any index or image in use has; past it a manifest is a way to fill memory.
pub const MAX_CHILDREN: usize = 1024;

/// A manifest whose bytes have been hashed and whose shape is unambiguous.
///
/// `digest` is computed, never believed. The bytes are kept as they came and are never rewritten.
#[derive(Debug, Clone)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: MediaType,
    pub bytes: Bytes,
    pub kind: ManifestKind,
    pub subject: Option<Descriptor>,
    pub artifact_type: Option<MediaType>,
    headers: OnceLock<HeaderMap>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    Image { config: Descriptor, layers: Vec<Descriptor> },
    Index { manifests: Vec<Descriptor> },
}

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("a manifest has at most {MAX_MANIFEST_BYTES} bytes")]
    TooLarge,
    #[error("the bytes have the digest {actual}, not {expected}")]
    WrongDigest { expected: Digest, actual: Digest },
    #[error("a manifest is text in UTF-8")]
    Encoding,
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("schemaVersion is {found}; only 2 is supported")]
    SchemaVersion { found: u32 },
    #[error("mediaType {found:?} is neither an image manifest nor an index")]
    MediaType { found: String },
    #[error("the Content-Type {content_type:?} is not the manifest's mediaType {media_type:?}")]
    ContentType { content_type: String, media_type: String },
    #[error(
        "the manifest is neither an image nor an index, or both: `config` and `layers`, or `manifests`, must stand alone"
    )]
    Ambiguous,
    #[error("the key {key:?} differs from {known:?} by case only")]
    AmbiguousKey { key: String, known: &'static str },
    #[error("a manifest lists at most {MAX_CHILDREN} entries")]
    TooManyChildren,
}

impl Manifest {
    /// Checks bytes that came from outside. `expected` is the digest they were asked for by, if they
    /// were; `content_type` the header they came with, if there was one.
    pub fn parse(bytes: Bytes, expected: Option<&Digest>, content_type: Option<&str>) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        let digest = match expected {
            Some(expected) => Digest::of(expected.algorithm(), &bytes),
            None => Digest::sha256(&bytes),
        };
        if let Some(expected) = expected
            && *expected != digest
        {
            return Err(ManifestError::WrongDigest { expected: *expected, actual: digest });
        }
        // serde passes over the strings that it does not read, whatever bytes they hold: RFC 8259, section 8.1.
        let text = str::from_utf8(&bytes).map_err(|_| ManifestError::Encoding)?;
        let wire: Wire = serde_json::from_str(text)?;
        reject_look_alike_keys(&wire)?;
        if wire.schema_version != 2 {
            return Err(ManifestError::SchemaVersion { found: wire.schema_version });
        }
        let media_type = media_type(&wire, content_type)?;
        let kind = match (wire.config, wire.layers, wire.manifests) {
            (Some(config), Some(layers), None) if media_type.is_image() => ManifestKind::Image { config, layers },
            (None, None, Some(manifests)) if media_type.is_index() => ManifestKind::Index { manifests },
            _ => return Err(ManifestError::Ambiguous),
        };
        let headers = OnceLock::new();
        let (subject, artifact_type) = (wire.subject, wire.artifact_type);
        let manifest = Self { digest, media_type, bytes, kind, subject, artifact_type, headers };
        if manifest.children().count() > MAX_CHILDREN {
            return Err(ManifestError::TooManyChildren);
        }
        Ok(manifest)
    }

    /// Everything the manifest names by digest: an index's manifests, or an image's config and layers.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match &self.kind {
            ManifestKind::Image { config, layers } => (Some(config), layers),
            ManifestKind::Index { manifests } => (None, manifests),
        };
        config.into_iter().chain(rest)
    }

    /// How another manifest names this one: image specification, `descriptor.md`.
    pub fn descriptor(&self) -> Descriptor {
        let artifact_type = self.artifact_type.clone().or_else(|| match &self.kind {
            ManifestKind::Image { config, .. } => Some(config.media_type.clone()),
            ManifestKind::Index { .. } => None,
        });
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            artifact_type,
            annotations: serde_json::Map::new(),
        }
    }

    /// The headers of an answer with this manifest: made for the first, kept for the next.
    pub fn headers(&self, make: impl FnOnce(&Self) -> HeaderMap) -> &HeaderMap {
        self.headers.get_or_init(|| make(self))
    }

    pub fn is_index(&self) -> bool {
        matches!(self.kind, ManifestKind::Index { .. })
    }

    /// Whether this can only hold signatures, attestations or SBOMs: every layer has a media type of
    /// such content. What the config says of itself decides nothing.
    pub fn is_artifact(&self) -> bool {
        match &self.kind {
            ManifestKind::Image { layers, .. } => {
                !layers.is_empty() && layers.iter().all(|layer| layer.media_type.is_artifact_layer())
            }
            ManifestKind::Index { .. } => false,
        }
    }
}

static OCI_INDEX: MediaType = MediaType::OCI_INDEX;
static OCI_MANIFEST: MediaType = MediaType::OCI_MANIFEST;

/// CVE-2021-41190: the type is what the bytes say, and a header that says otherwise is an error, so
/// that no two readers see two kinds of manifest in the same bytes.
fn media_type(wire: &Wire, content_type: Option<&str>) -> Result<MediaType, ManifestError> {
    let content_type = content_type
        .map(|value| value.split(';').next().unwrap_or(value).trim())
        // Object stores behind a registry lose the type; the bytes then speak alone.
        .filter(|value| !matches!(*value, "application/json" | "application/octet-stream" | "text/plain" | ""));
    let stated = match (&wire.media_type, content_type) {
        (Some(media_type), Some(content_type)) if media_type.as_str() != content_type => {
            return Err(ManifestError::ContentType {
                content_type: content_type.to_owned(),
                media_type: media_type.to_string(),
            });
        }
        (Some(media_type), _) => media_type.as_str(),
        (None, Some(content_type)) => content_type,
        // The OCI manifest's own mediaType is optional; Docker's is not.
        (None, None) if wire.manifests.is_some() => OCI_INDEX.as_str(),
        (None, None) => OCI_MANIFEST.as_str(),
    };
    MediaType::MANIFESTS
        .into_iter()
        .find(|known| known.as_str() == stated)
        .ok_or_else(|| ManifestError::MediaType { found: stated.to_owned() })
}

/// Go's JSON reader, which most clients are built on, matches keys without regard to case and takes
/// the last: `Layers` after `layers` would show them other content than us.
fn reject_look_alike_keys(wire: &Wire) -> Result<(), ManifestError> {
    const KNOWN: [&str; 7] = ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject"];
    for key in wire.others.keys() {
        if let Some(known) = KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(key)) {
            return Err(ManifestError::AmbiguousKey { key: key.clone(), known });
        }
    }
    Ok(())
}

/// A field that stands twice is an error of serde's; nesting is capped by serde_json at 128.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<MediaType>,
    artifact_type: Option<MediaType>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde::de::IgnoredAny>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":1}}"#, Digest::sha256(b"x"))
    }

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(Bytes::copy_from_slice(text.as_bytes()), None, None)
    }

    fn image(extra: &str) -> String {
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        format!(r#"{{"schemaVersion":2{extra},"config":{layer},"layers":[{layer}]}}"#)
    }

    #[test]
    fn image_and_index_are_told_apart_by_their_bytes() {
        let parsed = parse(&image("")).unwrap();
        assert_eq!((parsed.media_type.clone(), parsed.children().count()), (MediaType::OCI_MANIFEST, 2));
        let child = descriptor("application/vnd.oci.image.manifest.v1+json");
        let index = parse(&format!(r#"{{"schemaVersion":2,"manifests":[{child}]}}"#)).unwrap();
        assert!(index.is_index());
        let docker = format!(r#","mediaType":"{}""#, MediaType::DOCKER_MANIFEST);
        assert_eq!(parse(&image(&docker)).unwrap().media_type, MediaType::DOCKER_MANIFEST);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_nobody_looks_too() {
        let mut bytes =
            br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"other":"?"}"#
                .to_vec();
        Manifest::parse(bytes.clone().into(), None, None).unwrap();
        let at = bytes.iter().rposition(|byte| *byte == b'?').unwrap();
        bytes[at] = 0xc7;
        assert!(matches!(Manifest::parse(bytes.into(), None, None), Err(ManifestError::Encoding)));
    }

    #[test]
    fn ambiguous_manifests_are_refused() {
        let child = descriptor("application/vnd.oci.image.manifest.v1+json");
        for (text, expected) in [
            (image(&format!(r#","manifests":[{child}]"#)), "must stand alone"),
            (image(&format!(r#","Layers":[{child}]"#)), "differs from \"layers\" by case only"),
            (image(r#","mediaType":"application/vnd.oci.image.index.v1+json""#), "must stand alone"),
            (
                image(r#","mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws""#),
                "neither an image manifest",
            ),
            (image(&format!(r#","layers":[{child}]"#)), "duplicate field"),
            (image("").replace(":2", ":1"), "schemaVersion is 1"),
            (image("").replace("\"size\":1", "\"size\":-1"), "not a manifest"),
            ("[]".into(), "not a manifest"),
            (format!(r#"{{"schemaVersion":2,"x":{}"#, "[".repeat(500)), "not a manifest"),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn content_type_may_not_contradict_the_bytes() {
        let bytes = Bytes::from(image(r#","mediaType":"application/vnd.oci.image.manifest.v1+json""#));
        let error = Manifest::parse(bytes.clone(), None, Some("application/vnd.oci.image.index.v1+json")).unwrap_err();
        assert!(matches!(error, ManifestError::ContentType { .. }), "{error}");
        for fine in
            [None, Some("application/octet-stream"), Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")]
        {
            assert_eq!(Manifest::parse(bytes.clone(), None, fine).unwrap().media_type, MediaType::OCI_MANIFEST);
        }
    }

    #[test]
    fn the_digest_is_computed_from_the_bytes() {
        let bytes = Bytes::from(image(""));
        let digest = Digest::sha256(&bytes);
        assert_eq!(Manifest::parse(bytes.clone(), Some(&digest), None).unwrap().digest, digest);
        let other = Digest::sha256(b"other");
        let error = Manifest::parse(bytes, Some(&other), None).unwrap_err();
        assert!(
            matches!(error, ManifestError::WrongDigest { expected, actual } if expected == other && actual == digest)
        );
    }

    #[test]
    fn sizes_and_counts_are_capped() {
        let child = descriptor("application/vnd.oci.image.manifest.v1+json");
        let many = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![child; MAX_CHILDREN + 1].join(","));
        assert!(matches!(parse(&many).unwrap_err(), ManifestError::TooManyChildren));
        let huge = format!("{}{}", image(""), " ".repeat(MAX_MANIFEST_BYTES));
        assert!(matches!(parse(&huge).unwrap_err(), ManifestError::TooLarge));
    }

    #[test]
    fn artifacts_are_known_by_their_layers() {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let with =
            |layers: &str| parse(&format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)).unwrap();
        let signature = descriptor(MediaType::SIMPLE_SIGNING.as_str());
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        assert!(with(&signature).is_artifact());
        assert!(!with(&format!("{signature},{layer}")).is_artifact());
        assert!(!with("").is_artifact());
    }
}
