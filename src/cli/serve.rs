use std::{path::PathBuf, pin::pin};

use crate::{
    app,
    clock::Clock,
    config::Config,
    server::{Signals, open_files, privileges},
    telemetry,
};

/// Serves until a signal. Root is given up before there is a second thread.
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    let mut config = super::configuration(file)?;
    telemetry::init(config.log_level, Clock::system());
    config.server.limits = config.server.limits.within(open_files::raise());
    privileges::give_up(&config.store.data_dir)?;
    config.prepare_directories()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), anyhow::Error> {
    // Before anything is open: a signal during the start must not be lost, and as the first process of
    // a container nothing else would end this one.
    let signals = Signals::take_over()?;
    let running = app::start(config, Clock::system()).await?;
    let driving = signals.drive(running.drain().clone());
    let mut ended = pin!(running.ended());
    tokio::select! {
        done = ended.as_mut() => done?,
        () = driving => ended.await?,
    }
    Ok(())
}
