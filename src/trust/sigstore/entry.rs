//! What a transparency log says to have: which signature, by which key, over what.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use der::{Decode, Encode};
use x509_cert::Certificate;

use super::{
    members::{self, MemberFlaw},
    rejection::EntryPart,
    root::MAX_CERTIFICATE_BYTES,
};
use crate::trust::{
    SignerId, der_limits,
    envelope::strict_json::Object,
    key::Hash,
    pem::{self, SectionKind},
    verifier::message::Message,
};

/// The body of a log entry, which the log has signed.
#[derive(Debug, Clone)]
pub(super) struct EntryBody {
    pub(super) kind: Kind,
    hash: Hash,
    hashed: Vec<u8>,
    signature: Vec<u8>,
    verifier: Verifier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    HashedRekord1,
    HashedRekord2,
    Dsse1,
    Dsse2,
    Intoto2,
}

/// By what the log says that the signature verifies.
#[derive(Debug, Clone)]
enum Verifier {
    Certificate(Vec<u8>),
    Key(SignerId),
}

/// The signature that an entry should be about.
pub(super) struct Logged<'a> {
    /// What the signature is over.
    pub(super) message: &'a Message<'a>,
    /// The payload of the envelope, where that is what was signed.
    pub(super) dsse_payload: Option<&'a [u8]>,
    pub(super) signature: &'a [u8],
    pub(super) by: Signatory<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Signatory<'a> {
    Certificate(&'a [u8]),
    Key(SignerId),
}

impl EntryBody {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, MemberFlaw> {
        let body = members::document(bytes, "canonicalizedBody")?;
        let kind = Kind::of(members::text(&body, "kind")?, members::text(&body, "apiVersion")?);
        let kind = kind.ok_or(MemberFlaw::Kind { name: "kind" })?;
        let spec = members::object(&body, "spec")?;
        let one = |list: Vec<_>| match list[..] {
            [one] => Ok(one),
            _ => Err(MemberFlaw::Kind { name: "signatures" }),
        };
        let ((hash, hashed), signature, verifier) = match kind {
            Kind::HashedRekord1 => {
                let signature = members::object(spec, "signature")?;
                let pem = members::bytes(members::object(signature, "publicKey")?, "content", MAX_PEM)?;
                let hash = members::object(members::object(spec, "data")?, "hash")?;
                (hex_hash(hash)?, content(signature, "content")?, Verifier::from_pem(&pem)?)
            }
            Kind::Dsse1 => {
                let signature = one(members::objects(spec, "signatures", 1)?)?;
                let pem = members::bytes(signature, "verifier", MAX_PEM)?;
                let hash = members::object(spec, "payloadHash")?;
                (hex_hash(hash)?, content(signature, "signature")?, Verifier::from_pem(&pem)?)
            }
            Kind::Intoto2 => {
                let inner = members::object(spec, "content")?;
                let signature = one(members::objects(members::object(inner, "envelope")?, "signatures", 1)?)?;
                let pem = members::bytes(signature, "publicKey", MAX_PEM)?;
                // Base64 twice, because the log takes the text for the bytes.
                let twice = content(signature, "sig")?;
                let once = STANDARD.decode(twice).map_err(|_| MemberFlaw::Base64 { name: "sig" })?;
                (hex_hash(members::object(inner, "payloadHash")?)?, once, Verifier::from_pem(&pem)?)
            }
            Kind::HashedRekord2 => {
                let spec = members::object(spec, "hashedRekordV002")?;
                let signature = members::object(spec, "signature")?;
                let hash = named_hash(members::object(spec, "data")?)?;
                (hash, content(signature, "content")?, Verifier::read(signature)?)
            }
            Kind::Dsse2 => {
                let spec = members::object(spec, "dsseV002")?;
                let signature = one(members::objects(spec, "signatures", 1)?)?;
                let hash = named_hash(members::object(spec, "payloadHash")?)?;
                (hash, content(signature, "content")?, Verifier::read(signature)?)
            }
        };
        Ok(Self { kind, hash, hashed, signature, verifier })
    }

    /// In what the entry is about something else. None where the message's bytes are needed and not held.
    pub(super) fn differs(&self, logged: &Logged<'_>) -> Option<Result<(), EntryPart>> {
        let is_of_payload = match (self.kind, logged.dsse_payload) {
            (Kind::HashedRekord1 | Kind::HashedRekord2, _) => logged.message.hashed(self.hash)?.as_ref() == self.hashed,
            (Kind::Dsse1 | Kind::Dsse2 | Kind::Intoto2, Some(payload)) => {
                self.hash == Hash::Sha256 && digest(&SHA256, payload).as_ref() == self.hashed
            }
            (Kind::Dsse1 | Kind::Dsse2 | Kind::Intoto2, None) => return Some(Err(EntryPart::Format)),
        };
        let is_of_key = match (&self.verifier, logged.by) {
            (Verifier::Certificate(ours), Signatory::Certificate(theirs)) => ours == theirs,
            (Verifier::Key(ours), Signatory::Key(theirs)) => *ours == theirs,
            // cosign has the log look at the certificate where it signs by a key with one beside it.
            (Verifier::Certificate(ours), Signatory::Key(theirs)) => key_of(ours) == Some(theirs),
            (Verifier::Key(_), Signatory::Certificate(_)) => false,
        };
        Some(match (is_of_payload, self.signature == logged.signature, is_of_key) {
            (false, _, _) => Err(EntryPart::Payload),
            (true, false, _) => Err(EntryPart::Signature),
            (true, true, false) => Err(EntryPart::Key),
            (true, true, true) => Ok(()),
        })
    }
}

impl Kind {
    pub(super) fn of(kind: &str, version: &str) -> Option<Self> {
        match (kind, version) {
            ("hashedrekord", "0.0.1") => Some(Self::HashedRekord1),
            ("hashedrekord", "0.0.2") => Some(Self::HashedRekord2),
            ("dsse", "0.0.1") => Some(Self::Dsse1),
            ("dsse", "0.0.2") => Some(Self::Dsse2),
            ("intoto", "0.0.2") => Some(Self::Intoto2),
            _ => None,
        }
    }

    /// Rekor v2 proves and promises nothing; its fields beside the checkpoint are not signed.
    pub(super) fn is_of_rekor_2(self) -> bool {
        matches!(self, Self::HashedRekord2 | Self::Dsse2)
    }
}

impl Verifier {
    fn from_pem(text: &[u8]) -> Result<Self, MemberFlaw> {
        match pem::block(text) {
            Some((SectionKind::Certificate, der)) => Ok(Self::Certificate(der)),
            Some((SectionKind::PublicKey, der)) => Ok(Self::Key(SignerId::of(&der))),
            _ => Err(MemberFlaw::Kind { name: "publicKey" }),
        }
    }

    fn read(signature: &Object) -> Result<Self, MemberFlaw> {
        let verifier = members::object(signature, "verifier")?;
        let certificate = members::optional_object(verifier, "x509Certificate")?;
        let key = members::optional_object(verifier, "publicKey")?;
        match (certificate, key) {
            (Some(certificate), None) => {
                Ok(Self::Certificate(members::bytes(certificate, "rawBytes", MAX_CERTIFICATE_BYTES)?))
            }
            (None, Some(key)) => Ok(Self::Key(SignerId::of(&members::bytes(key, "rawBytes", MAX_CERTIFICATE_BYTES)?))),
            (Some(_), Some(_)) | (None, None) => Err(MemberFlaw::Kind { name: "verifier" }),
        }
    }
}

/// The key that a certificate is for, whoever issued it.
fn key_of(certificate: &[u8]) -> Option<SignerId> {
    let certificate = der_limits::are_kept(certificate).then(|| Certificate::from_der(certificate).ok())??;
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().ok()?;
    Some(SignerId::of(&key))
}

fn content(of: &Object, name: &'static str) -> Result<Vec<u8>, MemberFlaw> {
    members::bytes(of, name, MAX_SIGNATURE)
}

fn hex_hash(of: &Object) -> Result<(Hash, Vec<u8>), MemberFlaw> {
    let hash = match members::text(of, "algorithm")? {
        "sha256" => Hash::Sha256,
        "sha384" => Hash::Sha384,
        "sha512" => Hash::Sha512,
        _ => return Err(MemberFlaw::Kind { name: "algorithm" }),
    };
    let value = hex::decode(members::text(of, "value")?).map_err(|_| MemberFlaw::Hex { name: "value" })?;
    Ok((hash, value))
}

/// As protocol buffers write a hash: `{"algorithm": "SHA2_256", "digest": …}`.
pub(super) fn named_hash(of: &Object) -> Result<(Hash, Vec<u8>), MemberFlaw> {
    let hash = match members::text(of, "algorithm")? {
        "SHA2_256" => Hash::Sha256,
        "SHA2_384" => Hash::Sha384,
        "SHA2_512" => Hash::Sha512,
        _ => return Err(MemberFlaw::Kind { name: "algorithm" }),
    };
    Ok((hash, members::bytes(of, "digest", 64)?))
}

const MAX_PEM: usize = 2 * MAX_CERTIFICATE_BYTES;
pub(super) const MAX_SIGNATURE: usize = 2048;
