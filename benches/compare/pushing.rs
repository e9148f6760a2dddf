//! What puts images into a registry, and the key that signs them.

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

use crate::{
    images::{ACCEPT, Blob, Image, REPOSITORY},
    session::Session,
};

pub(crate) const SIGNER: &str = "ci";

pub(crate) struct Key(EcdsaKeyPair);

/// Pushes images to a registry.
pub(crate) struct Pusher<'a> {
    session: &'a Session,
    registry: SocketAddr,
    config: Blob,
    layer: Blob,
}

const LAYER: &[u8] = &[0; 1024];

impl<'a> Pusher<'a> {
    pub(crate) fn new(session: &'a Session, registry: SocketAddr) -> anyhow::Result<Self> {
        let pusher = Self { session, registry, config: Blob::config(), layer: Blob::new(LAYER) };
        pusher.blob(&pusher.config)?;
        pusher.blob(&pusher.layer)?;
        Ok(pusher)
    }

    /// An image unlike every other.
    pub(crate) fn push(&self, tag: &str) -> anyhow::Result<Image> {
        self.put(Image::new(tag, &self.config, std::slice::from_ref(&self.layer)))
    }

    /// An image of this layer.
    pub(crate) fn push_layer(&self, tag: &str, layer: &Blob) -> anyhow::Result<Image> {
        self.blob(layer)?;
        self.put(Image::new(tag, &self.config, std::slice::from_ref(layer)))
    }

    fn put(&self, image: Image) -> anyhow::Result<Image> {
        let url = format!("http://{}{}", self.registry, image.path_by_tag());
        let headers = [("content-type", ACCEPT)];
        let answer = self.session.http.try_send(Method::PUT, &url, &headers, image.manifest.clone());
        let status = answer.context("the upstream is gone")?.status;
        ensure!(status.is_success(), "the upstream takes no manifest: {status}");
        Ok(image)
    }

    fn blob(&self, blob: &Blob) -> anyhow::Result<()> {
        let send = |method, url: &str, body| {
            let headers = [("content-type", "application/octet-stream")];
            self.session.http.try_send(method, url, &headers, body).context("the upstream is gone")
        };
        let begun =
            send(Method::POST, &format!("http://{}/v2/{REPOSITORY}/blobs/uploads/", self.registry), Bytes::new())?;
        let location = begun.headers.get("location").context("no upload began")?.to_str()?;
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={}", blob.digest);
        let status = send(Method::PUT, &url, blob.bytes.clone())?.status;
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
