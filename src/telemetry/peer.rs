use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, header};
use ipnet::{IpNet, Ipv4Net};

/// Who sent a request: `server` says it of each, and the API finds it in the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection; an IPv4-mapped address as the IPv4 address it is.
    pub socket: SocketAddr,
    /// Who asked: what a trusted proxy says, else the other end of the connection.
    pub client: IpAddr,
    /// Something stands between us and the client, so that a reason phrase may not arrive.
    pub behind_hop: bool,
}

/// The addresses whose word about a client's address is taken. Empty: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().map(canonical_network).collect())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

impl Peer {
    /// A peer that nothing stands before, whatever its requests say.
    pub fn direct(socket: SocketAddr) -> Self {
        let socket = SocketAddr::new(socket.ip().to_canonical(), socket.port());
        Self { socket, client: socket.ip(), behind_hop: false }
    }

    /// The sender of a request with these headers. `X-Forwarded-For` is read from the right, and
    /// only as far as each hop that vouches for the next is trusted.
    pub fn resolve(socket: SocketAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> Self {
        let direct = Self::direct(socket);
        let through_proxy = trusted.contains(direct.client);
        let client = if through_proxy { forwarded_for(direct.client, headers, trusted) } else { direct.client };
        Self { client, behind_hop: through_proxy || headers.keys().any(is_hop_header), ..direct }
    }
}

/// What one subscriber has of addresses: one of IPv4, a whole network of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !0 << (128 - IPV6_PREFIX))),
    }
}

fn forwarded_for(proxy: IpAddr, headers: &HeaderMap, trusted: &TrustedProxies) -> IpAddr {
    let mut client = proxy;
    let lines = headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>();
    let entries = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries.take(MAX_HOPS) {
        // What is no address is nobody's word: the last hop that we know of is the client.
        let Some(address) = parse_address(entry) else { break };
        client = address;
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// An address as proxies write it: bare, or with a port, in brackets then if it is IPv6.
fn parse_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok()?;
    Some(IpAddr::to_canonical(&address))
}

fn is_hop_header(name: &HeaderName) -> bool {
    name == header::VIA || name == header::FORWARDED || name.as_str().starts_with("x-forwarded-")
}

fn canonical_network(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => IpNet::V4(Ipv4Net::new(v4, prefix).expect("128 - 96 is at most 32")),
        _ => network,
    }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// More entries than this are not looked at: no chain of proxies is that long.
const MAX_HOPS: usize = 32;

const IPV6_PREFIX: u32 = 56;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(socket: &str, headers: &[(&'static str, &'static str)], trusted: &[&str]) -> Peer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted = TrustedProxies::new(trusted.iter().map(|network| network.parse().unwrap()));
        Peer::resolve(socket.parse().unwrap(), &map, &trusted)
    }

    #[test]
    fn forwarded_addresses_of_untrusted_peers_are_ignored() {
        let peer = peer("192.0.2.1:999", &[("x-forwarded-for", "10.0.0.1")], &["127.0.0.1/32"]);
        assert_eq!(peer.client.to_string(), "192.0.2.1");
        assert!(peer.behind_hop, "yet the reason phrase may be lost there");
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        for (entries, client) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            (&["6.6.6.6, 198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            (&["6.6.6.6", "198.51.100.7", "10.1.2.3"], "198.51.100.7"),
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&["198.51.100.7:4711"], "198.51.100.7"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["198.51.100.7, unknown"], "10.0.0.1"),
            (&["198.51.100.7, "], "10.0.0.1"),
            (&[""], "10.0.0.1"),
        ] {
            let headers = entries.iter().map(|entry| ("x-forwarded-for", *entry)).collect::<Vec<_>>();
            assert_eq!(peer("10.0.0.1:1", &headers, &["10.0.0.0/8"]).client.to_string(), client, "{entries:?}");
        }
    }

    #[test]
    fn ipv4_mapped_addresses_match_their_networks_both_ways() {
        let forwarded = [("x-forwarded-for", "198.51.100.7")];
        for (socket, trusted) in [
            ("[::ffff:10.0.0.1]:1", "10.0.0.0/8"),
            ("10.0.0.1:1", "::ffff:10.0.0.0/104"),
            ("[::ffff:10.0.0.1]:1", "::ffff:10.0.0.0/104"),
        ] {
            assert_eq!(peer(socket, &forwarded, &[trusted]).client.to_string(), "198.51.100.7", "{socket} {trusted}");
        }
        let mapped = peer("[::ffff:192.0.2.1]:1", &[], &[]);
        assert_eq!((mapped.socket.to_string().as_str(), mapped.behind_hop), ("192.0.2.1:1", false));
    }

    #[test]
    fn every_sign_of_a_hop_is_seen() {
        for name in ["via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
            assert!(peer("192.0.2.1:1", &[(name, "x")], &[]).behind_hop, "{name}");
        }
        assert!(peer("10.0.0.1:1", &[], &["10.0.0.0/8"]).behind_hop);
        assert!(!peer("192.0.2.1:1", &[("x-real-ip", "1.1.1.1")], &[]).behind_hop);
    }
}
