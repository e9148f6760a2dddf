//! The same question asked on the command line, of cosign and of `sig-repo`: each time by a process of its own, in pairs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Context, ensure};

use crate::{
    images::{Image, REPOSITORY},
    mirror::BINARY,
    program::{Core, Invocation},
    pushing::Pusher,
    session::Session,
    table::Duel,
};

const PAIRS: usize = 20;
/// A signature needs no log here: nobody is asked but the registry.
const OFFLINE: [&str; 2] = ["--tlog-upload=false", "--allow-http-registry"];

macro_rules! fixtures {
    () => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/sigstore/")
    };
}

/// One that signs in the classic form and one that makes bundles; an error says why there is none.
pub(crate) fn cosigns() -> anyhow::Result<[Cosign; 2]> {
    Ok([Cosign::unpacked("trixie", &[])?, Cosign::unpacked("sid", &["--use-signing-config=false"])?])
}

/// Fails where one of the two does not verify what it should, or verifies what it should not.
pub(crate) fn measure(
    session: &Session,
    upstream: SocketAddr,
    [classic, bundles]: &[Cosign; 2],
) -> anyhow::Result<Vec<Duel>> {
    let commands = Commands::new(session, upstream)?;
    Ok(vec![
        commands.image("`verify` of an image signed by a key, in cosign's classic form", classic)?,
        commands.image("`verify` of an image signed by a key, in a sigstore bundle", bundles)?,
        commands.blob("`verify-blob` of a file, keyless, with log and timestamp", bundles)?,
    ])
}

/// A cosign that `tests/run --prepare` has unpacked.
pub(crate) struct Cosign {
    program: PathBuf,
    version: String,
    /// What makes it sign without asking anybody, beside [`OFFLINE`].
    signing: &'static [&'static str],
}

struct Commands<'a> {
    session: &'a Session,
    upstream: SocketAddr,
    pusher: Pusher<'a>,
    unsigned: Image,
    /// With `cosign.key`, and the public one in a directory that holds nothing else.
    directory: PathBuf,
    trust: PathBuf,
}

impl Cosign {
    fn unpacked(suite: &str, signing: &'static [&'static str]) -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(suite);
        let version = fs::read_to_string(root.join(".packages/cosign")).context("tests/run --prepare unpacks it")?;
        let version = version.split('-').next().unwrap_or_default().trim().to_owned();
        Ok(Self { program: root.join("usr/bin/cosign"), version, signing })
    }
}

impl<'a> Commands<'a> {
    fn new(session: &'a Session, upstream: SocketAddr) -> anyhow::Result<Self> {
        let directory = session.directory("commands")?;
        let trust = session.directory("commands/trust")?;
        let pusher = Pusher::new(session, upstream)?;
        let unsigned = pusher.push("commands-unsigned")?;
        Ok(Self { session, upstream, pusher, unsigned, directory, trust })
    }

    fn image(&self, what: &str, cosign: &Cosign) -> anyhow::Result<Duel> {
        let image = self.pusher.push(&format!("commands-{}", cosign.version))?;
        if !self.trust.join("cosign.pub").exists() {
            self.succeeds(&self.cosign(cosign, &["generate-key-pair"]))?;
            fs::copy(self.directory.join("cosign.pub"), self.trust.join("cosign.pub"))?;
        }
        let there = |image: &Image| format!("{}/{REPOSITORY}@{}", self.upstream, image.digest);
        let target = there(&image);
        let sign = [&["sign", "--yes", "--key", "cosign.key"], &OFFLINE[..], cosign.signing, &[&target]].concat();
        self.succeeds(&self.cosign(cosign, &sign))?;

        let theirs = |image: &Image| {
            let target = there(image);
            let offline = ["--insecure-ignore-tlog", "--allow-http-registry", &target];
            self.cosign(cosign, &[&["verify", "--key", "cosign.pub"], &offline[..]].concat())
        };
        let ours = |image: &Image| {
            Invocation::new(BINARY, &["verify", &format!("{REPOSITORY}@{}", image.digest)])
                .env("TRUST_DIR", &self.trust)
                .env("PROXY_REMOTEURL", format!("http://{}", self.upstream))
                .env("POLICY_DEFAULT", "enforce")
        };
        for invocation in [theirs(&self.unsigned), ours(&self.unsigned)] {
            ensure!(!self.run(&invocation)?.status.success(), "an unsigned image is verified");
        }
        self.duel(what, cosign, &theirs(&image), &ours(&image))
    }

    /// The flags are cosign's, so both are given the same.
    fn blob(&self, what: &str, cosign: &Cosign) -> anyhow::Result<Duel> {
        let by = |identity| {
            [
                "verify-blob",
                "--certificate-oidc-issuer=http://127.0.0.1:8811",
                identity,
                concat!("--trusted-root=", fixtures!(), "trusted_root.json"),
                concat!("--bundle=", fixtures!(), "blob/keyless-rekor2-tsa.json"),
                "--use-signed-timestamps",
                concat!(fixtures!(), "manifest.json"),
            ]
        };
        let ours = |identity| Invocation::new(BINARY, &by(identity));
        let theirs = |identity| self.cosign(cosign, &by(identity));
        let (dev, other) = ("--certificate-identity=dev@lab.example", "--certificate-identity=other@lab.example");
        for invocation in [theirs(other), ours(other)] {
            ensure!(!self.run(&invocation)?.status.success(), "a file of somebody else is verified");
        }
        self.duel(what, cosign, &theirs(dev), &ours(dev))
    }

    fn duel(&self, what: &str, cosign: &Cosign, theirs: &Invocation, ours: &Invocation) -> anyhow::Result<Duel> {
        let mut duel = Duel { what: what.to_owned(), peer: format!("cosign {}", cosign.version), pairs: Vec::new() };
        for pair in 0..=PAIRS {
            eprintln!("{what}: pair {pair} of {PAIRS}");
            let took = if pair % 2 == 0 {
                let theirs = self.succeeds(theirs)?;
                (theirs, self.succeeds(ours)?)
            } else {
                let ours = self.succeeds(ours)?;
                (self.succeeds(theirs)?, ours)
            };
            // The first fills caches.
            if pair > 0 {
                duel.pairs.push(took);
            }
        }
        Ok(duel)
    }

    fn cosign(&self, cosign: &Cosign, args: &[&str]) -> Invocation {
        Invocation::new(&cosign.program, args).env("COSIGN_PASSWORD", "").env("HOME", &self.directory)
    }

    /// Milliseconds from before there was a process until it has ended.
    fn succeeds(&self, invocation: &Invocation) -> anyhow::Result<f64> {
        self.session.go_on()?;
        let begun = self.session.clock.instant();
        let output = self.run(invocation)?;
        let took = self.session.clock.instant() - begun;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {:?}: {said}", invocation.program.display(), invocation.args);
        Ok(took.as_secs_f64() * 1e3)
    }

    fn run(&self, invocation: &Invocation) -> anyhow::Result<Output> {
        Ok(invocation.on(Core::Server).current_dir(&self.directory).output()?)
    }
}
