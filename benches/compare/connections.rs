//! Many connections at once: those that pull, those that wait, and those that take their time.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{anyhow, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    crowd::together,
    download::Door,
    images::{Blob, Image},
    load,
    mirror::{self, Mirror},
    program::Core,
    pushing::Key,
    registry::Registry,
    server::Server,
    session::Session,
    table::{Figure, Goal, Samples, Unit},
};

/// Each pulls the same verified image of one small layer, all of them at the same time, from a warm cache.
pub(crate) fn pulling(session: &Session, key: &Key) -> anyhow::Result<Figure> {
    eprintln!("{PULLING} connections that pull");
    allow_files(PULLING as u64)?;
    let registry = Registry::start(session.clock.clone())?;
    let (config, layer) = (Blob::config(), Blob::noise(PULLED_BYTES, 20));
    let image = Image::new("preview-many", &config, std::slice::from_ref(&layer));
    registry.hold(&image, [&config, &layer]);
    let mirror = Mirror::new(session, "pulling", registry.addr, key)?;
    let (server, _) = mirror.start(session)?;
    mirror::submit(session, &server, &image, key)?;
    let door = Door::plain(server.addr);
    let ready = Barrier::new(PULLING);
    together(PULLING, |_| {
        let connection = door.open_with(SMALL_READ);
        ready.wait();
        let mut connection = connection?;
        connection.whole(&image.path_by_tag(), &image.manifest)?;
        connection.whole(&layer.path(), &layer.bytes)
    })?;
    server.verified(session, &image)?;
    let peak = server.program.peak()?;
    server.program.end()?;
    Ok(memory(
        format!("{} connections that pull {} MB each: the most memory", thousands(PULLING), PULLED_BYTES / 1_000_000),
        peak,
        256.0,
    ))
}

/// Connections on which nothing happens, and a new one that is served beside them.
pub(crate) fn idle(session: &Session, mirror: &Mirror) -> anyhow::Result<[Figure; 2]> {
    eprintln!("{IDLE} idle connections");
    allow_files(IDLE as u64)?;
    let held = |asked: bool| {
        let server = mirror.start_for_many(session)?;
        let door = Door::plain(server.addr);
        let mut connections = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            session.go_on()?;
            let mut connection = door.open_with(SMALL_READ)?;
            if asked {
                connection.whole("/v2/", b"{}")?;
            }
            connections.push(connection);
        }
        // Those that came last are accepted by then, and the first ones are still there.
        door.open()?.whole("/v2/", b"{}")?;
        let memory = server.program.memory()?;
        connections[0].whole("/v2/", b"{}")?;
        drop(connections);
        server.program.end()?;
        anyhow::Ok(memory)
    };
    let what = format!("{} idle connections, and new ones served: memory", thousands(IDLE));
    Ok([
        memory(what, held(false)?, 128.0),
        memory("… the same, each of which has asked something before".to_owned(), held(true)?, 128.0),
    ])
}

/// What the slowest hundredth of warm manifests takes while blobs stream to clients that take their time, and what it takes otherwise.
pub(crate) fn beside_slow_clients(
    session: &Session,
    server: &Server,
    path: &str,
    blob: &Blob,
    secs: u64,
    rounds: u64,
) -> anyhow::Result<[Figure; 2]> {
    let door = Door::plain(server.addr);
    door.check(blob)?;
    load::warm_up(session, server, path)?;
    let (mut alone, mut ratios) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("slow clients: round {round} of {rounds}");
        let without = load::slowest_hundredth(session, server, path, secs)?;
        let over = AtomicBool::new(false);
        let with = thread::scope(|scope| {
            let clients: Vec<_> = (0..SLOW).map(|_| scope.spawn(|| take_time(&door, blob, &over))).collect();
            let measured = session.rest(UNDER_WAY).and_then(|()| load::slowest_hundredth(session, server, path, secs));
            over.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            measured
        })?;
        alone.push(without * 1e3);
        ratios.push(with / without);
    }
    Ok([
        Figure {
            what: "the slowest hundredth of warm verified manifests, 64 connections".to_owned(),
            samples: Samples::new(alone),
            unit: Unit::Milliseconds,
            goal: None,
        },
        Figure {
            what: format!("… the same while {SLOW} blobs stream to clients that take 1 MB/s each"),
            samples: Samples::new(ratios),
            unit: Unit::Times,
            goal: Some(Goal::AtMost(2.0)),
        },
    ])
}

fn take_time(door: &Door, blob: &Blob, over: &AtomicBool) -> anyhow::Result<()> {
    Core::Load.hold()?;
    let mut connection = door.open_with(SLOW_READ)?;
    loop {
        let head = connection.ask("GET", &blob.path())?;
        ensure!(head.status == 200, "{} to a slow client", head.status);
        let mut left = head.length;
        while left > 0 {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            left -= connection.take(left)?.len() as u64;
            thread::sleep(SLOW_PAUSE);
        }
    }
}

/// This process needs as many descriptors as it has connections.
fn allow_files(connections: u64) -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(
        most > connections + OTHER_FILES,
        "{connections} connections take more open files than the {most} that are allowed"
    );
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

fn memory(what: String, bytes: u64, limit: f64) -> Figure {
    let samples = Samples::new([bytes as f64 / f64::from(1 << 20)]);
    Figure { what, samples, unit: Unit::Mebibytes, goal: Some(Goal::AtMost(limit)) }
}

fn thousands(count: usize) -> String {
    format!("{},000", count / 1000)
}

const PULLING: usize = 1_000;
const PULLED_BYTES: usize = 4_000_000;
const IDLE: usize = 10_000;
const SMALL_READ: usize = 16 << 10;
const OTHER_FILES: u64 = 200;

const SLOW: usize = 100;
/// 1 MB a second.
const SLOW_READ: usize = 64_000;
const SLOW_PAUSE: Duration = Duration::from_millis(64);
/// By then the buffers between are full, and each goes on as fast as it takes.
const UNDER_WAY: Duration = Duration::from_millis(1500);
