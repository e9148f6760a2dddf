//! Timestamp tokens (RFC 3161): that an authority saw some bytes at some time. Which authority is to be
//! believed is for the format that the token came with.

#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{self, digest};
use cms::{
    content_info::ContentInfo,
    signed_data::{SignedData, SignerIdentifier, SignerInfo},
};
use jiff::Timestamp;
use x509_cert::{
    Certificate,
    attr::Attribute,
    der::{
        self, Any, Decode, DecodeValue, Encode, FixedTag, Header, Reader, Tag, Tagged,
        asn1::{AnyRef, ObjectIdentifier, OctetString, OctetStringRef},
    },
    ext::pkix::SubjectKeyIdentifier,
    spki::AlgorithmIdentifierOwned,
};

use super::{PublicKey, der_limits, key::Hash, verifier::message::Message};

/// A token that is well formed; whether it is true is for [`Self::is_by`].
#[derive(Debug, Clone)]
pub(super) struct TimestampToken {
    time: Timestamp,
    imprint: Imprint,
    signer: SignerInfo,
    /// What the signed attributes have the hash of.
    content: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Imprint {
    hash: Hash,
    hashed: Vec<u8>,
}

impl TimestampToken {
    /// Reads a token, or the granted response that holds one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_TOKEN_BYTES || !der_limits::are_kept(bytes) {
            return None;
        }
        let response = Response::from_der(bytes).ok();
        let info = match response {
            Some(response) if response.is_granted => ContentInfo::from_der(&response.token?.to_der().ok()?).ok()?,
            Some(_) => return None,
            None => ContentInfo::from_der(bytes).ok()?,
        };
        let data: SignedData = (info.content_type == SIGNED_DATA).then(|| info.content.decode_as().ok())??;
        if data.encap_content_info.econtent_type != TST_INFO {
            return None;
        }
        let content = data.encap_content_info.econtent?.decode_as::<OctetString>().ok()?.into_bytes();
        let stamp = Stamp::from_der(&content).ok()?;
        let imprint = Imprint { hash: hash_of(stamp.algorithm)?, hashed: stamp.hashed.to_vec() };
        // An authority signs alone; with more signers two readers could look at two of them.
        let [signer] = data.signer_infos.0.as_slice() else { return None };
        Some(Self { time: general_time(stamp.time)?, imprint, signer: signer.clone(), content })
    }

    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether it is these bytes that the authority saw.
    pub(super) fn is_over(&self, bytes: &[u8]) -> bool {
        digest(algorithm(self.imprint.hash), bytes).as_ref() == self.imprint.hashed
    }

    /// Whether it says to be signed with this certificate's key.
    pub(super) fn names(&self, certificate: &Certificate) -> bool {
        let certificate = &certificate.tbs_certificate;
        match &self.signer.sid {
            SignerIdentifier::IssuerAndSerialNumber(named) => {
                named.issuer == certificate.issuer && named.serial_number == certificate.serial_number
            }
            SignerIdentifier::SubjectKeyIdentifier(named) => {
                matches!(certificate.get::<SubjectKeyIdentifier>(), Ok(Some((_, id))) if id == *named)
            }
        }
    }

    /// Whether the holder of `key` signed it: RFC 5652, section 5.4.
    pub(super) fn is_by(&self, key: &PublicKey) -> bool {
        let hash = hash_of(self.signer.digest_alg.oid);
        let (Some(hash), Some(attributes)) = (hash, &self.signer.signed_attrs) else {
            return false;
        };
        let one = |oid| {
            let mut found = attributes.iter().filter(|attribute: &&Attribute| attribute.oid == oid);
            match (found.next().map(|attribute| attribute.values.as_slice()), found.next()) {
                (Some([value]), None) => Some(value),
                _ => None,
            }
        };
        let names_content = one(CONTENT_TYPE).is_some_and(|value| value.decode_as() == Ok(TST_INFO));
        let hashed = digest(algorithm(hash), &self.content);
        let has_content = one(MESSAGE_DIGEST)
            .and_then(|value| value.decode_as::<OctetStringRef<'_>>().ok())
            .is_some_and(|value| value.as_bytes() == hashed.as_ref());
        let (true, true, Ok(signed)) = (names_content, has_content, attributes.to_der()) else {
            return false;
        };
        let message = Message::payload(&signed);
        let signing_hash = signing_hash(&self.signer.signature_algorithm).unwrap_or(hash);
        message
            .hashed(signing_hash)
            .is_some_and(|hashed| key.verifies_hash(signing_hash, &hashed, self.signer.signature.as_bytes()))
    }
}

struct Response {
    is_granted: bool,
    token: Option<Any>,
}

impl<'a> DecodeValue<'a> for Response {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        reader.read_nested(header.length, |reader| {
            let status = AnyRef::decode(reader)?;
            let status = status.sequence(|reader| {
                let status = u8::decode(reader)?;
                while !reader.is_finished() {
                    AnyRef::decode(reader)?;
                }
                Ok(status)
            })?;
            // Granted, or granted with changes.
            Ok(Self { is_granted: status <= 1, token: Option::<Any>::decode(reader)? })
        })
    }
}

impl FixedTag for Response {
    const TAG: Tag = Tag::Sequence;
}

/// The beginning of `TSTInfo`, as far as anything here depends on it.
struct Stamp<'a> {
    algorithm: ObjectIdentifier,
    hashed: &'a [u8],
    time: AnyRef<'a>,
}

impl<'a> DecodeValue<'a> for Stamp<'a> {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        reader.read_nested(header.length, |reader| {
            if u8::decode(reader)? != 1 {
                return Err(Tag::Integer.value_error());
            }
            let _policy = ObjectIdentifier::decode(reader)?;
            let (algorithm, hashed) = reader.sequence(|reader| {
                let algorithm = AlgorithmIdentifierOwned::decode(reader)?;
                Ok((algorithm.oid, OctetStringRef::decode(reader)?.as_bytes()))
            })?;
            let _serial = AnyRef::decode(reader)?;
            let time = AnyRef::decode(reader)?;
            while !reader.is_finished() {
                AnyRef::decode(reader)?;
            }
            Ok(Self { algorithm, hashed, time })
        })
    }
}

impl FixedTag for Stamp<'_> {
    const TAG: Tag = Tag::Sequence;
}

/// `YYYYMMDDhhmmss[.f…]Z`, with which RFC 3161 goes beyond what DER readers take. A part of a second is
/// left out.
fn general_time(value: AnyRef<'_>) -> Option<Timestamp> {
    let text = (value.tag() == Tag::GeneralizedTime).then(|| str::from_utf8(value.value()).ok())??;
    let (whole, fraction) = text.strip_suffix('Z')?.split_at_checked(14)?;
    let is_fraction = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !fraction.is_empty() && !fraction.strip_prefix('.').is_some_and(is_fraction) {
        return None;
    }
    let part = |range| whole.get(range);
    let (date, time) = (part(0..8)?, part(8..14)?);
    format!("{date}T{time}Z").parse().ok()
}

fn hash_of(oid: ObjectIdentifier) -> Option<Hash> {
    match oid {
        SHA256 => Some(Hash::Sha256),
        SHA384 => Some(Hash::Sha384),
        SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// The hash that a signature algorithm names, if it names one.
fn signing_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    match algorithm.oid {
        ECDSA_SHA256 | RSA_SHA256 => Some(Hash::Sha256),
        ECDSA_SHA384 | RSA_SHA384 => Some(Hash::Sha384),
        ECDSA_SHA512 | RSA_SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

fn algorithm(hash: Hash) -> &'static digest::Algorithm {
    match hash {
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    }
}

/// With a chain of certificates in it a token has some 6 KiB.
pub(super) const MAX_TOKEN_BYTES: usize = 32 << 10;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
