//! nginx as a caching proxy, set up as somebody would who wants it fast.

use std::{fs, net::SocketAddr};

use anyhow::{Context, ensure};

use crate::{
    blobs::Certificate,
    program::{Core, Invocation, Program},
    server::{Kind, Server},
    session::{Session, free_port},
};

const NGINX: &str = "/usr/sbin/nginx";

/// Starts it over this upstream, with a second port that speaks TLS.
pub(crate) fn start(
    session: &Session,
    upstream: SocketAddr,
    certificate: &Certificate,
) -> anyhow::Result<(Server, SocketAddr)> {
    let directory = session.directory("nginx")?;
    let (addr, tls) = (free_port()?, free_port()?);
    fs::write(directory.join("tls.pem"), &certificate.pem)?;
    fs::write(directory.join("tls.key"), &certificate.key_pem)?;
    let file = directory.join("nginx.conf");
    let at = directory.display();
    let user = if crate::is_root() { "user root;" } else { "" };
    fs::write(
        &file,
        format!(
            "{user}
worker_processes 1;
daemon off;
pid {at}/pid;
error_log {at}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    open_file_cache max=10000 inactive=1h;
    open_file_cache_valid 1h;
    proxy_cache_path {at}/cache keys_zone=images:10m inactive=1d;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    server {{
        listen {addr} backlog=4096;
        listen {tls} ssl backlog=4096;
        ssl_certificate {at}/tls.pem;
        ssl_certificate_key {at}/tls.key;
        location / {{
            proxy_pass http://{upstream};
            proxy_cache images;
            proxy_cache_valid 200 404 1d;
            proxy_ignore_headers Cache-Control Expires;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"
        ),
    )?;
    let invocation = Invocation::new(NGINX, &["-c", file.to_str().context("a path in UTF-8")?]);
    let mut program = Program::start(session, "nginx", Core::Server, &invocation)?;
    let mut server = {
        program.until_it_answers(session, &format!("http://{addr}/v2/"))?;
        Server { kind: Kind::Nginx, name: String::new(), addr, program }
    };
    server.name = format!("nginx {}", version()?);
    Ok((server, tls))
}

fn version() -> anyhow::Result<String> {
    let output = std::process::Command::new(NGINX).arg("-v").output()?;
    ensure!(output.status.success(), "nginx -v failed");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.trim().rsplit_once('/').context("nginx -v says no version")?.1.to_owned())
}
