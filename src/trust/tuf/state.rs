use serde::{Deserialize, Serialize};

use super::error::{TufError, TufFlaw};

/// What was verified of a repository before: no later update goes back behind it. Kept as the texts
/// that were verified, and verified again when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TufState {
    /// Each leads to the next, the last of them is in force.
    pub(super) roots: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<Seen>,
}

/// A timestamp and the snapshot that it names. Kept only together: a timestamp whose snapshot was never
/// seen would take the memory of the one before it along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    pub(super) timestamp: String,
    pub(super) snapshot: String,
}

impl TufState {
    /// `file` is what errors call it.
    pub fn from_json(json: &[u8], file: &str) -> Result<Self, TufError> {
        let damaged = || TufError { file: file.to_owned(), flaw: TufFlaw::Damaged };
        let state = serde_json::from_slice(json).ok().filter(|_| json.len() <= MAX_STATE_BYTES);
        state.ok_or_else(damaged)
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts are JSON")
    }
}

/// Of a file that holds it.
pub const MAX_STATE_BYTES: usize = 4 << 20;
