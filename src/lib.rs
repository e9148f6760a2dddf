#![doc = include_str!("../ARCHITECTURE.md")]

pub mod access;
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod oci;
pub mod policy;
pub mod pull;
pub mod registry;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod trust;
pub mod upstream;
