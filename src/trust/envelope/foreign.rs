//! Formats that are known by sight. Of those that are not verified in this release saying so is more
//! use to who signed than "malformed".

use serde::{Deserialize, de::IgnoredAny};

use super::Format;
use crate::trust::{cbor_limits, openpgp};

/// The format, where the bytes leave no reasonable doubt: a raw signature is random, so a first byte
/// or two prove nothing, and what has no more to show is left to be a raw one.
pub(super) fn recognise(bytes: &[u8]) -> Option<Format> {
    let text = str::from_utf8(bytes).ok();
    text.and_then(json)
        .or_else(|| text.and_then(compact_jws))
        .or_else(|| text.and_then(armoured))
        .or_else(|| is_cose_sign1(bytes).then_some(Format::NotationCose))
        .or_else(|| is_openpgp(bytes).then_some(Format::OpenPgp))
}

fn json(text: &str) -> Option<Format> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let members: Members = serde_json::from_str(text).ok()?;
    let sigstore = members
        .verification_material
        .or(members.message_signature)
        .or(members.dsse_envelope)
        .or(members.base64_signature);
    if sigstore.is_some() {
        Some(Format::SigstoreBundle)
    } else if members.payload_type.is_some() && members.signatures.is_some() {
        Some(Format::Dsse)
    } else if members.payload.is_some() && (members.signature.is_some() || members.signatures.is_some()) {
        Some(Format::NotationJws)
    } else {
        None
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    verification_material: Option<IgnoredAny>,
    message_signature: Option<IgnoredAny>,
    dsse_envelope: Option<IgnoredAny>,
    /// What `cosign sign-blob --bundle` wrote before bundles had a media type.
    base64_signature: Option<IgnoredAny>,
    payload_type: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
    signature: Option<IgnoredAny>,
    signatures: Option<IgnoredAny>,
}

fn compact_jws(text: &str) -> Option<Format> {
    let mut parts = text.trim().split('.');
    let is_base64url = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    // `eyJ` is how base64 writes the beginning of a JSON object.
    let (header, rest) = (parts.next()?, [parts.next()?, parts.next()?]);
    let is_jws = header.starts_with("eyJ") && is_base64url(header) && rest.into_iter().all(is_base64url);
    (is_jws && parts.next().is_none()).then_some(Format::NotationJws)
}

fn armoured(text: &str) -> Option<Format> {
    text.trim_start().starts_with("-----BEGIN PGP ").then_some(Format::OpenPgp)
}

/// RFC 9052, section 4.2: a list of protected header, unprotected header, payload and signature.
fn is_cose_sign1(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(&[0xd2, 0x84]).or_else(|| bytes.strip_prefix(&[0x84])) else {
        return false;
    };
    let string = cbor_limits::BYTES;
    for majors in [&[string][..], &[cbor_limits::MAP], &[string, cbor_limits::SIMPLE], &[string]] {
        let is_expected = rest.first().is_some_and(|first| majors.contains(&(first >> 5)));
        // How many items are too many is for the reader to say; none has less than a byte.
        let mut left = rest.len();
        match cbor_limits::skip_item(rest, &mut left).filter(|_| is_expected) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    rest.is_empty()
}

/// RFC 9580, section 4.2: a signature, alone or before what it signs; or a compressed message.
fn is_openpgp(bytes: &[u8]) -> bool {
    let Some((tag, body, is_whole)) = openpgp_packet(bytes) else {
        return false;
    };
    match (tag, body) {
        (ONE_PASS_SIGNATURE, [3, 0 | 1, ..]) => body.len() == ONE_PASS_BYTES,
        (SIGNATURE, [3..=6, ..]) => is_whole || bytes.len() > MAX_RAW_BYTES,
        // Two bytes are all there is to see, and an RSA signature of a usual size begins so by chance; but
        // none is compressed packets to its end.
        (COMPRESSED, [1..=3, ..]) => !USUAL_RSA_BYTES.contains(&bytes.len()) || openpgp::is_compressed(body),
        _ => false,
    }
}

/// The first packet's tag and body, and whether it says its length and ends with the bytes.
fn openpgp_packet(bytes: &[u8]) -> Option<(u8, &[u8], bool)> {
    let (first, rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let is_new = first & 0x40 != 0;
    let tag = if is_new { first & 0x3f } else { first >> 2 & 0x0f };
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (length, body) = if is_new {
        match *rest.first()? {
            short @ 0..=191 => (usize::from(short), rest.get(1..)?),
            long @ 192..=223 => (((usize::from(long) - 192) << 8) + usize::from(*rest.get(1)?) + 192, rest.get(2..)?),
            // A body in pieces, as a stream is written.
            224..=254 => return Some((tag, rest.get(1..)?, false)),
            255 => (number(rest.get(1..5)?), rest.get(5..)?),
        }
    } else {
        match first & 0x03 {
            0 => (number(rest.get(..1)?), rest.get(1..)?),
            1 => (number(rest.get(..2)?), rest.get(2..)?),
            2 => (number(rest.get(..4)?), rest.get(4..)?),
            _ => return Some((tag, rest, false)),
        }
    };
    Some((tag, body.get(..length)?, body.len() == length))
}

const SIGNATURE: u8 = 2;
const ONE_PASS_SIGNATURE: u8 = 4;
const COMPRESSED: u8 = 8;
const ONE_PASS_BYTES: usize = 13;
const MAX_RAW_BYTES: usize = 512;
const USUAL_RSA_BYTES: [usize; 3] = [256, 384, 512];
