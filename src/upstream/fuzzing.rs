//! What the fuzz targets reach that has no other way in; in a build for fuzzing only.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use url::Url;

use super::{
    UpstreamError,
    answers::{self, ReferrersAnswer, TagsAnswer},
    challenge::{self, Challenge},
    redirects,
};
use crate::{clock::Clock, oci::Descriptor};

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
