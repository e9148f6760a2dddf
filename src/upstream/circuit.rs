//! Leaves an upstream alone that does not answer, so that who can be served without it need not wait.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    pin::pin,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::timeout;
use url::Url;

use super::{Phase, UpstreamError};
use crate::{clock::Clock, oci::RegistryName};

/// What is asked for: some registries limit the rate of manifests alone, and blobs often lie elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Blob,
    Other,
}

/// One for each kind.
#[derive(Debug, Default)]
pub(super) struct Circuits([Circuit; 2]);

/// Open while an upstream is left alone. It is of a registry as a whole, so only what says something about
/// the registry as a whole counts: that it cannot be reached, that it keeps silent, or says itself when to come back.
#[derive(Debug)]
pub(super) struct Circuit {
    state: Mutex<State>,
    jitter: RandomState,
    /// So many failures in a row open it.
    opening: u32,
    /// None: whether it is open is not worth a line, as the registry is asked all the same.
    to: Option<To>,
}

/// Who is asked for what, for the log.
#[derive(Debug)]
struct To {
    name: RegistryName,
    remote: Url,
    kind: Kind,
}

#[derive(Debug, Default)]
struct State {
    /// So far, of whatever kind.
    answers: u64,
    failures: u32,
    open: Option<(Instant, UpstreamError)>,
}

/// What was known when a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    answers: u64,
    is_trial: bool,
}

/// Somebody who waits for an answer. One that gives up after a long silence has learnt as much as one whose time is
/// over, which is longer than most wait.
struct Waiting<'a> {
    circuit: &'a Circuit,
    clock: &'a Clock,
    asked: Asked,
    is_long: bool,
}

impl Kind {
    /// By what comes after `/v2/<repository>/`.
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with("blobs/") { Self::Blob } else { Self::Other }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blobs",
            Self::Other => "manifests and lists",
        })
    }
}

impl Circuits {
    /// To one address of a registry, which is not asked while they are open.
    pub(super) fn to(name: &RegistryName, remote: &Url) -> Self {
        let to = |kind| To { name: name.clone(), remote: remote.clone(), kind };
        Self([Kind::Other, Kind::Blob].map(|kind| Circuit { to: Some(to(kind)), ..Circuit::default() }))
    }

    pub(super) fn of(&self, kind: Kind) -> &Circuit {
        &self.0[usize::from(kind == Kind::Blob)]
    }
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: Mutex::default(), jitter: RandomState::new(), opening: FAILURES, to: None }
    }
}

impl Circuit {
    pub(super) fn opening_at_once() -> Self {
        Self { opening: 1, ..Self::default() }
    }

    /// Whether to ask at all. Once the time is over one request tries, and the others wait for what it finds.
    pub(super) fn check(&self, now: Instant) -> Result<Asked, UpstreamError> {
        let mut state = self.state.lock();
        let answers = state.answers;
        let Some((until, error)) = &mut state.open else { return Ok(Asked { answers, is_trial: false }) };
        if now < *until {
            return Err(error.clone());
        }
        *until = now + TRIAL;
        Ok(Asked { answers, is_trial: true })
    }

    /// Whether it was an answer, of whatever kind.
    pub(super) fn note<T>(&self, asked: Asked, result: &Result<T, UpstreamError>, now: Instant) -> bool {
        match result {
            Err(error @ UpstreamError::RateLimited { retry_after: Some(wait) }) => {
                self.told(*wait, error, now);
                true
            }
            Err(UpstreamError::Timeout { phase: Phase::Head }) => {
                self.silent(asked, now);
                false
            }
            Err(error) if is_unreachable(error) => {
                self.fail(error, now);
                false
            }
            // It was not asked, or not for what is wanted.
            Err(UpstreamError::Credentials { .. }) => false,
            // Whatever it says, it answers.
            _ => {
                self.close();
                true
            }
        }
    }

    /// It said when to come back.
    pub(super) fn told(&self, wait: Duration, error: &UpstreamError, now: Instant) {
        let mut state = self.state.lock();
        state.answers += 1;
        self.open(&mut state, wait.min(MAX_WAIT), error, now);
    }

    /// Nothing came. Where others were answered meanwhile that is about what was asked for; and who asked before the
    /// upstream was left alone says nothing new.
    fn silent(&self, asked: Asked, now: Instant) {
        let mut state = self.state.lock();
        if asked.answers == state.answers && (asked.is_trial || state.open.is_none()) {
            self.count(&mut state, &UpstreamError::Timeout { phase: Phase::Head }, now);
        }
    }

    /// Whether that is what opened it.
    pub(super) fn fail(&self, error: &UpstreamError, now: Instant) -> bool {
        let mut state = self.state.lock();
        let was_closed = state.open.is_none();
        self.count(&mut state, error, now);
        was_closed && state.open.is_some()
    }

    fn count(&self, state: &mut State, error: &UpstreamError, now: Instant) {
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.opening {
            let wait = FIRST_WAIT * (1 << (state.failures - self.opening).min(8));
            let wait = self.jittered(wait.min(MAX_WAIT), state.failures);
            self.open(state, wait, error, now);
        }
    }

    fn open(&self, state: &mut State, wait: Duration, error: &UpstreamError, now: Instant) {
        let before = state.open.replace((now + wait, error.clone()));
        if let (None, Some(To { name, remote, kind })) = (before, &self.to) {
            let (code, wait_ms) = (error.code(), wait.as_millis());
            tracing::warn!(upstream = %name, code, wait_ms, "{remote} fails for {name}, and for {wait_ms} ms at first no {kind} are asked for there: {error}");
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        let before = state.open.take();
        *state = State { answers: state.answers + 1, ..State::default() };
        if let (Some(_), Some(To { name, remote, kind })) = (before, &self.to) {
            tracing::info!(upstream = %name, "{remote} answers for {name} again, and {kind} are asked for there as before");
        }
    }

    /// Waits for an answer, which is the caller's to note. That nobody waited for its end is noted here.
    pub(super) async fn wait<T>(
        &self,
        asked: Asked,
        asking: impl Future<Output = Result<T, UpstreamError>>,
        long: Duration,
        clock: &Clock,
    ) -> Result<T, UpstreamError> {
        let mut asking = pin!(asking);
        let mut waiting = Waiting { circuit: self, clock, asked, is_long: false };
        let answer = match timeout(long, &mut asking).await {
            Ok(answer) => answer,
            Err(_late) => {
                waiting.is_long = true;
                asking.await
            }
        };
        waiting.is_long = false;
        answer
    }

    /// Between half of it and all of it, so that the replicas do not come back in step.
    fn jittered(&self, wait: Duration, failures: u32) -> Duration {
        let part = self.jitter.hash_one(failures) % 512;
        wait / 2 + wait / 1024 * u32::try_from(part).expect("below 512")
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_long {
            self.circuit.silent(self.asked, self.clock.instant());
        }
    }
}

fn is_unreachable(error: &UpstreamError) -> bool {
    matches!(
        error,
        UpstreamError::Connect
            | UpstreamError::Dns
            | UpstreamError::Tls
            | UpstreamError::Proxy { .. }
            | UpstreamError::Timeout { phase: Phase::Connect }
    )
}

/// So many in a row, and it is left alone.
const FAILURES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long a trial may take before there is another.
const TRIAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const UNREACHABLE: UpstreamError = UpstreamError::Connect;
    const SILENT: UpstreamError = UpstreamError::Timeout { phase: Phase::Head };

    fn circuit() -> (Circuit, Clock) {
        (Circuit::default(), Clock::manual("2026-11-26T12:00:00Z".parse().unwrap()))
    }

    impl Circuit {
        /// What it says to somebody who asks now.
        fn says(&self, clock: &Clock) -> Result<(), UpstreamError> {
            self.check(clock.instant()).map(drop)
        }

        /// Of a request that was let through.
        fn ends(&self, asked: Asked, error: &UpstreamError, clock: &Clock) {
            self.note(asked, &Err::<(), _>(error.clone()), clock.instant());
        }

        /// A request that is let through and ends in this.
        fn ask(&self, error: &UpstreamError, clock: &Clock) {
            self.ends(self.check(clock.instant()).unwrap(), error, clock);
        }
    }

    #[test]
    fn an_upstream_that_cannot_be_reached_or_is_silent_is_left_alone_for_longer_and_longer() {
        for error in [UNREACHABLE, SILENT] {
            let (circuit, clock) = circuit();
            for _ in 0..2 {
                circuit.ask(&error, &clock);
                assert_eq!(circuit.says(&clock), Ok(()));
            }
            let mut trial = circuit.check(clock.instant()).unwrap();
            for longest in [1, 2, 4, 8, 16, 30, 30, 30] {
                circuit.ends(trial, &error, &clock);
                let early = circuit.check(clock.instant() + Duration::from_millis(longest * 500 - 1));
                assert_eq!(early, Err(error.clone()));
                clock.advance(Duration::from_secs(longest));
                trial = circuit.check(clock.instant()).unwrap();
                // One tries; the others are told at once.
                assert_eq!(circuit.says(&clock), Err(error.clone()));
            }
            circuit.ends(trial, &UpstreamError::NotFound, &clock);
            assert_eq!(circuit.says(&clock), Ok(()));
            circuit.ask(&error, &clock);
            assert_eq!(circuit.says(&clock), Ok(()));
        }
    }

    #[test]
    fn a_silence_during_which_others_are_answered_does_not_count() {
        let (circuit, clock) = circuit();
        for _ in 0..10 {
            let slow = circuit.check(clock.instant()).unwrap();
            clock.advance(Duration::from_secs(30));
            circuit.ask(&UpstreamError::NotFound, &clock);
            circuit.ends(slow, &SILENT, &clock);
            assert_eq!(circuit.says(&clock), Ok(()));
        }
        // Nor what was still under way when the upstream was well again.
        let slow: Vec<_> = (0..3).map(|_| circuit.check(clock.instant()).unwrap()).collect();
        slow.iter().for_each(|slow| circuit.ends(*slow, &SILENT, &clock));
        assert_eq!(circuit.says(&clock), Err(SILENT));
        clock.advance(Duration::from_secs(1));
        let stuck = circuit.check(clock.instant()).unwrap();
        clock.advance(TRIAL);
        circuit.ask(&UpstreamError::Status { status: 500 }, &clock);
        (0..3).for_each(|_| circuit.ends(stuck, &SILENT, &clock));
        assert_eq!(circuit.says(&clock), Ok(()));
    }

    #[test]
    fn a_silence_that_many_meet_at_once_counts_no_more_than_three() {
        let (circuit, clock) = circuit();
        let asked: Vec<_> = (0..100).map(|_| circuit.check(clock.instant()).unwrap()).collect();
        asked.iter().for_each(|asked| circuit.ends(*asked, &SILENT, &clock));
        assert_eq!(circuit.says(&clock), Err(SILENT));
        clock.advance(FIRST_WAIT);
        assert_eq!(circuit.says(&clock), Ok(()));
    }

    #[tokio::test]
    async fn who_gives_up_after_a_long_silence_counts_and_who_leaves_early_does_not() {
        let give_up = async |circuit: &Circuit, clock: &Clock, long: Duration, patience: Duration| {
            for _ in 0..3 {
                let asked = circuit.check(clock.instant()).unwrap();
                let waiting = circuit.wait(asked, pending::<Result<(), UpstreamError>>(), long, clock);
                timeout(patience, waiting).await.unwrap_err();
            }
        };
        let short = Duration::from_millis(5);
        let (early, clock) = circuit();
        give_up(&early, &clock, Duration::from_secs(60), short).await;
        assert_eq!(early.says(&clock), Ok(()));
        let (late, clock) = circuit();
        give_up(&late, &clock, short, 2 * short).await;
        assert_eq!(late.says(&clock), Err(SILENT));

        // What comes late was worth waiting for.
        let (slow, clock) = circuit();
        for _ in 0..5 {
            let asked = slow.check(clock.instant()).unwrap();
            let coming = async { Ok(timeout(2 * short, pending::<()>()).await.is_err()) };
            assert_eq!(slow.wait(asked, coming, short, &clock).await, Ok(true));
            assert_eq!(slow.says(&clock), Ok(()));
        }
    }

    #[test]
    fn what_it_says_of_one_thing_is_not_held_against_the_others() {
        let (circuit, clock) = circuit();
        for error in [
            UpstreamError::Status { status: 500 },
            UpstreamError::Denied,
            UpstreamError::Reset,
            UpstreamError::Timeout { phase: Phase::Body },
            UpstreamError::QuotaExceeded,
            UpstreamError::RateLimited { retry_after: None },
        ] {
            for _ in 0..5 {
                circuit.ask(&error, &clock);
                assert_eq!(circuit.says(&clock), Ok(()), "{error}");
            }
        }
    }

    #[test]
    fn an_upstream_that_was_not_asked_has_not_answered() {
        let (circuit, clock) = circuit();
        let not_asked = UpstreamError::from(crate::upstream::CredentialsFailure::HelperTimeout);
        for error in [UNREACHABLE, not_asked.clone(), UNREACHABLE, not_asked.clone()] {
            circuit.ask(&error, &clock);
            assert_eq!(circuit.says(&clock), Ok(()));
        }
        let asked = circuit.check(clock.instant()).unwrap();
        circuit.ask(&UNREACHABLE, &clock);
        circuit.ends(asked, &not_asked, &clock);
        assert_eq!(circuit.says(&clock), Err(UNREACHABLE));
    }

    #[test]
    fn when_to_come_back_is_the_upstreams_to_say_within_limits() {
        let (circuit, clock) = circuit();
        let mut asked = circuit.check(clock.instant()).unwrap();
        for (said, waited) in [(3, 3), (3600, 30)] {
            let limited = UpstreamError::RateLimited { retry_after: Some(Duration::from_secs(said)) };
            circuit.ends(asked, &limited, &clock);
            clock.advance(Duration::from_secs(waited) - Duration::from_millis(1));
            assert_eq!(circuit.says(&clock), Err(limited));
            clock.advance(Duration::from_millis(1));
            asked = circuit.check(clock.instant()).unwrap();
        }
    }
}
