use std::{fs, path::Path};

use serde_json::json;

use super::{Home, Leaf};
use crate::{
    clients::Origin,
    process::{Ran, run},
    world::World,
};

/// notation with a key, and a policy that trusts it for everything.
pub(crate) struct Notation<'a> {
    pub(crate) home: Home<'a>,
}

impl<'a> Notation<'a> {
    /// With a certificate that it signed itself.
    pub(crate) fn new(world: &'a World) -> Self {
        let notation = Self { home: Home::new(world, "notation") };
        notation.run(&["cert", "generate-test", "--default", STORE]).expect("notation cert generate-test");
        notation.trust("strict", &["ca"]);
        notation
    }

    /// With a certificate of somebody else's, who is trusted.
    pub(crate) fn certified(world: &'a World, leaf: &Leaf, root: &Path) -> Self {
        let notation = Self { home: Home::new(world, "notation") };
        let settings = notation.home.file("config/notation");
        fs::create_dir_all(&settings).unwrap();
        let key = json!({"name": STORE, "keyPath": leaf.key, "certPath": leaf.chain});
        fs::write(settings.join("signingkeys.json"), json!({"default": STORE, "keys": [key]}).to_string()).unwrap();
        notation.add_to_store("ca", root);
        notation.trust("strict", &["ca"]);
        notation
    }

    /// Adds certificates to a store of this kind.
    pub(crate) fn add_to_store(&self, kind: &str, certificates: &Path) {
        let file = certificates.to_str().unwrap();
        self.run(&["cert", "add", "--type", kind, "--store", STORE, file]).expect("notation cert add");
    }

    /// Trusts what is in the stores of these kinds, at this level.
    pub(crate) fn trust(&self, level: &str, kinds: &[&str]) {
        let stores: Vec<_> = kinds.iter().map(|kind| format!("{kind}:{STORE}")).collect();
        let policy = json!({"version": "1.0", "trustPolicies": [{
            "name": "release", "registryScopes": ["*"], "signatureVerification": {"level": level},
            "trustStores": stores, "trustedIdentities": ["*"],
        }]});
        fs::write(self.home.file("policy.json"), policy.to_string()).unwrap();
        self.run(&["policy", "import", "--force", "policy.json"]).expect("notation policy import");
    }

    /// Its own files, for a mirror to trust. It lets nobody else read them.
    pub(crate) fn hand_over(&self, trust: &Path) {
        fs::create_dir_all(trust).unwrap();
        let script = "cd config/notation && cp -R trustpolicy*.json truststore \"$0\" && chmod -R a+rX \"$0\"";
        run(self.home.command(Origin::Installed, "sh").args(["-c", script]).arg(trust)).expect("cp");
    }

    pub(crate) fn sign(&self, format: &str, reference: &str, flags: &[&str]) {
        let arguments = ["sign", "--signature-format", format, reference];
        self.run(&[&arguments[..], over_http(reference), flags].concat()).expect("notation sign");
    }

    /// It remembers no revocation lists from before.
    pub(crate) fn verify(&self, reference: &str) -> Ran {
        let remembered = self.home.file(".cache");
        if remembered.exists() {
            fs::remove_dir_all(remembered).unwrap();
        }
        self.run(&[&["verify", reference], over_http(reference)].concat())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.home.run(Origin::Sid, "notation", arguments)
    }
}

/// The mirrors of the tests; the Hub has TLS.
fn over_http(reference: &str) -> &'static [&'static str] {
    if reference.starts_with("docker.io/") { &[] } else { &["--insecure-registry"] }
}

/// The name of its test certificate and of its stores.
const STORE: &str = "release.example";
