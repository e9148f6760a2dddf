//! What a repository of The Update Framework (TUF) holds now, by the client workflow of its specification
//! (version 1.0, section 5).
//!
//! Pure: [`TufUpdate`] says which file it wants next, and is given its bytes; the time came in at the
//! beginning. Fetching is `upstream`'s, keeping [`TufState`] and installing what was found is `cli`'s.
//! Only what the top-level `targets` role lists is found: delegations are not followed, and sigstore's
//! repositories list their trusted root there.

mod error;
mod key;
mod metadata;
mod state;
#[cfg(test)]
mod tests;
mod update;

pub use self::{
    error::{TufError, TufFlaw, TufRole},
    state::{MAX_STATE_BYTES, TufState},
    update::{TufFound, TufRequest, TufUpdate},
};
