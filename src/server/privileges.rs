//! Giving up root, before any thread starts.
