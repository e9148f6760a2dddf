//! OpenPGP public keys: what their owners say of them, and what counts by them.

#![no_main]

use jiff::Timestamp;
use sig_repo::{
    oci::Digest,
    trust::{Envelope, OpenPgpKey, Outcome, Subject, TrustRoot, verify},
};
use sig_repo_fuzz::{Target, bounded, fixtures, openpgp, roots};

struct Certificate {
    messages: Vec<Envelope>,
    digest: Digest,
    now: Timestamp,
    /// The signers of the fixtures.
    known: Vec<[u8; 32]>,
}

impl Target for Certificate {
    fn new() -> Self {
        let messages = ["ed25519", "subkey", "expiring", "rsa2048", "nistp384", "revoked"];
        let messages = messages.map(|name| fixtures::file(&format!("openpgp/{name}.gpg")));
        let mut target = Self {
            messages: messages.iter().filter_map(|message| roots::recognised(message)).collect(),
            digest: Digest::sha256(&fixtures::file("trust/manifest")),
            now: "2026-12-01T12:00:00Z".parse().expect("a time"),
            known: Vec::new(),
        };
        for seed in Self::seeds() {
            let found = target.verified_by(&seed);
            target.known.extend(found);
        }
        assert!(target.known.len() >= 5, "only {} of the seeds are signers", target.known.len());
        target
    }

    fn seeds() -> Vec<Vec<u8>> {
        [".asc", ".pgp"].map(|end| fixtures::files_ending("openpgp", end)).concat()
    }

    fn run(&self, input: &[u8]) {
        // A key is read when it is trusted, not for each signature, so this may cost more than an envelope.
        let Ok(keys) = OpenPgpKey::parse_all(input) else { return };
        for key in &keys {
            let text = key.to_armoured();
            let again = OpenPgpKey::parse_all(text.as_bytes()).expect("a key that was written can be read");
            assert_eq!(again, [key.clone()]);
            assert_eq!(again[0].to_armoured(), text);
            assert_eq!((again[0].id(), again[0].fingerprint()), (key.id(), key.fingerprint()));
            assert!(key.next_change(self.now).is_none_or(|change| change > self.now));
        }
        for signer in bounded(input, || self.verified_by(input)) {
            assert!(self.known.contains(&signer), "a signature of nobody's");
        }
    }
}

impl Certificate {
    fn verified_by(&self, keys: &[u8]) -> Vec<[u8; 32]> {
        let root = TrustRoot::new(openpgp(keys));
        let repository = roots::repository("docker.io/team/app");
        let subject = Subject::new(&self.digest, None, Some(&repository));
        let outcomes = self.messages.iter().map(|message| verify(message, &subject, &root, self.now));
        let verified = outcomes.filter_map(|outcome| match outcome {
            Outcome::Verified(verified) => Some(verified.identity),
            Outcome::Rejected(_) | Outcome::Unknown(_) => None,
        });
        verified.collect()
    }
}

sig_repo_fuzz::target!(Certificate);
