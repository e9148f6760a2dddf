//! Real cosign, in every way of signing that it has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Lab,
    issuer::Identity,
    keys::{self, Algorithm},
    trust::{Log, TRUSTED_ROOT, Witnesses},
};
use crate::{
    clients::Origin,
    images::Image,
    process::{Ran, run},
    world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// Debian 13's.
    Two,
    /// Debian's newest.
    Three,
}

/// In whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Key(Algorithm),
    Identity(Identity),
    /// The same with a certificate that is in no log.
    Unlogged(Identity),
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A bundle that refers to the image.
    Bundle,
    /// The same that is no signature of the image, but says something about it.
    Attestation,
    /// A bundle over a file, which is the image's manifest.
    Blob,
    /// Under the `.sig` tag.
    Classic,
}

/// One signature as somebody makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) form: Form,
    pub(crate) build: Build,
    pub(crate) by: By,
    pub(crate) witnesses: Witnesses,
    pub(crate) annotated: bool,
}

impl Build {
    pub(super) fn command(self, world: &World, directory: &Path) -> Command {
        let origin = match self {
            Self::Two => Origin::Trixie,
            Self::Three => Origin::Sid,
        };
        let mut command = origin.command("cosign", world);
        command.env("COSIGN_PASSWORD", keys::PASSPHRASE).current_dir(directory);
        command
    }
}

impl Lab {
    /// Signs the image in the Hub.
    pub(crate) fn sign(&self, world: &World, kind: Kind, image: &Image) {
        let mut command = kind.build.command(world, &self.directory);
        match kind.form {
            Form::Bundle | Form::Classic => command.arg("sign"),
            Form::Attestation => {
                fs::write(self.directory.join(PREDICATE), r#"{"lab":true}"#).unwrap();
                command.args(["attest", "--predicate", PREDICATE, "--type", PREDICATE_TYPE])
            }
            Form::Blob => command.args(["sign-blob", "--bundle"]).arg(self.bundle_of_blob()),
        };
        command.arg("--yes");
        match kind.by {
            By::Key(algorithm) => command.args(["--key", &algorithm.private()]),
            By::Identity(who) | By::Unlogged(who) => command.args(["--identity-token", &self.issuer.token(who)]),
        };
        if kind.annotated {
            command.args(["--annotations", ANNOTATION]);
        }
        match (kind.form, kind.build) {
            (Form::Classic, build) => self.server_by_server(&mut command, build, kind.witnesses),
            (_, Build::Two) => unreachable!("cosign 2 is asked for its own format alone"),
            (_, Build::Three) => {
                let config = self.signing_config(world, kind.witnesses, !matches!(kind.by, By::Unlogged(_)));
                command.args(["--trusted-root", TRUSTED_ROOT, "--signing-config"]).arg(config);
            }
        }
        run(command.arg(self.target(world, kind.form, image))).expect(&format!("cosign for {kind:?}"));
    }

    /// What the newest cosign says of what [`Self::sign`] made.
    pub(crate) fn verify(&self, world: &World, kind: Kind, image: &Image) -> Ran {
        self.verify_at(world, kind, &self.target(world, kind.form, image))
    }

    /// The same of what is read under another name.
    pub(crate) fn verify_at(&self, world: &World, kind: Kind, target: &str) -> Ran {
        let mut command = Build::Three.command(world, &self.directory);
        match kind.form {
            Form::Bundle | Form::Classic => command.arg("verify"),
            Form::Attestation => command.args(["verify-attestation", "--type", PREDICATE_TYPE]),
            Form::Blob => command.args(["verify-blob", "--bundle"]).arg(self.bundle_of_blob()),
        };
        command.args(["--trusted-root", TRUSTED_ROOT]);
        match kind.by {
            By::Key(algorithm) => command.args(["--key", &algorithm.public()]),
            By::Identity(who) | By::Unlogged(who) => {
                command.args(["--certificate-identity", &who.subject(), "--certificate-oidc-issuer", &who.issuer()])
            }
        };
        if matches!(kind.by, By::Unlogged(_)) {
            command.arg("--insecure-ignore-sct");
        }
        if kind.witnesses.timestamp {
            command.arg("--use-signed-timestamps");
        }
        // It signs over the hash that goes with the key, and verifies over SHA-256 unless told otherwise; and in the
        // classic form it does not read a log's entry with another hash.
        let hash = match kind.by {
            By::Key(Algorithm::P384) if kind.build == Build::Three => Some("sha384"),
            By::Key(Algorithm::P521) if kind.build == Build::Three => Some("sha512"),
            _ => None,
        };
        if let Some(hash) = hash {
            command.args(["--signature-digest-algorithm", hash]);
        }
        if kind.witnesses.log.is_none() || (kind.form == Form::Classic && hash.is_some()) {
            command.arg("--insecure-ignore-tlog");
        }
        run(command.arg(target))
    }

    fn target(&self, world: &World, form: Form, image: &Image) -> String {
        if form != Form::Blob {
            return format!("docker.io/{}@{}", image.repository, image.single);
        }
        fs::write(self.directory.join(BLOB), world.registry.manifest_of(image)).unwrap();
        BLOB.to_owned()
    }

    pub(super) fn bundle_of_blob(&self) -> PathBuf {
        self.directory.join(BLOB).with_extension("bundle")
    }

    /// Without a signing configuration: each server by a flag of its own.
    fn server_by_server(&self, command: &mut Command, build: Build, witnesses: Witnesses) {
        let servers = &self.servers;
        command.args(["--fulcio-url", &format!("http://{}", servers.fulcio)]);
        match witnesses.log {
            Some(Log::First) => command.args(["--rekor-url", &format!("http://{}", servers.rekor_1)]),
            Some(Log::Second) => unreachable!("the second Rekor is known to signing configurations alone"),
            None => command.arg("--tlog-upload=false"),
        };
        if witnesses.timestamp {
            command.args(["--timestamp-server-url", &self.timestamp_url()]);
        }
        match build {
            Build::Two => {
                command.env("SIGSTORE_ROOT_FILE", keys::FULCIO_ROOT);
                command.env("SIGSTORE_REKOR_PUBLIC_KEY", keys::REKOR_1_PUBLIC);
                command.env("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", keys::CT_PUBLIC);
            }
            Build::Three => {
                command.args(["--new-bundle-format=false", "--use-signing-config=false"]);
                command.args(["--trusted-root", TRUSTED_ROOT]);
            }
        }
    }
}

const BLOB: &str = "manifest.json";
/// What an attestation says.
const PREDICATE: &str = "predicate.json";
const PREDICATE_TYPE: &str = "https://lab.example/predicate/v1";
const ANNOTATION: &str = "build=7";
