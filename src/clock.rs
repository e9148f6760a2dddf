//! The only place that reads the time: everybody else is handed a `Clock`, or the time itself.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

/// Where the time comes from: the system, or a test that moves it by hand.
#[derive(Clone, Default)]
pub struct Clock {
    manual: Option<Arc<Mutex<Manual>>>,
}

struct Manual {
    now: Timestamp,
    instant: Instant,
}

impl Clock {
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until `advance` or `set`.
    #[expect(clippy::disallowed_methods, reason = "an Instant can be had in no other way")]
    pub fn manual(now: Timestamp) -> Self {
        Self { manual: Some(Arc::new(Mutex::new(Manual { now, instant: Instant::now() }))) }
    }

    /// The time of day, for everything that is stored or compared with what is stored.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now(&self) -> Timestamp {
        match &self.manual {
            Some(manual) => manual.lock().now,
            None => Timestamp::now(),
        }
    }

    /// A time that never goes back, for what is measured or kept for a while in memory.
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn instant(&self) -> Instant {
        match &self.manual {
            Some(manual) => manual.lock().instant,
            None => Instant::now(),
        }
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
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.manual.is_some() { "Clock::manual" } else { "Clock::system" })
    }
}
