//! What is demanded of an image, and what follows from what was found.
//!
//! Pure: a policy is an immutable document, a decision a function of outcomes. Whoever asks brings
//! the outcomes; nothing here reads a store, a clock or the network.

mod decision;
mod level;
mod threshold;

use std::sync::Arc;

use crate::oci::TagType;

pub use self::decision::{Decision, Finding, Reason};
pub use self::level::{Level, LevelError};
pub use self::threshold::{Threshold, ThresholdError, Vote};

/// The trust policy in force. Replaced whole, never changed; a pull uses one version throughout.
#[derive(Debug, Clone)]
pub struct TrustPolicy {
    preview: Statement,
    internal: Statement,
    default: Statement,
    unknown_digest: Statement,
}

/// One rule: its name, which refusals carry, its level, and how many signers it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub name: Arc<str>,
    pub level: Level,
    pub threshold: Threshold,
}

impl TrustPolicy {
    /// The built-in policy: preview and internal tags are enforced, `default` holds for the rest.
    pub fn built_in(default: Level, threshold: Threshold) -> Self {
        let statement = |name: &str, level| Statement { name: name.into(), level, threshold };
        Self {
            preview: statement(TagType::Preview.as_str(), Level::Enforce),
            internal: statement(TagType::Internal.as_str(), Level::Enforce),
            default: statement("default", default),
            unknown_digest: statement("unknown-digest", Level::Enforce),
        }
    }

    /// The statement for a tag of this class, or for what has no class.
    pub fn statement_for(&self, class: Option<TagType>) -> &Statement {
        match class {
            Some(TagType::Preview) => &self.preview,
            Some(TagType::Internal) => &self.internal,
            None => &self.default,
        }
    }

    /// What a digest is held to of which nothing is known, in a repository that has tags of an
    /// enforced class, or where the memory of its tags cannot be read.
    pub fn unknown_digest(&self) -> Statement {
        self.unknown_digest.clone()
    }
}

impl Statement {
    pub fn is_enforced(&self) -> bool {
        self.level == Level::Enforce
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preview_and_internal_are_enforced_whatever_the_default() {
        for default in [Level::Enforce, Level::Audit, Level::Skip] {
            let policy = TrustPolicy::built_in(default, Threshold::ONE);
            assert!(policy.statement_for(Some(TagType::Preview)).is_enforced());
            assert!(policy.statement_for(Some(TagType::Internal)).is_enforced());
            assert_eq!(policy.statement_for(None).level, default);
        }
    }
}
