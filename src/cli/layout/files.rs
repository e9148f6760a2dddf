//! The files of a layout, by the names that the specification gives them.

use std::{
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::fs::{FileExt as _, FileTypeExt as _},
    },
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::tar_file::TarFile;
use crate::oci::{Algorithm, Digest, DigestHasher};

pub(super) enum Files {
    Directory(File),
    Tar(TarFile),
}

/// The bytes of one file.
pub(super) struct Content {
    file: Arc<File>,
    offset: u64,
    pub(super) len: u64,
}

impl Files {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let kind = file.metadata()?.file_type();
        match () {
            () if kind.is_dir() => Ok(Self::Directory(file)),
            () if kind.is_file() => Ok(Self::Tar(TarFile::read(file).with_context(|| path.display().to_string())?)),
            () if kind.is_fifo() || kind.is_socket() => {
                bail!("{}: a layout is read twice, and this only once", path.display())
            }
            () => bail!("{}: expected a directory or a tar file", path.display()),
        }
    }

    /// None: there is no such file.
    pub(super) fn content(&self, name: &str) -> anyhow::Result<Option<Content>> {
        match self {
            Self::Directory(root) => {
                let Some(file) = open_beneath(root, name)? else { return Ok(None) };
                let metadata = file.metadata()?;
                ensure!(metadata.is_file(), "{name} is no file");
                Ok(Some(Content { file: Arc::new(file), offset: 0, len: metadata.len() }))
            }
            Self::Tar(tar) => Ok(tar.member(name).map(|(file, offset, len)| Content { file, offset, len })),
        }
    }

    /// The digests that blobs are there for, by their names.
    pub(super) fn blobs(&self) -> anyhow::Result<Vec<Digest>> {
        let mut digests = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = |encoded: &str| format!("{algorithm}:{encoded}").parse::<Digest>().ok();
            match self {
                Self::Directory(root) => {
                    let Some(directory) = open_beneath(root, &format!("blobs/{algorithm}"))? else { continue };
                    for entry in Dir::from_fd(directory.into())?.iter() {
                        digests.extend(entry?.file_name().to_str().ok().and_then(digest));
                        ensure!(digests.len() <= MAX_BLOBS, "more than {MAX_BLOBS} blobs");
                    }
                }
                Self::Tar(tar) => {
                    let prefix = format!("blobs/{algorithm}/");
                    digests.extend(tar.names().filter_map(|name| digest(name.strip_prefix(&prefix)?)));
                }
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

impl Content {
    pub(super) fn bytes(&self, cap: u64) -> anyhow::Result<Vec<u8>> {
        ensure!(self.len <= cap, "{} bytes, where at most {cap} are read", self.len);
        let mut bytes = vec![0; usize::try_from(self.len)?];
        self.file.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    pub(super) fn begins_with(&self, byte: u8) -> io::Result<bool> {
        let mut first = [0];
        Ok(self.len > 0 && self.file.read_at(&mut first, self.offset)? == 1 && first[0] == byte)
    }

    /// Whether all of it has this digest, however much it is.
    pub(super) fn matches(&self, digest: &Digest) -> io::Result<bool> {
        let mut hasher = DigestHasher::new(digest.algorithm());
        let (mut at, mut buffer) = (0, vec![0; 128 << 10]);
        while at < self.len {
            let wanted = buffer.len().min(usize::try_from(self.len - at).unwrap_or(usize::MAX));
            let read = self.file.read_at(&mut buffer[..wanted], self.offset + at)?;
            if read == 0 {
                return Ok(false);
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        Ok(hasher.finish() == *digest)
    }
}

/// Opens a file below a directory, following no link on the way. `O_NONBLOCK`: a pipe keeps nobody waiting.
fn open_beneath(root: &File, name: &str) -> anyhow::Result<Option<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let mut at: Option<File> = None;
    for part in name.split('/') {
        ensure!(!part.is_empty() && part != "..", "{name:?} is no name of a layout");
        let from = at.as_ref().unwrap_or(root);
        match openat(from.as_fd(), part, flags, Mode::empty()) {
            Ok(opened) => at = Some(opened.into()),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => bail!("{name}: {part:?} is a symbolic link, which is not followed"),
            Err(error) => return Err(io::Error::from(error)).context(name.to_owned()),
        }
    }
    Ok(at)
}

const MAX_BLOBS: usize = 1 << 20;
