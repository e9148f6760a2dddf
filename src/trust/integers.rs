use der::{Decode, DecodeValue, FixedTag, Header, Reader, Tag, asn1::UintRef};

/// The big-endian numbers of a DER `SEQUENCE { INTEGER, INTEGER }` without their leading zeros: an RSA
/// public key (RFC 8017, A.1.1) and an ECDSA signature (RFC 3279, 2.2.3) are both written so. None for
/// anything that is not the one strict encoding, or with a negative number.
pub(super) fn two_integers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let Pair(first, second) = Pair::from_der(der).ok()?;
    Some((first.as_bytes(), second.as_bytes()))
}

struct Pair<'a>(UintRef<'a>, UintRef<'a>);

impl<'a> DecodeValue<'a> for Pair<'a> {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        reader.read_nested(header.length, |reader| Ok(Self(UintRef::decode(reader)?, UintRef::decode(reader)?)))
    }
}

impl FixedTag for Pair<'_> {
    const TAG: Tag = Tag::Sequence;
}
