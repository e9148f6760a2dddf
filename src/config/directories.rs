//! Whether this process may use the directories it is given.

use std::{fs, io, path::Path};

use nix::{
    fcntl::AtFlags,
    unistd::{AccessFlags, faccessat, geteuid},
};

use super::{
    Config,
    error::{ConfigError, Origin, Shown},
    setting::{DATA_DIR, TRUST_DIR},
};

impl Config {
    /// Makes the directories that are ours to make, and finds out whether this process may use all of
    /// them; for root, who may everything, that says little.
    pub fn prepare_directories(&self) -> Result<(), ConfigError> {
        let data_dir = &self.store.data_dir;
        create(data_dir).map_err(|source| unusable(DATA_DIR, data_dir, "create", source))?;
        check(DATA_DIR, data_dir, "write to")?;
        if self.has_default_trust_dir() {
            create(&self.trust_dir).map_err(|source| unusable(TRUST_DIR, &self.trust_dir, "create", source))?;
        }
        check(TRUST_DIR, &self.trust_dir, "read")
    }

    /// The same questions, asked without making anything.
    pub fn check_directories(&self) -> Result<(), ConfigError> {
        let data_dir = &self.store.data_dir;
        let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(data_dir);
        access(existing, "write to").map_err(|source| unusable(DATA_DIR, data_dir, "write to", source))?;
        if self.has_default_trust_dir() && !self.trust_dir.exists() {
            return Ok(());
        }
        check(TRUST_DIR, &self.trust_dir, "read")
    }

    fn has_default_trust_dir(&self) -> bool {
        self.trust_dir == self.store.data_dir.join(DEFAULT_TRUST_DIR)
    }
}

fn create(directory: &Path) -> io::Result<()> {
    match fs::create_dir_all(directory) {
        // What is wrong with a thing of that name, the check says better.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

fn check(variable: &'static str, directory: &Path, purpose: &'static str) -> Result<(), ConfigError> {
    access(directory, purpose).map_err(|source| unusable(variable, directory, purpose, source))
}

fn access(directory: &Path, purpose: &'static str) -> io::Result<()> {
    if !fs::metadata(directory)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let list = AccessFlags::R_OK | AccessFlags::X_OK;
    let mode = if purpose == "read" { list } else { list | AccessFlags::W_OK };
    faccessat(nix::fcntl::AT_FDCWD, directory, mode, AtFlags::AT_EACCESS).map_err(io::Error::from)
}

fn unusable(variable: &'static str, directory: &Path, purpose: &'static str, source: io::Error) -> ConfigError {
    ConfigError::Directory {
        origin: Origin::Variable(variable.to_owned()),
        value: Shown::new(&directory.to_string_lossy()),
        user: format!("user {}", geteuid()),
        purpose,
        source,
    }
}

pub(super) const DEFAULT_TRUST_DIR: &str = "trust";
