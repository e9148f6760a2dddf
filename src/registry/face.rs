use std::{str::FromStr, time::Duration};

use http::{HeaderMap, HeaderValue, Response, header, uri::Authority};

use crate::oci::{ErrorCode, RegistryName};

use super::{
    refusal,
    respond::{self, Body},
};

/// The names under which clients mean us when they say registry: there we ask who they are, and show
/// them what their account may see. Under every other name we stand in for another registry, and a
/// mirror that asks for credentials is walked round, and may be sent the password of somebody's account
/// there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryHosts(Vec<String>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a host, with a port or without")]
pub struct RegistryHostsError;

impl RegistryHosts {
    /// Those that can stand in the name of an image.
    pub fn names(&self) -> Vec<RegistryName> {
        self.0.iter().filter_map(|name| name.parse().ok()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a request with these headers means us by one of them.
    pub(super) fn named_by(&self, headers: &HeaderMap) -> bool {
        !self.is_empty()
            && headers.get(header::HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| self.has(host))
    }

    /// Whether `host`, as a request has it, is one of them.
    fn has(&self, host: &str) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(without_default_port(host)))
    }
}

/// Names separated by commas.
impl FromStr for RegistryHosts {
    type Err = RegistryHostsError;

    fn from_str(text: &str) -> Result<Self, RegistryHostsError> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let parsed = names.map(|name| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
            let authority = name.parse::<Authority>().map_err(|_| RegistryHostsError)?;
            let has_port = authority.as_str().len() > authority.host().len();
            if !name.bytes().all(plain) || has_port && authority.port_u16().is_none() {
                return Err(RegistryHostsError);
            }
            Ok(without_default_port(name).to_owned())
        });
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }
}

/// A client leaves out the port that its scheme implies, and which scheme that is we may not see.
fn without_default_port(host: &str) -> &str {
    [":443", ":80"].into_iter().find_map(|port| host.strip_suffix(port)).unwrap_or(host)
}

/// Who are you? The realm is a constant: nothing of a request is in a challenge. It is the first answer that
/// podman gets, and by it decides where signatures are kept.
pub(super) fn challenge() -> Response<Body> {
    let mut response = refusal::error(ErrorCode::Unauthorized, "sign in with the user and the password of an account");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sig-repo\""));
    respond::support_signatures(&mut response);
    response
}

/// Not now: too many wrong passwords came from where this one does. Only who would be challenged is told so; to
/// a mirror's client credentials are then as good as none.
pub(super) fn too_many(retry_after: Duration) -> Response<Body> {
    let mut response = refusal::error(ErrorCode::TooManyRequests, "too many wrong passwords came from your address");
    // Up to the next whole second.
    let seconds = retry_after.as_millis().div_ceil(1000);
    let seconds = HeaderValue::from_str(&seconds.to_string()).expect("digits are a header's value");
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_case_and_without_the_port_that_goes_without_saying() {
        let hosts: RegistryHosts =
            "Registry.example, registry.example:5000,[::1]:8080,other.example:443".parse().unwrap();
        for host in [
            "registry.example",
            "REGISTRY.example:443",
            "registry.example:80",
            "registry.example:5000",
            "[::1]:8080",
            "other.example",
        ] {
            assert!(hosts.has(host), "{host}");
        }
        for host in
            ["mirror.example", "registry.example:5001", "registry.example.", "xregistry.example", "[::1]", "", ":443"]
        {
            assert!(!hosts.has(host), "{host}");
        }
        assert!(!RegistryHosts::default().has(""));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        assert_eq!("".parse(), Ok(RegistryHosts::default()));
        for text in [
            "https://registry.example",
            "registry.example/x",
            "user@registry.example",
            "a b",
            "*.example",
            "a:b",
            "a:",
            "a:99999",
        ] {
            assert_eq!(text.parse::<RegistryHosts>(), Err(RegistryHostsError), "{text}");
        }
    }
}
