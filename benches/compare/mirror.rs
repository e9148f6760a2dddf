//! Ours: the release binary on its own store, audit and metrics on as they always are.

use std::{ffi::OsString, fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::{
    blobs::Certificate,
    download::Door,
    images::Image,
    program::{Core, Invocation, Program},
    pushing::{Key, SIGNER},
    server::{Kind, Server},
    session::{Session, free_port},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sig-repo");

/// Gathered events are written every second.
pub(crate) const AUDIT_LIMIT: Duration = Duration::from_secs(10);

/// One data directory, on which a process is started as often as wanted.
pub(crate) struct Mirror {
    data_dir: PathBuf,
    upstream: SocketAddr,
    /// Minutes.
    tag_max_age: &'static str,
}

impl Mirror {
    /// A directory that trusts `key`.
    pub(crate) fn new(session: &Session, name: &str, upstream: SocketAddr, key: &Key) -> anyhow::Result<Self> {
        let data_dir = session.directory(name)?;
        let trust = session.directory(&format!("{name}/trust"))?;
        fs::write(trust.join(format!("{SIGNER}.pub")), key.public_pem()?)?;
        Ok(Self { data_dir, upstream, tag_max_age: "10" })
    }

    /// The upstream is asked what a tag is each time that somebody wants to know.
    pub(crate) fn asking_each_time(self) -> Self {
        Self { tag_max_age: "0", ..self }
    }

    /// What it is set to. Unsigned images of no class are served as they are, so that one process
    /// answers for both with and without verification.
    pub(crate) fn settings(&self, addr: SocketAddr) -> Vec<(&'static str, OsString)> {
        vec![
            ("HTTP_ADDR", addr.to_string().into()),
            ("DATA_DIR", self.data_dir.clone().into()),
            ("PROXY_REMOTEURL", format!("http://{}", self.upstream).into()),
            ("POLICY_DEFAULT", "skip".into()),
            ("METADATA_MAX_AGE", self.tag_max_age.into()),
        ]
    }

    /// A process that is ready, and how long that took from before it was there.
    pub(crate) fn start(&self, session: &Session) -> anyhow::Result<(Server, Duration)> {
        let addr = free_port()?;
        self.start_as(session, addr, &self.invocation(addr))
    }

    /// One to which all who come from this machine are a proxy's clients, so that they may be as many as they like.
    pub(crate) fn start_for_many(&self, session: &Session) -> anyhow::Result<Server> {
        let addr = free_port()?;
        let invocation = self.invocation(addr).env("TRUSTED_PROXIES", "127.0.0.1");
        Ok(self.start_as(session, addr, &invocation)?.0)
    }

    fn start_as(
        &self,
        session: &Session,
        addr: SocketAddr,
        invocation: &Invocation,
    ) -> anyhow::Result<(Server, Duration)> {
        let ready = format!("http://{addr}/readyz");
        let begun = session.clock.instant();
        let mut program = Program::start(session, "sig-repo", Core::Server, invocation)?;
        // Asked without a pause: a pause would be in the figure.
        while !session.http.answers(&ready) {
            program.is_there()?;
            session.go_on()?;
        }
        let took = session.clock.instant() - begun;
        Ok((Server { kind: Kind::Ours, name: name(), addr, program }, took))
    }

    /// A process that speaks TLS itself.
    pub(crate) fn start_tls(&self, session: &Session, certificate: &Certificate) -> anyhow::Result<(Server, Door)> {
        let addr = free_port()?;
        let [pem, key] = ["tls.pem", "tls.key"].map(|name| session.path().join(name));
        fs::write(&pem, &certificate.pem)?;
        fs::write(&key, &certificate.key_pem)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        let invocation = self.invocation(addr).env("HTTP_TLS_CERTIFICATE", pem).env("HTTP_TLS_KEY", key);
        let mut program = Program::start(session, "sig-repo TLS", Core::Server, &invocation)?;
        let door = Door { addr, tls: Some(certificate.client()?) };
        session.wait("an answer over TLS", START_LIMIT, || {
            program.is_there()?;
            Ok(door
                .open()
                .and_then(|mut connection| connection.ask("GET", "/readyz"))
                .is_ok_and(|head| head.status == 200))
        })?;
        Ok((Server { kind: Kind::Ours, name: name(), addr, program }, door))
    }

    fn invocation(&self, addr: SocketAddr) -> Invocation {
        let settings = self.settings(addr).into_iter();
        settings.fold(Invocation::new(BINARY, &[]), |invocation, (name, value)| invocation.env(name, value))
    }
}

fn name() -> String {
    format!("sig-repo {}", env!("CARGO_PKG_VERSION"))
}

const START_LIMIT: Duration = Duration::from_secs(30);

/// Submits the signature of `image`, which must count.
pub(crate) fn submit(session: &Session, ours: &Server, image: &Image, key: &Key) -> anyhow::Result<()> {
    let body = json!({
        "image_digest": image.digest,
        "tag": image.tag,
        "signature": key.sign(image)?,
        "signer": SIGNER,
        "metadata": { "git_commit": "a1b2c3d" },
    });
    let headers = [("content-type", "application/json")];
    let answer = session
        .http
        .try_send(Method::POST, &ours.url("/api/v1/signatures"), &headers, Bytes::from(body.to_string()))
        .context("no answer to a signature")?;
    let record: Value = serde_json::from_slice(&answer.body)?;
    ensure!(record["is_valid"] == true, "a signature does not count: {record}");
    Ok(())
}
