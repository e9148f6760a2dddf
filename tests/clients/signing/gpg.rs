use std::fs;

use super::Home;
use crate::{clients::Origin, images::Image, process::run, world::World};

/// gpg with a key of its own, and skopeo that signs with it.
pub(crate) struct Gpg<'a> {
    pub(crate) home: Home<'a>,
}

impl<'a> Gpg<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let home = Home::new(world, "gpg");
        let key = ["--batch", "--passphrase", "", "--quick-gen-key", Self::SIGNER, "ed25519", "sign", "never"];
        home.run(Origin::Installed, "gpg", &key).expect("gpg");
        let export = ["--armor", "--output", "signer.asc", "--export", Self::SIGNER];
        home.run(Origin::Installed, "gpg", &export).expect("gpg --export");
        Self { home }
    }

    pub(crate) const SIGNER: &'static str = "push@example.com";

    /// In armour.
    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.home.file("signer.asc")).unwrap()
    }

    /// Signs the image under a name, and leaves it where it is.
    pub(crate) fn sign(&self, image: &Image, name: &str) -> Vec<u8> {
        fs::write(self.home.file("manifest"), self.home.world().registry.manifest_of(image)).unwrap();
        let mut sign = self.home.command(Origin::Installed, "skopeo");
        sign.args(["standalone-sign", "manifest", name, Self::SIGNER, "--output", "signature"]);
        run(&mut sign).expect("skopeo standalone-sign");
        fs::read(self.home.file("signature")).unwrap()
    }
}
