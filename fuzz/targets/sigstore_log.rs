//! An entry of a transparency log: body, promise, proof of inclusion, checkpoint. Both generations of the log.
//!
//! An input is a line with the index and the time of the entry, the index in the tree and its size; then, a
//! record separator between each, the checkpoint, the promise, the hashes of the proof, and the body, in bytes.

#![no_main]

use serde_json::{Value, json};
use sig_repo::trust::Envelope;
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct Log {
    bundles: Vec<Value>,
    judge: Judge,
}

const PUBLIC: [&str; 2] = ["sigstore/public/blob-rekor1-tsa.json", "sigstore/public/staging-rekor2-tsa.json"];
const ENTRY: &str = "/verificationMaterial/tlogEntries/0";

impl Target for Log {
    fn new() -> Self {
        let bundles = bundles();
        let with_own = bundles.iter().filter_map(|bundle| with(bundle, &entry_of(bundle)));
        let images = vec![roots::lab_image(), roots::blob(PUBLIC[0]), roots::blob(PUBLIC[1])];
        let judge = roots::sigstore_judge(images, with_own, bundles.len());
        Self { bundles, judge }
    }

    fn seeds() -> Vec<Vec<u8>> {
        bundles().iter().map(entry_of).collect()
    }

    fn run(&self, input: &[u8]) {
        // The signature that the entry may be about: the one whose entry is most like it.
        let alike = |bundle: &&Value| entry_of(bundle).iter().zip(input).filter(|(one, other)| one == other).count();
        let bundle = self.bundles.iter().max_by_key(alike).expect("there are bundles");
        if let Some(envelope) = bounded(input, || with(bundle, input)) {
            self.judge.judge(&envelope);
        }
    }
}

fn bundles() -> Vec<Value> {
    let names = fixtures::names_ending("sigstore/bundle", ".json");
    let names = names.into_iter().filter(|name| name.contains("rekor") && !name.contains("attestation"));
    names.chain(PUBLIC.map(str::to_owned)).map(|name| fixtures::json(&name)).collect()
}

fn entry_of(bundle: &Value) -> Vec<u8> {
    let entry = bundle.pointer(ENTRY).expect("an entry");
    let text = |at: &str| entry.pointer(at).and_then(Value::as_str).unwrap_or_default();
    let numbers = ["/logIndex", "/integratedTime", "/inclusionProof/logIndex", "/inclusionProof/treeSize"].map(text);
    let hashes = entry.pointer("/inclusionProof/hashes").and_then(Value::as_array).into_iter().flatten();
    let hashes: Vec<_> = hashes.flat_map(|hash| fixtures::decoded(hash.as_str().unwrap_or_default())).collect();
    let parts = [
        numbers.join(" ").into_bytes(),
        text("/inclusionProof/checkpoint/envelope").as_bytes().to_vec(),
        fixtures::decoded(text("/inclusionPromise/signedEntryTimestamp")),
        hashes,
        fixtures::decoded(text("/canonicalizedBody")),
    ];
    parts.join(&b"\x1e\x1e"[..])
}

/// The bundle with another entry: of the same log and kind.
fn with(bundle: &Value, input: &[u8]) -> Option<Envelope> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\x1e\x1e").filter(|_| parts.len() < 4) {
        parts.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    let [numbers, checkpoint, promise, hashes] = parts[..] else { return None };
    let numbers: Vec<_> = str::from_utf8(numbers).ok()?.split(' ').collect();
    let [index, time, index_in_tree, size] = numbers[..] else { return None };
    let checkpoint = str::from_utf8(checkpoint).ok()?;
    let mut bundle = bundle.clone();
    let entry = bundle.pointer_mut(ENTRY)?;
    entry["canonicalizedBody"] = json!(fixtures::encoded(rest));
    let promise = json!({"signedEntryTimestamp": fixtures::encoded(promise)});
    let hashes: Vec<_> = hashes.chunks(32).map(fixtures::encoded).collect();
    let root = checkpoint.lines().nth(2).unwrap_or_default();
    let mut proof = json!({"rootHash": root, "hashes": hashes, "checkpoint": {"envelope": checkpoint}});
    set(&mut proof, "treeSize", json!(size), size.is_empty());
    set(&mut proof, "logIndex", json!(index_in_tree), index_in_tree.is_empty());
    set(entry, "logIndex", json!(index), index.is_empty());
    set(entry, "integratedTime", json!(time), time.is_empty());
    set(entry, "inclusionProof", proof, checkpoint.is_empty());
    let has_no_promise = promise["signedEntryTimestamp"] == "";
    set(entry, "inclusionPromise", promise, has_no_promise);
    roots::recognised(bundle.to_string().as_bytes())
}

fn set(of: &mut Value, name: &str, value: Value, is_missing: bool) {
    if is_missing {
        of.as_object_mut().map(|members| members.remove(name));
    } else {
        of[name] = value;
    }
}

sig_repo_fuzz::target!(Log);
