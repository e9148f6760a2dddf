//! A check of all that lies in a cache which no server uses meanwhile, at the speed of the disk.

use std::{fs::File, io, path::Path, time::SystemTime};

use super::{
    CacheError,
    directory::{Directory, Kept},
    index::Entry,
    scrub::{Finding, examine},
};
use crate::oci::Digest;

/// How far a check has come, and what it found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// What there is to check.
    pub blobs: u64,
    pub bytes: u64,
    /// What of it was checked.
    pub blobs_read: u64,
    pub bytes_read: u64,
    pub damaged: u64,
    /// What nothing can be said of.
    pub unreadable: u64,
    pub removed: u64,
}

/// One that is not right.
#[derive(Debug)]
pub struct NotRight<'a> {
    pub digest: &'a Digest,
    pub why: String,
    pub removed: bool,
}

/// Reads every blob below `root`, and removes the damaged ones if it is told to. The directory is its own until it is
/// done: a server that has it is an error, and one that starts meanwhile does not.
pub fn verify_all(
    root: &Path,
    remove: bool,
    mut meet: impl FnMut(&Checked, Option<NotRight<'_>>),
) -> Result<Checked, CacheError> {
    let directory = Directory::open(root)?;
    let mut kept = directory.scan().map_err(|source| CacheError::Directory { path: root.to_owned(), source })?;
    kept.sort_unstable_by_key(|kept| kept.digest);
    let bytes = kept.iter().map(|kept| kept.size).sum();
    let mut checked = Checked { blobs: kept.len() as u64, bytes, ..Checked::default() };
    for Kept { digest, size, .. } in kept {
        let (is_damaged, why) = match finding(&directory, digest, size) {
            Finding::Right => (false, None),
            Finding::Damaged(why) => (true, Some(why)),
            Finding::Unknown(why) => (false, Some(why)),
        };
        checked.blobs_read += 1;
        checked.bytes_read += size;
        checked.damaged += u64::from(is_damaged);
        checked.unreadable += u64::from(!is_damaged && why.is_some());
        let mut not_right = why.map(|why| NotRight { digest: &digest, why, removed: false });
        if let Some(not_right) = not_right.as_mut().filter(|_| is_damaged && remove) {
            match directory.remove(&digest) {
                Ok(()) => not_right.removed = true,
                Err(error) => not_right.why = format!("{}; it cannot be removed: {error}", not_right.why),
            }
            checked.removed += u64::from(not_right.removed);
        }
        meet(&checked, not_right);
    }
    Ok(checked)
}

fn finding(directory: &Directory, digest: Digest, size: u64) -> Finding {
    let opened = Directory::open_unnoticed(&directory.path(&digest));
    let entry = Entry::found(digest, size);
    // What it is like is of no use to anybody: the next process looks again.
    let read = |file: File| -> io::Result<Finding> { examine(&entry, &file, SystemTime::UNIX_EPOCH) };
    opened.and_then(read).unwrap_or_else(|error| Finding::of(&error))
}
