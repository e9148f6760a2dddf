use super::{Random, changed as changed_within, reordered};

/// Packets of OpenPGP, one of them changed.
pub(super) fn changed(bytes: &[u8], room: usize, random: &mut Random, depth: usize) -> Option<Vec<u8>> {
    let mut packets = packets(bytes)?;
    if random.one_in(8) {
        reordered(&mut packets, random);
        return Some(written(&packets));
    }
    let at = random.below(packets.len());
    let (tag, body) = &mut packets[at];
    if random.one_in(16) {
        *tag = u8::try_from(random.below(64)).unwrap_or_default();
    } else {
        *body = changed_within(body, room.saturating_sub(bytes.len()) + body.len(), random, depth);
    }
    Some(written(&packets))
}

/// The bytes as packets that fill them, each with its tag and body.
fn packets(mut bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    let mut packets = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let (tag, width) = match first {
            0xc0.. => (first & 0x3f, None),
            0x80..0xc0 => (first >> 2 & 0x0f, Some([1, 2, 4, 0][usize::from(first & 3)])),
            _ => return None,
        };
        let (length, rest) = match (width, *rest.first()?) {
            (Some(0), _) => (rest.len(), rest),
            (Some(width), _) => (number(rest.get(..width)?), &rest[width..]),
            (None, short @ 0..=191) => (usize::from(short), &rest[1..]),
            (None, long @ 192..=223) => {
                (((usize::from(long) - 192) << 8) + usize::from(*rest.get(1)?) + 192, &rest[2..])
            }
            (None, 255) => (number(rest.get(1..5)?), &rest[5..]),
            (None, 224..=254) => return None,
        };
        let (body, rest) = rest.split_at_checked(length)?;
        packets.push((tag, body.to_vec()));
        bytes = rest;
    }
    (!packets.is_empty()).then_some(packets)
}

fn written(packets: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, body) in packets {
        bytes.push(0xc0 | tag);
        match body.len() {
            short @ 0..=191 => bytes.extend(u8::try_from(short)),
            long @ 192..=8383 => {
                let rest = long - 192;
                bytes.extend([u8::try_from((rest >> 8) + 192).unwrap_or(223), rest.to_be_bytes()[7]]);
            }
            longer => {
                bytes.push(255);
                bytes.extend(&longer.to_be_bytes()[4..]);
            }
        }
        bytes.extend(body);
    }
    bytes
}
