//! Which addresses an upstream's name may lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches, which decides who may have us connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Public,
    /// Ours or nobody's: only where the operator configured it.
    Private,
    /// Where clouds answer with a machine's credentials: never.
    Metadata,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        match (a, b, c) {
            (169, 254, _) => Self::Metadata,
            // RFC 6890 and the registries after it: this network, private, carrier-grade NAT, loopback,
            // protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved.
            (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..) => Self::Private,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        let embedded = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Self::of_v4(Ipv4Addr::new(a, b, c, d))
        };
        match segments {
            [0xfe80..=0xfebf, ..] | [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => Self::Metadata,
            // An IPv4 address in another dress reaches what it reaches undressed: mapped, translated
            // (SIIT), NAT64 and 6to4.
            [0, 0, 0, 0, 0, 0xffff, high, low]
            | [0, 0, 0, 0, 0xffff, 0, high, low]
            | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            | [0x2002, high, low, ..] => embedded(high, low),
            // A network's own NAT64 prefix hides the address behind an unknown length.
            [0x64, 0xff9b, ..] => Self::Private,
            // The old "compatible" form; `::` and `::1` are among them.
            [0, 0, 0, 0, 0, 0, high, low] => match embedded(high, low) {
                Self::Metadata => Self::Metadata,
                _ => Self::Private,
            },
            // Protocol assignments (Teredo among them), documentation.
            [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Private,
            [0x2000..=0x3fff, ..] => Self::Public,
            // Everything that is not global unicast: unique and site local, multicast, discard, future.
            _ => Self::Private,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_private_form_of_an_address_is_known() {
        for (reach, addresses) in [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 169.253.1.1 192.0.1.1 223.255.255.255 \
                 2606:4700::1111 2001:4860:4860::8888 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1",
            ),
            (
                Reach::Private,
                "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 172.16.0.1 172.31.255.255 \
                 192.0.0.8 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 \
                 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 \
                 ::ffff:10.1.2.3 ::ffff:0:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1:: 2002:c0a8:101::1 2001::1 \
                 2001:db8::1 3fff::1 fc00::1 fd12:3456::1 fec0::1 ff02::1 100::1 4000::1 e000::1",
            ),
            (
                Reach::Metadata,
                "169.254.169.254 169.254.0.1 fe80::1 febf::1 ::ffff:169.254.169.254 ::169.254.169.254 \
                 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::1 fd00:ec2::254",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }
}
