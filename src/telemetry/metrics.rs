use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::CacheCounters;

/// The counters of `/metrics`. A clone counts into the same ones.
///
/// No label carries a repository, a tag or a name: who may read the metrics need not be somebody who
/// may see internal images, and the number of series stays bounded.
#[derive(Clone)]
pub struct Metrics {
    counters: Arc<Counters>,
    registry: Arc<Registry>,
}

/// What a request was addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// `/v2`, `/v1` and what else registry clients ask.
    Registry,
    /// `/api`.
    Api,
    /// `/healthz`, `/readyz` and `/metrics`.
    Health,
    Other,
}

struct Counters {
    requests: Requests,
    decisions: Family<DecisionLabels, Counter>,
    verdict_seconds: Histogram,
    store_commits: Family<CommitLabels, Counter>,
    upstream_calls: Family<UpstreamLabels, Counter>,
    served_stale: Family<StaleLabels, Counter>,
    audit_events_lost: Counter,
    panics: Counter,
    store_degraded: Gauge<i64, AtomicI64>,
    clock_behind_seconds: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    cache: CacheCounters,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabels {
    database: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StaleLabels {
    what: &'static str,
    reason: &'static str,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("sig_repo");
        let counters = Counters {
            requests: Requests::default(),
            decisions: Family::default(),
            verdict_seconds: Histogram::new(exponential_buckets(0.000_05, 4.0, 10)),
            store_commits: Family::default(),
            upstream_calls: Family::default(),
            served_stale: Family::default(),
            audit_events_lost: Counter::default(),
            panics: Counter::default(),
            store_degraded: Gauge::default(),
            clock_behind_seconds: Gauge::default(),
            connections: Gauge::default(),
            cache: CacheCounters::default(),
        };
        registry.register_collector(Box::new(counters.requests.clone()));
        registry.register("decisions", "Decisions on images, by outcome and reason", counters.decisions.clone());
        registry.register_with_unit(
            "verdict",
            "Time to verify the signatures of an image, where no verdict was at hand",
            Unit::Seconds,
            counters.verdict_seconds.clone(),
        );
        registry.register("store_commits", "Commits of the store, by database", counters.store_commits.clone());
        registry.register("upstream_calls", "Calls to upstream registries", counters.upstream_calls.clone());
        registry.register(
            "served_stale",
            "Answers as they were last known, because the upstream could not be asked, by what they were and why",
            counters.served_stale.clone(),
        );
        registry.register(
            "audit_events_lost",
            "Audit events of ordinary pulls that found the queue full",
            counters.audit_events_lost.clone(),
        );
        registry.register("panics", "Requests that ended in a panic", counters.panics.clone());
        registry.register(
            "store_degraded",
            "1 while the store answers nothing after an I/O error, or cannot be written",
            counters.store_degraded.clone(),
        );
        registry.register(
            "clock_behind_seconds",
            "How far the system's clock lies behind the latest time known, which signatures are judged by",
            counters.clock_behind_seconds.clone(),
        );
        registry.register("connections", "Open connections", counters.connections.clone());
        counters.cache.register(&mut registry);
        Self { counters: Arc::new(counters), registry: Arc::new(registry) }
    }

    /// Counts an answered request; no lock, no allocation.
    pub fn request(&self, surface: Surface, status: StatusCode) {
        self.counters.requests.count(surface, status);
    }

    /// The counter of one kind of decision, for the caller to keep: resolving it takes a lock, counting
    /// does not. The outcome is what was done (`admitted`, `warned`, `refused`), the reason a fixed code.
    pub fn decision(&self, outcome: &'static str, reason: &'static str) -> Counter {
        self.counters.decisions.get_or_create_owned(&DecisionLabels { outcome, reason })
    }

    /// How long it took to come to a verdict that was not at hand.
    pub fn verdict_took(&self, took: Duration) {
        self.counters.verdict_seconds.observe(took.as_secs_f64());
    }

    /// The counter of commits of one database (`records`, `memory`) with an outcome (`ok`, `failed`).
    pub fn store_commits(&self, database: &'static str, outcome: &'static str) -> Counter {
        self.counters.store_commits.get_or_create_owned(&CommitLabels { database, outcome })
    }

    /// Counts one call to an upstream: the operation (`manifest`, `blob`, `token`, ..) and how it ended.
    pub fn upstream_call(&self, operation: &'static str, outcome: &'static str) {
        self.counters.upstream_calls.get_or_create(&UpstreamLabels { operation, outcome }).inc();
    }

    /// Counts an answer (`manifest`, `blob`, `tags`) for which the upstream could not be asked, and why not.
    pub fn served_stale(&self, what: &'static str, reason: &'static str) {
        self.counters.served_stale.get_or_create(&StaleLabels { what, reason }).inc();
    }

    /// The counters of the blob cache, for it to keep.
    pub fn cache(&self) -> CacheCounters {
        self.counters.cache.clone()
    }

    pub fn audit_event_lost(&self) {
        self.counters.audit_events_lost.inc();
    }

    pub fn panicked(&self) {
        self.counters.panics.inc();
    }

    pub fn store_degraded(&self, degraded: bool) {
        self.counters.store_degraded.set(i64::from(degraded));
    }

    /// How far the system's clock lies behind the time that is judged by.
    pub fn clock_behind_seconds(&self, seconds: i64) {
        self.counters.clock_behind_seconds.set(seconds);
    }

    pub fn connection_opened(&self) {
        self.counters.connections.inc();
    }

    pub fn connection_closed(&self) {
        self.counters.connections.dec();
    }

    /// All of them in the text format that Prometheus reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Surface {
    const ALL: [Self; 4] = [Self::Registry, Self::Api, Self::Health, Self::Other];

    /// By the first component of the path, and nothing else.
    pub fn of(path: &str) -> Self {
        match path.as_bytes().split(|byte| *byte == b'/').nth(1).unwrap_or_default() {
            b"v2" | b"v1" | b"extensions" => Self::Registry,
            b"api" => Self::Api,
            b"healthz" | b"readyz" | b"metrics" => Self::Health,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Api => "api",
            Self::Health => "health",
            Self::Other => "other",
        }
    }
}

/// One number per surface and status: every request counts here, so it is an array and not a map.
#[derive(Clone, Default)]
struct Requests(Arc<[StatusCounts; Surface::ALL.len()]>);

struct StatusCounts([AtomicU64; STATUSES]);

impl Requests {
    fn count(&self, surface: Surface, status: StatusCode) {
        let index = usize::from(status.as_u16()).saturating_sub(FIRST_STATUS).min(STATUSES - 1);
        self.0[surface as usize].0[index].fetch_add(1, Ordering::Relaxed);
    }
}

impl Default for StatusCounts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; STATUSES])
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Requests")
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family =
            encoder.encode_descriptor("requests", "Requests answered, by surface and status", None, kind)?;
        for surface in Surface::ALL {
            for (index, count) in self.0[surface as usize].0.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let status = (index + FIRST_STATUS) as u64;
                    let labels = [("surface", surface.as_str()), ("status", &status.to_string())];
                    ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

const FIRST_STATUS: usize = 100;
const STATUSES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.request(Surface::Registry, StatusCode::OK);
        metrics.request(Surface::Registry, StatusCode::OK);
        metrics.request(Surface::Api, StatusCode::NOT_FOUND);
        metrics.decision("refused", "no-trusted-key").inc();
        metrics.verdict_took(Duration::from_micros(120));
        metrics.store_commits("records", "ok").inc();
        metrics.upstream_call("manifest", "ok");
        metrics.served_stale("manifest", "reset");
        metrics.cache().hold(3, 4096);
        metrics.cache().hits.inc();
        let text = metrics.encode().unwrap();
        for line in [
            "sig_repo_requests_total{surface=\"registry\",status=\"200\"} 2",
            "sig_repo_requests_total{surface=\"api\",status=\"404\"} 1",
            "sig_repo_decisions_total{outcome=\"refused\",reason=\"no-trusted-key\"} 1",
            "sig_repo_verdict_seconds_count 1",
            "sig_repo_store_commits_total{database=\"records\",outcome=\"ok\"} 1",
            "sig_repo_upstream_calls_total{operation=\"manifest\",outcome=\"ok\"} 1",
            "sig_repo_served_stale_total{what=\"manifest\",reason=\"reset\"} 1",
            "sig_repo_store_degraded 0",
            "sig_repo_clock_behind_seconds 0",
            "sig_repo_cache_bytes 4096",
            "sig_repo_cache_blobs 3",
            "sig_repo_cache_hits_total 1",
            "sig_repo_cache_damaged_total 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_surface_is_a_whole_path_component() {
        for (path, surface) in [
            ("/v2/", Surface::Registry),
            ("/v2", Surface::Registry),
            ("/v2x", Surface::Other),
            ("/api/v1/tags", Surface::Api),
            ("/healthz", Surface::Health),
            ("/", Surface::Other),
            ("*", Surface::Other),
            ("", Surface::Other),
        ] {
            assert_eq!(Surface::of(path), surface, "{path}");
        }
    }
}
