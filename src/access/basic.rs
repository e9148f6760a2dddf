//! HTTP Basic for the one account there is.
//!
//! The password is held only as a keyed hash, under a key that lives as long as the process, and what
//! a client presents is compared in constant time. This is no key derivation for a file: the hash
//! never leaves the memory in which the configuration once stood.

use std::{fmt, net::IpAddr, time::Duration};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac, rand::SystemRandom};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

use crate::clock::Clock;

use super::guesses::{Guesses, Tried};

/// Longer than any user and password that are let in by the configuration.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The account that `AUTH_USER` and `AUTH_PASSWORD` describe.
pub struct BasicAuth {
    user: String,
    key: hmac::Key,
    expected: hmac::Tag,
    guesses: Guesses,
    clock: Clock,
}

/// What a request shows of who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No user and password.
    Nothing,
    Account(&'a str),
    Wrong,
    /// Too many from that address were wrong lately, so these were not looked at.
    TooMany {
        retry_after: Duration,
    },
}

impl BasicAuth {
    /// Fails only where the machine has no randomness to give.
    pub fn new(user: &str, password: &str, clock: Clock) -> Result<Self, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?;
        let expected = keyed_hash(&key, user.as_bytes(), password.as_bytes());
        Ok(Self { user: user.to_owned(), key, expected, guesses: Guesses::new(), clock })
    }

    /// Whose user and password these headers carry, in a request from that address.
    pub fn presented(&self, headers: &HeaderMap, from: IpAddr) -> Presented<'_> {
        let Some(presented) = self.keyed(headers) else { return Presented::Nothing };
        let presented = presented.as_ref();
        // Of the same credentials only, and telling nothing of them: the key is the process's own.
        let hash = presented.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        let is_right = || verify_slices_are_equal(presented, self.expected.as_ref()).is_ok();
        match self.guesses.attempt(from, self.clock.instant(), hash, is_right) {
            Tried::Right => Presented::Account(&self.user),
            Tried::Wrong => Presented::Wrong,
            Tried::TooMany { retry_after } => Presented::TooMany { retry_after },
        }
    }

    fn keyed(&self, headers: &HeaderMap) -> Option<hmac::Tag> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_HEADER_BYTES {
            return None;
        }
        let presented = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let colon = presented.iter().position(|byte| *byte == b':')?;
        Some(keyed_hash(&self.key, &presented[..colon], &presented[colon + 1..]))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Both parts under one hash, so that nothing tells which of them was wrong; the length keeps
/// `ab:c` and `a:bc` apart.
fn keyed_hash(key: &hmac::Key, user: &[u8], password: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&(user.len() as u64).to_be_bytes());
    context.update(user);
    context.update(password);
    context.sign()
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    fn basic(credentials: &str) -> HeaderMap {
        headers(&format!("Basic {}", BASE64_STANDARD.encode(credentials)))
    }

    fn auth() -> BasicAuth {
        BasicAuth::new("admin", "secure:pass", Clock::manual("2026-11-26T00:00:00Z".parse().unwrap())).unwrap()
    }

    /// As from an address that was never heard of.
    fn presented(headers: &HeaderMap) -> Presented<'static> {
        match auth().presented(headers, IpAddr::from([192, 0, 2, 1])) {
            Presented::Account("admin") => Presented::Account("admin"),
            Presented::Account(other) => panic!("{other}"),
            Presented::Nothing => Presented::Nothing,
            Presented::Wrong => Presented::Wrong,
            Presented::TooMany { retry_after } => Presented::TooMany { retry_after },
        }
    }

    #[test]
    fn only_the_right_user_with_the_right_password_is_the_account() {
        for right in ["Basic YWRtaW46c2VjdXJlOnBhc3M=", "bASIC YWRtaW46c2VjdXJlOnBhc3M="] {
            assert_eq!(presented(&headers(right)), Presented::Account("admin"), "{right}");
        }
        for wrong in ["admin:secure", "admin:", "admi:nsecure:pass", "Admin:secure:pass", ":", "x:secure:pass"] {
            assert_eq!(presented(&basic(wrong)), Presented::Wrong, "{wrong}");
        }
        for nothing in ["admin", ""] {
            assert_eq!(presented(&basic(nothing)), Presented::Nothing, "{nothing}");
        }
        for wrong in ["Basic", "Basic ", "Basic !", "Bearer YWRtaW46c2VjdXJlOnBhc3M=", "YWRtaW46c2VjdXJlOnBhc3M="] {
            assert_eq!(presented(&headers(wrong)), Presented::Nothing, "{wrong}");
        }
        assert_eq!(presented(&HeaderMap::new()), Presented::Nothing);
        let mut two = basic("admin:secure:pass");
        two.append(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        assert_eq!(presented(&two), Presented::Nothing, "two credentials are none");
    }

    #[test]
    fn whoever_guesses_is_told_no_more_after_some_tries() {
        let (auth, from) = (auth(), IpAddr::from([192, 0, 2, 1]));
        let guess = |password: &str| auth.presented(&basic(&format!("admin:{password}")), from);
        let wrong = (0..20).map(|number| guess(&number.to_string())).filter(|tried| *tried == Presented::Wrong).count();
        assert_eq!(wrong, 10);
        assert!(matches!(guess("secure:pass"), Presented::TooMany { .. }));
        let elsewhere = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(auth.presented(&basic("admin:secure:pass"), elsewhere), Presented::Account("admin"));
    }

    #[test]
    fn the_password_is_never_printed() {
        let printed = format!("{:?}", auth());
        assert_eq!(printed, r#"BasicAuth { user: "admin", .. }"#);
    }
}
