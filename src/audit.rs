//! (module audit)
