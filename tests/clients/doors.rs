//! The ways from a client to the mirror. A test puts something behind each that it uses: the mirror itself, or a hop
//! with the mirror behind it.

use std::net::{Ipv4Addr, SocketAddr};

use crate::world::{MIRROR_NAME, free_address};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Door {
    /// Plain http at a port of loopback, as in the quick start.
    Plain,
    /// Under the name that the examples in `deploy` use, at port 443: the mirror with a certificate of its own, or nginx.
    Tls,
    /// Plain http at an address of its own, where a hop answers that loses reason phrases.
    Dropping,
}

/// Where they are, whether or not anybody listens there.
pub(crate) struct Doors {
    plain: SocketAddr,
    dropping: SocketAddr,
}

impl Doors {
    pub(crate) fn new() -> Self {
        Self { plain: free_address(), dropping: free_address() }
    }

    /// To listen at.
    pub(crate) fn address(&self, door: Door) -> SocketAddr {
        match door {
            Door::Plain => self.plain,
            // The stand-in has the same port at other addresses.
            Door::Tls => (Ipv4Addr::LOCALHOST, 443).into(),
            Door::Dropping => self.dropping,
        }
    }

    /// As it stands in a reference.
    pub(crate) fn host(&self, door: Door) -> String {
        match door {
            Door::Plain | Door::Dropping => self.address(door).to_string(),
            Door::Tls => MIRROR_NAME.to_owned(),
        }
    }

    pub(crate) fn url(&self, door: Door) -> String {
        let scheme = if door.is_plain_http() { "http" } else { "https" };
        format!("{scheme}://{}", self.host(door))
    }
}

impl Door {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Dropping];

    pub(crate) fn is_plain_http(self) -> bool {
        self != Self::Tls
    }
}
