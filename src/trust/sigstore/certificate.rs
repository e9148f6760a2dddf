//! The certificate of a keyless signer: whom it names, and whether an authority of a root issued it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode,
        asn1::{ObjectIdentifier, Utf8StringRef},
        oid::AssociatedOid,
    },
    ext::pkix::{self, SubjectAltName, name::GeneralName},
};

use super::{
    identity::{Claim, Identity},
    rejection::SigstoreRejection,
    root::{Authority, MAX_CERTIFICATE_BYTES, SigstoreRoot, Window},
};
use crate::trust::{PublicKey, der_limits};

/// A certificate that is well formed; who issued it is for [`Self::issued_by`].
#[derive(Debug, Clone)]
pub(super) struct SignerCertificate {
    pub(super) der: Vec<u8>,
    pub(super) certificate: Certificate,
    pub(super) key: PublicKey,
    /// None where no issuer of identities is named: a certificate of some other authority than a sigstore's.
    pub(super) identity: Option<Identity>,
    pub(super) valid: Window,
}

/// Why bytes are no certificate of a keyless signer; never any text of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFlaw {
    #[error("it has more than {MAX_CERTIFICATE_BYTES} bytes")]
    TooLarge,
    #[error("it is not X.509 in DER")]
    Encoding,
    #[error("its validity is not one")]
    Validity,
    #[error("its public key is of a kind that is not accepted")]
    Key,
    #[error("it does not name exactly one subject, as an e-mail address, a URI or a user name")]
    Subject,
    #[error("it names two issuers of identities, or one that is not text")]
    Issuer,
    #[error("an extension with a claim stands twice, or is not text")]
    Claim,
}

impl SignerCertificate {
    pub(super) fn parse(der: Vec<u8>) -> Result<Self, CertificateFlaw> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateFlaw::TooLarge);
        }
        let certificate = der_limits::are_kept(&der).then(|| Certificate::from_der(&der).ok()).flatten();
        let certificate = certificate.ok_or(CertificateFlaw::Encoding)?;
        let valid = validity(&certificate).ok_or(CertificateFlaw::Validity)?;
        let key = certificate.tbs_certificate.subject_public_key_info.to_der().ok();
        let key = key.and_then(|der| PublicKey::from_der(der).ok()).ok_or(CertificateFlaw::Key)?;
        let identity = match issuer(&certificate)? {
            Some(issuer) => Some(Identity { subject: subject(&certificate)?, issuer, claims: claims(&certificate)? }),
            None => None,
        };
        Ok(Self { der, certificate, key, identity, valid })
    }

    /// The authority of `root` that issued it, and the instants at which both are valid. The chain that
    /// came with a signature is not looked at: whatever is believed stands in the root.
    pub(super) fn issued_by<'r>(&self, root: &'r SigstoreRoot) -> Result<(&'r Authority, Window), SigstoreRejection> {
        let der = CertificateDer::from(self.der.as_slice());
        let leaf = EndEntityCert::try_from(&der).map_err(|_| SigstoreRejection::Chain)?;
        let seconds = u64::try_from(self.valid.from.as_second()).map_err(|_| SigstoreRejection::Chain)?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let mut reason = SigstoreRejection::Chain;
        for authority in &root.authorities {
            let issued = leaf.verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                std::slice::from_ref(&authority.anchor),
                &[],
                at,
                KeyUsage::required(ID_KP_CODE_SIGNING.as_bytes()),
                None,
                None,
            );
            match issued {
                Ok(_) if !authority.valid.contains(self.valid.from) => reason = SigstoreRejection::AuthorityTime,
                Ok(_) if !self.may_sign() => return Err(SigstoreRejection::CertificateUsage),
                Ok(_) => return Ok((authority, self.valid.and(authority.valid))),
                Err(webpki::Error::RequiredEkuNotFoundContext(_)) => reason = SigstoreRejection::CertificateUsage,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    fn may_sign(&self) -> bool {
        match self.certificate.tbs_certificate.get::<pkix::KeyUsage>() {
            Ok(Some((_, usage))) => usage.digital_signature(),
            Ok(None) | Err(_) => false,
        }
    }
}

/// Whether it names itself as its issuer, as a root does.
pub(super) fn is_self_issued(der: &[u8]) -> Result<bool, CertificateFlaw> {
    let certificate = der_limits::are_kept(der).then(|| Certificate::from_der(der).ok()).flatten();
    let certificate = &certificate.ok_or(CertificateFlaw::Encoding)?.tbs_certificate;
    Ok(certificate.issuer == certificate.subject)
}

pub(super) fn validity(certificate: &Certificate) -> Option<Window> {
    let validity = &certificate.tbs_certificate.validity;
    let time = |time: &x509_cert::time::Time| {
        Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
    };
    let window = Window { from: time(&validity.not_before)?, to: time(&validity.not_after)? };
    (window.from <= window.to).then_some(window)
}

/// The only name in the certificate: with two, one reader would take the first and another the last.
fn subject(certificate: &Certificate) -> Result<String, CertificateFlaw> {
    let names = extension(certificate, SubjectAltName::OID).map_err(|_| CertificateFlaw::Subject)?;
    let names =
        names.filter(|names| der_limits::are_kept(names)).and_then(|names| SubjectAltName::from_der(names).ok());
    let names = names.ok_or(CertificateFlaw::Subject)?;
    let subject = match names.0.as_slice() {
        [GeneralName::Rfc822Name(address)] => address.to_string(),
        [GeneralName::UniformResourceIdentifier(uri)] => uri.to_string(),
        [GeneralName::OtherName(name)] if name.type_id == USER_NAME => {
            name.value.decode_as::<Utf8StringRef<'_>>().map_err(|_| CertificateFlaw::Subject)?.to_string()
        }
        _ => return Err(CertificateFlaw::Subject),
    };
    match subject.is_empty() || subject.len() > MAX_NAME_BYTES {
        true => Err(CertificateFlaw::Subject),
        false => Ok(subject),
    }
}

/// Who vouched for the subject to the authority: an extension in two spellings, which must agree.
fn issuer(certificate: &Certificate) -> Result<Option<String>, CertificateFlaw> {
    let flaw = CertificateFlaw::Issuer;
    let old = extension(certificate, ISSUER_RAW)?.map(|bytes| str::from_utf8(bytes).map_err(|_| flaw)).transpose()?;
    let new = extension(certificate, ISSUER)?.map(|bytes| utf8(bytes).ok_or(flaw)).transpose()?;
    let issuer = match (old, new) {
        (Some(old), Some(new)) if old != new => return Err(flaw),
        (_, Some(issuer)) | (Some(issuer), None) => issuer,
        (None, None) => return Ok(None),
    };
    match issuer.is_empty() || issuer.len() > MAX_NAME_BYTES {
        true => Err(flaw),
        false => Ok(Some(issuer.to_owned())),
    }
}

fn claims(certificate: &Certificate) -> Result<BTreeMap<Claim, String>, CertificateFlaw> {
    let mut claims = BTreeMap::new();
    for claim in Claim::ALL {
        let Some(bytes) = extension(certificate, claim.oid())? else { continue };
        let text = if claim.is_raw() { str::from_utf8(bytes).ok() } else { utf8(bytes) };
        let text = text.filter(|text| text.len() <= MAX_NAME_BYTES).ok_or(CertificateFlaw::Claim)?;
        claims.insert(claim, text.to_owned());
    }
    Ok(claims)
}

fn utf8(der: &[u8]) -> Option<&str> {
    Utf8StringRef::from_der(der).ok().map(|text| text.as_str())
}

fn extension(certificate: &Certificate, oid: ObjectIdentifier) -> Result<Option<&[u8]>, CertificateFlaw> {
    let all = certificate.tbs_certificate.extensions.iter().flatten();
    let mut found = all.filter(|extension| extension.extn_id == oid);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(CertificateFlaw::Claim),
        (extension, None) => Ok(extension.map(|extension| extension.extn_value.as_bytes())),
    }
}

const MAX_NAME_BYTES: usize = 2048;
const ID_KP_CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
/// Text as it stands, without any ASN.1 around it.
const ISSUER_RAW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const USER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
