//! The upstream's images, and the signer's key.

use std::net::SocketAddr;

use anyhow::{Context, anyhow, ensure};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use sig_repo::oci::Digest;

use crate::session::Session;

pub(crate) const REPOSITORY: &str = "team/app";
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json";
/// The client that most requests come from.
pub(crate) const USER_AGENT: &str = "docker/28.5.2";
pub(crate) const SIGNER: &str = "ci";

/// As large as manifests of small images are.
const MANIFEST_BYTES: usize = 600;

pub(crate) struct Image {
    pub(crate) tag: String,
    pub(crate) digest: Digest,
    pub(crate) manifest: Bytes,
}

pub(crate) struct Key(EcdsaKeyPair);

/// Pushes images to a registry.
pub(crate) struct Pusher<'a> {
    session: &'a Session,
    registry: SocketAddr,
    config: Digest,
    layer: Digest,
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
const LAYER: &[u8] = &[0; 1024];

impl Image {
    pub(crate) fn path(&self) -> String {
        format!("/v2/{REPOSITORY}/manifests/{}", self.digest)
    }

    pub(crate) fn path_by_tag(&self) -> String {
        format!("/v2/{REPOSITORY}/manifests/{}", self.tag)
    }
}

impl<'a> Pusher<'a> {
    pub(crate) fn new(session: &'a Session, registry: SocketAddr) -> anyhow::Result<Self> {
        let pusher = Self { session, registry, config: Digest::sha256(CONFIG), layer: Digest::sha256(LAYER) };
        pusher.blob(&pusher.config, CONFIG)?;
        pusher.blob(&pusher.layer, LAYER)?;
        Ok(pusher)
    }

    /// An image unlike every other.
    pub(crate) fn push(&self, tag: &str) -> anyhow::Result<Image> {
        let manifest = |padding: &str| {
            json!({
                "schemaVersion": 2,
                "mediaType": ACCEPT,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": self.config,
                    "size": CONFIG.len(),
                },
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": self.layer,
                    "size": LAYER.len(),
                }],
                "annotations": { "org.opencontainers.image.version": tag, "padding": padding },
            })
            .to_string()
        };
        let padding = "x".repeat(MANIFEST_BYTES.saturating_sub(manifest("").len()));
        let manifest = Bytes::from(manifest(&padding));
        let image = Image { tag: tag.to_owned(), digest: Digest::sha256(&manifest), manifest };
        let url = format!("http://{}{}", self.registry, image.path_by_tag());
        let headers = [("content-type", ACCEPT)];
        let answer = self.session.http.try_send(Method::PUT, &url, &headers, image.manifest.clone());
        let status = answer.context("the upstream is gone")?.status;
        ensure!(status.is_success(), "the upstream takes no manifest: {status}");
        Ok(image)
    }

    fn blob(&self, digest: &Digest, bytes: &'static [u8]) -> anyhow::Result<()> {
        let send = |method, url: &str, body| {
            let headers = [("content-type", "application/octet-stream")];
            self.session.http.try_send(method, url, &headers, body).context("the upstream is gone")
        };
        let begun =
            send(Method::POST, &format!("http://{}/v2/{REPOSITORY}/blobs/uploads/", self.registry), Bytes::new())?;
        let location = begun.headers.get("location").context("no upload began")?.to_str()?;
        let joint = if location.contains('?') { '&' } else { '?' };
        let status = send(Method::PUT, &format!("{location}{joint}digest={digest}"), Bytes::from_static(bytes))?.status;
        ensure!(status.is_success(), "the upstream takes no blob: {status}");
        Ok(())
    }
}

impl Key {
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Ok(Self(pair.map_err(|_| anyhow!("no key could be made"))?))
    }

    pub(crate) fn public_pem(&self) -> anyhow::Result<String> {
        let der: PublicKeyX509Der<'_> =
            self.0.public_key().as_der().map_err(|_| anyhow!("a key without an encoding"))?;
        let text = STANDARD.encode(der.as_ref());
        // A line of PEM has 64 characters.
        let (first, rest) = text.split_at_checked(64).context("a key without a second line")?;
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{first}\n{rest}\n-----END PUBLIC KEY-----\n"))
    }

    /// What `openssl dgst -sha256 -sign` writes for the manifest.
    pub(crate) fn sign(&self, image: &Image) -> anyhow::Result<String> {
        let signature = self.0.sign(&SystemRandom::new(), &image.manifest).map_err(|_| anyhow!("signing failed"))?;
        Ok(STANDARD.encode(signature.as_ref()))
    }
}
