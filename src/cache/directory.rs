//! Where the blobs lie: files by digest, each written aside and renamed once it is whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::OFlag,
    sys::{
        statfs::{self, FsType, statfs},
        statvfs::statvfs,
    },
    unistd::Uid,
};

use super::CacheError;
use crate::oci::Digest;

pub(super) struct Directory {
    root: PathBuf,
    /// Held for as long as this process may write here.
    _lock: File,
    partials: AtomicU64,
}

/// A file that was there at the start.
pub(super) struct Kept {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) last_used: SystemTime,
}

/// What tells a file that nobody has written to: its identity, its length and the time of the last write. That it was
/// read, linked or renamed is not among it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) size: u64,
    modified: (i64, i64),
}

/// A file that is not whole yet; removed unless it becomes a blob.
pub(super) struct Partial {
    pub(super) file: File,
    path: PathBuf,
    kept: bool,
}

impl Directory {
    /// Makes sure that this process, and it alone, may keep blobs here.
    pub(super) fn open(root: &Path) -> Result<Self, CacheError> {
        let error = |path: &Path, source: io::Error| match source.kind() {
            ErrorKind::ReadOnlyFilesystem => CacheError::ReadOnly { path: root.to_owned() },
            _ => CacheError::Directory { path: path.to_owned(), source },
        };
        let made = |path: &Path| {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(|source| error(path, source))
        };
        made(root)?;
        let metadata = fs::metadata(root).map_err(|source| error(root, source))?;
        let (owner, own) = (metadata.uid(), Uid::effective().as_raw());
        if owner != own {
            return Err(CacheError::Owner { path: root.to_owned(), owner, own });
        }
        if let Some(name) = statfs(root).ok().and_then(|stat| network(stat.filesystem_type())) {
            return Err(CacheError::NetworkFileSystem { path: root.to_owned(), name });
        }
        let path = root.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|source| error(&path, source))?;
        // Who ends just now writes his last blob yet.
        for left in (0..LOCK_ATTEMPTS).rev() {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if left > 0 => thread::sleep(TICK),
                Err(TryLockError::WouldBlock) => return Err(CacheError::InUse { path: root.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(error(&path, source)),
            }
        }
        let partial = root.join(PARTIAL);
        match fs::remove_dir_all(&partial) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(error(&partial, source)),
            _ => {}
        }
        made(&partial)?;
        made(&root.join(BLOBS))?;
        Ok(Self { root: root.to_owned(), _lock: lock, partials: AtomicU64::new(0) })
    }

    /// Every blob that lies here, by what the directory says of it: nothing is read.
    pub(super) fn scan(&self) -> io::Result<Vec<Kept>> {
        let mut found = Vec::new();
        for algorithm in directories(&self.root.join(BLOBS))? {
            for shard in directories(&algorithm)? {
                for entry in fs::read_dir(&shard)? {
                    let entry = entry?;
                    let Some(digest) = digest_at(&algorithm, &entry.path()) else { continue };
                    let metadata = entry.metadata()?;
                    if metadata.is_file() {
                        let last_used = metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
                        found.push(Kept { digest, size: metadata.len(), last_used });
                    }
                }
            }
        }
        Ok(found)
    }

    pub(super) fn open_blob(&self, digest: &Digest) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(self.path(digest))
    }

    /// Opens a blob by its path, without being taken for a use: the time of the last one stays.
    pub(super) fn open_unnoticed(path: &Path) -> io::Result<File> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NOATIME).bits();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    }

    /// How far an earlier process had come in reading through what lies here.
    pub(super) fn scrubbed(&self) -> Option<Digest> {
        fs::read_to_string(self.root.join(SCRUBBED)).ok()?.parse().ok()
    }

    /// What is lost of it, or torn, costs reading the same again.
    pub(super) fn note_scrubbed(&self, digest: Option<&Digest>) {
        let text = digest.map(Digest::to_string).unwrap_or_default();
        if let Err(error) = fs::write(self.root.join(SCRUBBED), text) {
            tracing::debug!("how far the cache was read through was not noted: {error}");
        }
    }

    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A file to be filled.
    pub(super) fn partial(&self) -> io::Result<Partial> {
        let path = self.root.join(PARTIAL).join(self.partials.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(&path)?;
        Ok(Partial { file, path, kept: false })
    }

    /// Makes a whole file the blob: whatever happens from here on leaves all of it or nothing.
    pub(super) fn keep(&self, mut partial: Partial, digest: &Digest) -> io::Result<Stamp> {
        partial.file.sync_data()?;
        // Whatever is written to it under its name gives it another stamp than this.
        thread::sleep(TICK);
        let stamp = Stamp::of(&partial.file)?;
        let path = self.path(digest);
        let shard = path.parent().expect("a blob lies in a directory");
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(shard)?;
        fs::rename(&partial.path, &path)?;
        partial.kept = true;
        File::open(shard)?.sync_all()?;
        Ok(stamp)
    }

    /// How many bytes are free here.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let encoded = digest.encoded();
        self.root.join(BLOBS).join(digest.algorithm().name()).join(&encoded[..SHARD]).join(encoded)
    }
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    /// Whether a write from now on would give another stamp: file systems count time in ticks.
    pub(super) fn is_settled(self, now: SystemTime) -> bool {
        let since = u64::try_from(self.modified.0).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let nanoseconds = Duration::from_nanos(u64::try_from(self.modified.1).unwrap_or(0));
        let age = since.ok().and_then(|since| now.duration_since(since + nanoseconds).ok());
        age.is_none_or(|age| age >= TICK)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("{} was not removed: {error}", self.path.display());
        }
    }
}

fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn digest_at(algorithm: &Path, path: &Path) -> Option<Digest> {
    let (algorithm, encoded) = (algorithm.file_name()?.to_str()?, path.file_name()?.to_str()?);
    let digest = format!("{algorithm}:{encoded}").parse().ok()?;
    (path.parent()?.file_name()?.to_str()? == &encoded[..SHARD]).then_some(digest)
}

/// What a rename or a lock means on these is not what it means on a disk.
fn network(kind: FsType) -> Option<&'static str> {
    const CIFS: FsType = FsType(0xff53_4d42);
    const SMB2: FsType = FsType(0xfe53_4d42);
    const CEPH: FsType = FsType(0x00c3_6400);
    match kind {
        statfs::NFS_SUPER_MAGIC => Some("nfs"),
        statfs::SMB_SUPER_MAGIC | CIFS | SMB2 => Some("smb"),
        statfs::AFS_SUPER_MAGIC => Some("afs"),
        statfs::CODA_SUPER_MAGIC => Some("coda"),
        CEPH => Some("ceph"),
        _ => None,
    }
}

/// No file system that blobs are kept on counts in longer ones.
const TICK: Duration = Duration::from_millis(20);

const LOCK: &str = "lock";
/// A tick lies between two.
const LOCK_ATTEMPTS: u32 = 100;
const BLOBS: &str = "blobs";
const PARTIAL: &str = "partial";
const SCRUBBED: &str = "scrubbed";
/// Hexadecimal digits that name the directory that a blob lies in.
const SHARD: usize = 2;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_across_a_network_is_told_from_what_does_not() {
        for (kind, name) in [(0x6969, "nfs"), (0x517b, "smb"), (0xff53_4d42, "smb"), (0x00c3_6400, "ceph")] {
            assert_eq!(network(FsType(kind)), Some(name));
        }
        // ext4, XFS, btrfs, tmpfs, overlayfs, ZFS.
        for kind in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(network(FsType(kind)), None, "{kind:x}");
        }
    }
}
