use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// Whether the process is shutting down, and what still runs from before that.
///
/// A clone is the same state: the server begins the drain, the registry reads it for each request.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: Arc<watch::Sender<Phase>>,
    /// What the exit waits for. Closed once the drain has begun.
    transfers: TaskTracker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Running transfers finish, new requests are refused.
    Draining,
    /// Nothing is waited for any more.
    Ending,
}

/// Held while a request that began before the drain is being answered, its body included.
#[derive(Debug)]
pub struct Transfer {
    _running: TaskTrackerToken,
}

impl Drain {
    pub fn new() -> Self {
        Self { phase: Arc::new(watch::Sender::new(Phase::Serving)), transfers: TaskTracker::new() }
    }

    /// Says "shutting down" to everybody who asks from now on.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Ends the waiting: the second signal of an impatient operator.
    pub fn end(&self) {
        self.advance(Phase::Ending);
    }

    pub fn is_draining(&self) -> bool {
        self.transfers.is_closed()
    }

    /// Waits until the process is in this phase or a later one.
    pub async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        phases.wait_for(|now| *now >= phase).await.expect("the sender lives in self");
    }

    /// Counts a request that begins now; none once the drain has begun, because what comes later is
    /// refused at once and must not prolong it.
    pub fn transfer(&self) -> Option<Transfer> {
        (!self.is_draining()).then(|| Transfer { _running: self.transfers.token() })
    }

    /// Waits until the drain has begun and no counted transfer runs.
    pub async fn finished(&self) {
        self.transfers.wait().await;
    }

    fn advance(&self, to: Phase) {
        self.transfers.close();
        self.phase.send_if_modified(|phase| {
            let later = *phase < to;
            *phase = (*phase).max(to);
            later
        });
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_drain_waits_for_what_began_before_it_and_for_nothing_else() {
        let drain = Drain::new();
        let transfer = drain.transfer().unwrap();
        drain.begin();
        assert!(drain.is_draining());
        assert!(drain.transfer().is_none(), "a new request does not prolong the drain");
        let mut finished = std::pin::pin!(drain.finished());
        assert_eq!(finished.as_mut().now_or_never(), None);
        drop(transfer);
        finished.await;
    }

    #[test]
    fn a_phase_never_goes_back() {
        let drain = Drain::new();
        drain.end();
        drain.begin();
        for phase in [Phase::Draining, Phase::Ending] {
            assert_eq!(drain.reached(phase).now_or_never(), Some(()), "{phase:?}");
        }
    }
}
