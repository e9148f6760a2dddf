use std::cell::OnceCell;

use aws_lc_rs::digest::{Digest as Hashed, SHA256, SHA384, SHA512, digest};
use sha2::{Digest as _, Sha512};

use super::Subject;
use crate::{
    oci::{self, Digest},
    trust::key::Hash,
};

/// Something that a signature may be over, hashed no oftener than needed. Of a manifest the bytes may
/// be missing: one of its hashes is known all the same.
pub(in crate::trust) struct Message<'a> {
    text: Text<'a>,
    hashes: [OnceCell<Option<Hashed>>; 3],
    prehashed: OnceCell<Option<Sha512>>,
    identity: [u8; 32],
    /// Larger bytes are as good as none, but for the hash that is known of them.
    limit: usize,
}

enum Text<'a> {
    Payload(&'a [u8]),
    DigestString(String),
    Manifest(&'a Subject<'a>),
}

impl<'a> Message<'a> {
    pub(in crate::trust) fn payload(bytes: &'a [u8]) -> Self {
        Self::of_text(Text::Payload(bytes), sha256(bytes))
    }

    pub(in crate::trust) fn digest_string(digest: &Digest) -> Self {
        let text = digest.to_string();
        let identity = sha256(text.as_bytes());
        Self::of_text(Text::DigestString(text), identity)
    }

    pub(in crate::trust) fn manifest(subject: &'a Subject<'a>) -> Self {
        let known = subject.digest.as_bytes();
        let (hash, algorithm, identity) = match subject.digest.algorithm() {
            oci::Algorithm::Sha256 => (Hash::Sha256, &SHA256, known.try_into().expect("a sha256 digest has 32 bytes")),
            oci::Algorithm::Sha512 => (Hash::Sha512, &SHA512, sha256(known)),
        };
        let mut message = Self::new(Text::Manifest(subject), identity);
        // The digest *is* the hash that was signed; whether it is this image's is the caller's subject.
        message.hashes[hash as usize] = OnceCell::from(Hashed::import_less_safe(known, algorithm).ok());
        message
    }

    /// Of bytes that are here: their SHA-256 is what stands for them.
    fn of_text(text: Text<'a>, sha256: [u8; 32]) -> Self {
        let mut message = Self::new(text, sha256);
        message.hashes[Hash::Sha256 as usize] = OnceCell::from(Hashed::import_less_safe(&sha256, &SHA256).ok());
        message
    }

    fn new(text: Text<'a>, identity: [u8; 32]) -> Self {
        Self { text, hashes: Default::default(), prehashed: OnceCell::new(), identity, limit: usize::MAX }
    }

    /// The same, where no more bytes than that are hashed over and over.
    pub(in crate::trust) fn within(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    pub(in crate::trust) fn is_too_large(&self) -> bool {
        let length = match &self.text {
            Text::Payload(bytes) => bytes.len(),
            Text::DigestString(text) => text.len(),
            Text::Manifest(subject) => subject.manifest_len(),
        };
        length > self.limit
    }

    /// What stands for the signed bytes, whether they are held or not.
    pub(in crate::trust) fn identity(&self) -> [u8; 32] {
        self.identity
    }

    /// What it is, in a word.
    pub(in crate::trust) fn name(&self) -> &'static str {
        match self.text {
            Text::Payload(_) => "the payload",
            Text::DigestString(_) => "the digest",
            Text::Manifest(_) => "the manifest",
        }
    }

    pub(in crate::trust) fn bytes(&self) -> Option<&[u8]> {
        match &self.text {
            _ if self.is_too_large() => None,
            Text::Payload(bytes) => Some(bytes),
            Text::DigestString(text) => Some(text.as_bytes()),
            Text::Manifest(subject) => subject.manifest(),
        }
    }

    pub(in crate::trust) fn hashed(&self, hash: Hash) -> Option<Hashed> {
        let algorithm = match hash {
            Hash::Sha256 => &SHA256,
            Hash::Sha384 => &SHA384,
            Hash::Sha512 => &SHA512,
        };
        *self.hashes[hash as usize].get_or_init(|| Some(digest(algorithm, self.bytes()?)))
    }

    /// A SHA-512 that has been fed the message.
    pub(in crate::trust) fn prehashed(&self) -> Option<Sha512> {
        self.prehashed.get_or_init(|| Some(Sha512::new_with_prefix(self.bytes()?))).clone()
    }
}

/// Of a manifest or a payload, for a signature over another hash than SHA-256 or by Ed25519. None that anybody means is
/// larger, and each costs the more the larger it is.
pub(in crate::trust) const MAX_REHASHED: usize = 256 << 10;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
