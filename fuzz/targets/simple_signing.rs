//! Signatures by a key, and what cosign spreads over a layer: payload, certificate, log entry, timestamp.
//!
//! An input is the signature, the payload, and the values of the four annotations, a record separator between
//! each; what is empty is left out.

#![no_main]

use sig_repo::trust::{Annotations, EVIDENCE_ANNOTATIONS, Envelope, Format};
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct SimpleSigning {
    judge: Judge,
}

impl Target for SimpleSigning {
    fn new() -> Self {
        // Without one of its witnesses a signature may say the time of the other.
        let seeds = Self::seeds().into_iter().flat_map(|seed| {
            let bereft = (2..2 + EVIDENCE_ANNOTATIONS.len()).map(|part| without(&seed, part)).collect::<Vec<_>>();
            bereft.into_iter().chain([seed])
        });
        let envelopes = seeds.filter_map(|seed| envelope(&seed));
        Self { judge: roots::sigstore_judge(vec![roots::lab_image(), roots::key_image()], envelopes, 80) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let classic = fixtures::names("sigstore/classic").into_iter().map(|name| {
            let annotations = fixtures::json(&format!("{name}/annotations.json"));
            let annotation = |name: &str| annotations[name].as_str().unwrap_or_default().to_owned();
            let payload = fixtures::text(&format!("{name}/payload.json"));
            let parts = [annotation("dev.cosignproject.cosign/signature"), payload];
            parts.into_iter().chain(EVIDENCE_ANNOTATIONS.map(annotation)).collect::<Vec<_>>().join("\x1e").into_bytes()
        });
        let signatures = fixtures::text("trust/signatures.tsv");
        let payload = fixtures::text("trust/payload");
        let raw = signatures.lines().map(|line| {
            let columns: Vec<_> = line.split('\t').collect();
            let payload = if columns[3] == "payload" { &payload } else { "" };
            format!("{}\x1e{payload}", columns[4]).into_bytes()
        });
        classic.chain(raw).collect()
    }

    fn run(&self, input: &[u8]) {
        if let Some(envelope) = bounded(input, || envelope(input)) {
            self.judge.judge(&envelope);
        }
    }
}

fn without(seed: &[u8], part: usize) -> Vec<u8> {
    let parts = seed.split(|byte| *byte == 0x1e).enumerate();
    let parts: Vec<_> = parts.map(|(index, bytes)| if index == part { &[] } else { bytes }).collect();
    parts.join(&0x1e)
}

fn envelope(input: &[u8]) -> Option<Envelope> {
    let mut parts = input.split(|byte| *byte == 0x1e).map(|part| Some(part).filter(|part| !part.is_empty()));
    let signature = parts.next()??;
    let payload = parts.next().flatten();
    let mut annotations = Annotations::new();
    for (name, value) in EVIDENCE_ANNOTATIONS.into_iter().zip(parts) {
        if let Some(value) = value {
            annotations.insert(name.to_owned(), str::from_utf8(value).ok()?.to_owned());
        }
    }
    Envelope::parse(Format::Raw, signature, payload, &annotations).ok()
}

sig_repo_fuzz::target!(SimpleSigning);
