//! The notation CLI's own files in `TRUST_DIR`: its trust policy, and the stores that this names.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::files::{MAX_FILES, Problem, Stamp, TrustFilesError, contained, entries};
use crate::trust::{Credential, NotationFiles, SignerDocument};

/// Names that files of signers cannot have, because they are notation's.
pub(super) const NAMES: [&str; 4] = ["trustpolicy.json", "trustpolicy.oci.json", "trustpolicy.blob.json", "truststore"];

/// What of that layout the directory holds, as last read. Read again as a whole where anything changed.
#[derive(Debug, Clone, Default)]
pub(super) struct NotationDirectory {
    files: Vec<NotationFile>,
    pub(super) signers: Vec<SignerDocument>,
}

#[derive(Debug, Clone)]
struct NotationFile {
    stamp: Stamp,
    /// `None`: it cannot be read, which was said when it was tried.
    bytes: Option<Vec<u8>>,
}

impl NotationDirectory {
    pub(super) fn update(&mut self, directory: &Path) -> Result<bool, TrustFilesError> {
        let stamps = list(directory).map_err(|source| TrustFilesError::new(directory, source))?;
        if stamps.iter().eq(self.files.iter().map(|file| &file.stamp)) {
            return Ok(false);
        }
        let files = stamps.into_iter().map(|stamp| match self.files.iter().find(|file| file.stamp == stamp) {
            Some(known) => known.clone(),
            None => NotationFile { bytes: load(directory, &stamp.path), stamp },
        });
        self.files = files.collect();
        let named = self
            .files
            .iter()
            .filter_map(|file| Some((file.stamp.path.strip_prefix(directory).ok()?.to_str()?, file.bytes.as_deref()?)));
        let read = NotationFiles::read(named);
        for (path, problem) in &read.problems {
            tracing::warn!(file = path, "TRUST_DIR: {path:?}: {problem}");
        }
        let signers = read.credentials.into_iter().map(|credential| SignerDocument {
            name: Some(credential.name().to_owned()),
            credential: Credential::Notation(credential),
            not_before: None,
            not_after: None,
        });
        self.signers = signers.collect();
        Ok(true)
    }
}

/// The policy, and the files of every store: `truststore/x509/KIND/NAME/FILE`.
fn list(directory: &Path) -> io::Result<Vec<Stamp>> {
    let mut paths: Vec<_> = NAMES[..2].iter().map(|name| directory.join(name)).filter(|path| path.exists()).collect();
    let mut folders = vec![directory.join("truststore").join("x509")];
    for _ in 0..3 {
        let mut below = Vec::new();
        for folder in folders {
            below.extend(entries(&folder)?);
        }
        folders = below;
    }
    paths.extend(folders);
    paths.sort();
    paths.truncate(MAX_FILES);
    Ok(paths.into_iter().map(Stamp::of).collect())
}

fn load(directory: &Path, path: &Path) -> Option<Vec<u8>> {
    let name = path.strip_prefix(directory).unwrap_or(path).to_string_lossy();
    let warn = |problem: &Problem| tracing::warn!(file = %name, "TRUST_DIR: {name:?} is not read: {problem}");
    let read = |target: PathBuf| fs::read(target).map_err(Problem::from);
    contained(directory, path, MAX_BYTES).and_then(read).inspect_err(warn).ok()
}

/// A bundle of many roots.
const MAX_BYTES: u64 = 1 << 20;
