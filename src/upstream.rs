//! (module upstream)
