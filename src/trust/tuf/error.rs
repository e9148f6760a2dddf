use std::fmt;

use jiff::Timestamp;

use super::{
    super::envelope::JsonFlaw,
    metadata::MAX_SIGNATURES,
    update::{MAX_NEW_ROOTS, TARGET},
};

/// What is wrong, and with which file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {flaw}")]
pub struct TufError {
    pub file: String,
    pub flaw: TufFlaw,
}

/// The top-level roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TufRole {
    Root,
    Timestamp,
    Snapshot,
    Targets,
}

/// Never any text of the repository but the names of files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TufFlaw {
    #[error("the repository does not have it")]
    Absent,
    #[error("more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Json(#[from] JsonFlaw),
    #[error("{what} is missing, or not what it should be; expected metadata of the role {role} of TUF 1.x")]
    Form { role: TufRole, what: &'static str },
    #[error("a number that is no integer; expected what has a canonical form")]
    NotCanonical,
    #[error("more than {MAX_SIGNATURES} signatures or keys of one role")]
    TooManySignatures,
    #[error(
        "signed by {found} keys of the role {role} as root {root} names them; expected {threshold} different ones at least"
    )]
    Threshold { role: TufRole, root: u64, found: usize, threshold: u64 },
    #[error("version {found} of the role {role}; expected {expected}")]
    Version { role: TufRole, found: u64, expected: u64 },
    #[error("rolled back: version {found} of {of}; expected {known}, which was seen before, or a later one")]
    Rollback { of: String, found: u64, known: u64 },
    #[error("it does not list {file}, which it did before; expected version {known} of that or a later one")]
    Withdrawn { file: String, known: u64 },
    #[error("it does not list {file}")]
    NotListed { file: String },
    #[error("version {version} of the role {role} expired at {at}; expected one that is valid at {now:.0}")]
    Expired { role: TufRole, version: u64, at: Timestamp, now: Timestamp },
    #[error("{found} bytes; expected {expected}")]
    Length { found: u64, expected: u64 },
    #[error("its {algorithm} is another one than the metadata says")]
    Hash { algorithm: &'static str },
    #[error("no SHA-256 and no SHA-512 in hexadecimal digits stands in the metadata for it")]
    NoHash,
    #[error("{TARGET} has {length} bytes, of which at most {limit} are read")]
    LongTarget { length: u64, limit: u64 },
    #[error("more than {MAX_NEW_ROOTS} roots after the one that was known; give a newer one as the first")]
    TooManyRoots,
    #[error(
        "what it knows is of another repository, or of another first root; another --name keeps them apart, without the file it begins anew"
    )]
    OtherRepository,
    #[error("not what an update left there; without the file the next update begins anew, with no memory of versions")]
    Damaged,
}

impl fmt::Display for TufRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        })
    }
}
