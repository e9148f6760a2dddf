use std::{
    fmt,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{DatabaseError, StorageBackend, backends::FileBackend};

use super::StoreError;

/// Where the bytes of a database lie: in files, or in storage that a test makes fail.
#[derive(Clone)]
pub struct Disk(Arc<Open>);

/// Whether a database that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    First,
    /// A file that has gone is not replaced by an empty one: that would forget every tombstone.
    Again,
}

type Open = dyn Fn(&redb::Builder, &Path, Opening) -> Result<redb::Database, DatabaseError> + Send + Sync;

impl Disk {
    pub fn files() -> Self {
        Self(Arc::new(|builder, path, opening| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(opening == Opening::First)
                .truncate(false)
                .mode(FILE_MODE)
                .open(path)?;
            builder.create_with_backend(FileBackend::new(file)?)
        }))
    }

    /// Storage of another kind; `open` is asked for it with the path that a file would have.
    pub fn with_backend<B: StorageBackend>(
        open: impl Fn(&Path, Opening) -> io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |builder, path, opening| builder.create_with_backend(open(path, opening)?)))
    }

    pub(super) fn open(&self, path: &Path, cache_bytes: usize, opening: Opening) -> Result<redb::Database, StoreError> {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(cache_bytes);
        let shown = path.display().to_string();
        builder.set_repair_callback(move |session| {
            tracing::warn!(path = shown, progress = session.progress(), "repairing {shown} after an unclean end");
        });
        (self.0)(&builder, path, opening).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
            error => StoreError::Open { path: path.to_owned(), source: Box::new(error.into()) },
        })
    }
}

/// Whether files can be made in `data_dir`, found out before anything is opened in it.
pub(super) fn check_directory(data_dir: &Path) -> Result<(), StoreError> {
    let error = |source| StoreError::Directory { path: data_dir.to_owned(), source };
    if !std::fs::metadata(data_dir).map_err(error)?.is_dir() {
        return Err(error(io::ErrorKind::NotADirectory.into()));
    }
    let probe: PathBuf = data_dir.join(PROBE);
    OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&probe).map_err(error)?;
    std::fs::remove_file(&probe).map_err(error)
}

/// What is free where `data_dir` lies, or nothing where that cannot be told.
pub(super) fn free_bytes(data_dir: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(data_dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// Signatures and the audit are nobody else's to read.
const FILE_MODE: u32 = 0o600;
const PROBE: &str = ".writable";
