//! Cached blobs: what a server sends in a second, and what a gigabyte costs it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{anyhow, ensure};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};

use crate::{
    download::Door,
    images::Blob,
    program::{Core, Program},
    server::{Kind, Server},
    session::Session,
};

/// As large as a layer of a distribution is.
pub(crate) const BLOB_BYTES: usize = 64 << 20;
pub(crate) const STREAMS: [usize; 2] = [1, 32];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub(crate) megabytes_per_second: f64,
    /// Seconds of the server's CPU for a gigabyte.
    pub(crate) cpu: f64,
}

/// A server and one of the blobs that it has.
pub(crate) struct Source<'a> {
    pub(crate) server: &'a Server,
    pub(crate) door: Door,
    pub(crate) blob: &'a Blob,
}

/// A certificate for loopback.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    der: CertificateDer<'static>,
}

impl Source<'_> {
    /// Until it comes from the cache.
    pub(crate) fn warm_up(&self, session: &Session) -> anyhow::Result<()> {
        session.wait("a blob in the cache", WARM_UP_LIMIT, || {
            let head = self.door.check(self.blob)?;
            Ok(self.server.kind != Kind::Nginx || head.header("x-cache") == Some("hit"))
        })
    }

    /// `streams` clients that ask for it again and again. The upstream has nothing to do meanwhile.
    pub(crate) fn run(
        &self,
        session: &Session,
        upstream: &Program,
        streams: usize,
        secs: u64,
    ) -> anyhow::Result<Moved> {
        self.door.check(self.blob)?;
        let upstream_before = upstream.cpu()?;
        let (over, moved) = (AtomicBool::new(false), AtomicU64::new(0));
        let measured = thread::scope(|scope| {
            let clients: Vec<_> = (0..streams).map(|_| scope.spawn(|| self.pull(&over, &moved))).collect();
            let measured = self.watch(session, &moved, secs);
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            measured
        })?;
        let asked_upstream = upstream.cpu()? - upstream_before;
        ensure!(
            asked_upstream < UPSTREAM_IDLE,
            "{}: the upstream worked for {asked_upstream:?} on a blob that is cached",
            self.server.name
        );
        self.door.check(self.blob)?;
        Ok(measured)
    }

    fn pull(&self, over: &AtomicBool, moved: &AtomicU64) -> anyhow::Result<()> {
        Core::Load.hold()?;
        let mut connection = self.door.open()?;
        let (path, size) = (self.blob.path(), self.blob.bytes.len() as u64);
        loop {
            let head = connection.ask("GET", &path)?;
            ensure!(head.status == 200 && head.length == size, "{}: {} to {path}", self.server.name, head.status);
            let mut left = size;
            while left > 0 {
                if over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let taken = connection.take(left)?.len() as u64;
                left -= taken;
                moved.fetch_add(taken, Ordering::Relaxed);
            }
        }
    }

    /// From a moment when all are under way.
    fn watch(&self, session: &Session, moved: &AtomicU64, secs: u64) -> anyhow::Result<Moved> {
        session.rest(UNDER_WAY)?;
        let now = || anyhow::Ok((session.clock.instant(), self.server.program.cpu()?, moved.load(Ordering::Relaxed)));
        let (begun, cpu_before, before) = now()?;
        session.rest(Duration::from_secs(secs))?;
        let (ended, cpu, after) = now()?;
        let gigabytes = (after - before) as f64 / 1e9;
        ensure!(gigabytes > 0.0, "{}: nothing came in {secs} s", self.server.name);
        Ok(Moved {
            megabytes_per_second: gigabytes * 1e3 / (ended - begun).as_secs_f64(),
            cpu: (cpu - cpu_before).as_secs_f64() / gigabytes,
        })
    }
}

impl Certificate {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        Ok(Self { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() })
    }

    /// A client's that trusts it and nothing else.
    pub(crate) fn client(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

const UNDER_WAY: Duration = Duration::from_millis(300);
const WARM_UP_LIMIT: Duration = Duration::from_secs(30);

/// To fetch one blob costs it more.
const UPSTREAM_IDLE: Duration = Duration::from_millis(60);
