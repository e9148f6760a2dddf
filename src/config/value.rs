//! The grammars of single values.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

use super::MaxAge;
use crate::telemetry::TrustedProxies;

/// A number and a unit, several of them added up, or `0`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest[..digits].parse::<u64>().ok()?;
        let unit = match rest.as_bytes().get(digits)? {
            b'd' => 86_400,
            b'h' => 3_600,
            b'm' => 60,
            b's' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty() && seconds <= MAX_SECONDS).then(|| Duration::from_secs(seconds))
}

/// Bytes, by the units of 1024 and those of 1000; `0` has none.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse::<u64>().ok()?;
    let unit = match text[digits..].trim_start() {
        "" if number == 0 => 1,
        "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit).filter(|bytes| *bytes <= i64::MAX as u64)
}

/// Of how many logs a careful signer has the signature in, at most.
pub(super) fn logs(text: &str) -> Option<usize> {
    text.parse().ok().filter(|logs| (1..=4).contains(logs))
}

/// Minutes, or `-1` for ever.
pub(super) fn max_age(text: &str) -> Option<MaxAge> {
    if text == "-1" {
        return Some(MaxAge::Forever);
    }
    let minutes = unsigned(text)?;
    (minutes <= MAX_SECONDS / 60).then(|| MaxAge::For(Duration::from_secs(minutes * 60)))
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn port(text: &str) -> Option<u16> {
    unsigned(text)?.try_into().ok()
}

/// `host:port`, where no host means every address, with another port if one is given.
pub(super) fn address(text: &str, port: Option<u16>) -> Option<SocketAddr> {
    let (host, own_port) = text.rsplit_once(':')?;
    let port = port.map_or_else(|| self::port(own_port), Some)?;
    if host.is_empty() {
        return Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(bare) = bare {
        return Some(SocketAddr::new(bare.parse::<Ipv6Addr>().ok()?.into(), port));
    }
    if host.contains(':') {
        return None;
    }
    (host, port).to_socket_addrs().ok()?.next()
}

/// Networks, separated by commas; an address alone is a network of one.
pub(super) fn networks(text: &str) -> Option<TrustedProxies> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let networks = entries.map(|entry| match entry.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => entry.parse().ok(),
    });
    networks.collect::<Option<Vec<_>>>().map(TrustedProxies::new)
}

/// Those of http and https, without user and password.
pub(super) fn urls(text: &str) -> Option<Vec<Url>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let is_plain = |url: &Url| {
        let has_scheme = matches!(url.scheme(), "http" | "https");
        has_scheme && url.host().is_some() && url.username().is_empty() && url.password().is_none()
    };
    entries.map(|entry| entry.parse().ok().filter(is_plain)).collect()
}

fn unsigned(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// A hundred years: added to any time of day that a clock can show, it is still a time.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("7d", Some(604_800)),
            ("30h", Some(108_000)),
            ("3d", Some(259_200)),
            ("15m", Some(900)),
            ("90s", Some(90)),
            ("1d12h", Some(129_600)),
            ("0", Some(0)),
            ("0d", Some(0)),
            ("", None),
            ("7", None),
            ("d", None),
            ("-7d", None),
            ("+7d", None),
            ("7 d", None),
            ("7w", None),
            ("7D", None),
            ("1.5h", None),
            ("7d3", None),
            ("7dé", None),
            ("99999999999999999999d", None),
            ("36601d", None),
        ] {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("20GiB", Some(20 << 30)),
            ("500MiB", Some(500 << 20)),
            ("10 GB", Some(10_000_000_000)),
            ("1TiB", Some(1 << 40)),
            ("7B", Some(7)),
            ("0", Some(0)),
            ("0GiB", Some(0)),
            ("", None),
            ("20", None),
            ("20G", None),
            ("20gib", None),
            ("-1GiB", None),
            ("1.5GiB", None),
            ("GiB", None),
            ("16777216TiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn ages_in_minutes() {
        assert_eq!(max_age("-1"), Some(MaxAge::Forever));
        assert_eq!(max_age("0"), Some(MaxAge::For(Duration::ZERO)));
        assert_eq!(max_age("15"), Some(MaxAge::For(Duration::from_secs(900))));
        for bad in ["", "-2", "+1", "1.5", "15m", "forever", "18446744073709551615"] {
            assert_eq!(max_age(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for (text, port, expected) in [
            (":8080", None, Some("[::]:8080")),
            (":8080", Some(9), Some("[::]:9")),
            ("127.0.0.1:5000", None, Some("127.0.0.1:5000")),
            ("127.0.0.1:5000", Some(9), Some("127.0.0.1:9")),
            ("[::1]:5000", None, Some("[::1]:5000")),
            ("::1:5000", None, None),
            ("8080", None, None),
            ("", None, None),
            (":", None, None),
            (":65536", None, None),
            (":http", None, None),
            ("[::1]", None, None),
        ] {
            assert_eq!(address(text, port), expected.map(|socket| socket.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn lists_of_networks() {
        let both = networks("10.0.0.0/8, 2001:db8::1").unwrap();
        assert!(both.contains("10.1.2.3".parse().unwrap()));
        assert!(both.contains("2001:db8::1".parse().unwrap()));
        assert!(!both.contains("2001:db8::2".parse().unwrap()));
        assert_eq!(networks(""), Some(TrustedProxies::default()));
        for bad in ["10.0.0.0/33", "10.0.0", "proxy.example", "10.0.0.0/8;10.1.0.0/16"] {
            assert_eq!(networks(bad), None, "{bad}");
        }
    }
}
