//! Which hosts are reached by a proxy, as machines say it to all their programs.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;

use super::connector::Endpoint;

/// The proxies of both schemes, and the hosts that are reached without.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    pub http: Option<Proxy>,
    pub https: Option<Proxy>,
    pub without: NoProxy,
}

/// A proxy, without what it asks for in its URL.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub(super) uri: Uri,
    pub(super) endpoint: Endpoint,
    pub(super) authorization: Option<HeaderValue>,
}

/// `NO_PROXY`, by the grammar of Go's `httpproxy`, which the clients of registries have.
#[derive(Debug, Clone, Default)]
pub struct NoProxy(Vec<Without>);

#[derive(Debug, Clone)]
enum Without {
    Everything,
    Network(IpNet),
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// `domain` begins with a dot; `itself`: also what has nothing before it.
    Domain {
        domain: String,
        itself: bool,
        port: Option<u16>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected http://host:port or https://host:port")]
pub struct NoSuchProxy;

impl Proxies {
    /// None: the host is reached directly, as this one always is.
    pub(super) fn of(&self, scheme: Option<&str>, endpoint: &Endpoint) -> Option<&Proxy> {
        let proxy = match scheme {
            Some("https") => self.https.as_ref(),
            _ => self.http.as_ref(),
        };
        proxy.filter(|_| !is_this_host(endpoint) && !self.without.holds(endpoint))
    }
}

impl FromStr for Proxy {
    type Err = NoSuchProxy;

    /// Without a scheme it is one of http, as curl and Go have it.
    fn from_str(text: &str) -> Result<Self, NoSuchProxy> {
        let text = text.trim();
        let spelt = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&spelt).map_err(|_| NoSuchProxy)?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_bare {
            return Err(NoSuchProxy);
        }
        let authorization = authorization(&url);
        url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| NoSuchProxy)?;
        let uri = url.as_str().parse().map_err(|_| NoSuchProxy)?;
        Ok(Self { uri, endpoint: Endpoint::of(&url).ok_or(NoSuchProxy)?, authorization })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

fn authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl NoProxy {
    /// Entries separated by commas, and those among them that mean nothing.
    pub fn parse(list: &str) -> (Self, Vec<String>) {
        let (mut entries, mut meaningless) = (Vec::new(), Vec::new());
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match Without::parse(&entry.to_ascii_lowercase()) {
                Some(without) => entries.push(without),
                None => meaningless.push(entry.to_owned()),
            }
        }
        (Self(entries), meaningless)
    }

    fn holds(&self, endpoint: &Endpoint) -> bool {
        let address = endpoint.host().parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.0.iter().any(|without| without.holds(endpoint, address))
    }
}

impl Without {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = entry.parse::<IpNet>() {
            return Some(Self::Network(network));
        }
        let (host, port) = match entry.rsplit_once(':') {
            _ if entry.parse::<IpAddr>().is_ok() || entry.ends_with(']') => (entry, None),
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Address { address: address.to_canonical(), port });
        }
        let below = host.strip_prefix('*').unwrap_or(host);
        let name = below.strip_prefix('.').unwrap_or(below).trim_end_matches('.');
        let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_of_a_name);
        let is_name = name.split('.').all(is_label) && (below.len() == host.len() || below.starts_with('.'));
        is_name.then(|| Self::Domain {
            domain: format!(".{name}"),
            itself: below == host && !below.starts_with('.'),
            port,
        })
    }

    fn holds(&self, endpoint: &Endpoint, asked: Option<IpAddr>) -> bool {
        let at = |port: &Option<u16>| port.is_none_or(|port| port == endpoint.port());
        match self {
            Self::Everything => true,
            Self::Network(network) => asked.is_some_and(|asked| network.contains(&asked)),
            Self::Address { address, port } => asked == Some(*address) && at(port),
            Self::Domain { domain, itself, port } => {
                let host = endpoint.host().trim_end_matches('.').to_ascii_lowercase();
                at(port) && (host.ends_with(domain) || (*itself && host == domain[1..]))
            }
        }
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn is_this_host(endpoint: &Endpoint) -> bool {
    endpoint.host().eq_ignore_ascii_case("localhost")
        || endpoint.host().parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_a_list_of_hosts_without_a_proxy_holds() {
        for (list, held, not_held) in [
            ("", "", "https://a.example http://10.0.0.1"),
            ("*", "https://a.example http://10.0.0.1 https://[2001:db8::1]", ""),
            ("a.example,*", "https://b.example", ""),
            (
                "example.com",
                "https://example.com https://EXAMPLE.com:444 https://a.b.example.com",
                "https://notexample.com https://example.com.evil",
            ),
            (".example.com", "https://a.example.com", "https://example.com"),
            ("*.example.com", "https://a.example.com", "https://example.com https://aexample.com"),
            ("example.com:8443", "https://example.com:8443 https://a.example.com:8443", "https://example.com"),
            ("example.com:443", "https://example.com", "http://example.com"),
            (" a.example , ,B.example ", "https://a.example https://b.example", "https://c.example"),
            ("example.com.", "https://example.com", ""),
            ("10.1.2.3", "http://10.1.2.3 http://10.1.2.3:5000 http://[::ffff:10.1.2.3]", "http://10.1.2.4"),
            ("10.1.2.3:5000", "http://10.1.2.3:5000", "http://10.1.2.3"),
            ("10.0.0.0/8", "http://10.1.2.3:5000 http://[::ffff:10.1.2.3]", "http://11.0.0.1 http://a10.example"),
            ("2001:db8::/32", "https://[2001:db8::7]", "https://[2001:db9::7]"),
            ("2001:db8::1", "https://[2001:db8::1]:5000", "https://[2001:db8::2]"),
            ("[2001:db8::1]", "https://[2001:db8::1]:5000", "https://[2001:db8::2]"),
            ("[2001:db8::1]:5000", "https://[2001:db8::1]:5000", "https://[2001:db8::1]"),
            ("registry", "http://registry:5000", "http://registry.example"),
        ] {
            let (without, meaningless) = NoProxy::parse(list);
            assert_eq!(meaningless, [""; 0], "{list}");
            for url in held.split_whitespace() {
                assert!(without.holds(&endpoint(url)), "{list} holds {url}");
            }
            for url in not_held.split_whitespace() {
                assert!(!without.holds(&endpoint(url)), "{list} does not hold {url}");
            }
        }
        let (_, meaningless) = NoProxy::parse("a.example,10.0.0.0/33,192.168.*,<local>,a..b,x:port,*a.example,:80");
        assert_eq!(meaningless, ["10.0.0.0/33", "192.168.*", "<local>", "a..b", "x:port", "*a.example", ":80"]);
    }

    #[test]
    fn each_scheme_has_its_proxy_and_this_host_none() {
        let proxies = Proxies {
            http: Some("proxy.example:3128".parse().unwrap()),
            https: Some("https://secure.example".parse().unwrap()),
            without: NoProxy::parse("internal.example").0,
        };
        for (url, expected) in [
            ("http://r.example", Some("http://proxy.example:3128/")),
            ("https://r.example", Some("https://secure.example/")),
            ("https://[2001:db8::1]", Some("https://secure.example/")),
            ("https://r.internal.example", None),
            ("https://localhost:5000", None),
            ("http://127.0.0.7", None),
            ("http://[::1]:5000", None),
            ("http://[::ffff:127.0.0.1]:5000", None),
        ] {
            let scheme = url.split(':').next();
            assert_eq!(proxies.of(scheme, &endpoint(url)).map(Proxy::to_string).as_deref(), expected, "{url}");
        }
        let only_http = Proxies { https: None, ..proxies };
        assert!(only_http.of(Some("https"), &endpoint("https://r.example")).is_none());
    }

    #[test]
    fn the_credentials_of_a_proxy_are_not_printed() {
        for (text, expected) in [
            ("http://team:hunter2@proxy.example:3128", "Basic dGVhbTpodW50ZXIy"),
            ("team:hunter2@proxy.example:3128/", "Basic dGVhbTpodW50ZXIy"),
            ("https://team:p%40ss%3Aw@proxy.example", "Basic dGVhbTpwQHNzOnc="),
            ("http://team@proxy.example", "Basic dGVhbTo="),
        ] {
            let proxy: Proxy = text.parse().unwrap();
            assert_eq!(proxy.authorization.as_ref().unwrap(), expected, "{text}");
            let shown = format!("{proxy} {proxy:?}");
            assert!(!shown.contains("team") && !shown.contains("hunter2") && !shown.contains("dGVh"), "{shown}");
        }
        assert!("proxy.example".parse::<Proxy>().unwrap().authorization.is_none());
        for bad in
            ["", "socks5://proxy.example", "http://", "http://proxy.example/path", "http://proxy.example?x", "a b"]
        {
            assert_eq!(bad.parse::<Proxy>().unwrap_err(), NoSuchProxy, "{bad}");
        }
    }
}
