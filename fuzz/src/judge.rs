use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;
use sig_repo::{
    oci::{Digest, Repository},
    trust::{
        Credential, Envelope, OpenPgpKey, Outcome, PublicKey, Signer, SignerOrigin, Subject, TrustRoot, Verified,
        revocation_checks, verify,
    },
};

use crate::bounded;

/// An image that signatures are asked about.
pub struct Named {
    pub digest: Digest,
    pub manifest: Option<Vec<u8>>,
    pub repository: Option<Repository>,
}

impl Named {
    pub fn held(manifest: Vec<u8>) -> Self {
        Self { digest: Digest::sha256(&manifest), manifest: Some(manifest), repository: None }
    }

    pub fn sha256(hex: &str) -> Self {
        let digest = format!("sha256:{hex}").parse().expect("a digest");
        Self { digest, manifest: None, repository: None }
    }

    fn subject(&self) -> Subject<'_> {
        Subject::new(&self.digest, self.manifest.as_deref(), self.repository.as_ref())
    }
}

/// Says of every envelope whether it verifies, and knows which ones do: what is made of them by mutation can
/// verify too, but then says the same. Anything else was forged, for nobody here has the keys.
pub struct Judge {
    roots: Vec<TrustRoot>,
    images: Vec<Named>,
    now: Timestamp,
    known: BTreeSet<Said>,
    times: BTreeSet<Timestamp>,
}

/// What a verified signature says: who, of what, with which labels.
type Said = ([u8; 32], [u8; 32], BTreeMap<String, String>);

impl Judge {
    /// `at_least` as many of `good` verify, or the fixtures are no longer what they were.
    pub fn new(
        roots: Vec<TrustRoot>,
        images: Vec<Named>,
        now: &str,
        good: impl IntoIterator<Item = Envelope>,
        at_least: usize,
    ) -> Self {
        let now = now.parse().expect("a time");
        let mut judge = Self { roots, images, now, known: BTreeSet::new(), times: BTreeSet::new() };
        let mut verified = 0;
        for envelope in good {
            let found: Vec<_> = judge.outcomes(&envelope).filter_map(into_verified).collect();
            verified += usize::from(!found.is_empty());
            for one in found {
                judge.times.extend(one.evidence.signed_at);
                judge.known.insert(said(&one));
            }
        }
        assert!(verified >= at_least, "only {verified} of the seeds verify, not {at_least}");
        judge
    }

    /// Whether the envelope verifies, for any of the images under any of the roots; each within its time.
    pub fn judge(&self, envelope: &Envelope) -> bool {
        let mut is_verified = false;
        for verified in self.outcomes(envelope).filter_map(into_verified) {
            is_verified = true;
            assert!(self.known.contains(&said(&verified)), "forged: {verified:?}");
            let signed_at = verified.evidence.signed_at;
            assert!(signed_at.is_none_or(|at| self.times.contains(&at)), "a time that nobody said: {verified:?}");
        }
        is_verified
    }

    fn outcomes(&self, envelope: &Envelope) -> impl Iterator<Item = Outcome> {
        self.roots.iter().flat_map(move |root| {
            self.images.iter().map(move |image| {
                let outcome = bounded(&[], || verify(envelope, &image.subject(), root, self.now));
                if !outcome.is_verified() {
                    drop(bounded(&[], || revocation_checks(envelope, &image.subject(), root, self.now)));
                }
                let code = outcome.code();
                assert_eq!(code.is_none(), outcome.is_verified());
                outcome
            })
        })
    }
}

fn said(verified: &Verified) -> Said {
    (verified.identity, verified.payload_hash, verified.labels.clone())
}

fn into_verified(outcome: Outcome) -> Option<Verified> {
    match outcome {
        Outcome::Verified(verified) => Some(verified),
        Outcome::Rejected(_) | Outcome::Unknown(_) => None,
    }
}

pub fn signer(credential: Credential) -> Signer {
    Signer {
        name: "signer".to_owned(),
        credential,
        origin: SignerOrigin::File,
        added: Timestamp::UNIX_EPOCH,
        not_before: None,
        not_after: None,
        revoked: None,
    }
}

pub fn public_key(pem: &str) -> Signer {
    signer(Credential::PublicKey(PublicKey::from_pem(pem).expect("a key")))
}

pub fn keyless(form: Value) -> Signer {
    signer(Credential::Keyless(serde_json::from_value(form).expect("an identity")))
}

pub fn openpgp(keys: &[u8]) -> Vec<Signer> {
    let keys = OpenPgpKey::parse_all(keys).unwrap_or_default();
    keys.into_iter().map(|key| signer(Credential::OpenPgp(key))).collect()
}
