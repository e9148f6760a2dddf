use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Five times what the program promises for one envelope: checks for overflow and counters at every edge
/// make it slower here.
const MOST: Duration = Duration::from_millis(25);

/// What reading each byte may cost beside that: of a megabyte a good twentieth of a second.
const FOR_EACH_BYTE: Duration = Duration::from_nanos(50);

/// The same as `work` alone, if it takes no longer than one envelope of so many bytes may. The time is this
/// thread's own, and the best of several, so that a busy machine is no finding.
pub fn bounded<T>(input: &[u8], work: impl Fn() -> T) -> T {
    let most = MOST + FOR_EACH_BYTE * u32::try_from(input.len()).unwrap_or(u32::MAX);
    let mut least = Duration::MAX;
    for _ in 0..4 {
        let before = spent();
        let found = work();
        least = least.min(spent() - before);
        if least <= most {
            return found;
        }
    }
    panic!("an input of {} bytes costs {least:?}, more than {most:?}", input.len());
}

fn spent() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a thread has a clock").into()
}
