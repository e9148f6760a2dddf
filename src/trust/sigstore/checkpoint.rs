use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    members::{self, MemberFlaw},
    root::Log,
};
use crate::trust::verifier::{message::Message, signed_by};

/// What a log has signed of itself: its size and the root of its tree, as a signed note (C2SP,
/// `tlog-checkpoint` and `signed-note`).
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    /// Every line that is signed, with its end.
    note: String,
    pub(super) size: u64,
    pub(super) root: [u8; 32],
    signatures: Vec<NoteSignature>,
}

#[derive(Debug, Clone)]
struct NoteSignature {
    hint: [u8; 4],
    signature: Vec<u8>,
}

impl Checkpoint {
    pub(super) fn parse(text: &str) -> Result<Self, MemberFlaw> {
        let flaw = MemberFlaw::Kind { name: NAME };
        if text.len() > MAX_BYTES {
            return Err(MemberFlaw::TooLarge { name: NAME, limit: MAX_BYTES });
        }
        let end = text.find("\n\n").ok_or(flaw)? + 1;
        let (note, signatures) = (&text[..end], &text[end + 1..]);
        let mut lines = note.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(flaw);
        };
        let is_canonical = size == "0" || !size.starts_with('0');
        if origin.is_empty() || !is_canonical || !size.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(flaw);
        }
        let signatures = signatures.lines().map(|line| NoteSignature::parse(line).ok_or(flaw));
        let signatures = signatures.collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(MemberFlaw::TooMany { name: NAME, limit: MAX_SIGNATURES });
        }
        Ok(Self {
            note: note.to_owned(),
            size: size.parse().map_err(|_| flaw)?,
            root: members::to_hash(&members::decoded(root, NAME)?, NAME)?,
            signatures,
        })
    }

    pub(super) fn feed(&self, mut feed: impl FnMut(&[u8])) {
        feed(self.note.as_bytes());
        self.signatures.iter().for_each(|signature| feed(&signature.signature));
    }

    /// Witnesses sign too, and four bytes that name a key are few, so each that could be the log's is
    /// tried.
    pub(super) fn is_signed_by(&self, log: &Log) -> bool {
        let message = Message::payload(self.note.as_bytes());
        let ours = self.signatures.iter().filter(|signature| log.id.starts_with(&signature.hint));
        ours.take(MAX_TRIES).any(|ours| signed_by(&log.key, &message, &ours.signature) == Some(true))
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (hint, signature) = bytes.split_first_chunk()?;
        (!name.is_empty()).then(|| Self { hint: *hint, signature: signature.to_vec() })
    }
}

const NAME: &str = "checkpoint";
const MAX_BYTES: usize = 8 << 10;
const MAX_SIGNATURES: usize = 16;
const MAX_TRIES: usize = 2;
