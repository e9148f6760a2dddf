use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::Drain;

/// SIGTERM and SIGINT, taken over: from here on they no longer end the process by themselves.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn take_over() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The first signal begins the drain, the second ends it; one that came since `take_over` counts.
    pub async fn drive(mut self, drain: Drain) {
        self.next().await;
        tracing::info!("shutting down: running transfers finish, new requests are refused");
        drain.begin();
        self.next().await;
        tracing::warn!("a second signal: running transfers are cut");
        drain.end();
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
