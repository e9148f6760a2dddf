use std::{io, path::PathBuf};

/// Why the store could not open, read or write. Never a verdict: whoever asks could not tell.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path} is in use by another process: one DATA_DIR serves one sig-repo at a time", path = path.display())]
    Locked { path: PathBuf },
    #[error("DATA_DIR {path} is not a directory that can be read and written: {source}", path = path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("{path} cannot be opened: {source}", path = path.display())]
    Open { path: PathBuf, source: Box<redb::Error> },
    #[error(
        "{path} has format {found} and this release reads and writes format {expected}: use the release that wrote it",
        path = path.display()
    )]
    FormatVersion { path: PathBuf, found: u64, expected: u64 },
    /// The database met an I/O error and answers nothing until it has been opened again.
    #[error("the {database} database does not answer: {reason}")]
    Failed { database: &'static str, reason: String },
    /// It answers, and nothing can be written to it until there is room again.
    #[error("the {database} database takes no writes: {reason}")]
    NoRoom { database: &'static str, reason: String },
    #[error(
        "{missing} is missing or empty, and {beside} of the same store is there: without it withdrawals and revocations \
         would be forgotten. Put it back, or remove {beside} too and begin a store without signatures",
        missing = missing.display(), beside = beside.display()
    )]
    RecordsMissing { missing: PathBuf, beside: PathBuf },
    #[error("{path} is of another store than the file beside it: put back the file that belongs there", path = path.display())]
    OtherStore { path: PathBuf },
    #[error("the store is closed")]
    Closed,
    #[error("a row of the table {table} cannot be read: {detail}")]
    Row { table: &'static str, detail: String },
    #[error("a signature without an identity cannot be kept")]
    NoIdentity,
    #[error("not a cursor of this list")]
    Cursor,
    #[error("a database operation failed")]
    Database(#[source] Box<redb::Error>),
}

impl StoreError {
    /// Whether the database may be in another state than its memory says, so that only opening it
    /// again makes its answers good.
    pub(super) fn ends_database(&self) -> bool {
        match self {
            Self::Database(error) => matches!(
                **error,
                redb::Error::Io(_)
                    | redb::Error::PreviousIo
                    | redb::Error::Corrupted(_)
                    | redb::Error::DatabaseClosed
                    | redb::Error::LockPoisoned(_)
            ),
            _ => false,
        }
    }

    /// The same for another one whom it hit: what ended a whole group of writes.
    pub(super) fn repeated(&self) -> Self {
        match self {
            Self::Failed { database, reason } => Self::Failed { database, reason: reason.clone() },
            Self::NoRoom { database, reason } => Self::NoRoom { database, reason: reason.clone() },
            _ => Self::Closed,
        }
    }

    pub(super) fn row(table: &'static str, detail: impl std::fmt::Display) -> Self {
        Self::Row { table, detail: detail.to_string() }
    }
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
