use std::{io, pin::pin};

use super::{StartError, start_trusting};
use crate::{
    clock::Clock,
    config::{Config, ConfigError},
    pull::TrustFiles,
    server::{Signals, open_files, privileges},
    telemetry,
};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Privileges(#[from] privileges::PrivilegesError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot start threads or wait for signals: {0}")]
    Runtime(#[from] io::Error),
    #[error("the listener ended in a panic")]
    Ended(#[from] tokio::task::JoinError),
}

/// Makes this process a server, until a signal. Root is given up before there is a second thread, and
/// after the last file was read that only root may read.
pub fn serve(mut config: Config) -> Result<(), ServeError> {
    let clock = Clock::system();
    let of_log = clock.clone();
    telemetry::init(config.log_level, move || of_log.system_time());
    config.server.limits = config.server.limits.within(open_files::raise());
    let read_keys = || TrustFiles::read(&config.trust_dir).map_err(StartError::from);
    // A directory of the operator's own may hold files that only root may read. Those inside DATA_DIR
    // change hands below, and root reads nothing that is not yet known to be ours.
    let of_operator = !config.trust_dir.starts_with(&config.store.data_dir);
    let early = of_operator.then(read_keys).transpose()?;
    privileges::give_up(&config.store.data_dir)?;
    config.prepare_directories()?;
    let keys = early.map_or_else(read_keys, Ok)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(until_a_signal(config, keys, clock))
}

async fn until_a_signal(config: Config, keys: TrustFiles, clock: Clock) -> Result<(), ServeError> {
    // Before anything is open: a signal during the start must not be lost, and as the first process of
    // a container nothing else would end this one.
    let signals = Signals::take_over()?;
    let running = start_trusting(config, keys, clock).await?;
    let driving = signals.drive(running.drain().clone());
    let mut ended = pin!(running.ended());
    tokio::select! {
        done = ended.as_mut() => done?,
        () = driving => ended.await?,
    }
    Ok(())
}
