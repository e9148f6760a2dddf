//! Timestamp tokens (RFC 3161), in whose CMS (RFC 5652) an authority says when it saw some bytes. Which
//! authority is to be believed, and what follows from the time, is for the format that the token came with.

mod info;
#[cfg(test)]
mod tests;

use cms::{
    cert::CertificateChoices,
    content_info::ContentInfo,
    signed_data::{SignedData, SignerIdentifier, SignerInfo},
};
use jiff::Timestamp;
use spki::AlgorithmIdentifierRef;
use x509_cert::{
    Certificate,
    der::{
        self, Any, Decode, DecodeValue, Encode, FixedTag, Header, Reader, Tag,
        asn1::{AnyRef, ObjectIdentifier, OctetStringRef},
    },
    ext::pkix::SubjectKeyIdentifier,
};

use self::info::Info;
use super::{
    PublicKey, der_limits,
    key::Hash,
    scheme::{Scheme, SchemeError, hash_of},
};

/// A token that is well formed; whether it is true is for [`Self::check_signer`].
#[derive(Debug, Clone)]
pub(super) struct TimestampToken {
    info: Info,
    /// The bytes of the TSTInfo.
    content: Vec<u8>,
    signer: SignerInfo,
    certificates: Vec<Certificate>,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFlaw {
    #[error("it is not a timestamp token: CMS signed data with a TSTInfo is expected, in DER")]
    Encoding,
    #[error("it has not exactly one signer, who signed its content and the certificate that he signs with")]
    Signer,
    #[error("it is signed with another certificate")]
    OtherCertificate,
    #[error("{0}")]
    Scheme(#[from] SchemeError),
    #[error("its own signature is false")]
    Signature,
}

impl TimestampToken {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenFlaw> {
        if bytes.len() > MAX_TOKEN_BYTES || !der_limits::are_kept(bytes) {
            return Err(TokenFlaw::Encoding);
        }
        let info = ContentInfo::from_der(bytes).map_err(|_| TokenFlaw::Encoding)?;
        let data = (info.content_type == SIGNED_DATA).then(|| info.content.decode_as::<SignedData>().ok());
        let data = data.flatten().ok_or(TokenFlaw::Encoding)?;
        let content = &data.encap_content_info;
        let octets = content.econtent.as_ref().filter(|_| content.econtent_type == TST_INFO);
        let octets = octets.and_then(|any| AnyRef::from(any).decode_as::<OctetStringRef<'_>>().ok());
        let content = octets.ok_or(TokenFlaw::Encoding)?.as_bytes().to_vec();
        let info = Info::read(&content)?;
        // An authority signs alone; with more signers two readers could look at two of them.
        let [signer] = data.signer_infos.0.as_slice() else { return Err(TokenFlaw::Signer) };
        let signer = signer.clone();
        let choices = data.certificates.map(|set| set.0.into_vec()).unwrap_or_default();
        let certificates = choices.into_iter().filter_map(|choice| match choice {
            CertificateChoices::Certificate(certificate) => Some(certificate),
            CertificateChoices::Other(_) => None,
        });
        Ok(Self { info, content, signer, certificates: certificates.collect() })
    }

    /// Reads the granted response that holds a token, or the token alone.
    pub(super) fn parse_granted(bytes: &[u8]) -> Result<Self, TokenFlaw> {
        if bytes.len() > MAX_TOKEN_BYTES || !der_limits::are_kept(bytes) {
            return Err(TokenFlaw::Encoding);
        }
        match Response::from_der(bytes) {
            Ok(Response { is_granted: true, token: Some(token) }) => {
                Self::parse(&token.to_der().map_err(|_| TokenFlaw::Encoding)?)
            }
            Ok(_) => Err(TokenFlaw::Encoding),
            Err(_) => Self::parse(bytes),
        }
    }

    pub(super) fn time(&self) -> Timestamp {
        self.info.time
    }

    /// The earliest and the latest time that it can have been, as exact as the authority says to be.
    pub(super) fn bounds(&self) -> (Timestamp, Timestamp) {
        self.info.bounds()
    }

    /// Whether it is these bytes that the authority saw.
    pub(super) fn is_over(&self, bytes: &[u8]) -> bool {
        self.info.is_over(bytes)
    }

    /// The certificates that came with it, for which nobody answers.
    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
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

    /// Whether the holder of `key` signed it (RFC 5652, section 5.4) and said to do so with the certificate
    /// `der` (RFC 5816), so that no other with the same key can be put in its place.
    pub(super) fn check_signer(&self, der: &[u8], key: &PublicKey) -> Result<(), TokenFlaw> {
        let scheme = Scheme::of_signer(&self.signer.signature_algorithm, &self.signer.digest_alg)?;
        let hash = hash_of(self.signer.digest_alg.oid)?;
        let attributes = self.signer.signed_attrs.as_ref().ok_or(TokenFlaw::Signer)?;
        let one = |oid: ObjectIdentifier| {
            let mut found = attributes.iter().filter(|attribute| attribute.oid == oid);
            match (found.next().map(|attribute| attribute.values.as_slice()), found.next()) {
                (Some([value]), None) => Ok(AnyRef::from(value)),
                _ => Err(TokenFlaw::Signer),
            }
        };
        if one(CONTENT_TYPE)?.decode_as() != Ok(TST_INFO) {
            return Err(TokenFlaw::Signer);
        }
        let stated = one(MESSAGE_DIGEST)?.decode_as::<OctetStringRef<'_>>().map_err(|_| TokenFlaw::Signer)?;
        if stated.as_bytes() != hash.of(&self.content).as_ref() {
            return Err(TokenFlaw::Signature);
        }
        let (hash, expected) = signing_certificate(one(SIGNING_CERTIFICATE_V2)?)?;
        if hash.of(der).as_ref() != expected {
            return Err(TokenFlaw::OtherCertificate);
        }
        // The attributes are signed as the set that they are.
        let signed = attributes.to_der().map_err(|_| TokenFlaw::Encoding)?;
        match scheme.verifies(key, &signed, self.signer.signature.as_bytes()) {
            true => Ok(()),
            false => Err(TokenFlaw::Signature),
        }
    }
}

/// RFC 5035, section 3: the first of the certificates is the signer's. SHA-256 unless it says otherwise.
fn signing_certificate(attribute: AnyRef<'_>) -> Result<(Hash, &[u8]), TokenFlaw> {
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
    let (algorithm, hash) = named.map_err(|_| TokenFlaw::Signer)?;
    let algorithm = algorithm.map_or(Ok(Hash::Sha256), |algorithm| hash_of(algorithm.oid))?;
    Ok((algorithm, hash.as_bytes()))
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

/// With a chain of certificates in it a token has some 6 KiB.
pub(super) const MAX_TOKEN_BYTES: usize = 32 << 10;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
