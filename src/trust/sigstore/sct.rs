//! The timestamp by which a certificate log promises to hold a certificate: RFC 6962, section 3.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use x509_cert::{
    Certificate,
    der::{
        Decode, Encode,
        asn1::{ObjectIdentifier, OctetStringRef},
    },
};

use super::{rejection::SigstoreRejection, root::Log};
use crate::trust::verifier::{message::Message, signed_by};

/// Whether one of `logs` has logged the certificate that the holder of `issuer_key` issued.
pub(super) fn verify(certificate: &Certificate, issuer_key: &[u8], logs: &[Log]) -> Result<(), SigstoreRejection> {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let extension = extensions.clone().find(|extension| extension.extn_id == SCT_LIST);
    let extension = extension.ok_or(SigstoreRejection::SctMissing)?;
    let list = OctetStringRef::from_der(extension.extn_value.as_bytes()).ok();
    let list = list.and_then(|list| timestamps(list.as_bytes())).ok_or(SigstoreRejection::SctInvalid)?;
    let logged = logged_part(certificate).ok_or(SigstoreRejection::SctInvalid)?;
    let issuer = digest(&SHA256, issuer_key);
    match list.iter().any(|timestamp| timestamp.is_true(&logged, issuer.as_ref(), logs)) {
        true => Ok(()),
        false => Err(SigstoreRejection::SctInvalid),
    }
}

/// The certificate without the timestamps, which were made before they could be in it.
fn logged_part(certificate: &Certificate) -> Option<Vec<u8>> {
    let mut certificate = certificate.tbs_certificate.clone();
    certificate.extensions.as_mut()?.retain(|extension| extension.extn_id != SCT_LIST);
    certificate.to_der().ok()
}

struct SignedTimestamp<'a> {
    log: &'a [u8],
    milliseconds: u64,
    extensions: &'a [u8],
    signature: &'a [u8],
}

fn timestamps(list: &[u8]) -> Option<Vec<SignedTimestamp<'_>>> {
    let (mut rest, end) = sized(list)?;
    let mut timestamps = Vec::new();
    while !rest.is_empty() {
        let (timestamp, next) = sized(rest)?;
        timestamps.push(SignedTimestamp::parse(timestamp)?);
        rest = next;
    }
    (end.is_empty() && timestamps.len() <= MAX_TIMESTAMPS).then_some(timestamps)
}

/// What has its length in two bytes before it, and what follows.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*length).into())
}

impl<'a> SignedTimestamp<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (log, rest) = rest.split_at_checked(32)?;
        let (milliseconds, rest) = rest.split_first_chunk()?;
        let (extensions, rest) = sized(rest)?;
        // The algorithm is the key's: what is said of it here is not signed.
        let (_, rest) = rest.split_at_checked(2)?;
        let (signature, end) = sized(rest)?;
        let milliseconds = u64::from_be_bytes(*milliseconds);
        (*version == 0 && end.is_empty()).then_some(Self { log, milliseconds, extensions, signature })
    }

    fn is_true(&self, logged: &[u8], issuer: &[u8], logs: &[Log]) -> bool {
        let time = i64::try_from(self.milliseconds).ok().and_then(|time| Timestamp::from_millisecond(time).ok());
        let log = logs.iter().find(|log| log.id == self.log);
        let (Some(log), Some(time)) = (log, time) else {
            return false;
        };
        let (Ok(length), Ok(extensions)) = (u32::try_from(logged.len()), u16::try_from(self.extensions.len())) else {
            return false;
        };
        let mut signed = vec![VERSION_1, CERTIFICATE_TIMESTAMP];
        signed.extend(self.milliseconds.to_be_bytes());
        signed.extend(PRECERTIFICATE);
        signed.extend(issuer);
        signed.extend(&length.to_be_bytes()[1..]);
        signed.extend(logged);
        signed.extend(extensions.to_be_bytes());
        signed.extend(self.extensions);
        log.valid.contains(time) && signed_by(&log.key, &Message::payload(&signed), self.signature) == Some(true)
    }
}

const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
const VERSION_1: u8 = 0;
const CERTIFICATE_TIMESTAMP: u8 = 0;
const PRECERTIFICATE: [u8; 2] = [0, 1];
const MAX_TIMESTAMPS: usize = 4;
