//! The signers in force: the keys of `TRUST_DIR` and those of the store, as one trust root.
//!
//! The directory is looked at every [`POLL`]: what is put there counts within a second, what is
//! taken away stops counting. Polling sees what file notifications miss (Kubernetes mounts, network file
//! systems) and costs a directory listing.

mod files;
mod notation;
mod reliance;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    oci::OwnNames,
    store::{RevocationRow, SignerRow, Store, StoreError},
    trust::{Credential, Demands, Revocation, RevocationId, Signer, SignerOrigin, SigstoreRoot, Status, TrustRoot},
};

pub use self::files::{TrustFiles, TrustFilesError};
use self::reliance::Changes;
pub(super) use self::reliance::Reliance;

/// How often the directory is looked at.
pub const POLL: Duration = Duration::from_millis(500);

pub struct Trusted {
    store: Store,
    clock: Clock,
    current: ArcSwap<TrustRoot>,
    changes: Changes,
    demands: Demands,
    own_names: OwnNames,
    files: Mutex<Files>,
    /// Why the directory could not be read when it was last looked at.
    failure: Mutex<Option<String>>,
}

struct Files {
    read: TrustFiles,
    /// When each credential was first seen in the directory.
    added: BTreeMap<String, Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    #[error(transparent)]
    Files(#[from] TrustFilesError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Trusted {
    /// The signers of files that were read, and of the store.
    pub fn new(
        files: TrustFiles,
        demands: Demands,
        own_names: OwnNames,
        store: Store,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let trusted = Self {
            store,
            clock,
            current: ArcSwap::from_pointee(TrustRoot::new(Vec::new())),
            changes: Changes::default(),
            demands,
            own_names,
            files: Mutex::new(Files { read: files, added: BTreeMap::new() }),
            failure: Mutex::default(),
        };
        trusted.refresh()?;
        Ok(trusted)
    }

    pub fn root(&self) -> Arc<TrustRoot> {
        self.current.load_full()
    }

    /// Moves whenever the signers change. Whoever makes a verdict reads it first.
    pub(super) fn generation(&self) -> u64 {
        self.changes.generation()
    }

    /// Whether the signers that a verdict rests on are as they were.
    pub(super) fn leaves(&self, reliance: &Reliance) -> bool {
        self.changes.leave(reliance)
    }

    /// Looks whether the directory changed, and takes over what did. One that cannot be read leaves
    /// its keys as they were.
    pub fn poll(&self) -> Result<(), TrustedError> {
        let updated = self.files.lock().read.update();
        *self.failure.lock() = updated.as_ref().err().map(|_| "TRUST_DIR cannot be read again".to_owned());
        if updated? {
            self.refresh()?;
        }
        Ok(())
    }

    /// Takes over what was answered about certificates: the signers are who they were.
    pub(super) fn learn(&self, answers: impl IntoIterator<Item = (RevocationId, Status)>) {
        let _files = self.files.lock();
        let root = self.root();
        let known = root.revocations().with(answers, self.clock.now());
        self.current.store(Arc::new(TrustRoot::clone(&root).with_revocations(Arc::new(known))));
    }

    /// What does not work as it should, in one line.
    pub fn degraded(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// The root of the public instance, for whoever has put no other there; says so where it matters.
    fn shipped_root(&self, has_keyless: bool) -> Arc<[SigstoreRoot]> {
        let date = SigstoreRoot::SHIPPED;
        if has_keyless {
            let since = date.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::UTC));
            match since.map(|since| self.clock.now().duration_since(since.timestamp())) {
                Ok(age) if age > ROOT_GROWS_OLD => tracing::warn!(
                    "keyless signatures are verified with the root of the public sigstore of {date}, which has grown old: \
                     `sig-repo trust update` fetches the one of today, or put a newer trusted_root.json into TRUST_DIR"
                ),
                _ => tracing::info!("keyless signatures are verified with the root of the public sigstore of {date}"),
            }
        }
        SigstoreRoot::shipped()
    }

    /// Makes a new trust root, after the files or the store's rows have changed.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let mut files = self.files.lock();
        let (rows, revoked) = (self.store.signers()?, self.store.revocations()?);
        let revoked: BTreeMap<_, _> = revoked.into_iter().collect();
        let Files { read, added } = &mut *files;
        let of_files = read.signers().map(|(name, document)| {
            let id = document.credential.id().to_string();
            Signer {
                name,
                credential: document.credential.clone(),
                origin: SignerOrigin::File,
                not_before: document.not_before,
                not_after: document.not_after,
                // A revocation over the API beats any file.
                revoked: revoked.get(&id).map(|row| revocation(*row)),
                added: *added.entry(id).or_insert_with(|| self.clock.now()),
            }
        });
        let signers: Vec<_> = of_files.chain(rows.iter().filter_map(signer_of_row)).collect();
        tracing::info!(signers = signers.len(), "{} signers are trusted", signers.len());
        let has_keyless = signers.iter().any(|signer| matches!(signer.credential, Credential::Keyless(_)));
        let roots = read.sigstore_roots().map_or_else(|| self.shipped_root(has_keyless), Arc::from);
        let root = TrustRoot::new(signers).with_sigstore(roots, self.demands);
        let before = self.root();
        let root = root.with_own_names(self.own_names.clone()).with_revocations(before.revocations().clone());
        let root = Arc::new(root);
        let changed = root.changed_since(&before);
        self.current.store(root);
        if !changed.is_empty() {
            self.changes.add(changed);
        }
        Ok(())
    }
}

/// After so long the shipped root may lack a log or an authority of today.
const ROOT_GROWS_OLD: SignedDuration = SignedDuration::from_hours(180 * 24);

fn revocation(RevocationRow { at, keeps_earlier }: RevocationRow) -> Revocation {
    Revocation { at, keeps_earlier }
}

fn signer_of_row(row: &SignerRow) -> Option<Signer> {
    match Credential::from_members(row.credential.clone()) {
        Ok(credential) => Some(Signer {
            name: row.name.clone(),
            credential,
            origin: SignerOrigin::Api,
            added: row.added,
            not_before: row.not_before,
            not_after: row.not_after,
            revoked: row.revoked.map(revocation),
        }),
        Err(error) => {
            tracing::error!(signer = row.name, "the stored credential of {:?} is not trusted: {error}", row.name);
            None
        }
    }
}
