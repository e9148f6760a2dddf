//! `sig-repo` as an operator runs it: a process with environment variables, started as root, on a directory of its own.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::sys::signal::{Signal, kill};

use crate::{
    doors::Door,
    images::Image,
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
        Self::start_in_at(world, fresh_directory(world), address, settings)
    }

    pub(crate) fn start_in_at(
        world: &'a World,
        directory: PathBuf,
        address: SocketAddr,
        settings: &[(&str, &str)],
    ) -> Self {
        let listen = address.to_string();
        let settings = [&[("HTTP_ADDR", &*listen)][..], settings].concat();
        Self::launch(world, directory, format!("http://{address}"), &settings)
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

    pub(crate) fn trust_directory(&self) -> PathBuf {
        self.directory.join("trust")
    }

    /// As it stands in a reference.
    pub(crate) fn host(&self) -> &str {
        self.url.split_once("://").expect("it has a scheme").1
    }

    /// The last lines that it printed.
    pub(crate) fn log(&self) -> String {
        self.daemon.tail()
    }

    /// Signs a digest as `openssl` does and submits that as `curl` does. The record's id.
    pub(crate) fn submit(&self, signer: &Signer, digest: &str, tag: &str) -> String {
        let record = self.submit_record(digest, tag, &signer.sign(self.world, digest), &[]);
        assert_eq!(record["is_valid"], true, "{record}");
        record["id"].as_str().unwrap().to_owned()
    }

    /// The record that a signature becomes, whatever it is worth.
    pub(crate) fn submit_record(
        &self,
        digest: &str,
        tag: &str,
        signature: &str,
        fields: &[(&str, &str)],
    ) -> serde_json::Value {
        let mut body = serde_json::json!({"image_digest": digest, "tag": tag, "signature": signature, "signer": "ci"});
        for (name, value) in fields {
            body[*name] = (*value).into();
        }
        self.post(&body, "signatures")
    }

    /// Adds a key over the API. Its id.
    pub(crate) fn trust(&self, signer: &Signer) -> String {
        let body = serde_json::json!({"name": signer.name(), "public_key": signer.public_key()});
        self.post(&body, "signers")["id"].as_str().expect("the key's id").to_owned()
    }

    /// Whether a signature of this digest counts now.
    pub(crate) fn holds_valid(&self, digest: &str) -> bool {
        let answer = self.curl([""; 0], &format!("signatures?digest={digest}"));
        answer["signatures"].as_array().unwrap().iter().any(|record| record["is_valid"] == true)
    }

    /// Whether it lets a manifest out to whoever asks by its own address, as nobody's mirror.
    pub(crate) fn gives(&self, image: &Image, reference: &str) -> bool {
        let url = format!("{}/v2/docker.io/{}/manifests/{reference}", self.url, image.repository);
        run(self.world.command("curl").args(["--silent", "--fail", "--output", "/dev/null", &url])).ok
    }

    /// Whether this database of the store does not answer.
    pub(crate) fn has_lost(&self, database: &str) -> bool {
        self.readiness().contains(&format!("the {database} database"))
    }

    /// Waits for what happens inside in its own time.
    pub(crate) fn wait_until(&self, done: impl Fn() -> bool) {
        self.daemon.wait_for(done);
    }

    /// Takes the files of its store away, and returns when it has noticed.
    pub(crate) fn take_store_away(&self) {
        for file in ["records.redb", "memory.redb"] {
            let file = self.directory.join("data").join(file);
            fs::rename(&file, file.with_extension("away")).unwrap();
        }
        self.wait_until(|| ["records", "memory"].iter().all(|name| self.has_lost(name)));
    }

    /// Tells it to end while a submission is on its way, so that it stays for a while and refuses.
    pub(crate) fn end_while_somebody_is_busy(&self) -> Transfer {
        let transfer = Transfer::begin(self.url.strip_prefix("http://").expect("plain http"));
        kill(self.daemon.id(), Signal::SIGTERM).unwrap();
        self.wait_until(|| self.is_draining());
        transfer
    }

    /// Whether it is still there, and on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        self.readiness().contains("shutting down")
    }

    fn readiness(&self) -> String {
        run(self.world.command("curl").args(["--silent", &format!("{}/readyz", self.url)])).output
    }

    fn post(&self, body: &serde_json::Value, path: &str) -> serde_json::Value {
        self.curl(["--data", &body.to_string(), "--header", "Content-Type: application/json"], path)
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

/// A test that fails shows what the mirror had to say of it.
impl Drop for Mirror<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("sig-repo, last:\n{}", self.log());
        }
    }
}

/// A request whose body does not end for as long as this is held.
pub(crate) struct Transfer {
    _stream: TcpStream,
}

impl Transfer {
    /// Returns when the server waits for the body.
    fn begin(host: &str) -> Self {
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            "POST /api/v1/signatures HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Content-Length: 100\r\nExpect: 100-continue\r\n\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
        Self { _stream: stream }
    }
}

pub(crate) fn fresh_directory(world: &World) -> PathBuf {
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
