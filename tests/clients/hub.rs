//! A stand-in for Docker Hub: TLS under the Hub's own names, tokens, redirects of blobs to another host, a real
//! `docker-registry` behind it, and a log of every request with the side it came from.
//!
//! It is healthy for everybody who goes round the mirror, always: a client that leaves us finds what it wants there.
//! Faults happen to the mirror only.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::world::HUB_NAMES;

pub(crate) mod certificate;
mod referrers;
mod registry;
mod tokens;

pub(crate) use referrers::LISTED;
pub(crate) use tokens::ACCOUNT;

pub(crate) struct Hub {
    shared: Arc<Shared>,
}

/// Whose address a connection arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A program that uses the clients' names: it went round the mirror, or pushes for the test.
    Client,
    /// `sig-repo`.
    Mirror,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) caller: Caller,
    pub(crate) host: String,
    /// Method, path and query; or `connected`, which is noted even where no request follows.
    pub(crate) line: String,
    pub(crate) user_agent: String,
    pub(crate) authorized: bool,
}

/// What befalls the mirror's manifest requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    /// The connection is reset instead of an answer.
    Reset,
    /// No answer, for as long as the asker waits.
    Silence,
    /// Another body than the one that was asked for, under headers that deny it.
    WrongBytes,
}

/// What happened at the Hub since [`Hub::watch`].
pub(crate) struct Watch<'a> {
    hub: &'a Hub,
    from: usize,
}

/// The fault lasts as long as this.
pub(crate) struct Faulty<'a> {
    hub: &'a Hub,
}

struct Shared {
    log: Mutex<Vec<Entry>>,
    fault: Mutex<Option<Fault>>,
    tokens: tokens::Tokens,
    referrers: referrers::Referrers,
    registry: registry::Behind,
}

impl Hub {
    pub(crate) fn start(
        runtime: &Runtime,
        authority: &certificate::Authority,
        registry: SocketAddr,
        [clients, mirror]: [Ipv4Addr; 2],
    ) -> Self {
        let shared = Arc::new(Shared {
            log: Mutex::default(),
            fault: Mutex::default(),
            tokens: tokens::Tokens::default(),
            referrers: referrers::Referrers::default(),
            registry: registry::Behind::new(registry),
        });
        let tls = TlsAcceptor::from(authority.server(&HUB_NAMES));
        for (address, caller) in [(clients, Caller::Client), (mirror, Caller::Mirror)] {
            let listener = runtime.block_on(TcpListener::bind((address, 443))).unwrap();
            runtime.spawn(serve(listener, tls.clone(), caller, Arc::clone(&shared)));
        }
        Self { shared }
    }

    pub(crate) fn watch(&self) -> Watch<'_> {
        Watch { hub: self, from: self.shared.log.lock().len() }
    }

    pub(crate) fn fail(&self, fault: Fault) -> Faulty<'_> {
        *self.shared.fault.lock() = Some(fault);
        Faulty { hub: self }
    }
}

impl Drop for Faulty<'_> {
    fn drop(&mut self) {
        *self.hub.shared.fault.lock() = None;
    }
}

impl Watch<'_> {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.hub.shared.log.lock()[self.from..].to_vec()
    }

    pub(crate) fn by(&self, caller: Caller) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.caller == caller).collect()
    }

    /// Neither the mirror nor anybody else.
    #[track_caller]
    pub(crate) fn assert_nobody_wrote(&self) {
        let writes: Vec<_> = self.entries().into_iter().filter(|entry| !entry.reads()).collect();
        assert!(writes.is_empty(), "{}", listed(&writes));
    }

    /// Not one connection, not one request round the mirror.
    #[track_caller]
    pub(crate) fn assert_nobody_went_round(&self, what: &str) {
        let round = self.by(Caller::Client);
        assert!(round.is_empty(), "{what}: went round the mirror:\n{}", listed(&round));
        for entry in self.by(Caller::Mirror).iter().filter(|entry| !entry.is_connection()) {
            assert!(
                entry.user_agent.starts_with("sig-repo/"),
                "{what}: not the mirror at the mirror's address: {entry}"
            );
            assert!(!(entry.authorized && entry.host == BLOB_HOST), "{what}: a token went to the blobs' host: {entry}");
        }
    }
}

impl Entry {
    fn connection(caller: Caller) -> Self {
        Self { caller, host: String::new(), line: CONNECTED.into(), user_agent: String::new(), authorized: false }
    }

    fn is_connection(&self) -> bool {
        self.line == CONNECTED
    }

    /// Whether it leaves everything as it is.
    pub(crate) fn reads(&self) -> bool {
        self.is_connection() || self.line.starts_with("GET ") || self.line.starts_with("HEAD ")
    }

    /// A request for a token that says who asks.
    pub(crate) fn is_login(&self) -> bool {
        self.host == TOKEN_HOST && self.authorized
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} {} {} ({})", self.caller, self.host, self.line, self.user_agent)
    }
}

pub(crate) fn listed(entries: &[Entry]) -> String {
    entries.iter().map(|entry| format!("  {entry}\n")).collect()
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, caller: Caller, shared: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        shared.note(Entry::connection(caller));
        if caller == Caller::Mirror && *shared.fault.lock() == Some(Fault::Reset) {
            // Closed with nothing lingering, the kernel sends a reset and not an orderly end.
            stream.set_zero_linger().unwrap();
        }
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| registry::answer(&shared, caller, request));
            // An error is a client that left, or a fault that was asked for.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Shared {
    fn note(&self, entry: Entry) {
        self.log.lock().push(entry);
    }

    fn fault_for(&self, caller: Caller) -> Option<Fault> {
        (*self.fault.lock()).filter(|_| caller == Caller::Mirror)
    }
}

const TOKEN_HOST: &str = "auth.docker.io";
const BLOB_HOST: &str = "production.cloudflare.docker.com";
const CONNECTED: &str = "connected";
/// Short, so that a run also crosses the end of a token's life.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
