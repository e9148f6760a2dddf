use super::{Random, changed as changed_within, reordered};

/// Values of DER, one of them changed, at whatever depth.
pub(super) fn changed(bytes: &[u8], room: usize, random: &mut Random, depth: usize) -> Option<Vec<u8>> {
    let mut values = values(bytes)?;
    if random.one_in(12) {
        reordered(&mut values, random);
        return Some(written(&values));
    }
    let at = random.below(values.len());
    let (tag, content) = &mut values[at];
    if random.one_in(16) {
        *tag = u8::try_from(random.below(256)).unwrap_or_default();
    } else {
        // A string of bits says first how many of its last octet are unused.
        let (prefix, within) = content.split_at(usize::from(*tag == BIT_STRING && content.len() > 1));
        let room = room.saturating_sub(bytes.len()) + within.len();
        *content = [prefix, &changed_within(within, room, random, depth)].concat();
    }
    Some(written(&values))
}

/// The bytes as values that fill them, each with its tag and content.
fn values(mut bytes: &[u8]) -> Option<Vec<(u8, Vec<u8>)>> {
    // Few other bytes begin as any that stands for something in what is fuzzed here.
    let is_begun = |first: &u8| matches!(first, 0x01..=0x0c | 0x12..=0x18 | 0x30 | 0x31 | 0x80..=0x88 | 0xa0..=0xaa);
    let mut values = Vec::new();
    while let Some((tag, rest)) = bytes.split_first() {
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        if !is_begun(tag) {
            return None;
        }
        values.push((*tag, content.to_vec()));
        bytes = rest;
    }
    (!values.is_empty()).then_some(values)
}

fn written(values: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (tag, content) in values {
        bytes.push(*tag);
        let length = content.len().to_be_bytes();
        match content.len() {
            0..=0x7f => bytes.push(length[7]),
            0x80..=0xff => bytes.extend([0x81, length[7]]),
            0x100..=0xffff => bytes.extend([0x82, length[6], length[7]]),
            _ => bytes.extend([0x83, length[5], length[6], length[7]]),
        }
        bytes.extend(content);
    }
    bytes
}

const BIT_STRING: u8 = 3;
