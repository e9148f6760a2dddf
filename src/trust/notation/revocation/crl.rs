//! Certificate revocation lists (RFC 5280, section 5), whole ones and lists of changes to them.

use der::{Decode, asn1::ObjectIdentifier};
use jiff::Timestamp;
use x509_cert::{
    crl::{CertificateList, RevokedCert},
    ext::{
        Extension,
        pkix::{BaseCrlNumber, CrlNumber, CrlReason, FreshestCrl, IssuingDistributionPoint, KeyUsages},
    },
};

use super::{
    MAX_CRL_BYTES, RevocationFlaw, Revoked, Status,
    ocsp::{INVALIDITY_DATE, invalidity_date},
};
use crate::trust::{
    der_limits::are_kept,
    notation::certificate::{Certificate, places_of_lists, signed_part, timestamp},
    scheme::Scheme,
};

/// Where the changes since this list are.
pub(super) fn delta_urls(list: &[u8]) -> Result<Vec<String>, RevocationFlaw> {
    match value(extensions(&read(list)?), FRESHEST)? {
        Some(FreshestCrl(points)) => Ok(places_of_lists(points)),
        None => Ok(Vec::new()),
    }
}

pub(super) fn status(
    certificate: &Certificate,
    issuer: &Certificate,
    list: &[u8],
    delta: Option<&[u8]>,
    now: Timestamp,
) -> Result<Status, RevocationFlaw> {
    let base = read(list)?;
    verify(&base, list, certificate, issuer)?;
    let changes = delta.map(read).transpose()?;
    if let (Some(changes), Some(delta)) = (&changes, delta) {
        verify(changes, delta, certificate, issuer)?;
        belongs(changes, &base)?;
    }
    if extensions(&base).iter().any(|extension| extension.extn_id == DELTA_INDICATOR) {
        return Err(RevocationFlaw::Delta);
    }
    // Changes may be missed where the list, or the certificate, says that there are any and none came.
    let has_changes = certificate.extensions.has_freshest_crl
        || extensions(&base).iter().any(|extension| extension.extn_id == FRESHEST);
    if has_changes && changes.is_none() {
        return Err(RevocationFlaw::Delta);
    }
    let revoked = match changes.as_ref().map(|changes| entry(changes, certificate)).transpose()?.flatten() {
        Some(Entry::Removed) => None,
        Some(Entry::Revoked(revoked)) => Some(revoked),
        None => match entry(&base, certificate)? {
            Some(Entry::Revoked(revoked)) => Some(revoked),
            Some(Entry::Removed) | None => None,
        },
    };
    let window = |list: &CertificateList| {
        let list = &list.tbs_cert_list;
        let until = list.next_update.map(timestamp).ok_or(RevocationFlaw::Stale)?;
        Status::new(revoked, timestamp(list.this_update), Some(until), now)
    };
    let status = window(&base)?;
    match changes.as_ref().map(window).transpose()? {
        Some(newer) => Ok(Status { until: status.until.min(newer.until), ..newer }),
        None => Ok(status),
    }
}

enum Entry {
    Revoked(Revoked),
    /// Was on hold, and is no longer.
    Removed,
}

fn entry(list: &CertificateList, certificate: &Certificate) -> Result<Option<Entry>, RevocationFlaw> {
    let mut entries = list.tbs_cert_list.revoked_certificates.iter().flatten();
    // The last word counts, should there be several.
    match entries.rfind(|entry| entry.serial_number.as_bytes() == certificate.serial()) {
        Some(found) => read_entry(found).map(Some),
        None => Ok(None),
    }
}

fn read_entry(entry: &RevokedCert) -> Result<Entry, RevocationFlaw> {
    let extensions = entry.crl_entry_extensions.as_deref().unwrap_or_default();
    // With another issuer's name in it, it is about another's certificate.
    let known = [REASON, INVALIDITY_DATE];
    if extensions.iter().any(|extension| extension.critical && !known.contains(&extension.extn_id)) {
        return Err(RevocationFlaw::Scope);
    }
    match value::<CrlReason>(extensions, REASON)? {
        Some(CrlReason::RemoveFromCRL) => Ok(Entry::Removed),
        _ => Ok(Entry::Revoked(Revoked { invalid_since: invalidity_date(extensions)? })),
    }
}

fn read(list: &[u8]) -> Result<CertificateList, RevocationFlaw> {
    if list.len() > MAX_CRL_BYTES {
        return Err(RevocationFlaw::CrlTooLarge);
    }
    if !are_kept(list) {
        return Err(RevocationFlaw::Encoding);
    }
    CertificateList::from_der(list).map_err(|_| RevocationFlaw::Encoding)
}

/// Whether the certificate's own issuer made the list, and for such certificates.
fn verify(
    list: &CertificateList,
    der: &[u8],
    certificate: &Certificate,
    issuer: &Certificate,
) -> Result<(), RevocationFlaw> {
    let usage = issuer.extensions.key_usage.as_ref();
    let may_sign = usage.is_none_or(|usage| usage.value.0.contains(KeyUsages::CRLSign));
    if list.tbs_cert_list.issuer != *issuer.subject() || !may_sign {
        return Err(RevocationFlaw::Signer);
    }
    let signed = signed_part(der).ok_or(RevocationFlaw::Encoding)?;
    let signature = list.signature.as_bytes().ok_or(RevocationFlaw::Encoding)?;
    let scheme = Scheme::of(&list.signature_algorithm)?;
    if list.signature_algorithm != list.tbs_cert_list.signature || !scheme.verifies(&issuer.key()?, signed, signature) {
        return Err(RevocationFlaw::Signature);
    }
    let known = [ISSUING_POINT, DELTA_INDICATOR];
    if extensions(list).iter().any(|extension| extension.critical && !known.contains(&extension.extn_id)) {
        return Err(RevocationFlaw::Scope);
    }
    let Some(point) = value::<IssuingDistributionPoint>(extensions(list), ISSUING_POINT)? else { return Ok(()) };
    let of_others = match certificate.is_authority() {
        true => point.only_contains_user_certs,
        false => point.only_contains_ca_certs,
    };
    let is_partial = point.indirect_crl || point.only_contains_attribute_certs || point.only_some_reasons.is_some();
    if of_others || is_partial { Err(RevocationFlaw::Scope) } else { Ok(()) }
}

/// RFC 5280, section 5.2.4: changes to this list or an older one, and newer than it.
fn belongs(changes: &CertificateList, base: &CertificateList) -> Result<(), RevocationFlaw> {
    let number = |list| match value(extensions(list), NUMBER)? {
        Some(CrlNumber(number)) => Ok(number),
        None => Err(RevocationFlaw::Delta),
    };
    let BaseCrlNumber(since) = value(extensions(changes), DELTA_INDICATOR)?.ok_or(RevocationFlaw::Delta)?;
    let base = number(base)?;
    let order = |number: &der::asn1::Uint| (number.as_bytes().len(), number.as_bytes().to_vec());
    match order(&since) <= order(&base) && order(&base) < order(&number(changes)?) {
        true => Ok(()),
        false => Err(RevocationFlaw::Delta),
    }
}

fn extensions(list: &CertificateList) -> &[Extension] {
    list.tbs_cert_list.crl_extensions.as_deref().unwrap_or_default()
}

fn value<'a, T: Decode<'a>>(extensions: &'a [Extension], oid: ObjectIdentifier) -> Result<Option<T>, RevocationFlaw> {
    let found = extensions.iter().find(|extension| extension.extn_id == oid);
    found.map(|found| T::from_der(found.extn_value.as_bytes()).map_err(|_| RevocationFlaw::Encoding)).transpose()
}

const NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
const DELTA_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const ISSUING_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const FRESHEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.46");
