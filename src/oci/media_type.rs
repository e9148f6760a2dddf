use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize};

/// A media type as a manifest spells it, without parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    pub const OCI_MANIFEST: Self = Self::new("application/vnd.oci.image.manifest.v1+json");
    pub const OCI_INDEX: Self = Self::new("application/vnd.oci.image.index.v1+json");
    pub const DOCKER_MANIFEST: Self = Self::new("application/vnd.docker.distribution.manifest.v2+json");
    pub const DOCKER_LIST: Self = Self::new("application/vnd.docker.distribution.manifest.list.v2+json");
    pub const OCI_CONFIG: Self = Self::new("application/vnd.oci.image.config.v1+json");
    /// The two bytes `{}`, where an artifact has no config.
    pub const OCI_EMPTY: Self = Self::new("application/vnd.oci.empty.v1+json");
    pub const SIMPLE_SIGNING: Self = Self::new("application/vnd.dev.cosign.simplesigning.v1+json");
    /// What cosign calls a `.sig` manifest that refers to its image.
    pub const COSIGN_SIGNATURE: Self = Self::new("application/vnd.dev.cosign.artifact.sig.v1+json");
    pub const SIGSTORE_BUNDLE: Self = Self::new("application/vnd.dev.sigstore.bundle.v0.3+json");
    pub const NOTATION: Self = Self::new("application/vnd.cncf.notary.signature");
    pub const JOSE: Self = Self::new("application/jose+json");
    pub const COSE: Self = Self::new("application/cose");

    /// The only media types that a manifest is asked for and served as.
    pub const MANIFESTS: [Self; 4] = [Self::OCI_MANIFEST, Self::OCI_INDEX, Self::DOCKER_MANIFEST, Self::DOCKER_LIST];

    /// What sigstore bundles have been called, version by version.
    const SIGSTORE_BUNDLES: [Self; 4] = [
        Self::SIGSTORE_BUNDLE,
        Self::new("application/vnd.dev.sigstore.bundle+json;version=0.3"),
        Self::new("application/vnd.dev.sigstore.bundle+json;version=0.2"),
        Self::new("application/vnd.dev.sigstore.bundle+json;version=0.1"),
    ];

    const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST
    }

    pub fn is_image(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    pub fn is_sigstore_bundle(&self) -> bool {
        Self::SIGSTORE_BUNDLES.contains(self)
    }

    /// Layers that are a signature in an envelope of its own, or an attestation in the same.
    pub fn is_envelope(&self) -> bool {
        self.is_sigstore_bundle() || [Self::JOSE, Self::COSE].contains(self)
    }

    /// Layers that hold a signature, an attestation or an SBOM, and nothing that a runtime unpacks.
    pub fn is_artifact_layer(&self) -> bool {
        *self == Self::SIMPLE_SIGNING
            || self.is_envelope()
            || matches!(
                self.as_str(),
                "application/vnd.dsse.envelope.v1+json"
                    | "application/vnd.in-toto+json"
                    | "application/spdx+json"
                    | "application/vnd.cyclonedx+json"
                    | "application/vnd.cyclonedx+xml"
                    | "text/spdx"
                    | "text/spdx+json"
                    | "text/spdx+xml"
            )
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = Self::MANIFESTS.into_iter().chain([Self::SIMPLE_SIGNING]).find(|known| known.as_str() == text);
        if text.is_empty() || text.len() > 255 || text.bytes().any(|b| !(0x20..0x7f).contains(&b)) {
            return Err(serde::de::Error::custom("a media type is 1 to 255 printable ASCII characters"));
        }
        Ok(known.unwrap_or(Self(Cow::Owned(text))))
    }
}
