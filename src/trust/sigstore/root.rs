use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use x509_cert::{
    Certificate,
    der::{Decode, Encode, asn1::ObjectIdentifier},
    ext::pkix::ExtendedKeyUsage,
};

use super::{
    certificate::validity,
    members::{self, MemberFlaw},
};
use crate::trust::{KeyError, PublicKey, envelope::strict_json::Object};

/// What one sigstore is believed by: its certificate authorities, logs and timestamp authorities, as
/// its `trusted_root.json` lists them. What a root lists is demanded of every signature under it.
#[derive(Debug, Clone)]
pub struct SigstoreRoot {
    pub(super) authorities: Vec<Authority>,
    pub(super) certificate_logs: Logs,
    pub(super) logs: Logs,
    pub(super) timestamp_authorities: Vec<TimestampAuthority>,
    /// Of the file.
    hash: [u8; 32],
}

/// A certificate that signs the certificates of signers.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    pub(super) anchor: TrustAnchor<'static>,
    /// SubjectPublicKeyInfo; a certificate's log has signed its hash.
    pub(super) public_key: Vec<u8>,
    /// For people.
    pub(super) subject: String,
    pub(super) valid: Window,
}

/// The logs of one kind. None are demanded of a signature only where none are listed at all: one whose
/// key is of a kind that we do not know is not as good as none.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    pub(super) known: Vec<Log>,
    pub(super) are_demanded: bool,
}

/// A transparency log, of signatures or of certificates.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) id: Vec<u8>,
    pub(super) url: String,
    pub(super) key: PublicKey,
    pub(super) valid: Window,
}

#[derive(Debug, Clone)]
pub(super) struct TimestampAuthority {
    pub(super) url: String,
    /// The certificate that signs tokens, as it is listed and as it reads, and its key.
    pub(super) der: Vec<u8>,
    pub(super) certificate: Certificate,
    pub(super) key: PublicKey,
    pub(super) valid: Window,
}

/// From the first instant to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// Why a file is no trusted root that we could use; never any text of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreRootError {
    #[error("a trusted root has at most {MAX_ROOT_BYTES} bytes")]
    TooLarge,
    #[error("not a trusted root: {0}")]
    Json(#[from] MemberFlaw),
    #[error("the media type is not that of a sigstore trusted root of version 0.1 or 0.2")]
    MediaType,
    #[error("the certificate {at} of {list:?} is not X.509 in DER")]
    Certificate { list: &'static str, at: usize },
    #[error("the public key {at} of {list:?} is not accepted: {error}")]
    Key { list: &'static str, at: usize, error: KeyError },
    #[error("the first certificate of timestamp authority {at} is not one that signs timestamps")]
    NotATimestampSigner { at: usize },
    #[error("{list:?} names the same log twice")]
    SameLogTwice { list: &'static str },
    #[error("a validity ends before it begins")]
    EndsBeforeItBegins,
    #[error("it lists no certificate authority and no log, so that nothing can be verified with it")]
    Empty,
}

impl SigstoreRoot {
    /// The root of the public good instance that is shipped, as it was at [`Self::SHIPPED`].
    pub fn public_good() -> Self {
        Self::shipped()[0].clone()
    }

    /// The same as the only one there is, read once however often the signers change.
    pub fn shipped() -> Arc<[Self]> {
        static SHIPPED: LazyLock<Arc<[SigstoreRoot]>> =
            LazyLock::new(|| [SigstoreRoot::parse(PUBLIC_GOOD).expect("the shipped root is one")].into());
        SHIPPED.clone()
    }

    /// When the shipped root was published with the crate that it was taken from.
    pub const SHIPPED: &'static str = "2026-10-23";

    pub fn parse(json: &[u8]) -> Result<Self, SigstoreRootError> {
        if json.len() > MAX_ROOT_BYTES {
            return Err(SigstoreRootError::TooLarge);
        }
        let root = members::document(json, "trusted root")?;
        if !MEDIA_TYPES.contains(&members::text(&root, "mediaType")?) {
            return Err(SigstoreRootError::MediaType);
        }
        let root = Self {
            authorities: authorities(&root)?,
            certificate_logs: logs(&root, "ctlogs")?,
            logs: logs(&root, "tlogs")?,
            timestamp_authorities: timestamp_authorities(&root)?,
            hash: digest(&SHA256, json).as_ref().try_into().expect("SHA-256 has 32 bytes"),
        };
        match root.authorities.is_empty() && root.logs.known.is_empty() {
            true => Err(SigstoreRootError::Empty),
            false => Ok(root),
        }
    }
}

/// Of the same file.
impl PartialEq for SigstoreRoot {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for SigstoreRoot {}

impl Window {
    pub(super) const ALWAYS: Self = Self { from: Timestamp::MIN, to: Timestamp::MAX };

    pub(super) fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && at <= self.to
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }

    fn read(of: &Object) -> Result<Self, SigstoreRootError> {
        let Some(window) = members::optional_object(of, "validFor")? else {
            return Ok(Self::ALWAYS);
        };
        let time = |name| {
            let text = members::optional_text(window, name)?;
            text.map(|text| text.parse::<Timestamp>().map_err(|_| MemberFlaw::Time { name })).transpose()
        };
        let from = time("start")?.ok_or(MemberFlaw::Kind { name: "start" })?;
        let to = time("end")?.unwrap_or(Timestamp::MAX);
        match from <= to {
            true => Ok(Self { from, to }),
            false => Err(SigstoreRootError::EndsBeforeItBegins),
        }
    }
}

/// Each certificate of each chain is believed by itself: who lists a chain believes all of it. It is
/// valid as long as those above it, and the chain, are.
fn authorities(root: &Object) -> Result<Vec<Authority>, SigstoreRootError> {
    let list = "certificateAuthorities";
    let mut authorities = Vec::new();
    for entry in members::objects(root, list, MAX_AUTHORITIES)? {
        let mut valid = Window::read(entry)?;
        for (at, der) in chain(entry)?.into_iter().enumerate().rev() {
            let malformed = || SigstoreRootError::Certificate { list, at };
            let certificate = Certificate::from_der(&der).map_err(|_| malformed())?;
            valid = valid.and(validity(&certificate).ok_or_else(malformed)?);
            let public_key = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| malformed())?;
            let subject = certificate.tbs_certificate.subject.to_string();
            let der = CertificateDer::from(der);
            let anchor = webpki::anchor_from_trusted_cert(&der).map_err(|_| malformed())?.to_owned();
            authorities.push(Authority { anchor, public_key, subject, valid });
        }
    }
    Ok(authorities)
}

fn logs(root: &Object, list: &'static str) -> Result<Logs, SigstoreRootError> {
    let mut known = Vec::<Log>::new();
    let entries = members::objects(root, list, MAX_LOGS)?;
    let are_demanded = !entries.is_empty();
    for (at, entry) in entries.into_iter().enumerate() {
        let id = members::bytes(members::object(entry, "logId")?, "keyId", MAX_ID_BYTES)?;
        let public_key = members::object(entry, "publicKey")?;
        // A log with a key of a kind of the past or to come must not take the others along; it proves nothing.
        if !members::text(public_key, "keyDetails")?.starts_with("PKIX_") {
            continue;
        }
        let key = match PublicKey::from_der(members::bytes(public_key, "rawBytes", MAX_CERTIFICATE_BYTES)?) {
            Ok(key) => key,
            Err(KeyError::Algorithm | KeyError::Curve) => continue,
            Err(error) => return Err(SigstoreRootError::Key { list, at, error }),
        };
        if known.iter().any(|log| log.id == id) {
            return Err(SigstoreRootError::SameLogTwice { list });
        }
        let url = members::optional_text(entry, "baseUrl")?.unwrap_or_default().to_owned();
        known.push(Log { id, url, key, valid: Window::read(public_key)? });
    }
    Ok(Logs { known, are_demanded })
}

fn timestamp_authorities(root: &Object) -> Result<Vec<TimestampAuthority>, SigstoreRootError> {
    let list = "timestampAuthorities";
    let mut authorities = Vec::new();
    for (at, entry) in members::objects(root, list, MAX_AUTHORITIES)?.into_iter().enumerate() {
        let mut valid = Window::read(entry)?;
        let mut signer = None;
        for der in chain(entry)?.into_iter().rev() {
            let malformed = || SigstoreRootError::Certificate { list, at };
            let certificate = Certificate::from_der(&der).map_err(|_| malformed())?;
            valid = valid.and(validity(&certificate).ok_or_else(malformed)?);
            signer = Some((der, certificate));
        }
        let (der, certificate) = signer.ok_or(SigstoreRootError::Certificate { list, at })?;
        let usage = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
        if !matches!(usage, Ok(Some((_, usage))) if usage.0 == [ID_KP_TIME_STAMPING]) {
            return Err(SigstoreRootError::NotATimestampSigner { at });
        }
        let key = certificate.tbs_certificate.subject_public_key_info.to_der();
        let key = key.map_err(|_| KeyError::Encoding).and_then(PublicKey::from_der);
        let key = key.map_err(|error| SigstoreRootError::Key { list, at, error })?;
        let url = members::optional_text(entry, "uri")?.unwrap_or_default().to_owned();
        authorities.push(TimestampAuthority { url, der, certificate, key, valid });
    }
    Ok(authorities)
}

/// The certificates of an authority, the one that signs first.
fn chain(of: &Object) -> Result<Vec<Vec<u8>>, SigstoreRootError> {
    let chain = members::object(of, "certChain")?;
    let certificates = members::objects(chain, "certificates", MAX_CHAIN)?;
    let der = certificates.into_iter().map(|entry| members::bytes(entry, "rawBytes", MAX_CERTIFICATE_BYTES));
    Ok(der.collect::<Result<_, _>>()?)
}

/// From the crate sigstore-trust-root 0.15.1, whose authors fetched it by TUF.
const PUBLIC_GOOD: &[u8] = include_bytes!("public-good.json");

/// A trusted root is larger only if it is something else.
pub const MAX_ROOT_BYTES: usize = 256 << 10;
pub(super) const MAX_CERTIFICATE_BYTES: usize = 16 << 10;
const MAX_AUTHORITIES: usize = 16;
const MAX_LOGS: usize = 32;
const MAX_CHAIN: usize = 4;
const MAX_ID_BYTES: usize = 64;

const ID_KP_TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");

const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot+json;version=0.2",
    "application/vnd.dev.sigstore.trustedroot.v0.1+json",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];
