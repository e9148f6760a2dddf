use std::{convert::Infallible, path::PathBuf};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};

use crate::{
    clock::Clock,
    server::{Health, Layers, Listener, Readiness, on_signals, open_files, privileges},
    telemetry::{self, Drain, Metrics},
};

/// Serves until a signal. Root is given up before there is a second thread.
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    let mut config = super::configuration(file)?;
    telemetry::init(config.log_level, Clock::system());
    config.server.limits = config.server.limits.within(open_files::raise());
    privileges::give_up(&config.store.data_dir)?;
    config.prepare_directories()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let drain = Drain::new();
        let metrics = Metrics::new();
        let signals = on_signals(drain.clone())?;
        let limits = config.server.limits;
        let listener = Listener::bind(config.server).await?;
        tracing::info!("listening on {}", listener.local_addr()?);
        let health = Health::new(metrics.clone(), drain.clone(), Readiness::default);
        let absent = service_fn(|_: Request<Incoming>| async {
            let mut response = Response::new(Full::<Bytes>::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(response)
        });
        #[expect(clippy::disallowed_methods, reason = "app takes this over")]
        tokio::spawn(signals);
        listener.serve(Layers::new(absent, health, &limits), drain, metrics).await;
        Ok(())
    })
}
