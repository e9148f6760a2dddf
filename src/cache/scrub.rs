//! Reads what lies in the cache, so that what the disk has altered is found before a client finds it.

use std::{fs::File, io, os::unix::fs::FileExt, time::SystemTime};

use super::{directory::Stamp, index::Entry};
use crate::oci::DigestHasher;

/// Whether a file is the blob that it is kept for; notes what it was like if it is.
pub(super) fn verify(entry: &Entry, file: &File, now: SystemTime) -> io::Result<bool> {
    let before = Stamp::of(file)?;
    let mut hasher = DigestHasher::new(entry.digest.algorithm());
    let (mut buffer, mut offset) = (vec![0; PIECE], 0);
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => break,
            length => {
                hasher.update(&buffer[..length]);
                offset += length as u64;
            }
        }
    }
    let mut verified = entry.verified.lock();
    let is_right = offset == entry.size && hasher.finish() == entry.digest;
    // Read while it was being changed, it has told nothing.
    let is_still = before.is_settled(now) && before == Stamp::of(file)?;
    *verified = (is_right && is_still).then_some(before);
    Ok(is_right)
}

const PIECE: usize = 256 << 10;
