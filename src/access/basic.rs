//! HTTP Basic for the one account there is.
//!
//! The password is held only as a keyed hash, under a key that lives as long as the process, and what
//! a client presents is compared in constant time. This is no key derivation for a file: the hash
//! never leaves the memory in which the configuration once stood.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac, rand::SystemRandom};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};

/// Longer than any user and password that are let in by the configuration.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The account that `AUTH_USER` and `AUTH_PASSWORD` describe.
pub struct BasicAuth {
    user: String,
    key: hmac::Key,
    expected: hmac::Tag,
}

impl BasicAuth {
    /// Fails only where the machine has no randomness to give.
    pub fn new(user: &str, password: &str) -> Result<Self, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?;
        let expected = keyed_hash(&key, user.as_bytes(), password.as_bytes());
        Ok(Self { user: user.to_owned(), key, expected })
    }

    /// The account whose user and password these headers carry.
    pub fn account(&self, headers: &HeaderMap) -> Option<&str> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > MAX_HEADER_BYTES {
            return None;
        }
        let presented = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let colon = presented.iter().position(|byte| *byte == b':')?;
        let presented = keyed_hash(&self.key, &presented[..colon], &presented[colon + 1..]);
        verify_slices_are_equal(presented.as_ref(), self.expected.as_ref()).ok()?;
        Some(&self.user)
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

    #[test]
    fn only_the_right_user_with_the_right_password_is_the_account() {
        let auth = BasicAuth::new("admin", "secure:pass").unwrap();
        assert_eq!(auth.account(&basic("admin:secure:pass")), Some("admin"));
        assert_eq!(auth.account(&headers("bASIC YWRtaW46c2VjdXJlOnBhc3M=")), Some("admin"));
        for wrong in
            ["admin:secure", "admin:", "admin", "admi:nsecure:pass", "Admin:secure:pass", ":", "", "x:secure:pass"]
        {
            assert_eq!(auth.account(&basic(wrong)), None, "{wrong}");
        }
        for wrong in ["Basic", "Basic ", "Basic !", "Bearer YWRtaW46c2VjdXJlOnBhc3M=", "YWRtaW46c2VjdXJlOnBhc3M="] {
            assert_eq!(auth.account(&headers(wrong)), None, "{wrong}");
        }
        assert_eq!(auth.account(&HeaderMap::new()), None);
        let mut two = basic("admin:secure:pass");
        two.append(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        assert_eq!(auth.account(&two), None, "two credentials are none");
    }

    #[test]
    fn the_password_is_never_printed() {
        let printed = format!("{:?}", BasicAuth::new("admin", "secure-pass").unwrap());
        assert_eq!(printed, r#"BasicAuth { user: "admin", .. }"#);
    }
}
