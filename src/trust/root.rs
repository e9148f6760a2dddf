#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Credential, Demands, OpenPgpKey, PublicKey, Rejection, Revocations, Signer, SignerId, SignerIdentity, SigstoreRoot,
    verifier::message::MAX_REHASHED,
};
use crate::oci::OwnNames;

/// Whom we believe at some moment: immutable, replaced whole.
#[derive(Debug, Clone, Default)]
pub struct TrustRoot {
    signers: Vec<Signer>,
    /// Each credential once, with the signers that have it; the values index `signers`.
    holders: BTreeMap<SignerId, Vec<usize>>,
    sigstore: Arc<[SigstoreRoot]>,
    demands: Demands,
    /// What is known of the revocation of certificates.
    revocations: Arc<Revocations>,
    own_names: OwnNames,
    takes_large: bool,
}

/// What a credential is worth at an instant.
#[derive(Debug)]
pub(super) enum Standing {
    Good { signer: SignerIdentity, until: Option<Timestamp> },
    Bad(Rejection),
}

impl TrustRoot {
    pub fn new(signers: Vec<Signer>) -> Self {
        let mut holders = BTreeMap::<SignerId, Vec<usize>>::new();
        for (at, signer) in signers.iter().enumerate() {
            holders.entry(signer.id()).or_default().push(at);
        }
        Self { signers, holders, ..Self::default() }
    }

    /// The same, with the sigstores whose word counts and what is demanded of them.
    pub fn with_sigstore(self, sigstore: Arc<[SigstoreRoot]>, demands: Demands) -> Self {
        Self { sigstore, demands, ..self }
    }

    /// The same signers, with what is known of revocation.
    pub fn with_revocations(self, revocations: Arc<Revocations>) -> Self {
        Self { revocations, ..self }
    }

    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// The same, where a signature that names an image by one of our own names means the image that we
    /// stand in for.
    pub fn with_own_names(self, own_names: OwnNames) -> Self {
        Self { own_names, ..self }
    }

    /// The same, for whoever asks about a file of his own and waits for it: of whatever size it is.
    pub fn with_large_files(self) -> Self {
        Self { takes_large: true, ..self }
    }

    /// How large a message may be to be hashed anew for each signature.
    pub(super) fn rehashed_bytes(&self) -> usize {
        if self.takes_large { usize::MAX } else { MAX_REHASHED }
    }

    pub fn own_names(&self) -> &OwnNames {
        &self.own_names
    }

    pub fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// The credentials that some signer has in one root and not, or otherwise, in the other; all of them
    /// where the sigstores whose word counts are others.
    pub fn changed_since(&self, before: &Self) -> BTreeSet<SignerId> {
        let ids: BTreeSet<_> = self.holders.keys().chain(before.holders.keys()).copied().collect();
        let (ours, theirs) = ((&self.sigstore, self.demands), (&before.sigstore, before.demands));
        ids.into_iter().filter(|id| ours != theirs || self.holders_of(*id).ne(before.holders_of(*id))).collect()
    }

    fn holders_of(&self, id: SignerId) -> impl Iterator<Item = &Signer> {
        self.holders.get(&id).into_iter().flatten().map(|at| &self.signers[*at])
    }

    /// The first instant after `after` at which one of these signers begins or ceases to count: until then
    /// what rests on them holds.
    pub fn next_change(&self, after: Timestamp, counts: impl Fn(SignerId) -> bool) -> Option<Timestamp> {
        self.signers
            .iter()
            .filter(|signer| counts(signer.id()))
            .flat_map(|signer| {
                let of_credential = signer.credential.next_change(after);
                let revoked_at = signer.revoked.map(|revocation| revocation.at);
                [signer.not_before, signer.not_after, revoked_at, of_credential]
            })
            .flatten()
            .filter(|change| *change > after)
            .min()
    }

    /// Each credential once, whatever number of signers have it.
    pub(super) fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.holders.values().map(|holders| &self.signers[holders[0]].credential)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.credentials().filter_map(|credential| match credential {
            Credential::PublicKey(key) => Some(key),
            Credential::OpenPgp(_) | Credential::Keyless(_) | Credential::Notation(_) => None,
        })
    }

    pub(super) fn sigstore(&self) -> &[SigstoreRoot] {
        &self.sigstore
    }

    pub(super) fn demands(&self) -> Demands {
        self.demands
    }

    /// Every copy of every key: they may differ in what their owners have said since.
    pub(super) fn openpgp_keys(&self) -> impl Iterator<Item = &OpenPgpKey> {
        self.signers.iter().filter_map(|signer| match &signer.credential {
            Credential::OpenPgp(key) => Some(key),
            Credential::PublicKey(_) | Credential::Keyless(_) | Credential::Notation(_) => None,
        })
    }

    /// What a signature by this credential is worth. A revocation of it, by whatever signer, beats all
    /// that have it: a key put into a file again does not come back to life. Of several good signers
    /// the one that counts longest answers. `signed_at` is when the signature was there, if that is authenticated.
    pub(super) fn standing(&self, id: SignerId, now: Timestamp, signed_at: Option<Timestamp>) -> Standing {
        let signers = || self.holders_of(id);
        let is_revoked = |signer: &&Signer| signer.revoked.is_some_and(|revocation| revocation.holds(now, signed_at));
        if let Some(revoked) = signers().find(is_revoked) {
            return Standing::Bad(Rejection::SignerRevoked { name: revoked.name.clone() });
        }
        let revocations = signers().filter_map(|signer| signer.revoked);
        let coming = revocations.filter(|revocation| revocation.at > now && revocation.concerns(signed_at));
        let revocation = coming.map(|revocation| revocation.at).min();
        let good = signers()
            .filter(|signer| signer.not_before.is_none_or(|from| from <= now))
            .filter(|signer| signer.not_after.is_none_or(|since| now < since))
            .max_by_key(|signer| (signer.not_after.unwrap_or(Timestamp::MAX), signer.origin));
        if let Some(signer) = good {
            return Standing::Good {
                signer: SignerIdentity { id, name: signer.name.clone() },
                until: signer.not_after.into_iter().chain(revocation).min(),
            };
        }
        // One that will count is worth more to whoever asks why than one that no longer does.
        let pending = signers()
            .filter_map(|signer| Some((signer.not_before.filter(|from| *from > now)?, signer)))
            .min_by_key(|(from, _)| *from)
            .map(|(from, signer)| Rejection::SignerNotYetValid { name: signer.name.clone(), from });
        let ended = || {
            signers()
                .filter_map(|signer| Some((signer.not_after?, signer)))
                .max_by_key(|(since, _)| *since)
                .map(|(since, signer)| Rejection::SignerExpired { name: signer.name.clone(), since })
        };
        Standing::Bad(pending.or_else(ended).unwrap_or(Rejection::NoTrustedKey))
    }
}
