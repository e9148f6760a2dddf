use std::sync::Arc;

use crate::upstream::UpstreamError;

/// Something that a decision lets out.
///
/// Only the parent module makes one, so whoever asks for an `Admitted<Manifest>` cannot be handed a
/// manifest that nobody decided on.
#[derive(Debug, Clone)]
pub struct Admitted<T> {
    content: T,
    /// Why it was not verified, where it was let through all the same.
    warning: Option<Arc<str>>,
    stale: Option<UpstreamError>,
}

impl<T> Admitted<T> {
    pub(super) fn new(content: T, warning: Option<Arc<str>>) -> Self {
        Self { content, warning, stale: None }
    }

    /// The upstream could not be asked whether it is so still.
    pub(super) fn or_stale(self, stale: Option<UpstreamError>) -> Self {
        Self { stale, ..self }
    }

    pub fn content(&self) -> &T {
        &self.content
    }

    pub fn into_content(self) -> T {
        self.content
    }

    /// Why the upstream could not be asked whether it is so still.
    pub fn stale(&self) -> Option<&UpstreamError> {
        self.stale.as_ref()
    }

    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}
