use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::Drain;

/// Takes over SIGTERM and SIGINT, and gives the task that waits for them: the first begins the drain,
/// the second ends it.
pub fn on_signals(drain: Drain) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("shutting down: running transfers finish, new requests are refused");
        drain.begin();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("a second signal: running transfers are cut");
        drain.end();
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
