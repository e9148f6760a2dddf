//! What the program promises, tested through its public surface over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auth;
mod crash;
mod cli;
mod config_examples;
mod drain;
mod expiry;
mod layers;
mod openapi;
mod signatures_api;
mod signers_api;
mod pull;
mod support;
mod upstream;
mod wire_errors;
