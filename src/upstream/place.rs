//! One address of a registry that may have several, and how it is.

use std::time::Instant;

use url::Url;

use super::{
    UpstreamError,
    circuit::{Circuit, Circuits},
    tokens::Tokens,
};
use crate::oci::RegistryName;

/// Where a registry is, with the tokens that count there.
pub(super) struct Place {
    pub(super) remote: Url,
    pub(super) tokens: Tokens,
    pub(super) circuits: Circuits,
    /// Open while the other addresses are asked first.
    health: Circuit,
}

impl Place {
    pub(super) fn new(name: &RegistryName, remote: Url, tokens: Tokens) -> Self {
        let circuits = Circuits::to(name, &remote);
        Self { remote, tokens, circuits, health: Circuit::opening_at_once() }
    }

    /// Whether to ask here before the ailing ones; of an ailing one that may be well again, one request finds out.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        self.health.check(now).is_ok()
    }

    /// Whether it was well until now.
    pub(super) fn ails(&self, error: &UpstreamError, now: Instant) -> bool {
        self.health.fail(error, now)
    }

    pub(super) fn answers(&self) {
        self.health.close();
    }
}

/// Whether another address may do better: what failed is this one, and not what was asked for. What a server
/// cannot do at all, another of its kind cannot either, and each would want the same credentials.
pub(super) fn is_of_the_place(error: &UpstreamError) -> bool {
    let is_of_all = matches!(error, UpstreamError::Status { status: 501 | 505 } | UpstreamError::Credentials { .. });
    error.is_outage() && !is_of_all
}
