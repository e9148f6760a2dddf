//! Envelopes of the Notary Project, in JWS and in COSE.

#![no_main]

use sig_repo::trust::{Annotations, Envelope, Format};
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct Notation {
    judge: Judge,
}

impl Target for Notation {
    fn new() -> Self {
        let envelopes = Self::seeds().into_iter().filter_map(|seed| envelope(&seed));
        Self { judge: roots::notation_judge(envelopes, 20) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        [".jws", ".cose"].map(|end| fixtures::files_ending("notation", end)).concat()
    }

    fn run(&self, input: &[u8]) {
        if let Some(envelope) = bounded(input, || envelope(input)) {
            self.judge.judge(&envelope);
        }
    }
}

fn envelope(input: &[u8]) -> Option<Envelope> {
    let is_text = input.first().is_some_and(|first| first.is_ascii_whitespace() || *first == b'{');
    let format = if is_text { Format::NotationJws } else { Format::NotationCose };
    Envelope::parse(format, input, None, &Annotations::new()).ok()
}

sig_repo_fuzz::target!(Notation);
