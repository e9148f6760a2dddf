//! What the process tells about itself and its callers: the log, the counters, who is asking, and
//! whether it is shutting down.
//!
//! Plain types that every module may read. It decides nothing, and no secret passes through it.

mod cache_counters;
mod drain;
mod log;
mod metrics;
mod peer;

pub use self::{
    cache_counters::CacheCounters,
    drain::{Drain, Phase, Transfer},
    log::{LevelError, LogLevel, init},
    metrics::{Metrics, Surface},
    peer::{Peer, TrustedProxies, network},
};
