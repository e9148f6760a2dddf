use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How strictly a statement is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What is not verified is refused.
    Enforce,
    /// What is not verified is served, with a warning on the wire and an audit event.
    Audit,
    /// Nothing is verified.
    Skip,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected enforce, audit or skip")]
pub struct LevelError;

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        [Self::Enforce, Self::Audit, Self::Skip].into_iter().find(|level| level.as_str() == text).ok_or(LevelError)
    }
}
