//! Two images, built in memory: valid for every client, and each a single text file.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::json;

use crate::oci::Digest;

/// A tagged image and everything its manifest names.
pub(super) struct SampleImage {
    pub(super) tag: &'static str,
    pub(super) digest: Digest,
    pub(super) manifest: Bytes,
    pub(super) blobs: Vec<(Digest, Bytes)>,
}

impl SampleImage {
    /// An image whose only content is `hello.txt`.
    pub(super) fn new(tag: &'static str, text: &str) -> Self {
        let layer = Bytes::from(tar("hello.txt", text.as_bytes()));
        let layer_digest = Digest::sha256(&layer);
        let config = Bytes::from(
            json!({
                "architecture": architecture(),
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
                "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "sig-repo demo"}],
            })
            .to_string(),
        );
        let config_digest = Digest::sha256(&config);
        let manifest = Bytes::from(
            json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": config_digest,
                    "size": config.len(),
                },
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer_digest,
                    "size": layer.len(),
                }],
            })
            .to_string(),
        );
        let digest = Digest::sha256(&manifest);
        Self { tag, digest, manifest, blobs: vec![(config_digest, config), (layer_digest, layer)] }
    }
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// This machine's architecture as the image specification calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A POSIX archive of one file: a header block, the content, and two blocks of zeros.
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; BLOCK_BYTES];
    let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(0, name);
    field(100, "0000644\0");
    field(108, "0000000\0");
    field(116, "0000000\0");
    field(124, &octal(content.len(), 11));
    field(136, &octal(0, 11));
    field(148, "        "); // The checksum counts itself as spaces.
    field(156, "0");
    field(257, "ustar\0");
    field(263, "00");
    let checksum: usize = header.iter().map(|byte| usize::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{}\0 ", octal(checksum, 6)).as_bytes());

    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(BLOCK_BYTES) + 2 * BLOCK_BYTES, 0);
    archive
}

const BLOCK_BYTES: usize = 512;

fn octal(number: usize, digits: usize) -> String {
    let mut text = String::new();
    write!(text, "{number:0digits$o}").expect("a String takes everything");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Manifest;

    #[test]
    fn a_sample_is_an_image_that_names_all_its_blobs() {
        let image = SampleImage::new("preview-signed", "hello\n");
        let parsed = Manifest::parse(image.manifest.clone(), Some(&image.digest), Some(MANIFEST)).unwrap();
        let named: Vec<_> = parsed.children().map(|child| (child.digest, child.size)).collect();
        let held: Vec<_> = image.blobs.iter().map(|(_, bytes)| (Digest::sha256(bytes), bytes.len() as u64)).collect();
        assert_eq!(named, held);
    }

    #[test]
    fn a_tar_has_the_layout_of_the_standard() {
        let archive = tar("hello.txt", b"hello\n");
        assert_eq!(archive.len(), 4 * BLOCK_BYTES);
        assert_eq!(&archive[..10], b"hello.txt\0");
        assert_eq!(&archive[124..136], b"00000000006\0");
        assert_eq!(&archive[257..265], b"ustar\x0000");
        assert_eq!(&archive[BLOCK_BYTES..BLOCK_BYTES + 7], b"hello\n\0");
    }
}
