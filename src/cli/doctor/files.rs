//! The files of a machine, or of an image mounted somewhere: nothing above its root is read, wherever links lead.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

/// A root directory.
pub(super) struct Files {
    root: OwnedFd,
}

/// What became of a look at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Looked {
    Read,
    Absent,
    Unreadable(String),
}

#[derive(Debug, thiserror::Error)]
#[error("--root {}: {source}", path.display())]
pub(super) struct RootError {
    path: PathBuf,
    source: io::Error,
}

impl Files {
    pub(super) fn under(root: &Path) -> Result<Self, RootError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(root, flags, Mode::empty())
            .map_err(|source| RootError { path: root.to_owned(), source: source.into() })?;
        Ok(Self { root })
    }

    /// The whole text of a file.
    pub(super) fn text(&self, path: &str) -> (Looked, Option<String>) {
        Self::looked(self.read(path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text"))
        }))
    }

    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path).ok()
    }

    /// The names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> (Looked, Vec<String>) {
        let (looked, names) = Self::looked(self.list(path));
        (looked, names.unwrap_or_default())
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.open(path, OFlag::O_PATH).is_ok()
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        // What is no file, a pipe for one, is not waited for.
        let file = File::from(self.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(io::Error::other("it is too long for a file of settings"));
        }
        Ok(bytes)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut directory = Dir::from_fd(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        Ok(openat2(&self.root, path, how)?)
    }

    fn looked<T>(read: io::Result<T>) -> (Looked, Option<T>) {
        match read {
            Ok(value) => (Looked::Read, Some(value)),
            // A file in the place of a directory holds no settings either.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                (Looked::Absent, None)
            }
            Err(error) => (Looked::Unreadable(error.to_string()), None),
        }
    }
}

/// No file of settings is as long.
const FILE_MAX_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_above_the_root_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(directory.path().join("secret"), "outside").unwrap();
        fs::write(root.join("secret"), "inside").unwrap();
        symlink("/secret", root.join("etc/absolute")).unwrap();
        symlink("../../../secret", root.join("etc/relative")).unwrap();
        let files = Files::under(&root).unwrap();
        for path in ["/etc/absolute", "/etc/relative", "/../secret", "/secret"] {
            assert_eq!(files.text(path), (Looked::Read, Some("inside".to_owned())), "{path}");
        }
        assert_eq!(files.names("/etc"), (Looked::Read, vec!["absolute".to_owned(), "relative".to_owned()]));
    }

    #[test]
    fn what_is_not_there_and_what_cannot_be_read_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("binary"), [0xff, 0xfe]).unwrap();
        fs::write(directory.path().join("long"), vec![b'a'; FILE_MAX_BYTES as usize + 1]).unwrap();
        nix::unistd::mkfifo(&directory.path().join("pipe"), Mode::S_IRWXU).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let files = Files::under(directory.path()).unwrap();
        assert_eq!(files.text("/nowhere"), (Looked::Absent, None));
        assert_eq!(files.text("/binary/x"), (Looked::Absent, None));
        assert_eq!(files.names("/binary"), (Looked::Absent, Vec::new()));
        for (path, error) in [
            ("/binary", "it is not text"),
            ("/long", "it is too long for a file of settings"),
            ("/pipe", "it is no file"),
            ("/", "it is no file"),
            ("/loop", "Too many levels of symbolic links (os error 40)"),
        ] {
            assert_eq!(files.text(path), (Looked::Unreadable(error.to_owned()), None), "{path}");
        }
    }

    #[test]
    fn a_root_that_is_none_is_an_error_that_names_it() {
        let error = Files::under(Path::new("/nowhere/at/all")).err().unwrap();
        assert_eq!(error.to_string(), "--root /nowhere/at/all: No such file or directory (os error 2)");
    }
}
