use std::fs;

use super::Home;
use crate::{
    clients::Origin,
    process::{Ran, run},
    world::World,
};

/// cosign with a key of its own, and no log.
pub(crate) struct Cosign<'a> {
    pub(crate) home: Home<'a>,
}

/// What cosign makes, and which of its builds makes it so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Under the `.sig` tag, by cosign 2.
    Classic,
    /// The same by cosign 3, which has to be told.
    ClassicByThree,
    /// As cosign 3 signs: a bundle that refers to the image.
    Bundle,
}

impl<'a> Cosign<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let home = Home::new(world, "cosign");
        home.run(Origin::Trixie, "cosign", &["generate-key-pair"]).expect("cosign generate-key-pair");
        Self { home }
    }

    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.home.file("cosign.pub")).unwrap()
    }

    pub(crate) fn sign(&self, form: Form, reference: &str) {
        let (origin, flags): (_, &[&str]) = match form {
            Form::Classic => (Origin::Trixie, &["--allow-insecure-registry"]),
            Form::ClassicByThree => (Origin::Sid, &["--use-signing-config=false", "--new-bundle-format=false"]),
            Form::Bundle => (Origin::Sid, &["--use-signing-config=false"]),
        };
        let mut sign = self.home.command(origin, "cosign");
        sign.args(["sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry"]);
        run(sign.args(flags).arg(reference)).expect("cosign sign");
    }

    /// The payload of a classic signature, and its signature in base64, neither of them in any registry.
    pub(crate) fn sign_payload(&self, reference: &str) -> [String; 2] {
        let payload = self.home.run(Origin::Trixie, "cosign", &["generate", reference]).expect("cosign generate");
        let signature = self.sign_blob(Origin::Trixie, payload.as_bytes());
        [payload, String::from_utf8(signature).unwrap()]
    }

    /// Signs a file: a bare signature by cosign 2, a bundle by cosign 3.
    pub(crate) fn sign_blob(&self, by: Origin, content: &[u8]) -> Vec<u8> {
        fs::write(self.home.file("blob"), content).unwrap();
        let kind = if by == Origin::Sid { "--bundle" } else { "--output-signature" };
        let mut sign = self.home.command(by, "cosign");
        sign.args(["sign-blob", "--yes", "--key", "cosign.key", "--tlog-upload=false", kind, "signed"]);
        if by == Origin::Sid {
            sign.arg("--use-signing-config=false");
        }
        run(sign.arg("blob")).expect("cosign sign-blob");
        fs::read(self.home.file("signed")).unwrap()
    }

    /// What a cosign says of an image, by this key.
    pub(crate) fn verify(&self, by: Origin, reference: &str) -> Ran {
        let mut verify = self.home.command(by, "cosign");
        verify.args(["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry"]);
        run(verify.arg(reference))
    }
}
