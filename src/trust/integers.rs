use der::{Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Tag, Writer, asn1::UintRef};

/// The big-endian numbers of a DER `SEQUENCE { INTEGER, INTEGER }` without their leading zeros: an RSA
/// public key (RFC 8017, A.1.1) and an ECDSA signature (RFC 3279, 2.2.3) are both written so. None for
/// anything that is not the one strict encoding, or with a negative number.
pub(super) fn two_integers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let Pair(first, second) = Pair::from_der(der).ok()?;
    Some((first.as_bytes(), second.as_bytes()))
}

/// Two big-endian numbers as the same `SEQUENCE`.
pub(super) fn sequence_of_two(first: &[u8], second: &[u8]) -> Vec<u8> {
    let number = |bytes| UintRef::new(bytes).expect("a number from a packet is shorter than DER can say");
    Pair(number(first), number(second)).to_der().expect("two numbers are shorter than DER can say")
}

struct Pair<'a>(UintRef<'a>, UintRef<'a>);

impl<'a> DecodeValue<'a> for Pair<'a> {
    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        reader.read_nested(header.length, |reader| Ok(Self(UintRef::decode(reader)?, UintRef::decode(reader)?)))
    }
}

impl EncodeValue for Pair<'_> {
    fn value_len(&self) -> der::Result<Length> {
        self.0.encoded_len()? + self.1.encoded_len()?
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        self.0.encode(writer)?;
        self.1.encode(writer)
    }
}

impl FixedTag for Pair<'_> {
    const TAG: Tag = Tag::Sequence;
}
