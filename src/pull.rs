//! (module pull)
