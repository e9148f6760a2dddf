//! The port: accepts connections, speaks HTTP/1.1 (in TLS if configured), bounds what a peer may cost,
//! answers for the process itself (health, metrics), and drains.
//!
//! It knows nothing of registries or signatures: what is asked of them is answered by the service it
//! is given. It never challenges and never redirects.

mod connection;
mod drain;
mod health;
mod layers;
mod listener;
pub mod open_files;
mod pinned;
mod places;
pub mod privileges;
mod stall;
mod tls;
mod wire;

use std::{net::SocketAddr, time::Duration};

use http::Request;
use hyper::body::Incoming;

pub use self::{
    drain::Signals,
    health::{Health, Readiness},
    layers::Layers,
    listener::{Listener, ListenerError},
    tls::{Tls, TlsError},
};
use crate::telemetry::{Peer, TrustedProxies};

#[derive(Clone, Debug)]
pub struct Config {
    pub addr: SocketAddr,
    /// Native TLS, read and checked.
    pub tls: Option<Tls>,
    pub trusted_proxies: TrustedProxies,
    pub limits: Limits,
}

/// A request, and who sent it: what the service of a port is called with.
#[derive(Debug)]
pub struct Received {
    pub request: Request<Incoming>,
    pub peer: Peer,
}

/// What one peer, and all of them together, may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all; from one address, unless it is a trusted proxy's, half as many.
    pub connections: usize,
    /// For a request's head, from its first byte to its last; for a TLS handshake too.
    pub head: Duration,
    /// A connection on which nothing is asked.
    pub idle: Duration,
    /// Of that, how long it keeps the memory that its last request took, if this had no body.
    pub rest: Duration,
    /// For the body of a request, and whatever is done with it until the answer begins.
    pub body: Duration,
    /// A peer that takes not one byte of what it asked for.
    pub stall: Duration,
    /// From the signal until the exit.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            rest: Duration::from_millis(200),
            body: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

impl Limits {
    fn until_rest(&self) -> Duration {
        self.rest.min(self.idle)
    }
}

/// The most of a request's head; anything more is 431.
const HEAD_BYTES: usize = 32 * 1024;

/// The most that is read or written ahead on a connection.
const BUFFER_BYTES: usize = 64 * 1024;
