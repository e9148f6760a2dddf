//! The signers in force: the keys of `TRUST_DIR` and those of the store, as one trust root.
//!
//! The directory is read again every [`POLL`]: a key put there counts within a second, a key taken
//! away stops counting. Polling sees what file notifications miss (Kubernetes mounts, network file
//! systems) and costs a directory listing.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    store::{SignerRow, Store, StoreError},
    trust::{KeyError, PublicKey, Signer, SignerOrigin, TrustRoot},
};

/// How often the directory is looked at.
pub const POLL: Duration = Duration::from_millis(500);

/// A PEM public key has a few hundred bytes; what is larger is none.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;

const MAX_KEY_FILES: usize = 1024;

pub struct Trusted {
    directory: PathBuf,
    store: Store,
    clock: Clock,
    current: ArcSwap<TrustRoot>,
    generation: AtomicU64,
    files: Mutex<Files>,
    /// Why the sources could not be read when they were last looked at.
    failure: Mutex<Option<String>>,
}

#[derive(Default)]
struct Files {
    /// What the directory looked like when its keys were read; `None` before the first look.
    listing: Option<Vec<FileStamp>>,
    signers: Vec<Signer>,
    /// When each key was first seen in the directory.
    added: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    #[error("TRUST_DIR {path:?} cannot be read: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a file of the directory is not a trusted key.
#[derive(Debug, thiserror::Error)]
enum FileProblem {
    #[error("only *.pub and *.pem files are keys")]
    Name,
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a link that leads out of the directory is not followed")]
    LinkOut,
    #[error("larger than {MAX_KEY_FILE_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Trusted {
    /// Reads both sources once. A directory that does not exist yet is empty.
    pub fn load(directory: PathBuf, store: Store, clock: Clock) -> Result<Self, TrustedError> {
        let trusted = Self {
            directory,
            store,
            clock,
            current: ArcSwap::from_pointee(TrustRoot::new(Vec::new())),
            generation: AtomicU64::new(0),
            files: Mutex::default(),
            failure: Mutex::default(),
        };
        trusted.refresh()?;
        Ok(trusted)
    }

    pub fn root(&self) -> Arc<TrustRoot> {
        self.current.load_full()
    }

    /// Moves whenever the signers change: a verdict of another generation is void.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks whether the directory changed, and takes over what did.
    pub fn poll(&self) -> Result<(), TrustedError> {
        let polled = list(&self.directory).and_then(|listing| {
            if self.files.lock().listing.as_ref() == Some(&listing) { Ok(()) } else { self.refresh() }
        });
        *self.failure.lock() = polled.as_ref().err().map(|_| "the trusted keys cannot be read again".to_owned());
        polled
    }

    /// What does not work as it should, in one line.
    pub fn degraded(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Reads a directory as a start would, and says how many keys it holds.
    pub fn check(directory: &Path) -> Result<usize, TrustedError> {
        Ok(list(directory)?.iter().filter(|stamp| load_key(directory, &stamp.path).is_some()).count())
    }

    /// Reads everything again, for a change that came over the API.
    pub fn refresh(&self) -> Result<(), TrustedError> {
        let rows = self.store.signers()?;
        let mut files = self.files.lock();
        // A directory that cannot be read leaves its keys as they were, and holds up no revocation.
        let listed = list(&self.directory);
        if let Ok(listing) = &listed
            && files.listing.as_ref() != Some(listing)
        {
            files.signers = self.read_files(listing, &mut files.added);
            files.listing = Some(listing.clone());
        }
        let revoked: BTreeMap<_, _> = self.store.revocations()?.into_iter().collect();
        let of_files = files.signers.iter().map(|signer| {
            // A revocation over the API beats any file.
            let revoked_at = revoked.get(&signer.key.id().to_string()).copied();
            Signer { revoked_at, ..signer.clone() }
        });
        let signers = of_files.chain(rows.iter().filter_map(signer_of_row)).collect();
        self.current.store(Arc::new(TrustRoot::new(signers)));
        self.generation.fetch_add(1, Ordering::Release);
        listed.map(drop)
    }

    fn read_files(&self, listing: &[FileStamp], added: &mut BTreeMap<String, Timestamp>) -> Vec<Signer> {
        let mut signers = Vec::new();
        for stamp in listing {
            let Some(key) = load_key(&self.directory, &stamp.path) else { continue };
            signers.push(Signer {
                name: stamp.path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
                added: *added.entry(key.id().to_string()).or_insert_with(|| self.clock.now()),
                key,
                origin: SignerOrigin::File,
                not_before: None,
                not_after: None,
                revoked_at: None,
            });
        }
        tracing::info!(keys = signers.len(), "TRUST_DIR: {} trusted keys", signers.len());
        signers
    }
}

fn signer_of_row(row: &SignerRow) -> Option<Signer> {
    match PublicKey::from_pem(&row.pem) {
        Ok(key) => Some(Signer {
            name: row.name.clone(),
            key,
            origin: SignerOrigin::Api,
            added: row.added,
            not_before: row.not_before,
            not_after: row.not_after,
            revoked_at: row.revoked_at,
        }),
        Err(error) => {
            tracing::error!(signer = row.name, "the stored key of {:?} is not trusted: {error}", row.name);
            None
        }
    }
}

/// The files of the directory by name; dot files are what Kubernetes and editors keep beside them.
fn list(directory: &Path) -> Result<Vec<FileStamp>, TrustedError> {
    use std::os::unix::fs::MetadataExt;

    let failed = |source| TrustedError::Directory { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut stamps = Vec::new();
    for entry in entries.take(MAX_KEY_FILES) {
        let path = entry.map_err(failed)?.path();
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        // Follows links: a Kubernetes mount changes what they lead to.
        let metadata = fs::metadata(&path).ok();
        stamps.push(FileStamp {
            path,
            modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
            length: metadata.as_ref().map_or(0, fs::Metadata::len),
            inode: metadata.as_ref().map_or(0, MetadataExt::ino),
        });
    }
    stamps.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(stamps)
}

/// A key of the directory; what is none is a warning by name.
fn load_key(directory: &Path, path: &Path) -> Option<PublicKey> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let warn = |problem: &FileProblem| tracing::warn!(file = %name, "TRUST_DIR: {name:?} is not trusted: {problem}");
    read_key(directory, path).inspect_err(warn).ok()
}

fn read_key(directory: &Path, path: &Path) -> Result<PublicKey, FileProblem> {
    if !path.extension().is_some_and(|extension| extension == "pub" || extension == "pem") {
        return Err(FileProblem::Name);
    }
    let target = path.canonicalize()?;
    if !target.starts_with(directory.canonicalize()?) {
        return Err(FileProblem::LinkOut);
    }
    let metadata = fs::metadata(&target)?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_FILE_BYTES {
        return Err(FileProblem::TooLarge);
    }
    Ok(PublicKey::from_pem(&fs::read_to_string(&target)?)?)
}
