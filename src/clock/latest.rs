//! The latest time that is believed, so that time never goes back.
//!
//! It is kept as an offset to the time that has passed since the clock was made, which nobody can set:
//! where the system's clock is set back, time goes on from where it was, at its own pace.
//!
//! A jump ahead is judged by at once: what has ended by it does not count. But it is believed, and so
//! cannot be taken back any more, only once it has lasted for [`JUMP_LASTS`]: a clock that was wrong for
//! a moment and was put right has ended nothing.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// In microseconds, as offsets between the time of day and the time that has passed.
pub(super) struct Latest {
    /// No time before this one is judged by.
    believed: AtomicI64,
    /// The same without what was believed only because a process started with it.
    settled: AtomicI64,
    doubted: AtomicBool,
    doubt: Mutex<Option<Doubt>>,
    taken_back: AtomicU64,
}

/// A jump ahead that is not believed yet.
struct Doubt {
    since: i64,
    offset: i64,
}

impl Latest {
    pub(super) fn now(&self, system: Timestamp, elapsed: SignedDuration) -> Timestamp {
        let elapsed = micros(elapsed);
        self.observe(system, elapsed);
        system.max(at(self.believed.load(Ordering::Relaxed), elapsed))
    }

    pub(super) fn resume(&self, believed: Option<Timestamp>, system: Timestamp, elapsed: SignedDuration) {
        let elapsed = micros(elapsed);
        let offset = |time: Timestamp| time.as_microsecond().saturating_sub(elapsed);
        let settled = believed.map_or_else(|| offset(system), offset);
        // One that an earlier store of this process has set stays.
        self.settled.compare_exchange(UNKNOWN, settled, Ordering::Relaxed, Ordering::Relaxed).ok();
        self.believed.fetch_max(settled.max(offset(system)), Ordering::Relaxed);
    }

    pub(super) fn reading(&self, system: Timestamp, elapsed: SignedDuration) -> super::Reading {
        let now = self.now(system, elapsed);
        let elapsed = micros(elapsed);
        let believed = at(self.believed.load(Ordering::Relaxed), elapsed);
        let settled = match self.settled.load(Ordering::Relaxed) {
            UNKNOWN => believed,
            settled => at(settled, elapsed),
        };
        let taken_back = self.taken_back.load(Ordering::Relaxed);
        super::Reading { system, now, settled: settled.min(system), believed, taken_back }
    }

    fn observe(&self, system: Timestamp, elapsed: i64) {
        let offset = system.as_microsecond().saturating_sub(elapsed);
        let settled = self.settled.load(Ordering::Relaxed);
        if settled == UNKNOWN {
            self.believed.fetch_max(offset, Ordering::Relaxed);
            return;
        }
        let ahead = offset.saturating_sub(settled);
        if ahead > micros(ADJUSTMENT) {
            self.doubt(offset, elapsed);
            return;
        }
        // Not for every microsecond: a write would be one that other threads wait for.
        if ahead > GRAIN {
            self.believe(offset);
        }
        if self.doubted.load(Ordering::Relaxed) {
            if self.doubt.lock().take().is_some() {
                self.taken_back.fetch_add(1, Ordering::Relaxed);
            }
            self.doubted.store(false, Ordering::Relaxed);
        }
    }

    #[cold]
    fn doubt(&self, offset: i64, elapsed: i64) {
        // Whoever holds it is doing the same.
        let Some(mut doubt) = self.doubt.try_lock() else { return };
        match &*doubt {
            Some(same) if (offset - same.offset).abs() <= micros(ADJUSTMENT) => {
                if elapsed - same.since >= micros(JUMP_LASTS) {
                    self.believe(offset);
                    *doubt = None;
                    self.doubted.store(false, Ordering::Relaxed);
                }
            }
            _ => {
                *doubt = Some(Doubt { since: elapsed, offset });
                self.doubted.store(true, Ordering::Relaxed);
            }
        }
    }

    fn believe(&self, offset: i64) {
        self.settled.fetch_max(offset, Ordering::Relaxed);
        self.believed.fetch_max(offset, Ordering::Relaxed);
    }
}

impl Default for Latest {
    fn default() -> Self {
        Self {
            believed: AtomicI64::new(UNKNOWN),
            settled: AtomicI64::new(UNKNOWN),
            doubted: AtomicBool::new(false),
            doubt: Mutex::new(None),
            taken_back: AtomicU64::new(0),
        }
    }
}

fn at(offset: i64, elapsed: i64) -> Timestamp {
    let range = Timestamp::MIN.as_microsecond()..=Timestamp::MAX.as_microsecond();
    let micros = offset.saturating_add(elapsed).clamp(*range.start(), *range.end());
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN)
}

fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Clocks are put right by this much now and then; more is a jump.
pub(super) const ADJUSTMENT: SignedDuration = SignedDuration::from_mins(1);

/// How long a jump ahead must last before it can no longer be taken back.
pub(super) const JUMP_LASTS: SignedDuration = SignedDuration::from_mins(10);

/// How coarsely the latest time is noted, in microseconds.
const GRAIN: i64 = 1000;

const UNKNOWN: i64 = i64::MIN;
