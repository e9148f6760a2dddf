//! A private sigstore of the real servers, and real cosign that signs with it: a certificate authority, both
//! generations of the log, a timestamp authority and a certificate log, with an OpenID Connect issuer of the test's own.
//!
//! No Debian has the servers. `tests/run --all` compiles them, and `tests/run` leaves the tests of this module out.
//!
//! # What the servers taught
//!
//! - The timestamp authority opens port 2112 on all addresses for its metrics and ends when it is taken; the first
//!   Rekor opens it too and does not mind. So the one is started first, and the others have their metrics elsewhere.
//! - The first Rekor asks for Redis unless both retrieval and search are off.
//! - The second Rekor answers when an entry is in a published checkpoint: by its defaults that is 10 s a signature.
//! - The fallback tag of a registry without referrers lists a bundle under a type that is not its own.

use std::path::PathBuf;

use crate::world::World;

mod artifacts;
mod cosign;
mod database;
mod fixtures;
mod forgeries;
mod issuer;
mod keys;
mod pulls;
mod servers;
mod trust;

/// One is enough for all tests: it is part of the world.
pub(crate) struct Lab {
    directory: PathBuf,
    /// What Fulcio signs with.
    authority: rcgen::Issuer<'static, rcgen::KeyPair>,
    issuer: issuer::Issuer,
    servers: servers::Servers,
}

impl Lab {
    pub(crate) fn start(world: &World) -> Self {
        let directory = world.scratch.join("lab");
        let authority = keys::make(world, &directory);
        let issuer = issuer::Issuer::start(&world.runtime);
        let servers = servers::Servers::start(world, &directory);
        let lab = Self { directory, authority, issuer, servers };
        lab.write_trusted_root(world);
        lab
    }
}
