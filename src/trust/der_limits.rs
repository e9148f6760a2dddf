//! What a stranger's DER may look like before a reader of certificates and tokens is let loose on it: those
//! sort each set by insertion, which of thousands of elements in the wrong order takes seconds.

/// Whether `der` is one value whose sets are small and which is nested no deeper than certificates are.
/// Only what stands there plainly is looked at, not what is wrapped into strings of octets.
pub(super) fn are_kept(der: &[u8]) -> bool {
    matches!(skip_value(der, MAX_DEPTH), Some([]))
}

/// What follows the first value.
fn skip_value(der: &[u8], depth: usize) -> Option<&[u8]> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    // Tags in several bytes are in no certificate.
    if tag & LONG_TAG == LONG_TAG {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (mut content, rest) = rest.split_at_checked(length)?;
    if tag & CONSTRUCTED != 0 {
        let depth = depth.checked_sub(1)?;
        let mut elements = 0;
        while !content.is_empty() {
            content = skip_value(content, depth)?;
            elements += 1;
            // A set under a tag of its own looks like any other such value.
            if tag != SEQUENCE && elements > MAX_ELEMENTS {
                return None;
            }
        }
    }
    Some(rest)
}

const SEQUENCE: u8 = 0x30;
const CONSTRUCTED: u8 = 0x20;
const LONG_TAG: u8 = 0x1f;
const MAX_ELEMENTS: usize = 32;
const MAX_DEPTH: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x84], &length[..], content].concat()
    }

    #[test]
    fn large_sets_and_deep_nests_are_refused_and_long_lists_are_not() {
        let numbers = |count: usize| (0..count).flat_map(|_| [2, 1, 5]).collect::<Vec<u8>>();
        for (tag, is_kept) in [(0x31, false), (0xa0, false), (0xa1, false), (0x30, true)] {
            assert!(are_kept(&value(tag, &numbers(MAX_ELEMENTS))), "{tag:x}");
            assert_eq!(are_kept(&value(tag, &numbers(MAX_ELEMENTS + 1))), is_kept, "{tag:x}");
            let within = value(0x30, &value(tag, &numbers(MAX_ELEMENTS + 1)));
            assert_eq!(are_kept(&within), is_kept, "{tag:x}");
        }
        let nested = |depth: usize| (0..depth).fold(vec![5, 0], |inner, _| value(0x30, &inner));
        assert!(are_kept(&nested(MAX_DEPTH)));
        assert!(!are_kept(&nested(MAX_DEPTH + 1)));
        for malformed in
            [&[][..], &[0x30], &[0x30, 1], &[0x30, 0x80, 0, 0], &[0x30, 0], &[0x3f, 0x81, 0, 0], &[5, 0, 0]]
        {
            assert_eq!(are_kept(malformed), malformed == [0x30, 0], "{malformed:?}");
        }
        assert!(!are_kept(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]));
    }
}
