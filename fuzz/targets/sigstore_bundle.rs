//! Bundles of sigstore, of every version, and what stood for them before.

#![no_main]

use serde_json::Value;
use sig_repo::trust::{Annotations, Envelope, Format};
use sig_repo_fuzz::{Judge, Target, bounded, fixtures, roots};

struct SigstoreBundle {
    judge: Judge,
}

impl Target for SigstoreBundle {
    fn new() -> Self {
        // Without one of its witnesses a bundle may say the time of the other.
        let witnesses = ["timestampVerificationData", "tlogEntries"];
        let seeds = Self::seeds().into_iter().flat_map(|seed| {
            let bereft = witnesses.map(|witness| without(&seed, witness));
            bereft.into_iter().flatten().chain([seed])
        });
        let envelopes = seeds.filter_map(|seed| envelope(&seed));
        let public = ["blob-rekor1-tsa", "blob-v0.1-rekor1", "key-rekor1-tsa", "staging-rekor2-tsa"];
        let public = public.map(|name| roots::blob(&format!("sigstore/public/{name}.json")));
        let images = [roots::lab_image(), roots::key_image()].into_iter().chain(public).collect();
        Self { judge: roots::sigstore_judge(images, envelopes, 30) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let directories = ["bundle", "blob", "forged", "unlogged", "public"];
        let bundles = directories.map(|name| fixtures::names_ending(&format!("sigstore/{name}"), ".json")).concat();
        let bundles = bundles.iter().filter(|name| !name.ends_with("root.json")).map(|name| fixtures::file(name));
        bundles.chain(fixtures::files_ending("trust", ".json")).collect()
    }

    fn run(&self, input: &[u8]) {
        if let Some(envelope) = bounded(input, || envelope(input)) {
            self.judge.judge(&envelope);
        }
    }
}

fn without(seed: &[u8], witness: &str) -> Option<Vec<u8>> {
    let mut bundle: Value = serde_json::from_slice(seed).ok()?;
    bundle.get_mut("verificationMaterial")?.as_object_mut()?.remove(witness)?;
    Some(bundle.to_string().into_bytes())
}

fn envelope(input: &[u8]) -> Option<Envelope> {
    Envelope::parse(Format::SigstoreBundle, input, None, &Annotations::new()).ok()
}

sig_repo_fuzz::target!(SigstoreBundle);
