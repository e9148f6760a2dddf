use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What became of everything that was found.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) imported: u64,
    pub(super) present: u64,
    /// By the server, or because it is not what it should be; by reason.
    pub(super) refused: BTreeMap<String, u64>,
    /// What is no signature of an image, by what it is.
    pub(super) skipped: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn refuse(&mut self, reason: &str) {
        count(&mut self.refused, reason);
    }

    pub(super) fn skip(&mut self, reason: &str) {
        count(&mut self.skipped, reason);
    }

    pub(super) fn json(&self, dry_run: bool) -> Value {
        let Self { imported, present, refused, skipped } = self;
        json!({
            "dry_run": dry_run, "imported": imported, "already_there": present,
            "refused": refused, "skipped": skipped,
        })
    }

    pub(super) fn words(&self, dry_run: bool) -> String {
        let counted = |name: &str, by_reason: &BTreeMap<String, u64>| {
            let sum: u64 = by_reason.values().sum();
            let reasons: Vec<_> = by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            if sum == 0 { format!("0 {name}") } else { format!("{sum} {name} ({})", reasons.join(", ")) }
        };
        let Self { imported, present, refused, skipped } = self;
        let imported = if dry_run { format!("{imported} to import") } else { format!("{imported} imported") };
        let (refused, skipped) = (counted("refused", refused), counted("skipped", skipped));
        match dry_run {
            true => format!("{imported}, {refused}, {skipped}; nothing was sent"),
            false => format!("{imported}, {present} already there, {refused}, {skipped}"),
        }
    }
}

fn count(by_reason: &mut BTreeMap<String, u64>, reason: &str) {
    if let Some(count) = by_reason.get_mut(reason) {
        *count += 1;
    } else if by_reason.len() < MAX_REASONS {
        by_reason.insert(reason.to_owned(), 1);
    } else {
        *by_reason.entry("other".to_owned()).or_default() += 1;
    }
}

/// Media types are other people's text, and there is no end of them.
const MAX_REASONS: usize = 64;
