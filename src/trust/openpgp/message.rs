use aws_lc_rs::digest::{Context, SHA256, digest};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

use super::{
    armour::unarmoured,
    packet::{COMPRESSED, LITERAL, ONE_PASS_SIGNATURE, OpenPgpFlaw, Packet, Packets, Reader, SIGNATURE},
    signature::Signature,
};
use crate::trust::envelope::{Claim, ClaimType, Flaw, SimpleSigning};

/// RFC 9580, section 10.3: a signed message: one signature over one literal, whole or compressed.
///
/// The text is a claim about an image, as podman writes it.
#[derive(Debug, Clone)]
pub(in crate::trust) struct SignedMessage {
    pub(super) signature: Signature,
    pub(super) payload: SimpleSigning,
}

impl SignedMessage {
    pub(in crate::trust) fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        // Armour and its line ends take some more than a third.
        if bytes.len() > MAX_BYTES / 2 * 3 {
            return Err(OpenPgpFlaw::TooLarge.into());
        }
        let unarmoured = match bytes.starts_with(b"-----BEGIN PGP SIGN") {
            true => return Err(OpenPgpFlaw::Detached.into()),
            false => unarmoured(bytes, "MESSAGE")?,
        };
        let packets = packets(unarmoured.as_deref().unwrap_or(bytes))?;
        match &packets[..] {
            [Packet { tag: COMPRESSED, body }] => Self::of(&self::packets(&decompressed(body)?)?),
            packets => Self::of(packets),
        }
    }

    fn of(packets: &[Packet<'_>]) -> Result<Self, Flaw> {
        let (signature, literal, announced) = match packets {
            [
                Packet { tag: ONE_PASS_SIGNATURE, body: announced },
                Packet { tag: LITERAL, body: literal },
                Packet { tag: SIGNATURE, body: signature },
            ] => (signature, literal, Some(announced)),
            // As it was written before 1998; gpg still reads it.
            [Packet { tag: SIGNATURE, body: signature }, Packet { tag: LITERAL, body: literal }] => {
                (signature, literal, None)
            }
            _ => return Err(flaw_of(packets).into()),
        };
        let signature = Signature::parse(signature)?;
        if let Some(announced) = announced
            && !announces(announced, &signature)
        {
            return Err(OpenPgpFlaw::Structure.into());
        }
        Ok(Self { signature, payload: SimpleSigning::parse(text(literal)?, ClaimType::Atomic)? })
    }

    pub(in crate::trust) fn claim(&self) -> &Claim {
        self.payload.claim()
    }

    /// Feeds what is the same in every encoding of this message, compressed or not.
    pub(in crate::trust) fn normalise_into(&self, hasher: &mut Context) {
        self.signature.normalise_into(hasher);
        hasher.update(digest(&SHA256, self.payload.bytes()).as_ref());
    }
}

/// Whether the body of a compressed packet is packets, compressed.
pub(in crate::trust) fn is_compressed(body: &[u8]) -> bool {
    decompressed(body).is_ok_and(|plain| packets(&plain).is_ok())
}

/// All packets, of which no message that we take has more than three.
fn packets(bytes: &[u8]) -> Result<Vec<Packet<'_>>, OpenPgpFlaw> {
    Packets::of(bytes).take(MAX_PACKETS).collect()
}

/// Why these packets are no signed message.
fn flaw_of(packets: &[Packet<'_>]) -> OpenPgpFlaw {
    let tags: Vec<_> = packets.iter().map(|packet| packet.tag).collect();
    let signatures = tags.iter().filter(|tag| **tag == SIGNATURE).count();
    match tags[..] {
        [COMPRESSED, ..] => OpenPgpFlaw::Compressed,
        [SIGNATURE] => OpenPgpFlaw::Detached,
        [1 | 3, ..] => OpenPgpFlaw::Encrypted,
        [ONE_PASS_SIGNATURE, ONE_PASS_SIGNATURE, ..] => OpenPgpFlaw::SeveralSignatures,
        _ if signatures > 1 => OpenPgpFlaw::SeveralSignatures,
        _ => OpenPgpFlaw::Structure,
    }
}

/// Section 5.4: whether this says what the signature behind the text is; the last octet, that no other
/// signature is announced.
fn announces(announced: &[u8], signature: &Signature) -> bool {
    match announced {
        [3, kind, hash, algorithm, rest @ ..] => {
            (*kind, *hash, *algorithm) == (signature.kind, signature.hash_id, signature.algorithm)
                && rest.len() == 9
                && rest.last() == Some(&1)
        }
        _ => false,
    }
}

/// Section 5.9: what is signed is what follows the format, the file's name and its date.
fn text(literal: &[u8]) -> Result<&[u8], OpenPgpFlaw> {
    let mut reader = Reader(literal);
    let [_format, name] = reader.array()?;
    reader.take(usize::from(name))?;
    reader.u32()?;
    Ok(reader.0)
}

/// Section 5.6: the packets within a compressed one, which is all of its body and no more than we read.
fn decompressed(body: &[u8]) -> Result<Vec<u8>, OpenPgpFlaw> {
    let (flags, compressed) = match body.split_first() {
        Some((0, plain)) => return Ok(plain.to_vec()),
        Some((1, rest)) => (0, rest),
        Some((2, rest)) => (TINFL_FLAG_PARSE_ZLIB_HEADER, rest),
        Some((_, _)) => return Err(OpenPgpFlaw::Compression),
        None => return Err(OpenPgpFlaw::Packet),
    };
    let mut plain = vec![0; MAX_BYTES];
    let flags = flags | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    match decompress(&mut DecompressorOxide::new(), compressed, &mut plain, 0, flags) {
        (TINFLStatus::Done, read, written) if read == compressed.len() => {
            plain.truncate(written);
            Ok(plain)
        }
        (TINFLStatus::HasMoreOutput, _, _) => Err(OpenPgpFlaw::TooLarge),
        _ => Err(OpenPgpFlaw::Compressed),
    }
}

/// Of a message without its armour, and of what it is when it is decompressed. A claim has 300 bytes, and
/// a signature 500.
pub(super) const MAX_BYTES: usize = 64 << 10;
const MAX_PACKETS: usize = 8;
