//! What an update found and changed, for people and for programs.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use crate::trust::{RootChange, SigstoreRoot, TufRole, Validity};

pub(super) struct Report {
    pub(super) file: PathBuf,
    pub(super) url: Url,
    /// Whether the file is not what it was.
    pub(super) is_new: bool,
    /// Or would be.
    pub(super) is_installed: bool,
    pub(super) before: Before,
    pub(super) changes: Vec<RootChange>,
    pub(super) versions: [(TufRole, u64, Timestamp); 4],
    /// Other trusted roots that count.
    pub(super) beside: Vec<String>,
}

/// What was in force of this name.
pub(super) enum Before {
    File {
        root: SigstoreRoot,
        since: Option<Timestamp>,
    },
    /// A file that nothing could be verified with.
    Unusable,
    /// The one in this program.
    Shipped(SigstoreRoot),
    Nothing,
}

impl Before {
    pub(super) fn root(&self) -> Option<&SigstoreRoot> {
        match self {
            Self::File { root, .. } | Self::Shipped(root) => Some(root),
            Self::Unusable | Self::Nothing => None,
        }
    }

    fn as_str(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Unusable => "unusable-file",
            Self::Shipped(_) => "shipped",
            Self::Nothing => "nothing",
        }
    }

    /// The day it is of, as far as it is known.
    fn date(&self) -> Option<String> {
        match self {
            Self::File { since, .. } => since.map(|since| format!("{since:.0}")),
            Self::Shipped(_) => Some(SigstoreRoot::SHIPPED.to_owned()),
            Self::Unusable | Self::Nothing => None,
        }
    }
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let changes = self.changes.iter().map(|change| {
            json!({
                "part": change.part.as_str(), "name": change.name, "key": change.key.to_string(),
                "change": kind(change), "before": change.before.map(span), "after": change.after.map(span),
            })
        });
        let tuf = self
            .versions
            .iter()
            .map(|(role, version, expires)| (role.to_string(), json!({ "version": version, "expires": expires })));
        json!({
            "repository": self.url, "file": self.file, "outcome": self.outcome(),
            "before": { "from": self.before.as_str(), "date": self.before.date() },
            "changes": changes.collect::<Vec<_>>(), "tuf": tuf.collect::<serde_json::Map<_, _>>(),
            "beside": self.beside,
        })
    }

    pub(super) fn words(&self) -> String {
        let file = self.file.display();
        let mut lines = vec![match self.outcome() {
            "unchanged" => format!("{file} is what {} has", self.url),
            "installed" => format!("{file} is installed from {}, and in force", self.url),
            _ => format!("{file} would be installed from {}", self.url),
        }];
        let date = self.before.date().unwrap_or_default();
        lines.push(match &self.before {
            Before::File { .. } => format!("before: the file of {date}"),
            Before::Unusable => "before: a file that is no usable trusted root".to_owned(),
            Before::Shipped(_) => format!("before: the root that comes with this program, of {date}"),
            Before::Nothing => "before: none of this name".to_owned(),
        });
        if self.changes.is_empty() {
            lines.push("no authority and no log differs".to_owned());
        }
        lines.extend(self.changes.iter().map(line));
        let of_roles =
            self.versions.iter().map(|(role, version, expires)| format!("{role} {version} (until {expires:.0})"));
        lines.push(format!("TUF: {}", of_roles.collect::<Vec<_>>().join(", ")));
        if !self.beside.is_empty() {
            lines.push(format!("trusted roots that count beside it: {}", self.beside.join(", ")));
        }
        lines.join("\n")
    }

    fn outcome(&self) -> &'static str {
        match (self.is_new, self.is_installed) {
            (false, _) => "unchanged",
            (true, true) => "installed",
            (true, false) => "would-install",
        }
    }
}

fn kind(change: &RootChange) -> &'static str {
    match (change.before, change.after) {
        (None, _) => "added",
        (Some(_), None) => "removed",
        (Some(_), Some(_)) => "validity",
    }
}

fn line(change: &RootChange) -> String {
    let RootChange { part, name, key, before, after } = change;
    let (part, validity) = (part.as_str(), |valid: &Option<Validity>| valid.map(words).unwrap_or_default());
    let (before, after) = (validity(before), validity(after));
    match kind(change) {
        "added" => format!("+ {part} {name}, {after} ({key})"),
        "removed" => format!("- {part} {name}, {before} ({key})"),
        _ => format!("~ {part} {name}, now {after}, before {before} ({key})"),
    }
}

fn words(Validity { from, to }: Validity) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("valid from {from:.0} to {to:.0}"),
        (Some(from), None) => format!("valid from {from:.0}"),
        (None, Some(to)) => format!("valid to {to:.0}"),
        (None, None) => "valid at all times".to_owned(),
    }
}

fn span(Validity { from, to }: Validity) -> Value {
    json!({ "from": from, "to": to })
}
