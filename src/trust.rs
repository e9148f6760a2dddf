//! (module trust)
