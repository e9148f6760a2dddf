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
    doors::Door,
    process::{self, Daemon, run},
    signing::Signer,
    world::{MIRROR_NAME, World},
};

pub(crate) struct Mirror<'a> {
    world: &'a World,
    url: String,
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
        Self::start_in(world, fresh_directory(world), settings)
    }

    /// Where the clients do not look.
    pub(crate) fn start_at(world: &'a World, address: SocketAddr, settings: &[(&str, &str)]) -> Self {
        let port = address.port().to_string();
        let settings = [&[("PORT", &*port)][..], settings].concat();
        Self::launch(world, fresh_directory(world), format!("http://{address}"), &settings)
    }

    /// Where the examples in `deploy` expect it.
    pub(crate) fn start_over_tls(world: &'a World, settings: &[(&str, &str)]) -> Self {
        let file = |name| world.scratch.join(name).display().to_string();
        let (certificate, key) = (file("mirror.crt"), file("mirror.key"));
        let tls = [("PORT", "443"), ("HTTP_TLS_CERTIFICATE", &certificate), ("HTTP_TLS_KEY", &key)];
        // The stand-in has the same port at other addresses.
        let settings = [&tls[..], &[("HTTP_ADDR", "127.0.0.1:443")], settings].concat();
        Self::launch(world, fresh_directory(world), format!("https://{MIRROR_NAME}"), &settings)
    }

    pub(crate) fn start_in(world: &'a World, directory: PathBuf, settings: &[(&str, &str)]) -> Self {
        let port = world.doors.address(Door::Plain).port().to_string();
        let settings = [&[("PORT", &*port)][..], settings].concat();
        Self::launch(world, directory, world.doors.url(Door::Plain), &settings)
    }

    fn launch(world: &'a World, directory: PathBuf, url: String, settings: &[(&str, &str)]) -> Self {
        let (data, trust) = (directory.join("data"), directory.join("trust"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&trust).unwrap();
        world.signer.put_into(&trust);
        let mut command = unshared(&world.scratch);
        command.env("DATA_DIR", data).env("TRUST_DIR", trust).envs(settings.iter().copied());
        let mut daemon = Daemon::start("sig-repo", command);
        daemon.wait_until(|| run(world.command("curl").args(["--silent", "--fail", &format!("{url}/readyz")])).ok);
        Self { world, url, directory, daemon }
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
        command.args(arguments).arg(format!("{}/api/v1/{path}", self.url));
        let answer = run(&mut command).expect(path);
        if answer.is_empty() { serde_json::Value::Null } else { serde_json::from_str(&answer).expect(&answer) }
    }
}

fn fresh_directory(world: &World) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    world.scratch.join(format!("mirror-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
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
