//! `sig-repo` as an operator runs it: a process with environment variables, started as root, on a directory of its own.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    process::{self, Daemon, run},
    signing::Signer,
    world::World,
};

pub(crate) struct Mirror<'a> {
    world: &'a World,
    address: SocketAddr,
    directory: PathBuf,
    daemon: Daemon,
}

/// The account of an instance that has authentication on.
pub(crate) const ADMIN: (&str, &str) = ("admin", "secure-pass");
pub(crate) const WITH_ADMIN: [(&str, &str); 3] =
    [("AUTH_ENABLED", "true"), ("AUTH_USER", ADMIN.0), ("AUTH_PASSWORD", ADMIN.1)];

impl<'a> Mirror<'a> {
    /// Where the clients expect it, on an empty directory, trusting the key of [`World::signer`].
    pub(crate) fn start(world: &'a World, settings: &[(&str, &str)]) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let directory = world.scratch.join(format!("mirror-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&directory).unwrap();
        Self::start_in(world, directory, settings)
    }

    pub(crate) fn start_in(world: &'a World, directory: PathBuf, settings: &[(&str, &str)]) -> Self {
        let trust = directory.join("trust");
        fs::create_dir_all(&trust).unwrap();
        world.signer.put_into(&trust);
        let mut command = unshared(&world.scratch);
        command.env("PORT", world.mirror.port().to_string()).env("DATA_DIR", directory.join("data"));
        command.env("TRUST_DIR", &trust).envs(settings.iter().copied());
        fs::create_dir_all(directory.join("data")).unwrap();
        let mut daemon = Daemon::start("sig-repo", command);
        daemon.wait_until(|| world.http.answers(&format!("http://{}/readyz", world.mirror)));
        Self { world, address: world.mirror, directory, daemon }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The last lines that it printed.
    pub(crate) fn log(&self) -> String {
        self.daemon.tail()
    }

    /// Signs a digest as `openssl` does and submits that as `curl` does. The record's id.
    pub(crate) fn submit(&self, signer: &Signer, digest: &str, tag: &str) -> String {
        let signature = signer.sign(self.world, digest);
        let body = serde_json::json!({"image_digest": digest, "tag": tag, "signature": signature, "signer": "ci"});
        let record =
            self.curl(["--data", &body.to_string(), "--header", "Content-Type: application/json"], "signatures");
        assert_eq!(record["is_valid"], true, "{record}");
        record["id"].as_str().unwrap().to_owned()
    }

    /// What the API answers, which has to be a success.
    pub(crate) fn curl<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        path: &str,
    ) -> serde_json::Value {
        let mut command = self.world.command("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--user", &format!("{}:{}", ADMIN.0, ADMIN.1)]);
        command.args(arguments).arg(format!("http://{}/api/v1/{path}", self.address));
        let answer = run(&mut command).expect(path);
        if answer.is_empty() { serde_json::Value::Null } else { serde_json::from_str(&answer).expect(&answer) }
    }
}

/// With the Hub at the address that is the mirror's.
fn unshared(scratch: &Path) -> Command {
    let mut command = process::daemon("unshare", scratch);
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    command
        .args(["--mount", "--", "sh", "-c", script])
        .arg(scratch.join("hosts.mirror"))
        .arg(env!("CARGO_BIN_EXE_sig-repo"));
    command
}
