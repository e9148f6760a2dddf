use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use hyper::service::Service;
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};

use super::{
    Config, Received,
    connection::{Connections, serve_connection},
    places::Places,
};
use crate::{
    sendfile::Sendable,
    telemetry::{Drain, Metrics, Phase},
};

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
    #[error(
        "cannot listen on {addr}: {source}: for a user other than root a port below 1024 needs \
         CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start"
    )]
    PrivilegedPort { addr: SocketAddr, source: io::Error },
}

impl Listener {
    /// Opens the port; connections wait in the queue of the system until `serve`.
    pub async fn bind(config: Config) -> Result<Self, ListenerError> {
        let addr = config.addr;
        let socket = match TcpListener::bind(addr).await {
            // A system without IPv6: "every address" then means every one that there is.
            Err(error) if addr.ip() == Ipv6Addr::UNSPECIFIED && lacks_ipv6(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, addr.port())).await
            }
            bound => bound,
        };
        let socket = socket.map_err(|source| match source.kind() {
            io::ErrorKind::PermissionDenied if addr.port() < FIRST_ORDINARY_PORT => {
                ListenerError::PrivilegedPort { addr, source }
            }
            _ => ListenerError::Bind { addr, source },
        })?;
        Ok(Self { socket, config })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Answers until the drain is over: it goes on accepting while what runs finishes, and returns when
    /// nothing that began before the signal runs, or the drain's time is up.
    pub async fn serve<S, B>(self, service: S, drain: Drain, metrics: Metrics)
    where
        S: Service<Received, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Sendable + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.config.limits.drain;
        let connections = Arc::new(Connections::default());
        let drained = async {
            drain.reached(Phase::Draining).await;
            let finished = async {
                drain.finished().await;
                // What was answered may still be on its way out: a body that is read to its end is
                // not yet a body that is sent.
                connections.close().await;
            };
            tokio::select! {
                done = timeout(limit, finished) => if done.is_err() {
                    tracing::warn!("the time to drain is over: running transfers are cut");
                },
                () = drain.reached(Phase::Ending) => {}
            }
        };
        tokio::select! {
            () = self.accept(service, &connections, metrics) => {}
            () = drained => {}
        }
    }

    async fn accept<S, B>(&self, service: S, connections: &Arc<Connections>, metrics: Metrics)
    where
        S: Service<Received, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Sendable + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let config = Arc::new(self.config.clone());
        let places = Places::new(&config);
        loop {
            let place = places.next(connections).await;
            match self.socket.accept().await {
                Ok((stream, addr)) => {
                    let (service, config, metrics) = (service.clone(), Arc::clone(&config), metrics.clone());
                    #[expect(clippy::disallowed_methods, reason = "the drain waits for it through `open`")]
                    match places.of(addr.ip(), place) {
                        Ok(place) => {
                            let open = connections.open(addr.ip(), metrics, place);
                            tokio::spawn(serve_connection(stream, addr, service, config, open));
                        }
                        Err(Some(waiting)) => {
                            let connections = Arc::clone(connections);
                            tokio::spawn(async move {
                                if let Ok(place) = timeout(config.limits.idle, waiting.place(&connections)).await {
                                    let open = connections.open(addr.ip(), metrics, place);
                                    drop(connections);
                                    serve_connection(stream, addr, service, config, open).await;
                                }
                            });
                        }
                        Err(None) => tracing::debug!(%addr, "no place for {addr}: too many of its address wait"),
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

/// The peer went away before it was accepted; the next one is not concerned.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

const FIRST_ORDINARY_PORT: u16 = 1024;

/// Out of file descriptors, accepting again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
