//! Timestamp tokens of RFC 3161, in whose CMS (RFC 5652) an authority says when it saw a signature.

mod info;

use std::sync::Arc;

use cms::{
    cert::CertificateChoices,
    content_info::ContentInfo,
    signed_data::{SignedData, SignerInfo},
};
use der::{
    Decode, Encode,
    asn1::{AnyRef, ObjectIdentifier, OctetStringRef},
};
use jiff::Timestamp;
use spki::AlgorithmIdentifierRef;

use self::info::Info;
use super::{
    certificate::{Certificate, CertificateFlaw},
    chain::{self, ChainFlaw, Purpose},
    envelope::MAX_CERTIFICATES,
    scheme::{Scheme, SchemeError, hash_of},
};
use crate::trust::{PublicKey, der_limits::are_kept, key::Hash};

/// What a token that is true and of a trusted authority says.
#[derive(Debug, Clone)]
pub(super) struct Stamp {
    /// The bounds of the authority's own accuracy.
    pub(super) earliest: Timestamp,
    pub(super) latest: Timestamp,
    pub(super) chain: Vec<Certificate>,
}

/// What is wrong with a timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampFlaw {
    #[error("the signature has no timestamp, and the trust policy demands one")]
    Missing,
    #[error("it is not a timestamp token: CMS signed data with a TSTInfo is expected, in DER")]
    Encoding,
    #[error("it has not exactly one signer")]
    Signer,
    #[error("the certificate that it is signed with is not in it, or not named by it")]
    NoCertificate,
    #[error("{0}")]
    Certificate(#[from] CertificateFlaw),
    #[error("it brings more than {MAX_CERTIFICATES} certificates")]
    TooManyCertificates,
    #[error("{0}")]
    Scheme(#[from] SchemeError),
    #[error("its own signature is false")]
    Signature,
    #[error("it is for another signature")]
    Imprint,
    #[error("no root of the statement's tsa stores vouches for it")]
    Untrusted,
    #[error("its authority's chain: {0}")]
    Chain(#[from] ChainFlaw),
    #[error("its authority's certificates were not valid at the time that it states")]
    AuthorityNotValid,
    #[error("the signer's certificates were not all valid at {at}, when the signature was stamped")]
    Outside { at: Timestamp },
    #[error("a certificate of its authority is revoked")]
    Revoked,
}

/// Reads a token for `signature` and finds the way from its signer to one of `roots`.
pub(super) fn verify(token: &[u8], signature: &[u8], roots: &[Arc<Certificate>]) -> Result<Stamp, TimestampFlaw> {
    if !are_kept(token) {
        return Err(TimestampFlaw::Encoding);
    }
    let data = signed_data(token)?;
    let content = content(&data)?;
    let info = Info::read(&content).ok_or(TimestampFlaw::Encoding)?;
    if info.imprint_hash()?.of(signature).as_ref() != info.imprint() {
        return Err(TimestampFlaw::Imprint);
    }
    let certificates = certificates(&data)?;
    let [signer] = data.signer_infos.0.as_slice() else { return Err(TimestampFlaw::Signer) };
    let chain = verify_signer(signer, &content, &certificates)?;
    let chain = chain_to(roots, chain, certificates)?;
    chain::check(&chain, Purpose::Timestamping, chain.len() - 1)?;
    if !chain.iter().all(|certificate| certificate.is_valid_at(info.time())) {
        return Err(TimestampFlaw::AuthorityNotValid);
    }
    let (earliest, latest) = info.bounds();
    Ok(Stamp { earliest, latest, chain })
}

impl Stamp {
    /// Whether the signature was there while each of these certificates was valid.
    pub(super) fn lies_within(&self, chain: &[Certificate]) -> bool {
        chain.iter().all(|certificate| certificate.not_before <= self.earliest && self.latest <= certificate.not_after)
    }
}

fn signed_data(token: &[u8]) -> Result<SignedData, TimestampFlaw> {
    let token = ContentInfo::from_der(token).map_err(|_| TimestampFlaw::Encoding)?;
    match token.content_type {
        SIGNED_DATA => token.content.decode_as().map_err(|_| TimestampFlaw::Encoding),
        _ => Err(TimestampFlaw::Encoding),
    }
}

/// The bytes of the TSTInfo.
fn content(data: &SignedData) -> Result<Vec<u8>, TimestampFlaw> {
    let content = &data.encap_content_info;
    let octets = content.econtent.as_ref().filter(|_| content.econtent_type == TST_INFO);
    let octets = octets.and_then(|any| AnyRef::from(any).decode_as::<OctetStringRef<'_>>().ok());
    Ok(octets.ok_or(TimestampFlaw::Encoding)?.as_bytes().to_vec())
}

fn certificates(data: &SignedData) -> Result<Vec<Certificate>, TimestampFlaw> {
    let set = data.certificates.as_ref().map(|set| set.0.as_slice()).unwrap_or_default();
    if set.len() > MAX_CERTIFICATES {
        return Err(TimestampFlaw::TooManyCertificates);
    }
    let certificate = |choice: &CertificateChoices| match choice {
        // Read by strict DER, written back it is what it was.
        CertificateChoices::Certificate(certificate) => {
            let der = certificate.to_der().map_err(|_| TimestampFlaw::Encoding)?;
            Ok(Some(Certificate::from_der(&der)?))
        }
        CertificateChoices::Other(_) => Ok(None),
    };
    set.iter().filter_map(|choice| certificate(choice).transpose()).collect()
}

/// The certificate that signed: the one whose hash is among what was signed (RFC 5816), so that no other
/// with the same key can be put in its place.
fn verify_signer(
    signer: &SignerInfo,
    content: &[u8],
    certificates: &[Certificate],
) -> Result<Certificate, TimestampFlaw> {
    let scheme = Scheme::of_signer(&signer.signature_algorithm, &signer.digest_alg)?;
    let hash = hash_of(signer.digest_alg.oid)?;
    let attributes = signer.signed_attrs.as_ref().ok_or(TimestampFlaw::Signer)?;
    let one = |oid: ObjectIdentifier| {
        let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
        match (found.next().map(|attribute| attribute.values.as_slice()), found.next()) {
            (Some([value]), None) => Ok(AnyRef::from(value)),
            _ => Err(TimestampFlaw::Signer),
        }
    };
    if one(CONTENT_TYPE)?.decode_as() != Ok(TST_INFO) {
        return Err(TimestampFlaw::Signer);
    }
    let stated = one(MESSAGE_DIGEST)?.decode_as::<OctetStringRef<'_>>().map_err(|_| TimestampFlaw::Signer)?;
    if stated.as_bytes() != hash.of(content).as_ref() {
        return Err(TimestampFlaw::Signature);
    }
    let (hash, expected) = signing_certificate(one(SIGNING_CERTIFICATE_V2)?)?;
    let certificate = certificates.iter().find(|certificate| hash.of(certificate.der()).as_ref() == expected);
    let certificate = certificate.ok_or(TimestampFlaw::NoCertificate)?;
    let key = certificate.key().map_err(|error| ChainFlaw::Key { at: 0, error })?;
    // The attributes are signed as the set that they are (RFC 5652, section 5.4).
    let signed = attributes.to_der().map_err(|_| TimestampFlaw::Encoding)?;
    match scheme.verifies(&key, &signed, signer.signature.as_bytes()) {
        true => Ok(certificate.clone()),
        false => Err(TimestampFlaw::Signature),
    }
}

/// RFC 5035, section 3: the first of the certificates is the signer's. SHA-256 unless it says otherwise.
fn signing_certificate(attribute: AnyRef<'_>) -> Result<(Hash, &[u8]), TimestampFlaw> {
    let first = attribute.sequence(|reader| {
        let certificates = AnyRef::decode(reader)?;
        let _policies = Option::<AnyRef<'_>>::decode(reader)?;
        certificates.sequence(|reader| {
            let first = AnyRef::decode(reader)?;
            while Option::<AnyRef<'_>>::decode(reader)?.is_some() {}
            Ok(first)
        })
    });
    let named = first.and_then(|first| {
        first.sequence(|reader| {
            let algorithm = Option::<AlgorithmIdentifierRef<'_>>::decode(reader)?;
            let hash = OctetStringRef::decode(reader)?;
            let _issuer_and_serial = Option::<AnyRef<'_>>::decode(reader)?;
            Ok((algorithm, hash))
        })
    });
    let (algorithm, hash) = named.map_err(|_| TimestampFlaw::NoCertificate)?;
    let algorithm = algorithm.map_or(Ok(Hash::Sha256), |algorithm| hash_of(algorithm.oid))?;
    Ok((algorithm, hash.as_bytes()))
}

/// Follows issuers to a root of ours, through certificates that the token brought.
fn chain_to(
    roots: &[Arc<Certificate>],
    signer: Certificate,
    mut others: Vec<Certificate>,
) -> Result<Vec<Certificate>, TimestampFlaw> {
    let mut chain = vec![signer];
    let mut checks_left = MAX_CHECKS;
    let mut issued = |by: &Certificate, certificate: &Certificate| {
        if by.subject() != certificate.issuer() || checks_left == 0 {
            return false;
        }
        checks_left -= 1;
        let signed = |key: PublicKey| certificate.is_signed_by(&key).unwrap_or(false);
        by.key().is_ok_and(signed)
    };
    loop {
        let last = chain.last().expect("a chain begins with its signer");
        if roots.iter().any(|root| **root == *last) {
            return Ok(chain);
        }
        if let Some(root) = roots.iter().find(|root| issued(root, last)) {
            chain.push(Certificate::clone(root));
            return Ok(chain);
        }
        let next = others.iter().position(|other| other != last && issued(other, last));
        chain.push(others.swap_remove(next.ok_or(TimestampFlaw::Untrusted)?));
    }
}

impl TimestampFlaw {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Missing => "notation-timestamp-missing",
            Self::Untrusted | Self::Chain(_) | Self::AuthorityNotValid => "notation-timestamp-authority",
            Self::Outside { .. } => "notation-timestamp-outside",
            Self::Revoked => "notation-timestamp-revoked",
            Self::Encoding
            | Self::Signer
            | Self::NoCertificate
            | Self::Certificate(_)
            | Self::TooManyCertificates
            | Self::Scheme(_)
            | Self::Signature
            | Self::Imprint => "notation-timestamp",
        }
    }
}

/// Signatures that may be checked on the way to a root: certificates of one name could make it any number.
const MAX_CHECKS: usize = 8;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
