//! What a stranger's CBOR (RFC 8949) may look like before a reader of messages is let loose on it: that makes
//! a value of each item, which takes far longer than the one byte that an item may have.

/// What follows the first item, if it is of definite length and nested no deeper than messages are. Each item
/// in it, itself too, is taken off `left`, and none may be met once that is 0.
pub(super) fn skip_item<'a>(bytes: &'a [u8], left: &mut usize) -> Option<&'a [u8]> {
    skip_within(bytes, left, MAX_DEPTH)
}

/// The content of the string of bytes that stands first.
pub(super) fn first_string(bytes: &[u8]) -> Option<&[u8]> {
    match head(bytes)? {
        (BYTES, length, rest) => rest.get(..usize::try_from(length).ok()?),
        _ => None,
    }
}

fn skip_within<'a>(bytes: &'a [u8], left: &mut usize, depth: usize) -> Option<&'a [u8]> {
    *left = left.checked_sub(1)?;
    let (major, number, mut rest) = head(bytes)?;
    let items = match major {
        BYTES | TEXT => return rest.get(usize::try_from(number).ok()?..),
        LIST => number,
        MAP => number.checked_mul(2)?,
        TAG => 1,
        _ => 0,
    };
    let depth = depth.checked_sub(1)?;
    for _ in 0..items {
        // Each item takes a byte at least, so a boast about their number ends here.
        rest = skip_within(rest, left, depth)?;
    }
    Some(rest)
}

/// The major type of the first item, its number, and what follows the two.
fn head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let width = match first & 0x1f {
        0..=23 => 0,
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        _ => return None,
    };
    let (argument, rest) = rest.split_at_checked(width)?;
    let number = match width {
        0 => u64::from(first & 0x1f),
        _ => argument.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    };
    Some((first >> 5, number, rest))
}

const MAX_DEPTH: usize = 16;
pub(super) const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
pub(super) const MAP: u8 = 5;
const TAG: u8 = 6;
pub(super) const SIMPLE: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_counted_and_skipped() {
        for (bytes, items, rest) in [
            (&[0x01, 0xff][..], 1, &[0xff][..]),
            (&[0x43, 1, 2, 3], 1, &[]),
            (&[0x83, 1, 2, 0x41, 3, 9], 4, &[9]),
            (&[0xa2, 1, 2, 3, 0x81, 0xf6], 6, &[]),
            (&[0xd2, 0x80], 2, &[]),
        ] {
            let mut left = items;
            assert_eq!((skip_item(bytes, &mut left), left), (Some(rest), 0), "{bytes:?}");
            assert_eq!(skip_item(bytes, &mut (items - 1)), None, "{bytes:?}");
        }
        let nested = |depth: usize| [vec![0x81; depth], vec![0xf6]].concat();
        assert_eq!(skip_item(&nested(MAX_DEPTH - 1), &mut 100), Some(&[][..]));
        assert_eq!(skip_item(&nested(MAX_DEPTH), &mut 100), None);
        for malformed in [
            &[][..],
            &[0x42, 1],
            &[0x5f, 0xff],
            &[0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            &[0x82, 1],
            &[0x19, 1],
        ] {
            assert_eq!(skip_item(malformed, &mut 100), None, "{malformed:?}");
        }
        assert_eq!(first_string(&[0x42, 1, 2, 3]), Some(&[1, 2][..]));
        assert_eq!((first_string(&[0x62, 97, 97]), first_string(&[0x42, 1])), (None, None));
    }
}
