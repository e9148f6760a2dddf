//! (module policy)
