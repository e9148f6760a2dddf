use aws_lc_rs::digest::{Context, SHA256, digest};

use super::{
    certificate::{CertificateFlaw, SignerCertificate, is_self_issued},
    entry::{MAX_SIGNATURE, named_hash},
    log::LogEntry,
    members::{self, MemberFlaw},
    root::MAX_CERTIFICATE_BYTES,
    statement::{Predicate, Statement},
};
use crate::trust::{
    envelope::{Annotations, EVIDENCE_ANNOTATIONS, Format, RawSignature, SimpleSigning, strict_json::Object},
    key::Hash,
    pem::{self, SectionKind},
    timestamp::MAX_TOKEN_BYTES,
};

/// A signature with all that shows who made it and when: sigstore's bundle, or what cosign spreads over
/// the annotations of a classic signature's layer.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Bundle {
    pub(super) signed: Signed,
    pub(super) signature: RawSignature,
    pub(super) by: SignedBy,
    pub(super) entries: Vec<LogEntry>,
    /// RFC 3161, as they came.
    pub(super) timestamps: Vec<Vec<u8>>,
    /// Whether its version's rules want a proof of every entry, and a promise does not do.
    pub(super) wants_proof: bool,
    /// Whether it was put together from a signature and annotations.
    is_layer: bool,
}

/// What the signature is over.
#[derive(Debug, Clone)]
pub(super) enum Signed {
    /// What is signed of a DSSE envelope, which ends with its payload.
    Statement {
        encoded: Vec<u8>,
        payload_bytes: usize,
        /// None where the payload is of another type.
        statement: Option<Box<Statement>>,
    },
    /// The image's manifest, or its digest, as a blob; the hash that is said to be the blob's.
    Blob {
        hash: Option<(Hash, Vec<u8>)>,
    },
    SimpleSigning(SimpleSigning),
}

#[derive(Debug, Clone)]
pub(super) enum SignedBy {
    Certificate(Box<SignerCertificate>),
    Key,
}

/// Why something is no bundle; never any text of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleFlaw {
    #[error("{0}")]
    Json(#[from] MemberFlaw),
    #[error("its media type is not that of version 0.1, 0.2 or 0.3")]
    MediaType,
    #[error("exactly one of {one:?} and {other:?} is expected")]
    NotOne { one: &'static str, other: &'static str },
    #[error("its DSSE envelope has not exactly one signature")]
    Signatures,
    #[error("what stands there for a signature is none of any known algorithm")]
    NotASignature,
    #[error("from version 0.3 on it holds one certificate, and no chain")]
    Chain,
    #[error("its chain holds a root, which only the verifier's own root may name")]
    RootInChain,
    #[error("its certificate is not accepted: {0}")]
    Certificate(#[from] CertificateFlaw),
}

type Read<T> = Result<T, BundleFlaw>;

impl Bundle {
    pub(in crate::trust) fn parse(json: &[u8]) -> Read<Self> {
        let bundle = members::document(json, "bundle")?;
        if let Some(signature) = members::optional_text(&bundle, "base64Signature")? {
            return Self::before_bundles(&bundle, &members::decoded(signature, "base64Signature")?);
        }
        let version = Version::of(members::text(&bundle, "mediaType")?).ok_or(BundleFlaw::MediaType)?;
        let material = members::object(&bundle, "verificationMaterial")?;
        let entries = members::objects(material, "tlogEntries", MAX_ENTRIES)?;
        let (signed, signature) = signed(&bundle)?;
        Ok(Self {
            signed,
            signature: raw(&signature)?,
            by: SignedBy::read(material, version)?,
            entries: entries
                .into_iter()
                .map(|entry| LogEntry::parse(entry, version == Version::V0_1))
                .collect::<Result<_, _>>()?,
            timestamps: timestamps(material)?,
            wants_proof: version != Version::V0_1,
            is_layer: false,
        })
    }

    /// What `cosign sign-blob --bundle` wrote before bundles had a media type.
    fn before_bundles(bundle: &Object, signature: &[u8]) -> Read<Self> {
        let by = match members::optional_text(bundle, "cert")? {
            Some(text) => SignedBy::from_pem(&members::decoded(text, "cert")?)?,
            None => SignedBy::Key,
        };
        let entry = members::optional_object(bundle, "rekorBundle")?;
        Ok(Self {
            signed: Signed::Blob { hash: None },
            signature: raw(signature)?,
            by,
            entries: entry.map(LogEntry::parse_promised).transpose()?.into_iter().collect(),
            timestamps: Vec::new(),
            wants_proof: false,
            is_layer: false,
        })
    }

    /// A signature with at least one of the annotations that cosign's classic form has for evidence.
    pub(in crate::trust) fn of_layer(
        signature: RawSignature,
        payload: Option<SimpleSigning>,
        annotations: &Annotations,
    ) -> Read<Self> {
        let [certificate, _chain, entry, timestamp] = EVIDENCE_ANNOTATIONS.map(|name| annotations.get(name));
        let by = match certificate {
            Some(text) => SignedBy::from_pem(text.as_bytes())?,
            None => SignedBy::Key,
        };
        let entry = entry.map(|text| LogEntry::parse_promised(&members::document(text.as_bytes(), "bundle")?));
        let timestamp = timestamp.map(|text| {
            let timestamp = members::document(text.as_bytes(), "rfc3161timestamp")?;
            members::bytes(&timestamp, "SignedRFC3161Timestamp", MAX_TOKEN_BYTES)
        });
        Ok(Self {
            signed: payload.map_or(Signed::Blob { hash: None }, Signed::SimpleSigning),
            signature,
            by,
            entries: entry.transpose()?.into_iter().collect(),
            timestamps: timestamp.transpose()?.into_iter().collect(),
            wants_proof: false,
            is_layer: true,
        })
    }

    /// Whether the statement that it holds is another than that of a signature.
    pub(in crate::trust) fn is_attestation(&self) -> bool {
        let Signed::Statement { statement, .. } = &self.signed else { return false };
        statement.as_ref().is_none_or(|statement| statement.predicate() == Predicate::Attestation)
    }

    pub(in crate::trust) fn format(&self) -> Format {
        match (&self.signed, self.is_layer) {
            (Signed::SimpleSigning(_), _) => Format::SimpleSigning,
            (Signed::Blob { .. }, true) => Format::Raw,
            (Signed::Blob { .. } | Signed::Statement { .. }, _) => Format::SigstoreBundle,
        }
    }

    /// The same for every encoding of the same bundle: spaces, the order of members and ECDSA's two
    /// values of `s` make no difference, everything else does.
    pub(in crate::trust) fn normalised_hash(&self) -> [u8; 32] {
        let mut hasher = Context::new(&SHA256);
        self.signature.normalise_into(&mut hasher);
        let mut feed = |part: &[u8]| hasher.update(digest(&SHA256, part).as_ref());
        match &self.signed {
            Signed::Statement { encoded, .. } => feed(encoded),
            Signed::Blob { hash } => feed(hash.as_ref().map_or(&[], |(_, hash)| hash)),
            Signed::SimpleSigning(payload) => feed(payload.bytes()),
        }
        if let SignedBy::Certificate(certificate) = &self.by {
            feed(&certificate.der);
        }
        self.entries.iter().for_each(|entry| entry.feed(&mut feed));
        self.timestamps.iter().for_each(|timestamp| feed(timestamp));
        hasher.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    /// A promise of the log is enough.
    V0_1,
    V0_2,
    /// Also any revision of it.
    V0_3,
}

impl Version {
    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            "application/vnd.dev.sigstore.bundle+json;version=0.1" => Some(Self::V0_1),
            "application/vnd.dev.sigstore.bundle+json;version=0.2" => Some(Self::V0_2),
            "application/vnd.dev.sigstore.bundle+json;version=0.3" => Some(Self::V0_3),
            _ => {
                let revision = media_type.strip_prefix("application/vnd.dev.sigstore.bundle.v0.3")?;
                let revision = revision.strip_suffix("+json")?;
                let is_revision = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                (revision.is_empty() || revision.strip_prefix('.').is_some_and(is_revision)).then_some(Self::V0_3)
            }
        }
    }
}

impl SignedBy {
    fn read(material: &Object, version: Version) -> Read<Self> {
        let certificate = members::optional_object(material, "certificate")?;
        let chain = members::optional_object(material, "x509CertificateChain")?;
        let key = members::optional_object(material, "publicKey")?;
        match (certificate, chain, key) {
            (Some(certificate), None, None) => {
                Self::certificate(members::bytes(certificate, "rawBytes", MAX_CERTIFICATE_BYTES)?)
            }
            (None, Some(_), None) if version == Version::V0_3 => Err(BundleFlaw::Chain),
            (None, Some(chain), None) => {
                let certificates = members::objects(chain, "certificates", MAX_CHAIN)?;
                let (leaf, above) = certificates.split_first().ok_or(MemberFlaw::Kind { name: "certificates" })?;
                for certificate in above {
                    if is_self_issued(&members::bytes(certificate, "rawBytes", MAX_CERTIFICATE_BYTES)?)? {
                        return Err(BundleFlaw::RootInChain);
                    }
                }
                Self::certificate(members::bytes(leaf, "rawBytes", MAX_CERTIFICATE_BYTES)?)
            }
            (None, None, Some(_)) => Ok(Self::Key),
            _ => Err(BundleFlaw::NotOne { one: "certificate", other: "publicKey" }),
        }
    }

    fn from_pem(text: &[u8]) -> Read<Self> {
        match pem::block(text) {
            Some((SectionKind::Certificate, der)) => Self::certificate(der),
            Some(_) | None => Err(CertificateFlaw::Encoding.into()),
        }
    }

    fn certificate(der: Vec<u8>) -> Read<Self> {
        Ok(Self::Certificate(Box::new(SignerCertificate::parse(der)?)))
    }
}

fn signed(bundle: &Object) -> Read<(Signed, Vec<u8>)> {
    let envelope = members::optional_object(bundle, "dsseEnvelope")?;
    let message = members::optional_object(bundle, "messageSignature")?;
    match (envelope, message) {
        (Some(envelope), None) => {
            let payload = members::bytes(envelope, "payload", usize::MAX)?;
            let kind = members::text(envelope, "payloadType")?;
            let [signature] = members::objects(envelope, "signatures", MAX_ENTRIES)?[..] else {
                return Err(BundleFlaw::Signatures);
            };
            let statement = if kind == IN_TOTO { Statement::parse(&payload)?.map(Box::new) } else { None };
            let mut encoded = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
            encoded.extend(&payload);
            let signed = Signed::Statement { encoded, payload_bytes: payload.len(), statement };
            Ok((signed, members::bytes(signature, "sig", MAX_SIGNATURE)?))
        }
        (None, Some(message)) => {
            let hash = members::optional_object(message, "messageDigest")?.map(named_hash).transpose()?;
            Ok((Signed::Blob { hash }, members::bytes(message, "signature", MAX_SIGNATURE)?))
        }
        (Some(_), Some(_)) | (None, None) => Err(BundleFlaw::NotOne { one: "dsseEnvelope", other: "messageSignature" }),
    }
}

fn timestamps(material: &Object) -> Result<Vec<Vec<u8>>, MemberFlaw> {
    let Some(data) = members::optional_object(material, "timestampVerificationData")? else {
        return Ok(Vec::new());
    };
    let timestamps = members::objects(data, "rfc3161Timestamps", MAX_TIMESTAMPS)?.into_iter();
    timestamps.map(|timestamp| members::bytes(timestamp, "signedTimestamp", MAX_TOKEN_BYTES)).collect()
}

fn raw(signature: &[u8]) -> Read<RawSignature> {
    RawSignature::der(signature).or_else(|| RawSignature::by_length(signature)).ok_or(BundleFlaw::NotASignature)
}

const IN_TOTO: &str = "application/vnd.in-toto+json";
/// As many logs and authorities as a careful signer uses; each costs a few checks.
const MAX_ENTRIES: usize = 4;
const MAX_TIMESTAMPS: usize = 4;
const MAX_CHAIN: usize = 8;
