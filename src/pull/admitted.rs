use std::sync::Arc;

/// Something that a decision lets out.
///
/// Only the parent module makes one, so whoever asks for an `Admitted<Manifest>` cannot be handed a
/// manifest that nobody decided on.
#[derive(Debug, Clone)]
pub struct Admitted<T> {
    content: T,
    /// Why it was not verified, where it was let through all the same.
    warning: Option<Arc<str>>,
}

impl<T> Admitted<T> {
    pub(super) fn new(content: T, warning: Option<Arc<str>>) -> Self {
        Self { content, warning }
    }

    pub fn content(&self) -> &T {
        &self.content
    }

    pub fn into_content(self) -> T {
        self.content
    }

    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}
