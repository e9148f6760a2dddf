//! Blobs on their way in. They are kept aside, in memory and for a while, until a manifest that is accepted
//! names them: what is never named is never stored.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    digest::{Context, SHA256},
    rand::{SecureRandom, SystemRandom},
};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    oci::{Algorithm, Digest, Repository},
    pull::MAX_ARTIFACT_BLOB_BYTES,
};

/// Uploads that are open and blobs that wait, of one account: more than any signature takes.
const MAX_OF_ACCOUNT: usize = 256;

/// Blobs that are to be sent again, of all accounts.
const MAX_WANTED: usize = 1024;

/// Of a blob that nothing is kept of.
const MAX_READ_PAST: usize = 16 << 30;

/// All of them together, whoever sends them.
const MAX_BYTES: usize = 64 << 20;

/// From the last that was heard of an upload or a blob until it is forgotten.
const KEPT: Duration = Duration::from_secs(600);

pub(super) struct Uploads {
    clock: Clock,
    state: Mutex<State>,
}

/// Whose an upload is and where it goes: to everybody else, and anywhere else, it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) account: Arc<str>,
    pub(super) repository: Repository,
}

#[derive(Default)]
struct State {
    open: HashMap<String, Upload>,
    waiting: BTreeMap<(Place, Digest), Waiting>,
    /// What was not sent because it is there, and cannot be taken from there.
    wanted: BTreeMap<(Place, Digest), Instant>,
    bytes: usize,
}

struct Upload {
    place: Place,
    content: Content,
    heard: Instant,
}

enum Content {
    Kept(BytesMut),
    /// Too large to be of a signature. Tools that put an image back before they sign it send layers of
    /// which they do not know that they are there: such a one is read past, for its digest alone.
    ReadPast {
        hash: Context,
        length: usize,
    },
}

/// What an upload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its bytes wait for a manifest.
    Waits,
    /// It had this digest, and nothing of it is here.
    ReadPast,
}

struct Waiting {
    content: Bytes,
    heard: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UploadError {
    #[error("there is no such upload, or no longer")]
    Unknown,
    #[error("the upload goes on at byte {at}")]
    Range { at: usize },
    #[error("the bytes have another digest")]
    WrongDigest,
    #[error("a blob of a signature, an attestation or an SBOM has at most {MAX_ARTIFACT_BLOB_BYTES} bytes here")]
    TooLarge,
    #[error("too many uploads are under way: finish or cancel some, or try again later")]
    TooMany,
}

impl Uploads {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Opens an upload, and says by which name.
    pub(super) fn begin(&self, place: Place) -> Result<String, UploadError> {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        if state.count_of(&place.account) >= MAX_OF_ACCOUNT {
            return Err(UploadError::TooMany);
        }
        let mut name = [0; 16];
        // A machine without randomness takes no uploads, as it would have to guess names.
        SystemRandom::new().fill(&mut name).map_err(|_| UploadError::TooMany)?;
        let name = hex::encode(name);
        state.open.insert(name.clone(), Upload { place, content: Content::Kept(BytesMut::new()), heard: now });
        Ok(name)
    }

    /// How many bytes of it are here.
    pub(super) fn received(&self, place: &Place, name: &str) -> Result<usize, UploadError> {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        Ok(state.open_at(place, name)?.content.len())
    }

    /// Adds bytes that belong at `at`, and says where the next go. An upload that there is no room for is gone.
    pub(super) fn append(&self, place: &Place, name: &str, at: usize, bytes: &[u8]) -> Result<usize, UploadError> {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        let total = state.bytes;
        let upload = state.open_at(place, name)?;
        let received = upload.content.len();
        if received != at {
            return Err(UploadError::Range { at: received });
        }
        let held = upload.content.held();
        let next = received.saturating_add(bytes.len());
        upload.heard = now;
        upload.content.add(bytes);
        let grown = upload.content.held();
        state.bytes = total - held + grown;
        if next > MAX_READ_PAST || state.bytes > MAX_BYTES {
            state.drop_open(name);
            return Err(if next > MAX_READ_PAST { UploadError::TooLarge } else { UploadError::TooMany });
        }
        Ok(next)
    }

    /// Ends an upload: its bytes wait for a manifest if they have this digest, else they are gone.
    pub(super) fn finish(&self, place: &Place, name: &str, digest: &Digest) -> Result<Ended, UploadError> {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        state.open_at(place, name)?;
        let upload = state.open.remove(name).ok_or(UploadError::Unknown)?;
        state.bytes -= upload.content.held();
        let content = match upload.content {
            Content::Kept(bytes) => bytes.freeze(),
            Content::ReadPast { hash, .. } => {
                let is_right = digest.algorithm() == Algorithm::Sha256 && digest.as_bytes() == hash.finish().as_ref();
                return if is_right { Ok(Ended::ReadPast) } else { Err(UploadError::WrongDigest) };
            }
        };
        if !digest.matches(&content) {
            return Err(UploadError::WrongDigest);
        }
        let waiting = Waiting { content, heard: now };
        state.bytes += waiting.content.len();
        let before = state.waiting.insert((upload.place, *digest), waiting);
        state.bytes -= before.map_or(0, |before| before.content.len());
        Ok(Ended::Waits)
    }

    pub(super) fn cancel(&self, place: &Place, name: &str) -> Result<(), UploadError> {
        let mut state = self.state.lock();
        state.open_at(place, name)?;
        state.drop_open(name);
        Ok(())
    }

    /// A blob that waits for its manifest.
    pub(super) fn blob(&self, place: &Place, digest: &Digest) -> Option<Bytes> {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        let waiting = state.waiting.get_mut(&(place.clone(), *digest))?;
        waiting.heard = now;
        Some(waiting.content.clone())
    }

    /// Forgets blobs whose manifest has come, and was accepted or not.
    pub(super) fn discard<'a>(&self, place: &Place, digests: impl IntoIterator<Item = &'a Digest>) {
        let mut state = self.state.lock();
        for digest in digests {
            if let Some(waiting) = state.waiting.remove(&(place.clone(), *digest)) {
                state.bytes -= waiting.content.len();
            }
        }
    }

    /// From now on the blob has to be sent, wherever else it may be.
    pub(super) fn want(&self, place: &Place, digest: Digest) {
        let now = self.clock.instant();
        let mut state = self.state.lock();
        state.forget_aged(now);
        if state.wanted.len() < MAX_WANTED {
            state.wanted.insert((place.clone(), digest), now);
        }
    }

    pub(super) fn is_wanted(&self, place: &Place, digest: &Digest) -> bool {
        self.state.lock().wanted.contains_key(&(place.clone(), *digest))
    }

    /// Forgets what nobody has asked about for a while.
    pub(super) fn forget_aged(&self) {
        let now = self.clock.instant();
        self.state.lock().forget_aged(now);
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::ReadPast { length, .. } => *length,
        }
    }

    /// How much of it is in memory.
    fn held(&self) -> usize {
        match self {
            Self::Kept(bytes) => bytes.len(),
            Self::ReadPast { .. } => 0,
        }
    }

    fn add(&mut self, more: &[u8]) {
        match self {
            Self::Kept(bytes) if bytes.len() + more.len() <= MAX_ARTIFACT_BLOB_BYTES => bytes.extend_from_slice(more),
            Self::Kept(bytes) => {
                let mut hash = Context::new(&SHA256);
                hash.update(bytes);
                hash.update(more);
                *self = Self::ReadPast { hash, length: bytes.len() + more.len() };
            }
            Self::ReadPast { hash, length } => {
                hash.update(more);
                *length += more.len();
            }
        }
    }
}

impl State {
    fn open_at(&mut self, place: &Place, name: &str) -> Result<&mut Upload, UploadError> {
        self.open.get_mut(name).filter(|upload| upload.place == *place).ok_or(UploadError::Unknown)
    }

    fn drop_open(&mut self, name: &str) {
        if let Some(upload) = self.open.remove(name) {
            self.bytes -= upload.content.held();
        }
    }

    fn count_of(&self, account: &str) -> usize {
        let open = self.open.values().filter(|upload| &*upload.place.account == account).count();
        open + self.waiting.keys().filter(|(place, _)| &*place.account == account).count()
    }

    fn forget_aged(&mut self, now: Instant) {
        let aged = |heard: Instant| now.saturating_duration_since(heard) >= KEPT;
        self.open.retain(|_, upload| !aged(upload.heard));
        self.waiting.retain(|_, waiting| !aged(waiting.heard));
        self.wanted.retain(|_, since| !aged(*since));
        let open = self.open.values().map(|upload| upload.content.held());
        self.bytes = open.chain(self.waiting.values().map(|waiting| waiting.content.len())).sum();
    }
}

#[cfg(test)]
mod tests;
