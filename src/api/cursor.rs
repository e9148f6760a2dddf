//! The opaque place in a list that `next` hands out.
//!
//! It holds a position of the store, which is bound to the list it came from by a short checksum: a
//! position of another list would be read as something that it is not. It is no secret and gives no
//! access.

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

const VERSION: u8 = 1;
const CHECK_LEN: usize = 4;

/// Longer than any position that we hand out.
const MAX_CURSOR_CHARS: usize = 2048;

/// The cursors of one list.
pub(super) struct Cursor<'a> {
    scope: &'a str,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(scope: &'a str) -> Self {
        Self { scope }
    }

    pub(super) fn write(&self, position: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.check(position));
        bytes.extend_from_slice(position);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(super) fn read(&self, text: &str) -> Option<Vec<u8>> {
        if text.len() > MAX_CURSOR_CHARS {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (check, position) = bytes.strip_prefix(&[VERSION])?.split_at_checked(CHECK_LEN)?;
        (check == self.check(position)).then(|| position.to_vec())
    }

    fn check(&self, position: &[u8]) -> [u8; CHECK_LEN] {
        let mut context = Context::new(&SHA256);
        context.update(self.scope.as_bytes());
        context.update(&[0]);
        context.update(position);
        let mut check = [0; CHECK_LEN];
        check.copy_from_slice(&context.finish().as_ref()[..CHECK_LEN]);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_only_into_its_own_list() {
        let cursor = Cursor::new("tags internal");
        let text = cursor.write(b"\x00\xffposition");
        assert_eq!(cursor.read(&text).as_deref(), Some(&b"\x00\xffposition"[..]));
        assert_eq!(Cursor::new("tags preview").read(&text), None);
        for garbage in ["", "AQ", "!!!!", "AAAAAAAA", &text[1..], &format!("{text}AA"), &"A".repeat(100_000)] {
            assert_eq!(cursor.read(garbage), None, "{garbage}");
        }
    }
}
