//! What the fuzz targets reach that has no other way in; in a build for fuzzing only.

use http::Request;

use super::route::{Route, SignaturesRoute, Target};
use crate::oci::{RegistryName, Repository};

/// Where a path leads.
#[derive(Debug)]
pub struct Routed {
    pub repository: Repository,
    /// Another path of the same repository, as the client is sent there.
    pub path: String,
}

/// The one place that a request is for, if it is for any.
pub fn routed(request: &Request<()>, canonical: &RegistryName) -> Vec<Routed> {
    let of_target =
        |target: &Target<'_>| Routed { repository: target.repository.clone(), path: target.path("tags/list") };
    let route = Route::parse(request, canonical).ok();
    let target = route.as_ref().and_then(|route| match route {
        Route::Manifest { target, .. }
        | Route::Blob { target, .. }
        | Route::Tags { target, .. }
        | Route::Referrers { target, .. }
        | Route::StartUpload { target, .. }
        | Route::Upload { target, .. }
        | Route::PutManifest { target, .. } => Some(target),
        Route::Base | Route::TooOld | Route::Discover => None,
    });
    let signatures = SignaturesRoute::parse(request, canonical).ok();
    target.into_iter().chain(signatures.as_ref().map(|route| &route.target)).map(of_target).collect()
}
