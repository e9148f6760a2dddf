//! Who may do what: the one account there is, and how a request shows that it is of that account.
//!
//! It knows credentials and nothing of what they open: who sees what is decided where it is served.

mod basic;
mod guesses;

pub use self::basic::{BasicAuth, NoRandomness, Presented};
