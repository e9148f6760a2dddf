//! The fresh directory that the demonstration works in, and that goes with it.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};

use crate::config;

/// A directory of our own: made by us, readable by us only, removed with everything in it.
pub(super) struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    pub(super) fn create() -> anyhow::Result<Self> {
        let parent = config::variable_of_process("TMPDIR").unwrap_or_else(|| "/tmp".into());
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| anyhow!("no randomness"))?;
        let dir = Path::new(&parent).join(format!("sig-repo-demo-{}", hex::encode(random)));
        let private = |path: &Path| {
            DirBuilder::new().mode(0o700).create(path).with_context(|| format!("cannot make {}", path.display()))
        };
        private(&dir)?;
        let workspace = Self { dir };
        private(&workspace.data())?;
        private(&workspace.trust())?;
        Ok(workspace)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn trust(&self) -> PathBuf {
        self.dir.join("trust")
    }

    pub(super) fn write_private(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), "the directory stays: {error}");
        }
    }
}
