//! What services answer when they are asked whether a certificate was revoked: OCSP, and lists.

#![no_main]

use jiff::Timestamp;
use sig_repo::{
    oci::Digest,
    trust::{RevocationCheck, Status, Subject, revocation_checks},
};
use sig_repo_fuzz::{Target, bounded, fixtures, roots};

struct Revocation {
    check: RevocationCheck,
    now: Timestamp,
    known: Vec<Status>,
}

const ANSWERS: [&str; 2] = ["notation/good.ocsp", "notation/revoked.ocsp"];
const LISTS: [&str; 2] = ["notation/good.crl", "notation/revoked.crl"];

impl Target for Revocation {
    fn new() -> Self {
        let envelope = roots::recognised(&fixtures::file("notation/revocable.jws")).expect("an envelope");
        let manifest = fixtures::file("notation/manifest");
        let digest = Digest::sha256(&manifest);
        let subject = Subject::new(&digest, Some(&manifest), None);
        let now: Timestamp = roots::notation_now().parse().expect("a time");
        let check = revocation_checks(&envelope, &subject, &roots::notation()[0], now).remove(0);
        let answers = ANSWERS.map(|name| check.ocsp_status(&fixtures::file(name), now).expect("an answer"));
        let lists = LISTS.map(|name| check.crl_status(&fixtures::file(name), None, now).expect("a list"));
        let known = [answers, lists].concat();
        Self { check, now, known }
    }

    fn seeds() -> Vec<Vec<u8>> {
        [ANSWERS, LISTS].concat().iter().map(|name| fixtures::file(name)).collect()
    }

    fn run(&self, input: &[u8]) {
        drop(bounded(input, || self.check.delta_urls(input)));
        for answer in [
            bounded(input, || self.check.ocsp_status(input, self.now)),
            bounded(input, || self.check.crl_status(input, None, self.now)),
            bounded(input, || self.check.crl_status(&self.good_list(), Some(input), self.now)),
        ] {
            assert!(answer.as_ref().map_or(true, |status| self.known.contains(status)), "forged: {answer:?}");
        }
    }
}

impl Revocation {
    fn good_list(&self) -> Vec<u8> {
        fixtures::file(LISTS[0])
    }
}

sig_repo_fuzz::target!(Revocation);
