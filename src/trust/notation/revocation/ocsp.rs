//! The Online Certificate Status Protocol (RFC 6960).

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use der::{
    Decode, Encode,
    asn1::{GeneralizedTime, Null, ObjectIdentifier, OctetString},
};
use jiff::Timestamp;
use spki::AlgorithmIdentifierOwned;
use x509_cert::{ext::Extension, serial_number::SerialNumber};
use x509_ocsp::{
    BasicOcspResponse, CertId, CertStatus, OcspGeneralizedTime, OcspRequest, OcspResponse, OcspResponseStatus, Request,
    SingleResponse, TbsRequest, Version,
};

use super::{MAX_OCSP_BYTES, RevocationFlaw, Revoked, Status};
use crate::trust::{
    der_limits::are_kept,
    notation::certificate::{Certificate, signed_part},
    scheme::Scheme,
};

/// Asks about one certificate, without a nonce: answers may then be prepared and cached, and how old one
/// may be is what it says itself.
pub(super) fn request(certificate: &Certificate, issuer: &Certificate) -> Vec<u8> {
    let hash = |bytes: &[u8]| OctetString::new(digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    let name = issuer.subject().to_der().expect("a name that was read can be written");
    let short = "a hash is short";
    let req_cert = CertId {
        // The hash is a name here and proves nothing; many services know certificates by no other.
        hash_algorithm: AlgorithmIdentifierOwned { oid: SHA1, parameters: Some(Null.into()) },
        issuer_name_hash: hash(&name).expect(short),
        issuer_key_hash: hash(issuer.key_bits()).expect(short),
        serial_number: SerialNumber::new(certificate.serial()).expect("a serial number that was read can be written"),
    };
    let tbs_request = TbsRequest {
        version: Version::V1,
        requestor_name: None,
        request_list: vec![Request { req_cert, single_request_extensions: None }],
        request_extensions: None,
    };
    OcspRequest { tbs_request, optional_signature: None }.to_der().expect("a question of hashes can be written")
}

pub(super) fn status(
    certificate: &Certificate,
    issuer: &Certificate,
    answer: &[u8],
    now: Timestamp,
) -> Result<Status, RevocationFlaw> {
    if answer.len() > MAX_OCSP_BYTES {
        return Err(RevocationFlaw::OcspTooLarge);
    }
    if !are_kept(answer) {
        return Err(RevocationFlaw::Encoding);
    }
    let outer = OcspResponse::from_der(answer).map_err(|_| RevocationFlaw::Encoding)?;
    let inner = match (outer.response_status, outer.response_bytes) {
        (OcspResponseStatus::Successful, Some(inner)) if inner.response_type == BASIC => inner.response,
        (OcspResponseStatus::Successful, _) => return Err(RevocationFlaw::Encoding),
        _ => return Err(RevocationFlaw::Refused),
    };
    if !are_kept(inner.as_bytes()) {
        return Err(RevocationFlaw::Encoding);
    }
    let basic = BasicOcspResponse::from_der(inner.as_bytes()).map_err(|_| RevocationFlaw::Encoding)?;
    let signed = signed_part(inner.as_bytes()).ok_or(RevocationFlaw::Encoding)?;
    let is_about = |single: &&SingleResponse| names(&single.cert_id, certificate, issuer);
    let single = basic.tbs_response_data.responses.iter().find(is_about).ok_or(RevocationFlaw::OtherCertificate)?;
    verify(&basic, signed, issuer, now)?;
    let revoked = match &single.cert_status {
        CertStatus::Good(_) => None,
        CertStatus::Revoked(_) => {
            let extensions = single.single_extensions.as_deref().unwrap_or_default();
            Some(Revoked { invalid_since: invalidity_date(extensions)? })
        }
        CertStatus::Unknown(_) => return Err(RevocationFlaw::UnknownCertificate),
    };
    let time = |time: OcspGeneralizedTime| super::super::certificate::timestamp(time.0.into());
    Status::new(revoked, time(single.this_update), single.next_update.map(time), now)
}

/// Whether this names the certificate, by either of the hashes that are in use.
fn names(id: &CertId, certificate: &Certificate, issuer: &Certificate) -> bool {
    let algorithm = match id.hash_algorithm.oid {
        SHA1 => &SHA1_FOR_LEGACY_USE_ONLY,
        SHA_256 => &SHA256,
        _ => return false,
    };
    let is_hash = |hash: &OctetString, of: &[u8]| hash.as_bytes() == digest::digest(algorithm, of).as_ref();
    id.serial_number.as_bytes() == certificate.serial()
        && issuer.subject().to_der().is_ok_and(|name| is_hash(&id.issuer_name_hash, &name))
        && is_hash(&id.issuer_key_hash, issuer.key_bits())
}

/// RFC 6960, section 4.2.2.2: the issuer answers itself, or through somebody to whom it gave a certificate
/// for that.
fn verify(
    basic: &BasicOcspResponse,
    signed: &[u8],
    issuer: &Certificate,
    now: Timestamp,
) -> Result<(), RevocationFlaw> {
    let scheme = Scheme::of(&basic.signature_algorithm)?;
    let signature = basic.signature.as_bytes().ok_or(RevocationFlaw::Encoding)?;
    let issuer_key = issuer.key()?;
    if scheme.verifies(&issuer_key, signed, signature) {
        return Ok(());
    }
    let mut answered = Err(RevocationFlaw::Signature);
    for delegate in basic.certs.iter().flatten().take(MAX_DELEGATES) {
        let der = delegate.to_der().map_err(|_| RevocationFlaw::Encoding)?;
        let delegate = Certificate::from_der(&der).map_err(|_| RevocationFlaw::Encoding)?;
        let may_answer = delegate.extensions.extended_key_usage.as_ref();
        let may_answer = may_answer.is_some_and(|usages| usages.value.contains(&OCSP_SIGNING));
        let is_of_issuer = delegate.issuer() == issuer.subject() && delegate.is_valid_at(now);
        if !may_answer || !is_of_issuer || !delegate.is_signed_by(&issuer_key)? {
            answered = Err(RevocationFlaw::Signer);
        } else if !scheme.verifies(&delegate.key()?, signed, signature) {
            answered = Err(RevocationFlaw::Signature);
        } else if !delegate.extensions.ocsp_no_check && !delegate.extensions.crl.is_empty() {
            // It could be revoked itself, and asking about it would have no end: the list has to do.
            answered = Err(RevocationFlaw::SignerMayBeRevoked);
        } else {
            return Ok(());
        }
    }
    answered
}

/// RFC 5280, section 5.3.2.
pub(super) fn invalidity_date(extensions: &[Extension]) -> Result<Option<Timestamp>, RevocationFlaw> {
    let Some(extension) = extensions.iter().find(|extension| extension.extn_id == INVALIDITY_DATE) else {
        return Ok(None);
    };
    let date = GeneralizedTime::from_der(extension.extn_value.as_bytes()).map_err(|_| RevocationFlaw::Encoding)?;
    Ok(Some(super::super::certificate::timestamp(date.into())))
}

const MAX_DELEGATES: usize = 4;

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
pub(super) const INVALIDITY_DATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.24");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
