//! OpenPGP messages around a claim, as podman and gpg sign images.

#![no_main]

use sig_repo::{
    oci::Digest,
    trust::{Annotations, Envelope, Format, TrustRoot},
};
use sig_repo_fuzz::{Judge, Named, Target, bounded, fixtures, openpgp, roots};

struct Message {
    judge: Judge,
}

impl Target for Message {
    fn new() -> Self {
        let keys = fixtures::names_ending("openpgp", ".asc").into_iter();
        let keys = keys.filter(|name| !name.contains("refused") && !name.contains("revoked"));
        let signers = keys.flat_map(|name| openpgp(&fixtures::file(&name))).collect();
        let image = |manifest: &str| {
            let repository = Some(roots::repository("docker.io/team/app"));
            Named { digest: Digest::sha256(&fixtures::file(manifest)), manifest: None, repository }
        };
        let images = vec![image("trust/manifest"), image("openpgp/skopeo-copy.manifest")];
        let envelopes = Self::seeds().into_iter().filter_map(|seed| envelope(&seed));
        Self { judge: Judge::new(vec![TrustRoot::new(signers)], images, "2026-12-01T12:00:00Z", envelopes, 12) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        fixtures::files_ending("openpgp", ".gpg")
    }

    fn run(&self, input: &[u8]) {
        let Some(envelope) = bounded(input, || envelope(input)) else { return };
        let is_verified = self.judge.judge(&envelope);
        assert!(envelope.names_image().is_some() || !is_verified, "verified, and for no image");
    }
}

fn envelope(input: &[u8]) -> Option<Envelope> {
    Envelope::parse(Format::OpenPgp, input, None, &Annotations::new()).ok()
}

sig_repo_fuzz::target!(Message);
