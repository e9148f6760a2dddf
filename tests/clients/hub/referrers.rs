//! The list of referrers of the distribution specification, which the registry behind the stand-in does not have.

use std::collections::BTreeMap;

use http::{Response, StatusCode, header::CONTENT_TYPE};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::registry::{Body, text};
use crate::images::digest_of;

/// Who refers to what, by repository and subject, since the stand-in took it.
#[derive(Default)]
pub(super) struct Referrers(Mutex<BTreeMap<(String, String), Vec<Value>>>);

impl Referrers {
    /// Other repositories are as if nobody had heard of such lists.
    pub(super) fn are_listed_in(repository: &str) -> bool {
        repository.strip_prefix(LISTED).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Enters a manifest, if it refers to another. Its subject.
    pub(super) fn enter(&self, repository: &str, manifest: &[u8]) -> Option<String> {
        let parsed: Value = serde_json::from_slice(manifest).ok()?;
        let subject = parsed["subject"]["digest"].as_str()?.to_owned();
        let mut entry = json!({
            "mediaType": parsed["mediaType"], "digest": digest_of(manifest), "size": manifest.len(),
            "artifactType": parsed["artifactType"],
        });
        if parsed["artifactType"].is_null() {
            entry["artifactType"] = parsed["config"]["mediaType"].clone();
        }
        if !parsed["annotations"].is_null() {
            entry["annotations"] = parsed["annotations"].clone();
        }
        self.0.lock().entry((repository.to_owned(), subject.clone())).or_default().push(entry);
        Some(subject)
    }

    pub(super) fn list(&self, repository: &str, subject: &str) -> Response<Body> {
        let listed = self.0.lock().get(&(repository.to_owned(), subject.to_owned())).cloned().unwrap_or_default();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
        let mut answer = text(StatusCode::OK, &index.to_string());
        answer.headers_mut().insert(CONTENT_TYPE, INDEX.parse().unwrap());
        answer
    }
}

/// The namespace whose repositories have such lists.
pub(crate) const LISTED: &str = "listed";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
