use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;

use crate::config::Config;

/// Asks `/healthz` of the server that these settings describe, over its own TLS if it has any.
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    let config = super::configuration(file)?;
    let addr = reachable(config.server.addr);
    let answer = ask(addr, &config).with_context(|| format!("no health from {addr}"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(answer.starts_with("HTTP/1.") && status == "200", "{addr} is not well: status {status:?}");
    Ok(())
}

/// A server that listens everywhere listens on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), addr.port()),
        _ => addr,
    }
}

fn ask(addr: SocketAddr, config: &Config) -> Result<String, anyhow::Error> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let Some(tls) = &config.server.tls else { return converse(&mut stream, addr) };
    let mut client = tls.client_of_this_certificate(addr.ip())?;
    converse(&mut rustls::Stream::new(&mut client, &mut stream), addr)
}

fn converse(stream: &mut (impl Read + Write), addr: SocketAddr) -> Result<String, anyhow::Error> {
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; STATUS_LINE_BYTES];
    stream.read_exact(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

const PATIENCE: Duration = Duration::from_secs(5);
/// As much of the answer as it takes to read `HTTP/1.1 200 `.
const STATUS_LINE_BYTES: usize = 13;
