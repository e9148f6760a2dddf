use std::cell::OnceCell;

use bytes::Bytes;

use crate::oci::{Digest, Manifest, ManifestError, Repository};

/// The image that signatures must speak for. What has to be learnt of its bytes is learnt once for all of them: a
/// manifest may be larger than everything that was signed.
#[derive(Debug)]
pub struct Subject<'a> {
    pub digest: &'a Digest,
    /// Its name, where the question is about one.
    pub repository: Option<&'a Repository>,
    manifest: Option<&'a [u8]>,
    is_held: OnceCell<bool>,
    media_type: OnceCell<Option<String>>,
}

impl<'a> Subject<'a> {
    /// `manifest` are the bytes, where they are held.
    pub fn new(digest: &'a Digest, manifest: Option<&'a [u8]>, repository: Option<&'a Repository>) -> Self {
        Self { digest, repository, manifest, is_held: OnceCell::new(), media_type: OnceCell::new() }
    }

    /// The bytes. Others than the digest's are as good as none: a signature over them says nothing.
    pub(super) fn manifest(&self) -> Option<&'a [u8]> {
        self.manifest.filter(|manifest| *self.is_held.get_or_init(|| self.digest.matches(manifest)))
    }

    /// How many there are, before anybody has looked at them.
    pub(super) fn manifest_len(&self) -> usize {
        self.manifest.map_or(0, <[u8]>::len)
    }

    /// What the bytes say that they are, which is nothing where they are no manifest. `None` where they are not held.
    pub(super) fn media_type(&self) -> Option<&str> {
        let read = |bytes| match Manifest::parse(Bytes::copy_from_slice(bytes), Some(self.digest), None) {
            Ok(manifest) => Some(manifest.media_type.to_string()),
            Err(ManifestError::WrongDigest { .. }) => None,
            Err(_) => Some(String::new()),
        };
        self.media_type.get_or_init(|| self.manifest.and_then(read)).as_deref()
    }
}
