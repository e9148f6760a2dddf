//! Who did what, with which verdict, and why.
//!
//! Changes and everything about internal images are recorded durably before their answer leaves
//! (`record`). Ordinary pulls are gathered (`note`): the same decision for the same client,
//! repository and digest within a minute is one event with a count, written in groups by
//! [`Audit::flush`]. What has no room is counted, never dropped in silence.

mod event;

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    clock::Clock,
    store::{AuditKind, AuditRow, Page, Store, StoreError},
    telemetry::Metrics,
};

pub use self::event::{Action, Event, Who};

/// How long the same decision is one event.
const WINDOW: Duration = Duration::from_secs(60);

/// Decisions gathered at one time; more are counted as lost.
const MAX_GATHERED: usize = 65_536;

const SHARDS: usize = 16;

pub struct Audit {
    store: Store,
    clock: Clock,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, Gathered, BuildHasherDefault<AsItIs>>>; SHARDS],
    metrics: Metrics,
}

struct Gathered {
    event: Arc<Event>,
    since: Instant,
    unwritten: u64,
    written: bool,
}

/// Of keys that `hasher` made.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Audit {
    pub fn new(store: Store, clock: Clock, metrics: Metrics) -> Self {
        Self { store, clock, hasher: RandomState::new(), shards: std::array::from_fn(|_| Mutex::default()), metrics }
    }

    /// Records an event durably. Where this fails, what it tells of must not happen.
    pub async fn record(&self, event: Event) -> Result<(), StoreError> {
        event.log();
        self.store.append_audit(vec![event.row()], AuditKind::Durable).await
    }

    /// Gathers the event of an ordinary pull. `event` is made only for the first of a window.
    pub fn note(&self, address: IpAddr, action: Action, subject: impl std::hash::Hash, event: impl FnOnce() -> Event) {
        let key = self.hasher.hash_one((address, action, subject));
        let mut shard = self.shards[(key >> 56) as usize % SHARDS].lock();
        if let Some(gathered) = shard.get_mut(&key) {
            gathered.unwritten += 1;
            return;
        }
        if shard.len() >= MAX_GATHERED / SHARDS {
            self.metrics.audit_event_lost();
            return;
        }
        let event = event();
        event.log();
        shard.insert(
            key,
            Gathered { event: Arc::new(event), since: self.clock.instant(), unwritten: 1, written: false },
        );
    }

    /// Writes what was gathered: an event's first row at once, its repetitions when their minute is
    /// over. `everything` closes all windows, for the shutdown.
    pub async fn flush(&self, everything: bool) -> Result<(), StoreError> {
        let mut due = Vec::new();
        let now = self.clock.instant();
        for shard in &self.shards {
            shard.lock().retain(|_, gathered| {
                let over = everything || now.duration_since(gathered.since) >= WINDOW;
                if gathered.unwritten > 0 && (over || !gathered.written) {
                    due.push((Arc::clone(&gathered.event), gathered.unwritten));
                    gathered.unwritten = 0;
                    gathered.written = true;
                }
                !over
            });
        }
        if due.is_empty() {
            return Ok(());
        }
        // What takes its time is done where no pull waits for it.
        let count = due.len();
        let rows = due.into_iter().map(|(event, count)| event.counted(count).row()).collect();
        self.store.append_audit(rows, AuditKind::Pulls).await.inspect_err(|_| {
            (0..count).for_each(|_| self.metrics.audit_event_lost());
        })
    }

    /// Events, newest first, as the JSON they were written as.
    pub fn page(&self, after: Option<&[u8]>, limit: usize) -> Result<Page<Vec<u8>>, StoreError> {
        self.store.audit_page(after, limit)
    }
}

impl Event {
    fn row(&self) -> AuditRow {
        let json = serde_json::to_vec(self).expect("an event is plain data");
        AuditRow { at: self.at, json }
    }
}
