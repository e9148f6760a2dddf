use std::borrow::Cow;

/// What is wrong with a message or a key, as far as it is read; never any text of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenPgpFlaw {
    #[error("an OpenPGP message has at most {} bytes, compressed or not", super::message::MAX_BYTES)]
    TooLarge,
    #[error("the OpenPGP armour is broken, or holds something else than a signed message")]
    Armour,
    #[error("an OpenPGP packet is broken, or ends before its length")]
    Packet,
    #[error("the OpenPGP message is not one signed text: one signature over one literal is expected")]
    Structure,
    #[error("an OpenPGP message with more than one signature says nothing; one is expected")]
    SeveralSignatures,
    #[error("a signature without the text it is over; `gpg --sign` is expected, not --detach-sign or --clear-sign")]
    Detached,
    #[error("the OpenPGP message is encrypted")]
    Encrypted,
    #[error("the compressed OpenPGP message is broken, or compressed twice")]
    Compressed,
    #[error("the OpenPGP message is compressed by an algorithm that is not supported; ZIP and ZLIB are")]
    Compression,
    #[error("only OpenPGP signatures of version 4 are supported")]
    Version,
    #[error("the OpenPGP signature is broken")]
    Signature,
    #[error("the OpenPGP signature lacks the time it was made at, or says it twice")]
    Time,
}

/// A packet: its tag, and its body in one piece.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: Cow<'a, [u8]>,
}

pub(super) const SIGNATURE: u8 = 2;
pub(super) const ONE_PASS_SIGNATURE: u8 = 4;
pub(super) const SECRET_KEY: u8 = 5;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const SECRET_SUBKEY: u8 = 7;
pub(super) const COMPRESSED: u8 = 8;
pub(super) const MARKER: u8 = 10;
pub(super) const LITERAL: u8 = 11;
pub(super) const TRUST: u8 = 12;
pub(super) const USER_ID: u8 = 13;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ATTRIBUTE: u8 = 17;

/// RFC 9580, section 4.2: the packets that bytes are made of, to their end.
#[derive(Debug, Clone)]
pub(super) struct Packets<'a>(&'a [u8]);

impl<'a> Packets<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    pub(super) fn remaining(&self) -> &'a [u8] {
        self.0
    }

    fn packet(&mut self) -> Result<Packet<'a>, OpenPgpFlaw> {
        let mut reader = Reader(self.0);
        let [first] = reader.array()?;
        if first & 0x80 == 0 {
            return Err(OpenPgpFlaw::Packet);
        }
        let packet = if first & 0x40 != 0 {
            let tag = first & 0x3f;
            Packet { tag, body: body(&mut reader, tag)? }
        } else {
            let length = match first & 0x03 {
                0 => usize::from(reader.array::<1>()?[0]),
                1 => usize::from(reader.u16()?),
                2 => size(reader.u32()?),
                _ => reader.0.len(),
            };
            let tag = first >> 2 & 0x0f;
            // Of a length that is not said are what streams are made of, and nothing else.
            if first & 0x03 == 3 && !is_data(tag) {
                return Err(OpenPgpFlaw::Packet);
            }
            Packet { tag, body: Cow::Borrowed(reader.take(length)?) }
        };
        self.0 = reader.0;
        Ok(packet)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, OpenPgpFlaw>;

    /// Ends with the first packet that is broken.
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let packet = self.packet();
        if packet.is_err() {
            self.0 = &[];
        }
        Some(packet)
    }
}

/// A body whose length is given in the new format, put together where it comes in pieces.
fn body<'a>(reader: &mut Reader<'a>, tag: u8) -> Result<Cow<'a, [u8]>, OpenPgpFlaw> {
    let mut pieces = Vec::new();
    loop {
        let [first] = reader.array()?;
        if !(224..255).contains(&first) {
            let length = length(first, reader)?;
            let last = reader.take(length)?;
            return Ok(match pieces.is_empty() {
                true => Cow::Borrowed(last),
                false => Cow::Owned([&pieces[..], last].concat()),
            });
        }
        if !is_data(tag) {
            return Err(OpenPgpFlaw::Packet);
        }
        pieces.extend_from_slice(reader.take(1 << (first & 0x1f))?);
    }
}

fn is_data(tag: u8) -> bool {
    matches!(tag, COMPRESSED | LITERAL)
}

/// A length of one, two or five octets, of which the first has been read: of packets, where 224 to 254
/// mean something else, and of subpackets.
pub(super) fn length(first: u8, reader: &mut Reader<'_>) -> Result<usize, OpenPgpFlaw> {
    Ok(match first {
        0..=191 => usize::from(first),
        192..=254 => (usize::from(first) - 192) * 256 + usize::from(reader.array::<1>()?[0]) + 192,
        255 => size(reader.u32()?),
    })
}

fn size(number: u32) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

/// Bytes that are read from their beginning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], OpenPgpFlaw> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(OpenPgpFlaw::Packet)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], OpenPgpFlaw> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, OpenPgpFlaw> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, OpenPgpFlaw> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Section 3.2: a number, in its one form: it has the bits that it says it has.
    pub(super) fn mpi(&mut self) -> Result<&'a [u8], OpenPgpFlaw> {
        let bits = usize::from(self.u16()?);
        let number = self.take(bits.div_ceil(8))?;
        let unused = number.len() * 8 - bits;
        match number.first() {
            Some(first) if first.leading_zeros() as usize != unused => Err(OpenPgpFlaw::Packet),
            _ => Ok(number),
        }
    }

    pub(super) fn end(&self) -> Result<(), OpenPgpFlaw> {
        if self.0.is_empty() { Ok(()) } else { Err(OpenPgpFlaw::Packet) }
    }
}
