use std::{fmt, str::FromStr};

use url::Url;

/// Where a mirror is, as a client's setting says it: `http(s)://host[:port][/base]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) tls: bool,
    /// In brackets where it is an IPv6 address.
    host: String,
    pub(super) port: u16,
    /// What stands before `/v2/`: empty, or with a slash at its beginning and none at its end.
    base: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error("expected a URL such as https://mirror.example.com or http://mirror.example.com:8080/base")]
    NoUrl,
    #[error("a mirror is asked over http or https")]
    Scheme,
    #[error("a user or password in the URL is not sent by any client: leave it out")]
    Credentials,
    #[error("a mirror's URL has no query and no fragment")]
    Query,
}

impl Address {
    /// `host[:port]`, the port only where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, HTTPS) | (false, HTTP) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The host as certificates and resolvers know it.
    pub(super) fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// The same place over plain HTTP: on the same port, if one was named.
    pub(super) fn without_tls(&self) -> Self {
        let port = if self.port == HTTPS { HTTP } else { self.port };
        Self { tls: false, port, ..self.clone() }
    }

    /// The whole URL of a path that begins with a slash.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// From the pieces of a setting that names no scheme.
    pub(super) fn of_location(location: &str, tls: bool) -> Result<Self, AddressError> {
        format!("{}://{location}", if tls { "https" } else { "http" }).parse()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url: Url = text.parse().map_err(|_| AddressError::NoUrl)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            // `mirror.example.com:8080` reads as a scheme of that name.
            _ if text.contains("://") => return Err(AddressError::Scheme),
            _ => return Err(AddressError::NoUrl),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Query);
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(AddressError::NoUrl);
        };
        // Each client adds `/v2/` by itself, also where it was written down already.
        let path = url.path().trim_end_matches('/');
        let base = path.strip_suffix("/v2").unwrap_or(path).trim_end_matches('/');
        Ok(Self { tls, host: host.to_owned(), port, base: base.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority(), self.base)
    }
}

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_clients_read_it() {
        for (text, shown) in [
            ("http://mirror:8080", "http://mirror:8080"),
            ("https://Mirror.example.com:443/", "https://mirror.example.com"),
            ("http://mirror:80/v2/", "http://mirror"),
            ("http://mirror:8080/mm/", "http://mirror:8080/mm"),
            ("http://mirror:8080/mm/v2", "http://mirror:8080/mm"),
            ("http://[::1]:5000", "http://[::1]:5000"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown, "{text}");
        }
        let address: Address = "https://[::1]".parse().unwrap();
        assert_eq!((address.bare_host(), address.port, address.base()), ("::1", 443, ""));
        assert_eq!(address.url("/v2/"), "https://[::1]/v2/");
        assert_eq!(Address::of_location("m:5000/x", false).unwrap().to_string(), "http://m:5000/x");
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, error) in [
            ("mirror", AddressError::NoUrl),
            ("mirror:8080", AddressError::NoUrl),
            ("", AddressError::NoUrl),
            ("http://", AddressError::NoUrl),
            ("ftp://mirror", AddressError::Scheme),
            ("http://user:secret@mirror", AddressError::Credentials),
            ("http://mirror/?ns=docker.io", AddressError::Query),
            ("http://mirror/#top", AddressError::Query),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
