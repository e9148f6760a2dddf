use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Five times what the program promises for one envelope: checks for overflow and counters at every edge
/// make it slower here.
const MOST: Duration = Duration::from_millis(25);

/// The same as `work` alone, if it takes no longer than one envelope may. The time is this thread's own, and
/// the best of several, so that a busy machine is no finding.
pub fn bounded<T>(work: impl Fn() -> T) -> T {
    let mut least = Duration::MAX;
    for _ in 0..4 {
        let before = spent();
        let found = work();
        least = least.min(spent() - before);
        if least <= MOST {
            return found;
        }
    }
    panic!("an input of this size costs {least:?}, more than {MOST:?}");
}

fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock").into()
}
