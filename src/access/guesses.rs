//! How many wrong passwords an address may present.
//!
//! Whoever guesses has a few tries, then one every half minute, and beyond these is not told whether a
//! password was right. Somebody else who shares the address goes on signing in, if that was done from there
//! before: where the right password came from lately, only wrong ones are counted.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::telemetry::network;

/// Wrong passwords at once, and how long each takes to be forgotten.
const BURST: u32 = 10;
const PERIOD: Duration = Duration::from_secs(30);

/// How long an address is one from which the right password came.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);

/// Wrong passwords of an address that are remembered: a client that presents the one it has over and over,
/// or a mirror's that was meant for another registry, guesses nothing.
const REMEMBERED: usize = 8;

const ADDRESSES: usize = 65_536;

pub(super) struct Guesses {
    guessing: Cache<IpAddr, Arc<Mutex<Guessed>>>,
    /// Apart, so that no number of guessers makes it forgotten who signs in.
    known: Cache<IpAddr, Instant>,
}

#[derive(Debug, Default)]
struct Guessed {
    /// When all wrong passwords so far are forgotten.
    until: Option<Instant>,
    recent: [u64; REMEMBERED],
    next: usize,
}

/// What came of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Right,
    Wrong,
    /// Too many were wrong; whether this one is right is not said.
    TooMany {
        retry_after: Duration,
    },
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self { guessing: Cache::new(ADDRESSES), known: Cache::new(ADDRESSES) }
    }

    /// Tries a password, of which `is_right` finds out whether it is and `hash` tells it from others.
    pub(super) fn attempt(&self, address: IpAddr, now: Instant, hash: u64, is_right: impl FnOnce() -> bool) -> Tried {
        let network = network(address);
        let is_known = self.known.get(&network).is_some_and(|at| now.saturating_duration_since(at) < KNOWN_FOR);
        let guessed = match self.guessing.get(&network) {
            Some(guessed) => guessed,
            // Who signs in takes no place among those that guess.
            None if is_right() => return self.right(network, now),
            None => {
                let Ok(guessed) =
                    self.guessing.get_or_insert_with(&network, || Ok::<_, std::convert::Infallible>(Arc::default()));
                return guessed.lock().wrong(now, hash, address);
            }
        };
        // Held over the comparison: tries side by side are as many as they are.
        let mut guessed = guessed.lock();
        match guessed.spent(now) {
            Some(retry_after) if !is_known => Tried::TooMany { retry_after },
            _ if is_right() => self.right(network, now),
            _ => guessed.wrong(now, hash, address),
        }
    }

    fn right(&self, network: IpAddr, now: Instant) -> Tried {
        self.known.insert(network, now);
        Tried::Right
    }
}

impl Guessed {
    /// How long until another may be tried, where that is not now.
    fn spent(&self, now: Instant) -> Option<Duration> {
        let used = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        Some((used + PERIOD).saturating_sub(PERIOD * BURST)).filter(|wait| !wait.is_zero())
    }

    fn wrong(&mut self, now: Instant, hash: u64, address: IpAddr) -> Tried {
        if let Some(retry_after) = self.spent(now) {
            return Tried::TooMany { retry_after };
        }
        if self.recent.contains(&hash) {
            return Tried::Wrong;
        }
        self.recent[self.next] = hash;
        self.next = (self.next + 1) % REMEMBERED;
        self.until = Some(self.until.map_or(now, |until| until.max(now)) + PERIOD);
        if self.spent(now).is_some() {
            tracing::warn!(%address, "too many wrong passwords from {address}: no more are looked at for a while");
        }
        Tried::Wrong
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::clock::Clock;

    const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    struct Bench {
        guesses: Guesses,
        clock: Clock,
        guess: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self { guesses: Guesses::new(), clock: Clock::manual("2026-11-26T00:00:00Z".parse().unwrap()), guess: 0 }
        }

        fn right(&self, from: IpAddr) -> Tried {
            self.guesses.attempt(from, self.clock.instant(), 0, || true)
        }

        /// A wrong password that was not tried before.
        fn wrong(&mut self, from: IpAddr) -> Tried {
            self.guess += 1;
            self.same(from, self.guess)
        }

        fn same(&self, from: IpAddr, hash: u64) -> Tried {
            self.guesses.attempt(from, self.clock.instant(), hash, || false)
        }

        fn spend(&mut self, from: IpAddr) {
            for _ in 0..BURST {
                assert_eq!(self.wrong(from), Tried::Wrong);
            }
        }
    }

    #[test]
    fn after_some_wrong_passwords_none_is_looked_at_until_time_has_passed() {
        let mut bench = Bench::new();
        bench.spend(GUESSER);
        let too_many = Tried::TooMany { retry_after: PERIOD };
        assert_eq!(bench.wrong(GUESSER), too_many);
        assert_eq!(bench.right(GUESSER), too_many, "who guesses is not told");
        assert_eq!(bench.right(OTHER), Tried::Right);
        bench.clock.advance(PERIOD - Duration::from_secs(1));
        assert_eq!(bench.right(GUESSER), Tried::TooMany { retry_after: Duration::from_secs(1) });
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.wrong(GUESSER), Tried::Wrong);
        assert_eq!(bench.wrong(GUESSER), too_many);
        bench.clock.advance(PERIOD);
        assert_eq!(bench.right(GUESSER), Tried::Right);
        bench.clock.advance(PERIOD * BURST);
        bench.spend(GUESSER);
    }

    #[test]
    fn a_guesser_shuts_nobody_out_who_signs_in_from_the_same_address() {
        let mut bench = Bench::new();
        assert_eq!(bench.right(GUESSER), Tried::Right);
        bench.spend(GUESSER);
        assert_eq!(bench.wrong(GUESSER), Tried::TooMany { retry_after: PERIOD });
        assert_eq!(bench.right(GUESSER), Tried::Right);
        // Long after, nothing speaks for the address any more.
        bench.clock.advance(KNOWN_FOR);
        bench.spend(GUESSER);
        assert_eq!(bench.right(GUESSER), Tried::TooMany { retry_after: PERIOD });
    }

    #[test]
    fn the_same_wrong_password_over_and_over_is_one() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            assert_eq!(bench.same(GUESSER, u64::MAX), Tried::Wrong);
        }
        for _ in 1..BURST {
            assert_eq!(bench.wrong(GUESSER), Tried::Wrong);
        }
        assert_eq!(bench.wrong(GUESSER), Tried::TooMany { retry_after: PERIOD });
    }

    #[test]
    fn all_addresses_of_one_network_are_one() {
        let mut bench = Bench::new();
        for last in 0..BURST {
            let from = format!("2001:db8:1:100::{last}").parse().unwrap();
            assert_eq!(bench.wrong(from), Tried::Wrong);
        }
        for (from, is_same) in
            [("2001:db8:1:1ff:1::1", true), ("2001:db8:1:200::1", false), ("::ffff:192.0.2.1", false)]
        {
            let is_too_many = matches!(bench.wrong(from.parse().unwrap()), Tried::TooMany { .. });
            assert_eq!(is_too_many, is_same, "{from}");
        }
        bench.spend(OTHER);
        let mapped = "::ffff:192.0.2.2".parse().unwrap();
        assert_eq!(bench.wrong(mapped), Tried::TooMany { retry_after: PERIOD });
    }

    #[test]
    fn any_number_of_guessers_takes_a_bounded_place_and_forgets_no_account() {
        let mut bench = Bench::new();
        assert_eq!(bench.right(GUESSER), Tried::Right);
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            bench.wrong(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
        }
        assert!(bench.guesses.guessing.len() <= ADDRESSES, "{}", bench.guesses.guessing.len());
        bench.spend(GUESSER);
        assert_eq!(bench.right(GUESSER), Tried::Right);
    }
}
