use jiff::Timestamp;

use super::{
    error::{TufError, TufFlaw, TufRole},
    metadata::{Content, Metadata, Pin, Root, Snapshot, TARGETS_FILE, Target, Targets, TimestampContent},
    state::{Seen, TufState},
};
use crate::trust::MAX_ROOT_BYTES;

/// One update, from a first root that is believed to the file that the repository holds now.
///
/// As long as there is a [`Self::request`], its file is fetched and given to [`Self::take`]. An error
/// ends it; what was verified until then is in [`Self::state`] all the same.
pub struct TufUpdate {
    /// Fixed at the beginning, as section 5.1 says.
    now: Timestamp,
    root: Metadata<Root>,
    state: TufState,
    floor: Option<Floor>,
    new_roots: usize,
    step: Step,
}

/// A file that is wanted. Without any name of the repository's making in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TufRequest {
    /// Below the repository's URL.
    pub path: String,
    pub most_bytes: u64,
    /// That it is not there is an answer too.
    pub may_be_absent: bool,
}

/// What the repository holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TufFound {
    pub content: Vec<u8>,
    /// Version and end of what was verified, role by role.
    pub versions: [(TufRole, u64, Timestamp); 4],
}

/// What was verified before, and may not be gone back behind.
struct Floor {
    timestamp: Metadata<TimestampContent>,
    snapshot: Metadata<Snapshot>,
}

enum Step {
    Root,
    Timestamp,
    Snapshot(Metadata<TimestampContent>, String),
    Targets(Metadata<TimestampContent>, Metadata<Snapshot>, Pin),
    Target([(TufRole, u64, Timestamp); 4], Target),
    Done(TufFound),
    /// After an error.
    Over,
}

impl TufUpdate {
    /// The first root of the public good instance: version 15, of the repository sigstore/root-signing.
    pub const PUBLIC_GOOD_ROOT: &[u8] = include_bytes!("public-good.root.json");

    /// Begins with a root that somebody vouches for, and with what is known from before. `state_file` is
    /// what errors call the latter.
    pub fn begin(first_root: &[u8], state: TufState, state_file: &str, now: Timestamp) -> Result<Self, TufError> {
        let root = self_signed(first_root).map_err(|flaw| TufError { file: "the first root".to_owned(), flaw })?;
        let of_state = |flaw| TufError { file: state_file.to_owned(), flaw };
        let (root, state, floor) = resume(root, first_root, state).map_err(of_state)?;
        Ok(Self { now, root, state, floor, new_roots: 0, step: Step::Root })
    }

    /// What is wanted next; nothing once it is done.
    pub fn request(&self) -> Option<TufRequest> {
        let metadata = |file: String, most_bytes| TufRequest { path: file, most_bytes, may_be_absent: false };
        let versioned = |version: u64, file: &str| match self.root.content.consistent_snapshot {
            true => format!("{version}.{file}"),
            false => file.to_owned(),
        };
        match &self.step {
            Step::Root => Some(TufRequest {
                may_be_absent: true,
                ..metadata(format!("{}.root.json", self.next_root()), MAX_ROOT_METADATA_BYTES)
            }),
            Step::Timestamp => Some(metadata("timestamp.json".to_owned(), MAX_TIMESTAMP_BYTES)),
            Step::Snapshot(timestamp, _) => {
                let pin = timestamp.content.snapshot().ok()?;
                Some(metadata(versioned(pin.version, "snapshot.json"), most(pin)))
            }
            Step::Targets(_, _, pin) => Some(metadata(versioned(pin.version, TARGETS_FILE), most(pin))),
            Step::Target(_, target) => {
                let file = match self.root.content.consistent_snapshot {
                    true => format!("{}.{TARGET}", target.hash().ok()?),
                    false => TARGET.to_owned(),
                };
                Some(metadata(format!("targets/{file}"), target.length))
            }
            Step::Done(_) | Step::Over => None,
        }
    }

    /// The bytes of the file that was wanted, or that it is not there.
    pub fn take(&mut self, bytes: Option<&[u8]>) -> Result<(), TufError> {
        let Some(request) = self.request() else { return Ok(()) };
        let step = std::mem::replace(&mut self.step, Step::Over);
        let next = match (step, bytes) {
            (_, Some(bytes)) if bytes.len() as u64 > request.most_bytes => {
                Err(TufFlaw::TooLarge { limit: request.most_bytes })
            }
            (Step::Root, None) => return self.last_root(),
            (_, None) => Err(TufFlaw::Absent),
            (Step::Root, Some(bytes)) => self.root(bytes),
            (Step::Timestamp, Some(bytes)) => self.timestamp(bytes),
            (Step::Snapshot(timestamp, text), Some(bytes)) => self.snapshot(timestamp, text, bytes),
            (Step::Targets(timestamp, snapshot, pin), Some(bytes)) => self.targets(&timestamp, &snapshot, &pin, bytes),
            (Step::Target(versions, target), Some(bytes)) => {
                target.admits(bytes).map(|()| Step::Done(TufFound { content: bytes.to_vec(), versions }))
            }
            (step @ (Step::Done(_) | Step::Over), Some(_)) => Ok(step),
        };
        self.step = next.map_err(|flaw| TufError { file: request.path, flaw })?;
        Ok(())
    }

    /// What is known now, to begin the next update with.
    pub fn state(&self) -> &TufState {
        &self.state
    }

    /// What was looked for; none before the end.
    pub fn found(self) -> Option<TufFound> {
        match self.step {
            Step::Done(found) => Some(found),
            _ => None,
        }
    }

    fn next_root(&self) -> u64 {
        self.root.version.saturating_add(1)
    }

    /// Section 5.3: by the keys of the root before it and by its own, and the next one in number.
    fn root(&mut self, bytes: &[u8]) -> Result<Step, TufFlaw> {
        let new = following(&self.root, bytes)?;
        self.new_roots += 1;
        if self.new_roots > MAX_NEW_ROOTS {
            return Err(TufFlaw::TooManyRoots);
        }
        self.root = new;
        self.state.roots.push(text(bytes)?);
        Ok(Step::Root)
    }

    /// Whether the last root is in force; and whether what was seen before is of its keys still. Where
    /// they were changed, versions begin anew (section 5.3.11): so a repository recovers from one whose
    /// thief has signed the highest numbers.
    fn last_root(&mut self) -> Result<(), TufError> {
        let file = format!("{}.root.json", self.root.version);
        self.root.is_valid_at(self.now).map_err(|flaw| TufError { file, flaw })?;
        if self.floor.as_ref().is_some_and(|floor| !floor.is_of(&self.root)) {
            (self.floor, self.state.seen) = (None, None);
        }
        self.step = Step::Timestamp;
        Ok(())
    }

    /// Section 5.4.
    fn timestamp(&mut self, bytes: &[u8]) -> Result<Step, TufFlaw> {
        let mut new: Metadata<TimestampContent> = self.verified(bytes)?;
        let mut of_new = text(bytes)?;
        if let (Some(Floor { timestamp: known, .. }), Some(seen)) = (&self.floor, &self.state.seen) {
            not_behind("timestamp.json", new.version, known.version)?;
            not_behind("snapshot.json", new.content.snapshot()?.version, known.content.snapshot()?.version)?;
            // One number says one thing: what was seen under it first.
            if new.version == known.version {
                of_new.clone_from(&seen.timestamp);
                new = Metadata::parse(of_new.as_bytes())?;
            }
        }
        new.is_valid_at(self.now)?;
        new.content.snapshot()?;
        Ok(Step::Snapshot(new, of_new))
    }

    /// Section 5.5.
    fn snapshot(
        &mut self,
        timestamp: Metadata<TimestampContent>,
        timestamp_text: String,
        bytes: &[u8],
    ) -> Result<Step, TufFlaw> {
        let pin = timestamp.content.snapshot()?;
        pin.admits(bytes)?;
        let new: Metadata<Snapshot> = self.verified(bytes)?;
        new.has_version(pin.version)?;
        let known = self.floor.iter().flat_map(|floor| &floor.snapshot.content.meta);
        for (file, known) in known {
            let Some(pin) = new.content.meta.get(file) else {
                return Err(TufFlaw::Withdrawn { file: file.clone(), known: known.version });
            };
            not_behind(file, pin.version, known.version)?;
        }
        new.is_valid_at(self.now)?;
        let of_targets = new.content.meta.get(TARGETS_FILE).cloned();
        let of_targets = of_targets.ok_or_else(|| TufFlaw::NotListed { file: TARGETS_FILE.to_owned() })?;
        self.state.seen = Some(Seen { timestamp: timestamp_text, snapshot: text(bytes)? });
        Ok(Step::Targets(timestamp, new, of_targets))
    }

    /// Section 5.6, and what it says of the one target.
    fn targets(
        &self,
        timestamp: &Metadata<TimestampContent>,
        snapshot: &Metadata<Snapshot>,
        pin: &Pin,
        bytes: &[u8],
    ) -> Result<Step, TufFlaw> {
        pin.admits(bytes)?;
        let new: Metadata<Targets> = self.verified(bytes)?;
        new.has_version(pin.version)?;
        new.is_valid_at(self.now)?;
        let target = new.content.targets.get(TARGET).ok_or_else(|| TufFlaw::NotListed { file: TARGET.to_owned() })?;
        if target.length > MAX_ROOT_BYTES as u64 {
            return Err(TufFlaw::LongTarget { length: target.length, limit: MAX_ROOT_BYTES as u64 });
        }
        target.hash()?;
        let versions = [
            (TufRole::Root, self.root.version, self.root.expires),
            (TufRole::Timestamp, timestamp.version, timestamp.expires),
            (TufRole::Snapshot, snapshot.version, snapshot.expires),
            (TufRole::Targets, new.version, new.expires),
        ];
        Ok(Step::Target(versions, target.clone()))
    }

    fn verified<T: Content>(&self, bytes: &[u8]) -> Result<Metadata<T>, TufFlaw> {
        let metadata = Metadata::parse(bytes)?;
        metadata.verify_by(&self.root)?;
        Ok(metadata)
    }
}

impl Floor {
    fn parse(seen: &Seen) -> Result<Self, TufFlaw> {
        let timestamp: Metadata<TimestampContent> = Metadata::parse(seen.timestamp.as_bytes())?;
        let snapshot: Metadata<Snapshot> = Metadata::parse(seen.snapshot.as_bytes())?;
        snapshot.has_version(timestamp.content.snapshot()?.version)?;
        Ok(Self { timestamp, snapshot })
    }

    fn is_of(&self, root: &Metadata<Root>) -> bool {
        self.timestamp.verify_by(root).is_ok() && self.snapshot.verify_by(root).is_ok()
    }
}

/// The latest root that the state leads to from the first one, and the state to go on with.
fn resume(
    first: Metadata<Root>,
    first_text: &[u8],
    state: TufState,
) -> Result<(Metadata<Root>, TufState, Option<Floor>), TufFlaw> {
    let (first_text, mut root) = (text(first_text)?, first);
    let damaged = |_| TufFlaw::Damaged;
    let begins_at = root.version;
    for known in &state.roots {
        let known: Metadata<Root> = Metadata::parse(known.as_bytes()).map_err(damaged)?;
        if known.version < begins_at {
            continue;
        }
        root = match known.version == root.version && known.says_what(&root) {
            true => root,
            false => following_metadata(&root, known).map_err(|_| TufFlaw::OtherRepository)?,
        };
    }
    let last = state.roots.last().map(|text| Metadata::<Root>::parse(text.as_bytes())).transpose().map_err(damaged)?;
    // A first root that is newer than all that is known, as a newer program brings one.
    let is_newer = last.is_none_or(|last| last.version < root.version);
    let roots = if is_newer { vec![first_text] } else { state.roots };
    let floor = state.seen.as_ref().map(Floor::parse).transpose().map_err(damaged)?;
    let floor = match floor {
        Some(floor) if floor.is_of(&root) => Some(floor),
        Some(_) if !is_newer => return Err(TufFlaw::Damaged),
        _ => None,
    };
    let seen = if floor.is_some() { state.seen } else { None };
    Ok((root, TufState { roots, seen }, floor))
}

fn self_signed(bytes: &[u8]) -> Result<Metadata<Root>, TufFlaw> {
    if bytes.len() as u64 > MAX_ROOT_METADATA_BYTES {
        return Err(TufFlaw::TooLarge { limit: MAX_ROOT_METADATA_BYTES });
    }
    let root: Metadata<Root> = Metadata::parse(bytes)?;
    root.verify_by(&root)?;
    Ok(root)
}

fn following(root: &Metadata<Root>, bytes: &[u8]) -> Result<Metadata<Root>, TufFlaw> {
    following_metadata(root, Metadata::parse(bytes)?)
}

fn following_metadata(root: &Metadata<Root>, new: Metadata<Root>) -> Result<Metadata<Root>, TufFlaw> {
    new.verify_by(root)?;
    new.verify_by(&new)?;
    new.has_version(root.version.saturating_add(1))?;
    Ok(new)
}

fn not_behind(of: &str, found: u64, known: u64) -> Result<(), TufFlaw> {
    match found < known {
        true => Err(TufFlaw::Rollback { of: of.to_owned(), found, known }),
        false => Ok(()),
    }
}

fn most(pin: &Pin) -> u64 {
    pin.length.map_or(MAX_METADATA_BYTES, |length| length.min(MAX_METADATA_BYTES))
}

/// Metadata that was parsed is JSON, and so UTF-8.
fn text(bytes: &[u8]) -> Result<String, TufFlaw> {
    String::from_utf8(bytes.to_vec()).map_err(|_| TufFlaw::NotCanonical)
}

/// What sigstore's repositories call it.
pub(super) const TARGET: &str = "trusted_root.json";

/// Of the public good instance the largest root has 9 KB, and nothing else more than 5.
const MAX_ROOT_METADATA_BYTES: u64 = 64 << 10;
const MAX_TIMESTAMP_BYTES: u64 = 16 << 10;
const MAX_METADATA_BYTES: u64 = 256 << 10;
/// It has had fifteen in five years.
pub(super) const MAX_NEW_ROOTS: usize = 32;
