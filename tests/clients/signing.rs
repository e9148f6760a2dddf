//! Keys and signatures made by the programs that users make them with.

mod authority;
mod cosign;
mod gpg;
mod home;
mod notation;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{self, run},
    world::World,
};

pub(crate) use authority::{Authority, Leaf, Place, TIMESTAMPS, Word};
pub(crate) use cosign::{Cosign, Form};
pub(crate) use gpg::Gpg;
pub(crate) use home::Home;
pub(crate) use notation::Notation;

/// A key pair in files, as `openssl` keeps it.
pub(crate) struct Signer {
    name: &'static str,
    directory: PathBuf,
}

impl Signer {
    pub(crate) fn new(scratch: &Path, name: &'static str) -> Self {
        Self::on_curve(scratch, name, "prime256v1")
    }

    pub(crate) fn on_curve(scratch: &Path, name: &'static str, curve: &str) -> Self {
        let directory = scratch.join("keys").join(name);
        fs::create_dir_all(&directory).unwrap();
        let openssl = |arguments: &[&str]| {
            let mut command = process::command("openssl", scratch);
            run(command.args(arguments).current_dir(&directory)).expect("openssl");
        };
        openssl(&["ecparam", "-genkey", "-name", curve, "-noout", "-out", "key.pem"]);
        openssl(&["ec", "-in", "key.pem", "-pubout", "-out", "key.pub"]);
        Self { name, directory }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn public_key(&self) -> String {
        fs::read_to_string(self.directory.join("key.pub")).unwrap()
    }

    pub(crate) fn put_into(&self, trust: &Path) {
        fs::write(trust.join(self.name).with_extension("pub"), self.public_key()).unwrap();
    }

    /// Over the digest's text, in base64.
    pub(crate) fn sign(&self, world: &World, digest: &str) -> String {
        let script = "printf %s \"$0\" | openssl dgst -sha256 -sign key.pem | openssl base64 -A";
        run(shell(world, script, digest).current_dir(&self.directory)).expect("openssl dgst").trim().to_owned()
    }
}

fn shell(world: &World, script: &str, argument: &str) -> Command {
    let mut command = world.command("sh");
    command.args(["-c", script, argument]);
    command
}
