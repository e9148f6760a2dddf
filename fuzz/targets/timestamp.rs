//! Timestamp tokens (RFC 3161), by the rules of both who believe them: beside a signature of sigstore, and of notation.

#![no_main]

use serde_json::{Value, json};
use sig_repo::trust::Envelope;
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct Timestamp {
    bundle: Value,
    sigstore: Judge,
    jws: Value,
    notation: Judge,
}

const BUNDLE: &str = "sigstore/bundle/keyless-tsa.json";
const IN_BUNDLE: &str = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
const JWS: &str = "notation/timestamped.jws";
const IN_JWS: &str = "/header/io.cncf.notary.timestampSignature";

impl Target for Timestamp {
    fn new() -> Self {
        let (bundle, jws) = (fixtures::json(BUNDLE), fixtures::json(JWS));
        let own = |envelope, at| with(envelope, at, &token(envelope, at));
        let (sigstore, notation) = roots::timestamp_judges(own(&bundle, IN_BUNDLE), own(&jws, IN_JWS));
        Self { bundle, sigstore, jws, notation }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let bundles = ["sigstore/bundle", "sigstore/blob", "sigstore/public"];
        let bundles = bundles.map(|directory| fixtures::names_ending(directory, "tsa.json")).concat();
        let bundles = bundles.iter().map(|name| token(&fixtures::json(name), IN_BUNDLE));
        bundles.chain([token(&fixtures::json(JWS), IN_JWS)]).collect()
    }

    fn run(&self, input: &[u8]) {
        if let Some(envelope) = bounded(input, || with(&self.bundle, IN_BUNDLE, input)) {
            self.sigstore.judge(&envelope);
        }
        if let Some(envelope) = bounded(input, || with(&self.jws, IN_JWS, input)) {
            self.notation.judge(&envelope);
        }
    }
}

fn token(envelope: &Value, at: &str) -> Vec<u8> {
    fixtures::decoded(envelope.pointer(at).and_then(Value::as_str).expect("a timestamp"))
}

fn with(envelope: &Value, at: &str, token: &[u8]) -> Option<Envelope> {
    let mut envelope = envelope.clone();
    *envelope.pointer_mut(at)? = json!(fixtures::encoded(token));
    roots::recognised(envelope.to_string().as_bytes())
}

sig_repo_fuzz::target!(Timestamp);
