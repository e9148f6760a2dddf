//! The only place that reads the time: everybody else is handed a `Clock`, or the time itself.
//!
//! The system's clock may be set back, or jump. A `Clock` never goes back behind a time that it has
//! believed (see `latest`), so that what has ended stays ended.

mod latest;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use self::latest::Latest;

/// Where the time comes from: the system, or a test that moves it by hand. Copies are one clock.
#[derive(Clone)]
pub struct Clock {
    manual: Option<Arc<Mutex<Manual>>>,
    latest: Arc<Latest>,
    origin: Instant,
}

struct Manual {
    now: Timestamp,
    instant: Instant,
}

/// How the system's clock stands to the time that is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the system says.
    pub system: Timestamp,
    /// What is judged by: never earlier.
    pub now: Timestamp,
    /// A time that is certain to have passed, for what cannot be undone. A jump counts in it only once
    /// it has lasted.
    pub settled: Timestamp,
    /// The latest time that is believed for good: what the next process has to know.
    pub believed: Timestamp,
    /// How many jumps ahead were judged by and then taken back: verdicts of that time are void.
    pub taken_back: u64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn system() -> Self {
        Self { manual: None, latest: Arc::default(), origin: Instant::now() }
    }

    /// A clock that stands still until `advance` or `set`.
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    pub fn manual(now: Timestamp) -> Self {
        let origin = Instant::now();
        let manual = Manual { now, instant: origin };
        Self { manual: Some(Arc::new(Mutex::new(manual))), latest: Arc::default(), origin }
    }

    /// The time of day, for everything that is stored or compared with what is stored. Where the
    /// system's clock was set back, it goes on from the latest time that was believed.
    pub fn now(&self) -> Timestamp {
        let (system, elapsed) = self.read();
        self.latest.now(system, elapsed)
    }

    /// What the system's clock says, right or wrong: for people, never for judging.
    pub fn system_time(&self) -> Timestamp {
        self.read().0
    }

    /// A time that never goes back, for what is measured or kept for a while in memory.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn instant(&self) -> Instant {
        match &self.manual {
            Some(manual) => manual.lock().instant,
            None => Instant::now(),
        }
    }

    /// Takes up the latest time that an earlier process believed. What the system says now is believed
    /// too, if it is later: nothing tells a jump between two processes from the time that has passed.
    pub fn resume(&self, believed: Option<Timestamp>) {
        let (system, elapsed) = self.read();
        self.latest.resume(believed, system, elapsed);
    }

    pub fn reading(&self) -> Reading {
        let (system, elapsed) = self.read();
        self.latest.reading(system, elapsed)
    }

    /// Moves a manual clock forward; both readings move.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.manual.as_ref().expect("only a manual clock is moved").lock();
        manual.instant += by;
        manual.now = manual.now.saturating_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Sets the time of day of a manual clock, back too; the other reading stays.
    pub fn set(&self, now: Timestamp) {
        self.manual.as_ref().expect("only a manual clock is set").lock().now = now;
    }

    /// The time of day, and how long this clock has run: in this order, so that a thread that is held up
    /// between the two makes the clock no later than it is.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn read(&self) -> (Timestamp, SignedDuration) {
        let (now, instant) = match &self.manual {
            Some(manual) => {
                let manual = manual.lock();
                (manual.now, manual.instant)
            }
            None => (Timestamp::now(), Instant::now()),
        };
        let elapsed = instant.saturating_duration_since(self.origin);
        (now, SignedDuration::try_from(elapsed).unwrap_or(SignedDuration::MAX))
    }
}

impl Reading {
    /// How far the system's clock lies behind the time that is judged by, where that is no mere
    /// adjustment: it was set back, or was too far ahead before.
    pub fn behind(&self) -> Option<SignedDuration> {
        Some(self.now.duration_since(self.system)).filter(|behind| *behind > latest::ADJUSTMENT)
    }

    /// How far the system's clock has jumped ahead in this process, while that may still be a mistake.
    pub fn jumped(&self) -> Option<SignedDuration> {
        Some(self.system.duration_since(self.believed)).filter(|ahead| *ahead > latest::ADJUSTMENT)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.manual.is_some() { "Clock::manual" } else { "Clock::system" })
    }
}

#[cfg(test)]
mod tests;
