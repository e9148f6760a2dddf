//! What the fuzz targets reach that has no other way in; in a build for fuzzing only.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use secrecy::ExposeSecret;
use url::Url;

use super::{
    CredentialsFailure, DockerConfigError, UpstreamError,
    answers::{self, ReferrersAnswer, TagsAnswer},
    challenge::{self, Challenge},
    credentials::{Contents, Credentials, Form, Found, ServerAddress, helpers_answer},
    redirects,
};
use crate::{clock::Clock, oci::Descriptor};

/// Whom somebody says that we are.
#[derive(Debug)]
pub enum Given {
    Nobody,
    /// The whole header.
    Basic(String),
    IdentityToken(String),
    /// Another program knows, asked under this name.
    Helper(String, String),
}

impl Given {
    fn of(credentials: Credentials) -> Self {
        match credentials.form {
            Form::Basic(header) => Self::Basic(header.to_str().expect("base64 is text").to_owned()),
            Form::IdentityToken(token) => Self::IdentityToken(token.expose_secret().to_owned()),
        }
    }
}

/// For the registry at this address.
pub fn docker_config(bytes: &[u8], remote: &Url) -> Result<Given, DockerConfigError> {
    Ok(match Contents::parse(bytes)?.of(&ServerAddress::of(remote)) {
        Found::Nothing => Given::Nobody,
        Found::Credentials(credentials) => Given::of(credentials),
        Found::Helper(helper, registry) => Given::Helper(helper.to_string(), registry),
    })
}

pub fn credential_helper(answer: &[u8]) -> Result<Given, CredentialsFailure> {
    Ok(helpers_answer(answer)?.map_or(Given::Nobody, Given::of))
}

/// Realm, service and scope of the one that is answered.
pub fn challenge(headers: &HeaderMap) -> Result<Vec<String>, UpstreamError> {
    Ok(match challenge::best(headers)? {
        Some(Challenge::Bearer { realm, service, scope }) => {
            [Some(realm), service, scope].into_iter().flatten().collect()
        }
        Some(Challenge::Basic) | None => Vec::new(),
    })
}

/// Of a list of tags.
pub fn next_page(headers: &HeaderMap) -> Option<String> {
    answers::next_page(&here(), headers, |name| matches!(name, "n" | "last"))
}

pub fn redirect(headers: &HeaderMap) -> Result<Url, UpstreamError> {
    redirects::target(&here(), headers)
}

pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    answers::retry_after(headers, &Clock::manual(Timestamp::UNIX_EPOCH))
}

pub fn tags(bytes: &[u8]) -> Result<Vec<String>, UpstreamError> {
    TagsAnswer::parse(bytes, None).map(|answer| answer.tags)
}

pub fn referrers(bytes: &[u8]) -> Result<Vec<Descriptor>, UpstreamError> {
    ReferrersAnswer::parse(bytes, None, None).map(|answer| answer.manifests)
}

fn here() -> Url {
    "https://registry.example/v2/app/tags/list?n=2".parse().expect("a URL")
}
