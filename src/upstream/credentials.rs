//! Whom we are to an upstream: credentials that stand in the settings, in a file of docker's, or that a
//! `docker-credential-…` program gives.
//!
//! They are kept in memory only. That they cannot be had is never taken for there being none: without
//! them an upstream is asked only where somebody said that there are none.

mod docker_config;
mod object;
mod program;
mod source;

use std::fmt;

use aws_lc_rs::digest;
use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

pub use self::docker_config::{DockerConfig, DockerConfigError};
pub use self::program::{CredentialHelper, HelperEnvironment, NoSuchHelper};
#[cfg(fuzzing)]
pub(super) use self::{docker_config::Contents, program::parse as helpers_answer};
pub(super) use self::{
    docker_config::{Found, ServerAddress, WatchedDockerConfig},
    program::{Program, Terms},
    source::{Asked, FromDockerConfig, Source},
};

/// The credentials of one upstream.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) form: Form,
    pub(super) fingerprint: Fingerprint,
}

/// Tells credentials apart where the credentials themselves must not lie around.
pub(super) type Fingerprint = [u8; 32];

#[derive(Clone)]
pub(super) enum Form {
    /// User and password, as the header that carries them.
    Basic(HeaderValue),
    /// For the token service alone, which gives tokens for it.
    IdentityToken(SecretString),
}

/// Why there is no telling with which credentials to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsFailure {
    HelperMissing,
    HelperNotStarted,
    HelperTimeout,
    HelperTooLarge,
    HelperMalformed,
    HelperFailed {
        /// None: a signal ended it.
        code: Option<i32>,
    },
    /// The registry wants a password.
    IdentityTokenForBasic,
    /// The token service does not speak OAuth 2.
    IdentityTokenNotTaken,
}

impl Credentials {
    /// None: this is no user name.
    pub(super) fn of(username: &str, secret: &SecretString) -> Option<Self> {
        let pair = format!("{username}:{}", secret.expose_secret());
        let form = match username {
            IDENTITY_TOKEN => Form::IdentityToken(secret.clone()),
            // RFC 7617: the first colon ends the user name, so one inside it would move the border.
            _ if username.contains(':') => return None,
            _ => {
                let mut basic = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(&pair))).ok()?;
                basic.set_sensitive(true);
                Form::Basic(basic)
            }
        };
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, pair.as_bytes()).as_ref());
        Some(Self { form, fingerprint })
    }
}

impl fmt::Display for CredentialsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HelperMissing => f.write_str("the helper is not there"),
            Self::HelperNotStarted => f.write_str("the helper cannot be started"),
            Self::HelperTimeout => f.write_str("the helper did not answer in time"),
            Self::HelperTooLarge => f.write_str("the helper's answer is too large"),
            Self::HelperMalformed => f.write_str("the helper's answer is malformed"),
            Self::HelperFailed { code: Some(code) } => write!(f, "the helper ended with code {code}"),
            Self::HelperFailed { code: None } => f.write_str("the helper was ended by a signal"),
            Self::IdentityTokenForBasic => f.write_str("a password is wanted, and there is an identity token"),
            Self::IdentityTokenNotTaken => f.write_str("its token service takes no identity tokens"),
        }
    }
}

/// In the place of a user name, as docker and its helpers have it: the secret is an identity token.
const IDENTITY_TOKEN: &str = "<token>";
