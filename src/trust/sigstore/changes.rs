//! What one trusted root has that another has not.

use jiff::Timestamp;

use super::root::{Logs, SigstoreRoot, Window};
use crate::trust::SignerId;

/// One authority or log that is not as it was. At least one of both is there, and they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootChange {
    pub part: RootPart,
    /// Its URL, or the name that its certificate has.
    pub name: String,
    /// Of its key.
    pub key: SignerId,
    pub before: Option<Validity>,
    pub after: Option<Validity>,
}

/// The lists of a trusted root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RootPart {
    CertificateAuthority,
    CertificateLog,
    TransparencyLog,
    TimestampAuthority,
}

/// Ends that are not there are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

/// An entry of a list. What makes it the same one in both roots is the part, the key and the name.
struct Entry {
    part: RootPart,
    name: String,
    key: SignerId,
    valid: Window,
}

impl SigstoreRoot {
    /// What changed since that one, part by part; everything is new where there was none.
    pub fn changes_since(&self, before: Option<&Self>) -> Vec<RootChange> {
        let (mut before, after) = (before.map(entries).unwrap_or_default(), entries(self));
        let mut changes = Vec::new();
        for entry in after {
            let same = |other: &Entry| other.part == entry.part && other.key == entry.key && other.name == entry.name;
            // One key may stand there more than once; what is exactly the same comes first.
            let exactly = before.iter().position(|other| same(other) && other.valid == entry.valid);
            let found = exactly.or_else(|| before.iter().position(same)).map(|at| before.swap_remove(at));
            if found.as_ref().is_none_or(|found| found.valid != entry.valid) {
                let before = found.map(|found| found.valid.into());
                let Entry { part, name, key, valid } = entry;
                changes.push(RootChange { part, name, key, before, after: Some(valid.into()) });
            }
        }
        changes.extend(before.into_iter().map(|Entry { part, name, key, valid }| RootChange {
            part,
            name,
            key,
            before: Some(valid.into()),
            after: None,
        }));
        changes.sort_by(|one, other| (one.part, &one.name).cmp(&(other.part, &other.name)));
        changes
    }
}

impl RootPart {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate authority",
            Self::CertificateLog => "certificate log",
            Self::TransparencyLog => "transparency log",
            Self::TimestampAuthority => "timestamp authority",
        }
    }
}

impl From<Window> for Validity {
    fn from(Window { from, to }: Window) -> Self {
        Self {
            from: Some(from).filter(|from| *from != Timestamp::MIN),
            to: Some(to).filter(|to| *to != Timestamp::MAX),
        }
    }
}

fn entries(root: &SigstoreRoot) -> Vec<Entry> {
    let authorities = root.authorities.iter().map(|authority| Entry {
        part: RootPart::CertificateAuthority,
        name: authority.subject.clone(),
        key: SignerId::of(&authority.public_key),
        valid: authority.valid,
    });
    let timestamp_authorities = root.timestamp_authorities.iter().map(|authority| Entry {
        part: RootPart::TimestampAuthority,
        name: authority.url.clone(),
        key: authority.key.id(),
        valid: authority.valid,
    });
    let logs = of_logs(RootPart::CertificateLog, &root.certificate_logs);
    authorities.chain(logs).chain(of_logs(RootPart::TransparencyLog, &root.logs)).chain(timestamp_authorities).collect()
}

fn of_logs(part: RootPart, logs: &Logs) -> impl Iterator<Item = Entry> {
    logs.known.iter().map(move |log| Entry { part, name: log.url.clone(), key: log.key.id(), valid: log.valid })
}
