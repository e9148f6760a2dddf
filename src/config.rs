//! Settings: the file, then the environment, then the types that the modules below take.
//!
//! Everything is read and checked once, before a port is bound or root is given up; what comes out is
//! immutable and needs no second look. A setting that this release does not act on stops the start,
//! and so does a key that nobody knows. It opens no database and contacts nobody.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

use crate::{server, store, telemetry::LogLevel, upstream};

/// Everything a process needs to know to serve.
#[derive(Debug)]
pub struct Config {
    pub server: server::Config,
    pub store: store::Config,
    pub upstream: upstream::Config,
    pub preview: Preview,
    /// None: authentication is off.
    pub auth: Option<Basic>,
    pub policy_default: DefaultLevel,
    pub trust_dir: PathBuf,
    /// How long a tag's digest is used without asking the upstream.
    pub metadata_max_age: MaxAge,
    /// How long a manifest held by digest is used without asking the upstream.
    pub content_max_age: MaxAge,
    pub log_level: LogLevel,
    /// What is worth a word at the start: a misspelt variable, a switch that opens something.
    pub warnings: Vec<String>,
}

/// The life of preview signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// None: they live until somebody withdraws them, or their own `expires_at` comes.
    pub ttl: Option<Duration>,
    /// From expiry to removal.
    pub remove_after: Duration,
}

/// The one account of Basic authentication.
#[derive(Clone, Debug)]
pub struct Basic {
    pub user: String,
    pub password: SecretString,
}

/// What happens to an image that no statement speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DefaultLevel {
    Enforce,
    #[default]
    Audit,
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAge {
    For(Duration),
    Forever,
}
