//! X.509 certificates as the Notary Project looks at them: RFC 5280, strict DER, and of the extensions
//! only those that it honours.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use der::{Decode, Encode, Reader, SliceReader, asn1::ObjectIdentifier};
use jiff::Timestamp;
use x509_cert::{
    ext::{
        Extension,
        pkix::{
            AuthorityInfoAccessSyntax, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage, KeyUsage,
            crl::dp::DistributionPoint,
            name::{DistributionPointName, GeneralName},
        },
    },
    name::Name,
    time::Time,
};

use crate::trust::{
    KeyError, PublicKey,
    der_limits::are_kept,
    scheme::{Scheme, SchemeError},
};

/// Larger than any certificate that signs code; what is larger is made to be slow.
pub(super) const MAX_CERTIFICATE_BYTES: usize = 16 << 10;

/// Each is compared with all before it. Those of certificates that sign code, and of their roots, are a dozen.
pub(super) const MAX_EXTENSIONS: usize = 64;

/// A certificate that is well formed. Nothing is said of who issued it, and its key is looked at when
/// it is needed.
#[derive(Clone)]
pub(in crate::trust) struct Certificate {
    der: Vec<u8>,
    /// What the issuer signed, as it came.
    tbs: Vec<u8>,
    parsed: x509_cert::Certificate,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) extensions: Extensions,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Extensions {
    pub(super) basic_constraints: Option<Honoured<BasicConstraints>>,
    pub(super) key_usage: Option<Honoured<KeyUsage>>,
    pub(super) extended_key_usage: Option<Honoured<Vec<ObjectIdentifier>>>,
    /// Where to ask whether the certificate was revoked.
    pub(super) ocsp: Vec<String>,
    pub(super) crl: Vec<String>,
    /// Changes to the list lie at a place that the certificate names: a part of the list would be missed.
    pub(super) has_freshest_crl: bool,
    /// Of a service that answers about others: nobody needs to ask about it.
    pub(super) ocsp_no_check: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Honoured<T> {
    pub(super) critical: bool,
    pub(super) value: T,
}

/// Why bytes are not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFlaw {
    #[error("a certificate has at most {MAX_CERTIFICATE_BYTES} bytes")]
    TooLarge,
    #[error("a certificate is not strict DER of X.509")]
    Encoding,
    #[error("a certificate has at most {MAX_EXTENSIONS} extensions")]
    TooManyExtensions,
    #[error("a certificate has an extension twice")]
    ExtensionTwice,
    #[error("a certificate has an extension that cannot be read")]
    Extension,
}

impl Certificate {
    pub(super) fn from_der(der: &[u8]) -> Result<Self, CertificateFlaw> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateFlaw::TooLarge);
        }
        if !are_kept(der) {
            return Err(CertificateFlaw::Encoding);
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateFlaw::Encoding)?;
        let tbs = signed_part(der).ok_or(CertificateFlaw::Encoding)?.to_vec();
        let validity = parsed.tbs_certificate.validity;
        let (not_before, not_after) = (timestamp(validity.not_before), timestamp(validity.not_after));
        let extensions = Extensions::read(parsed.tbs_certificate.extensions.as_deref().unwrap_or_default())?;
        Ok(Self { der: der.to_vec(), tbs, parsed, not_before, not_after, extensions })
    }

    pub(super) fn parsed(&self) -> &x509_cert::Certificate {
        &self.parsed
    }

    pub(super) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(super) fn fingerprint(&self) -> [u8; 32] {
        digest(&SHA256, &self.der).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    pub(super) fn subject(&self) -> &Name {
        &self.parsed.tbs_certificate.subject
    }

    pub(super) fn issuer(&self) -> &Name {
        &self.parsed.tbs_certificate.issuer
    }

    /// The serial number, big-endian, as the certificate writes it.
    pub(super) fn serial(&self) -> &[u8] {
        self.parsed.tbs_certificate.serial_number.as_bytes()
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.subject() == self.issuer()
    }

    pub(super) fn key(&self) -> Result<PublicKey, KeyError> {
        let spki = self.parsed.tbs_certificate.subject_public_key_info.to_der().map_err(|_| KeyError::Encoding)?;
        PublicKey::from_der(spki)
    }

    /// The bits of the key alone: what OCSP names an issuer by.
    pub(super) fn key_bits(&self) -> &[u8] {
        self.parsed.tbs_certificate.subject_public_key_info.subject_public_key.raw_bytes()
    }

    /// How the issuer signed. The outer name of the algorithm is not signed, so it has to be the inner one.
    pub(super) fn scheme(&self) -> Result<Scheme, SchemeError> {
        if self.parsed.signature_algorithm != self.parsed.tbs_certificate.signature {
            return Err(SchemeError::Unknown);
        }
        Scheme::of(&self.parsed.signature_algorithm)
    }

    /// Whether this key made the certificate's signature.
    pub(super) fn is_signed_by(&self, key: &PublicKey) -> Result<bool, SchemeError> {
        let signature = self.parsed.signature.as_bytes().ok_or(SchemeError::Unknown)?;
        Ok(self.scheme()?.verifies(key, &self.tbs, signature))
    }

    pub(super) fn is_valid_at(&self, instant: Timestamp) -> bool {
        self.not_before <= instant && instant <= self.not_after
    }

    pub(super) fn is_authority(&self) -> bool {
        self.extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.value.ca)
    }
}

impl Extensions {
    fn read(list: &[Extension]) -> Result<Self, CertificateFlaw> {
        if list.len() > MAX_EXTENSIONS {
            return Err(CertificateFlaw::TooManyExtensions);
        }
        let mut found = Self::default();
        for (at, extension) in list.iter().enumerate() {
            if list[..at].iter().any(|earlier| earlier.extn_id == extension.extn_id) {
                return Err(CertificateFlaw::ExtensionTwice);
            }
            let critical = extension.critical;
            match extension.extn_id {
                BASIC_CONSTRAINTS => found.basic_constraints = Some(Honoured { critical, value: value(extension)? }),
                KEY_USAGE => found.key_usage = Some(Honoured { critical, value: value(extension)? }),
                EXTENDED_KEY_USAGE => {
                    let ExtendedKeyUsage(value) = value(extension)?;
                    found.extended_key_usage = Some(Honoured { critical, value });
                }
                AUTHORITY_INFO_ACCESS => {
                    let AuthorityInfoAccessSyntax(places) = value(extension)?;
                    let ocsp = places.into_iter().filter(|place| place.access_method == OCSP);
                    found.ocsp = ocsp.filter_map(|place| url(&place.access_location)).collect();
                }
                CRL_DISTRIBUTION_POINTS => {
                    let CrlDistributionPoints(points) = value(extension)?;
                    found.crl = places_of_lists(points);
                }
                OCSP_NO_CHECK => found.ocsp_no_check = true,
                FRESHEST_CRL => found.has_freshest_crl = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.subject())
    }
}

fn value<'a, T: Decode<'a>>(extension: &'a Extension) -> Result<T, CertificateFlaw> {
    T::from_der(extension.extn_value.as_bytes()).map_err(|_| CertificateFlaw::Extension)
}

pub(super) fn places_of_lists(points: Vec<DistributionPoint>) -> Vec<String> {
    let names = points.into_iter().filter_map(|point| match point.distribution_point {
        Some(DistributionPointName::FullName(names)) => Some(names),
        Some(DistributionPointName::NameRelativeToCRLIssuer(_)) | None => None,
    });
    names.flatten().filter_map(|name| url(&name)).collect()
}

fn url(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(text) => Some(text.to_string()),
        _ => None,
    }
}

/// The first element of a signed structure, with its header: what the signature is over.
pub(super) fn signed_part(der: &[u8]) -> Option<&[u8]> {
    let mut outer = SliceReader::new(der).ok()?;
    let header = der::Header::decode(&mut outer).ok()?;
    let content = outer.read_slice(header.length).ok()?;
    let mut inner = SliceReader::new(content).ok()?;
    inner.tlv_bytes().ok()
}

pub(super) fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
const FRESHEST_CRL: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.46");
const AUTHORITY_INFO_ACCESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
const OCSP_NO_CHECK: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.5");
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
