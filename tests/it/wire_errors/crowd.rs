//! Very many connections that ask nothing.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream as Blocking,
    time::Duration,
};

use sig_repo::{
    server::{Config, Limits, open_files},
    telemetry::TrustedProxies,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{ask, echo, port_with};
use crate::support::{
    port::{Port, SHORT, config, rest_of},
    process::Server,
    registry::Registry,
};

const CROWD: usize = 10_000;

/// What a connection may cost the process before its first request, and after it, when those that came last still hold the
/// buffers that hyper reads and writes with.
const MAX_KIB_SILENT: usize = 5;
const MAX_KIB_ASKED: usize = 12;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figure that ARCHITECTURE.md states")]
async fn ten_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    let files = open_files::raise();
    assert!(files > CROWD as u64 + 1000, "this test opens {CROWD} connections; `ulimit -Hn` says {files} files");
    let registry = Registry::start().await;
    let image = registry.push_image("team/app", Some("v1"), &[b"layer"]);
    let data_dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(&data_dir, &[("PROXY_REMOTEURL", registry.url().as_str()), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let checking = tokio::task::spawn_blocking(move || {
        let pull = || {
            let mut stream = connect(&server);
            write!(stream, "GET /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("a prompt answer");
            answer
        };
        assert!(pull().starts_with("HTTP/1.1 200 OK\r\n"));
        let before = resident_kib(&server);
        let mut crowd: Vec<Blocking> = (0..CROWD).map(|_| connect(&server)).collect();
        let silent = wait_for(&server, CROWD).saturating_sub(before) / CROWD;
        for stream in &mut crowd {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
            stream.read_exact(&mut [0; 64]).unwrap();
        }
        let answer = pull();
        assert!(answer.ends_with(str::from_utf8(&image.bytes).unwrap()), "{answer}");
        let asked = wait_for(&server, CROWD).saturating_sub(before) / CROWD;
        println!("KiB resident for each idle connection: {silent} before a request, {asked} after one");
        assert!(silent <= MAX_KIB_SILENT && asked <= MAX_KIB_ASKED, "{silent} KiB, {asked} KiB");
        drop(crowd);
        wait_for(&server, 0);
        assert!(pull().starts_with("HTTP/1.1 200 OK\r\n"));
    });
    checking.await.unwrap();
}

#[tokio::test]
async fn a_crowd_that_asks_nothing_is_closed_at_the_idle_limit() {
    let port = port_with(Limits { idle: Duration::from_secs(2), ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for n in 0..500 {
        let mut stream = port.connect().await;
        if n % 2 == 0 {
            stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 15]).await.unwrap();
        }
        crowd.push(stream);
    }
    port.all_closed().await;
    for mut stream in crowd {
        let rest = rest_of(&mut stream).await;
        assert!(rest.is_empty() || rest.ends_with("GET /a \"\";"), "{rest:?}");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn who_asks_nothing_gives_way_once_every_place_is_taken() {
    let port = of_many(Limits { connections: 8, ..Limits::default() }).await;
    let mut busy = busy(port.connect().await).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(port.connect().await);
    }
    let mut half = port.connect().await;
    half.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let mut stream = port.connect().await;
        ask(&mut stream).await;
        asked.push(stream);
    }
    // Far sooner than the limits end any of them, and again when there are places again.
    for _ in 0..20 {
        assert_eq!(port.get("/next").await, "HTTP/1.1 200 OK | - | GET /next \"\";");
    }
    for mut stream in silent.into_iter().chain([half]).chain(asked) {
        assert_eq!(rest_of(&mut stream).await, "");
    }
    busy.write_all(b"cd").await.unwrap();
    assert!(rest_of(&mut busy).await.ends_with("POST /busy \"abcd\";"), "what is being answered is answered");
    port.unharmed().await;
}

#[tokio::test]
async fn readers_that_take_nothing_lose_their_places() {
    let port = of_many(Limits { connections: 2, stall: SHORT, ..Limits::default() }).await;
    let mut deaf = Vec::new();
    for _ in 0..2 {
        let mut stream = port.connect().await;
        let piece = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000);
        while stream.write_all(piece.as_bytes()).await.is_ok() {}
        deaf.push(stream);
    }
    port.unharmed().await;
}

#[tokio::test]
async fn one_address_gets_half_of_the_places() {
    let port = port_with(Limits { connections: 8, ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(busy(port.connect().await).await);
    }
    // One more waits until one of its own address has gone, and who comes after it is sent away.
    let mut waiting = port.connect().await;
    waiting.write_all(b"GET /waited HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(rest_of(&mut port.connect().await).await, "");
    let mut idle = other_address(&port).await;
    ask(&mut idle).await;
    let mut answer = Box::pin(rest_of(&mut waiting));
    tokio::time::timeout(SHORT * 5, &mut answer).await.expect_err("it has no place");
    crowd[0].write_all(b"cd").await.unwrap();
    assert!(answer.await.ends_with("GET /waited \"\";"));
    // What gives way for an address is of that address.
    ask(&mut idle).await;
    drop((crowd, idle));
    port.unharmed().await;
}

#[tokio::test]
async fn who_asks_nothing_gives_way_to_its_own_address() {
    let port = port_with(Limits { connections: 8, ..Limits::default() }).await;
    let mut other = other_address(&port).await;
    ask(&mut other).await;
    let (mut silent, mut asked) = (port.connect().await, port.connect().await);
    ask(&mut asked).await;
    let _busy = [busy(port.connect().await).await, busy(port.connect().await).await];
    assert_eq!(port.get("/next").await, "HTTP/1.1 200 OK | - | GET /next \"\";");
    assert_eq!(rest_of(&mut silent).await + &rest_of(&mut asked).await, "");
    ask(&mut other).await;
}

/// A port at which all come through a proxy that is trusted.
async fn of_many(limits: Limits) -> Port {
    let trusted_proxies = TrustedProxies::new(["127.0.0.1/32".parse().unwrap()]);
    Port::open(Config { limits, trusted_proxies, ..config() }, echo()).await
}

/// A connection on which half of a request has come.
async fn busy(mut stream: TcpStream) -> TcpStream {
    let half = b"POST /busy HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab";
    stream.write_all(half).await.unwrap();
    stream
}

async fn other_address(port: &Port) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
    socket.connect(port.addr).await.unwrap()
}

fn connect(server: &Server) -> Blocking {
    let stream = Blocking::connect(server.addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// The resident memory in KiB, once the server says that it has this many connections beside the one
/// that asks.
fn wait_for(server: &Server, connections: usize) -> usize {
    let expected = format!("\nsig_repo_connections {}\n", connections + 1);
    assert!((0..1000).any(|_| server.get("/metrics").contains(&expected)), "never {expected:?}");
    resident_kib(server)
}

fn resident_kib(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
