use std::{
    fmt,
    fs::{Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::sys::statvfs::{FsFlags, statvfs};
use redb::{
    DatabaseError, StorageBackend,
    backends::{FileBackend, InMemoryBackend},
};

use super::StoreError;

/// Where the bytes of a database lie: in files, or in storage that a test makes fail.
#[derive(Clone)]
pub struct Disk {
    open: Arc<Open>,
    files: bool,
}

/// Whether a database that is not there may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    First,
    /// A file that has gone is not replaced by an empty one: that would forget every tombstone.
    Again,
}

/// A database that is open, and which file that is, where it is one.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: redb::Database,
    pub(super) file: Option<FileId>,
}

/// Which file it is, whatever its name is by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

type Open = dyn Fn(&redb::Builder, &Path, Opening) -> Result<Opened, DatabaseError> + Send + Sync;

impl Disk {
    pub fn files() -> Self {
        let open = |builder: &redb::Builder, path: &Path, opening| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(opening == Opening::First)
                .truncate(false)
                .mode(FILE_MODE)
                .open(path)?;
            let id = FileId::of(&file.metadata()?);
            Ok(Opened { database: builder.create_with_backend(FileBackend::new(file)?)?, file: Some(id) })
        };
        Self { open: Arc::new(open), files: true }
    }

    /// Memory, for a store that nobody opens again.
    pub fn memory() -> Self {
        Self::with_backend(|_, _| Ok(InMemoryBackend::new()))
    }

    /// Storage of another kind; `open` is asked for it with the path that a file would have.
    pub fn with_backend<B: StorageBackend>(
        open: impl Fn(&Path, Opening) -> io::Result<B> + Send + Sync + 'static,
    ) -> Self {
        let open = move |builder: &redb::Builder, path: &Path, opening| {
            Ok(Opened { database: builder.create_with_backend(open(path, opening)?)?, file: None })
        };
        Self { open: Arc::new(open), files: false }
    }

    /// Whether what is not at its path is not there.
    pub(super) fn are_files(&self) -> bool {
        self.files
    }

    pub(super) fn open(&self, path: &Path, cache_bytes: usize, opening: Opening) -> Result<Opened, StoreError> {
        let mut builder = redb::Builder::new();
        builder.set_cache_size(cache_bytes);
        let shown = path.display().to_string();
        builder.set_repair_callback(move |session| {
            tracing::warn!(path = shown, progress = session.progress(), "repairing {shown} after an unclean end");
        });
        (self.open)(&builder, path, opening).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
            error => StoreError::Open { path: path.to_owned(), source: Box::new(error.into()) },
        })
    }
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// What lies at the path now, if anything does.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Why so many bytes more could not be written beside this file, if they could not. A disk that is full
/// is found out here, before it fails in the middle of a commit, so that what is known can be read on.
pub(super) fn no_room(path: &Path, bytes: u64) -> Option<String> {
    let stat = statvfs(path.parent()?).ok()?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Some("its file system is read-only".to_owned());
    }
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    let needed = ROOM_MIN.saturating_add(bytes);
    (free < needed).then(|| format!("the disk is full: {} KiB are free and {} are needed", free >> 10, needed >> 10))
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
    let stat = statvfs(data_dir).ok()?;
    Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// Signatures and the audit are nobody else's to read.
const FILE_MODE: u32 = 0o600;
/// What a commit may need beside its rows: old and new pages lie in the file together.
const ROOM_MIN: u64 = 1 << 20;
const PROBE: &str = ".writable";
