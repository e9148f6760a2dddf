//! What the program promises, tested through its public surface over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod drain;
mod layers;
mod support;
mod upstream;
mod wire_errors;
