use super::{Random, changed as changed_within};

/// An item of CBOR with one of its strings changed.
pub(super) fn changed(bytes: &[u8], room: usize, random: &mut Random, depth: usize) -> Option<Vec<u8>> {
    // A tag, a list or a map: what a message of COSE and its headers are.
    if !matches!(bytes.first()? >> 5, 4..=6) {
        return None;
    }
    let mut strings = Vec::new();
    if item(bytes, 0, &mut strings, 16)? != bytes.len() {
        return None;
    }
    let at = random.below(strings.len());
    let (head, from, to) = *strings.get(at)?;
    let within = &bytes[from..to];
    let within = changed_within(within, room.saturating_sub(bytes.len()) + within.len(), random, depth);
    Some([&bytes[..head], &begun(bytes[head] >> 5, within.len()), &within, &bytes[to..]].concat())
}

/// Where the item that begins at `at` ends; with the strings in it, by where their head and their content
/// begin and where they end.
fn item(bytes: &[u8], at: usize, strings: &mut Vec<(usize, usize, usize)>, depth: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    let width = match first & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let argument = bytes.get(at + 1..at + 1 + width)?;
    let number = match width {
        0 => usize::from(first & 0x1f),
        _ => argument.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)),
    };
    let from = at + 1 + width;
    let items = match first >> 5 {
        2 | 3 => {
            let to = from.checked_add(number).filter(|to| *to <= bytes.len())?;
            strings.push((at, from, to));
            return Some(to);
        }
        4 => number,
        5 => number.checked_mul(2)?,
        6 => 1,
        _ => 0,
    };
    let depth = depth.checked_sub(1)?;
    (0..items).try_fold(from, |at, _| item(bytes, at, strings, depth))
}

fn begun(major: u8, length: usize) -> Vec<u8> {
    let digits = length.to_be_bytes();
    match length {
        0..=23 => vec![major << 5 | digits[7]],
        24..=0xff => vec![major << 5 | 24, digits[7]],
        0x100..=0xffff => vec![major << 5 | 25, digits[6], digits[7]],
        _ => vec![major << 5 | 26, digits[4], digits[5], digits[6], digits[7]],
    }
}
