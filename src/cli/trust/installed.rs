//! A trusted root in `TRUST_DIR` that updates replace, and what they know of its repository.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::trust::{MAX_ROOT_BYTES, MAX_STATE_BYTES, TufState};

/// As long as it lives no other update of the directory begins.
pub(super) struct Installed {
    directory: PathBuf,
    root_name: String,
    state_name: String,
    root: Option<Vec<u8>>,
    _lock: Option<Flock<File>>,
}

impl Installed {
    /// Makes the directory where it is to be written to and there is none.
    pub(super) fn open(directory: &Path, name: &str, to_write: bool) -> anyhow::Result<Self> {
        let of_directory = || format!("TRUST_DIR {}", directory.display());
        let lock = match to_write {
            true => {
                fs::create_dir_all(directory).with_context(of_directory)?;
                lock(directory).with_context(of_directory)?
            }
            false => None,
        };
        let root_name = format!("{name}.trusted_root.json");
        // Hidden: what is in force are the files that are not.
        let state_name = format!(".{name}.trusted_root.tuf.json");
        let root = read(&directory.join(&root_name), MAX_ROOT_BYTES)?;
        Ok(Self { directory: directory.to_owned(), root_name, state_name, root, _lock: lock })
    }

    pub(super) fn root_file(&self) -> PathBuf {
        self.directory.join(&self.root_name)
    }

    pub(super) fn state_file(&self) -> PathBuf {
        self.directory.join(&self.state_name)
    }

    /// The file's bytes before the update.
    pub(super) fn root(&self) -> Option<&Vec<u8>> {
        self.root.as_ref()
    }

    /// When it was put there.
    pub(super) fn since(&self) -> Option<Timestamp> {
        fs::metadata(self.root_file()).ok()?.modified().ok()?.try_into().ok()
    }

    pub(super) fn state(&self) -> anyhow::Result<TufState> {
        let file = self.state_file();
        match read(&file, MAX_STATE_BYTES)? {
            Some(json) => Ok(TufState::from_json(&json, &file.display().to_string())?),
            None => Ok(TufState::default()),
        }
    }

    pub(super) fn keep(&self, state: &TufState) -> anyhow::Result<()> {
        self.replace(&self.state_name, state.to_json().as_bytes())
    }

    pub(super) fn install(&self, root: &[u8]) -> anyhow::Result<()> {
        self.replace(&self.root_name, root)
    }

    /// Whoever reads sees the old file or the new one, whenever this is killed.
    fn replace(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.directory.join(name);
        let temporary = self.directory.join(format!(".{name}.new"));
        let write = || {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(READABLE).open(&temporary)?;
            file.write_all(bytes)?;
            // A server that runs as another user reads it, whatever this user's mask says.
            file.set_permissions(Permissions::from_mode(READABLE))?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// Nothing where the file system knows no locks: then whoever runs two updates at once has the later one.
fn lock(directory: &Path) -> anyhow::Result<Option<Flock<File>>> {
    match Flock::lock(File::open(directory)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => bail!("another update is running"),
        Err(_) => Ok(None),
    }
}

fn read(path: &Path, most: usize) -> anyhow::Result<Option<Vec<u8>>> {
    let of_path = || path.display().to_string();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(of_path),
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).with_context(of_path)?;
    if bytes.len() > most {
        bail!("{}: expected at most {most} bytes", path.display());
    }
    Ok(Some(bytes))
}

const READABLE: u32 = 0o644;
