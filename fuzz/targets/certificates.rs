//! Certificates of signers: one beside a signature of sigstore, a chain of them in an envelope of notation,
//! and as files of a trust store.
//!
//! An input is certificates in DER, one after the other.

#![no_main]

use serde_json::{Value, json};
use sig_repo::trust::{Envelope, NotationFiles};
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct Certificates {
    bundles: Vec<Value>,
    sigstore: Judge,
    envelopes: Vec<Value>,
    notation: Judge,
}

const BUNDLES: [&str; 4] = [
    "sigstore/bundle/keyless-tsa.json",
    "sigstore/bundle/keyless-rekor1-tsa.json",
    "sigstore/bundle/keyless-github-rekor2-tsa.json",
    "sigstore/public/blob-rekor1-tsa.json",
];
const IN_BUNDLE: &str = "/verificationMaterial/certificate/rawBytes";
const IN_JWS: &str = "/header/x5c";

impl Target for Certificates {
    fn new() -> Self {
        let bundles: Vec<_> = BUNDLES.iter().map(|name| fixtures::json(name)).collect();
        let envelopes: Vec<_> =
            fixtures::names_ending("notation", ".jws").iter().map(|name| fixtures::json(name)).collect();
        let read = |value: &Value| roots::recognised(value.to_string().as_bytes());
        Self {
            sigstore: roots::sigstore_judge(
                vec![roots::lab_image(), roots::blob(BUNDLES[3])],
                bundles.iter().filter_map(read),
                bundles.len(),
            ),
            notation: roots::notation_judge(envelopes.iter().filter_map(read), envelopes.len() - 1),
            bundles,
            envelopes,
        }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let leaf =
            |bundle: Value| fixtures::decoded(bundle.pointer(IN_BUNDLE).and_then(Value::as_str).expect("a leaf"));
        let chain = |jws: Value| chain_of(&jws).concat();
        let leaves = BUNDLES.iter().map(|name| leaf(fixtures::json(name)));
        leaves
            .chain(fixtures::names_ending("notation", ".jws").iter().map(|name| chain(fixtures::json(name))))
            .collect()
    }

    fn run(&self, input: &[u8]) {
        let chain = values(input);
        let Some(leaf) = chain.first() else { return };
        // The signature that a certificate may belong to is the one that its own length chooses.
        let bundle = &self.bundles[self.nearest(leaf, &self.bundles, |bundle| leaf_of(bundle))];
        if let Some(envelope) = bounded(input, || with(bundle, IN_BUNDLE, json!(fixtures::encoded(leaf)))) {
            self.sigstore.judge(&envelope);
        }
        let jws = &self.envelopes[self.nearest(leaf, &self.envelopes, |jws| chain_of(jws).remove(0))];
        let texts: Vec<_> = chain.iter().map(|der| fixtures::encoded(der)).collect();
        if let Some(envelope) = bounded(input, || with(jws, IN_JWS, json!(texts))) {
            self.notation.judge(&envelope);
        }
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", fixtures::encoded(leaf));
        for file in [input, pem.as_bytes()] {
            let files = [("truststore/x509/ca/a/a.crt", file)];
            let policy = roots::notation_policy("strict", &["ca:a"], json!(["*"]));
            bounded(input, || {
                NotationFiles::read(files.into_iter().chain([("trustpolicy.json", &policy[..])])).problems.len()
            });
        }
    }
}

impl Certificates {
    fn nearest(&self, leaf: &[u8], among: &[Value], leaf_of: impl Fn(&Value) -> Vec<u8>) -> usize {
        let alike = |other: Vec<u8>| other.iter().zip(leaf).filter(|(one, other)| one == other).count();
        (0..among.len()).max_by_key(|at| alike(leaf_of(&among[*at]))).unwrap_or_default()
    }
}

fn leaf_of(bundle: &Value) -> Vec<u8> {
    fixtures::decoded(bundle.pointer(IN_BUNDLE).and_then(Value::as_str).expect("a leaf"))
}

fn chain_of(jws: &Value) -> Vec<Vec<u8>> {
    let chain = jws.pointer(IN_JWS).and_then(Value::as_array).expect("a chain");
    chain.iter().map(|text| fixtures::decoded(text.as_str().expect("base64"))).collect()
}

fn with(envelope: &Value, at: &str, value: Value) -> Option<Envelope> {
    let mut envelope = envelope.clone();
    *envelope.pointer_mut(at)? = value;
    roots::recognised(envelope.to_string().as_bytes())
}

/// What stands one after the other, by the lengths that each begins with; what is left over belongs to the last.
fn values(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut values = Vec::new();
    while let [_, 0x82, high, low, ..] = bytes {
        let length = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = bytes.split_at_checked(length) else { break };
        values.push(value);
        bytes = rest;
    }
    values.extend((!bytes.is_empty()).then_some(bytes));
    values
}

sig_repo_fuzz::target!(Certificates);
