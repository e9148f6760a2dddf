//! What is measured, in the order in which it is.

mod comparisons;
mod figures;

use std::{fs, net::SocketAddr, path::Path, thread};

use anyhow::{anyhow, ensure};
use clap::ValueEnum;

use crate::{
    blobs::{BLOB_BYTES, Certificate},
    commands, connections, distribution, docker,
    images::{Blob, Image},
    load::WRK,
    mirror::{self, BINARY, Mirror},
    nginx, packages,
    program::Core,
    pull,
    pushing::{Key, Pusher},
    server::{Expected, Server},
    session::Session,
    table::{Figure, Goal, Samples, Table, Unit},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// A verified manifest by digest, warm
    Digest,
    /// The same by tag
    Tag,
    /// A manifest by digest of which ours asks nothing, warm
    Skip,
    /// An unsigned preview tag
    Refusal,
    /// The signatures of a digest, over REST
    Query,
    /// A cached blob of 64 MiB, one stream and 32, plain and over TLS
    Blobs,
    /// What verification adds to our own path
    Tax,
    /// Warm manifests while blobs stream to slow clients
    Slow,
    /// Many clients and one cold image, over an upstream that counts
    Crowd,
    /// HEAD of a tag whose image is cold
    Head,
    /// A tag that many ask for in the same moment, where the upstream is asked each time
    Revalidation,
    /// 1,000 connections that pull, and 10,000 idle ones
    Connections,
    /// A decision where nothing is in memory yet
    Verdict,
    /// Memory of a process that nobody asks
    Idle,
    /// From start to ready
    Start,
    /// `docker pull` of an image of Debian's packages, cold and warm
    Pull,
    /// Verified by a command, beside cosign's
    Commands,
    /// Bytes of the binary
    Size,
}

/// Packages of Debian that the comparison needs, and the program that each is there for.
const PACKAGES: [(&str, &str); 3] =
    [("wrk", WRK), ("nginx", "/usr/sbin/nginx"), ("docker-registry", "/usr/bin/docker-registry")];

/// Images with a signature in the store, beside the one that loads ask for.
const IMAGES: usize = 200;

struct World<'a> {
    session: &'a Session,
    secs: u64,
    rounds: u64,
    key: Key,
    verified: Image,
    plain: Image,
    unsigned: Image,
    many: Vec<Image>,
    large: Option<Large>,
    mirror: Mirror,
    /// Holds the images; ends last.
    upstream: Server,
}

/// Images with one large layer each: one that is verified, and one of which nothing is asked.
struct Large {
    verified: (Image, Blob),
    plain: (Image, Blob),
}

/// What ours is held against.
struct Peers {
    /// nginx first.
    servers: Vec<Server>,
    nginx_tls: SocketAddr,
    certificate: Certificate,
}

pub(crate) fn measure(session: &Session, secs: u64, rounds: u64, rows: &[Row]) -> anyhow::Result<Table> {
    let wanted = |row| rows.is_empty() || rows.contains(&row);
    installed()?;
    let docker = docker::is_there();
    if wanted(Row::Pull) && docker.is_ok() {
        packages::make(session)?;
    }
    let alone = wanted(Row::Verdict) || wanted(Row::Idle) || wanted(Row::Start);
    let world =
        World::new(session, secs, rounds, if alone { IMAGES } else { 0 }, wanted(Row::Blobs) || wanted(Row::Slow))?;
    let mut table = Table::default();

    let (ours, _) = world.mirror.start(session)?;
    world.fill(&ours)?;
    let comparisons: Vec<_> =
        [Row::Digest, Row::Tag, Row::Skip, Row::Refusal, Row::Query].into_iter().filter(|row| wanted(*row)).collect();
    let peers = if comparisons.is_empty() && !wanted(Row::Blobs) { None } else { Some(world.peers(&mut table)?) };
    if let Some(peers) = &peers {
        let servers: Vec<_> = peers.servers.iter().chain([&ours]).collect();
        table.name_columns(servers.iter().map(|server| server.name.clone()));
        for row in comparisons {
            table.comparisons.push(world.compare(row, &servers)?);
        }
        if wanted(Row::Blobs) {
            world.blobs(&servers, &mut table)?;
        }
    }
    if wanted(Row::Tax) {
        table.figures.push(world.tax(&ours)?);
    }
    if wanted(Row::Slow)
        && let Some(large) = &world.large
    {
        let (path, blob) = (world.verified.path(), &large.verified.1);
        table.figures.extend(connections::beside_slow_clients(session, &ours, &path, blob, secs, rounds)?);
    }
    ours.program.end()?;
    if let Some(peers) = peers.filter(|_| wanted(Row::Blobs)) {
        world.blobs_over_tls(&peers, &mut table)?;
    }

    if [Row::Crowd, Row::Head, Row::Revalidation, Row::Connections].into_iter().any(wanted) {
        table.figures.extend(on(Core::Load, || world.many(&wanted))?);
    }
    if wanted(Row::Verdict) {
        table.figures.extend(world.cold()?);
    }
    if wanted(Row::Idle) {
        table.figures.extend(world.idle()?);
    }
    if wanted(Row::Start) {
        table.figures.extend(world.starts()?);
    }
    if wanted(Row::Pull) {
        match docker {
            Ok(()) => table.figures.extend(on(Core::Server, || pull::measure(session, &world.key, rounds))?),
            Err(error) => table.left_out("docker", &error),
        }
    }
    if wanted(Row::Commands) {
        match commands::cosigns() {
            Ok(cosigns) => table.duels = commands::measure(session, world.upstream.addr, &cosigns)?,
            Err(error) => table.left_out("cosign", &error),
        }
    }
    if wanted(Row::Size) {
        let bytes = fs::metadata(BINARY)?.len() as f64;
        table.figures.push(Figure {
            what: "the binary".to_owned(),
            samples: Samples::new([bytes / 1e6]),
            unit: Unit::Megabytes,
            goal: Some(Goal::Below(25.0)),
        });
    }
    Ok(table)
}

/// With all threads that it starts.
fn on<T: Send>(core: Core, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let working = scope.spawn(|| core.hold().and_then(|()| work()));
        working.join().map_err(|_| anyhow!("the driver panicked"))?
    })
}

fn installed() -> anyhow::Result<()> {
    let missing: Vec<_> =
        PACKAGES.iter().filter(|(_, program)| !Path::new(program).exists()).map(|(package, _)| *package).collect();
    ensure!(missing.is_empty(), "not installed: apt-get install --no-install-recommends {}", missing.join(" "));
    ensure!(thread::available_parallelism()?.get() >= 2, "this takes two cores: one for the server, one for the load");
    Ok(())
}

impl<'a> World<'a> {
    fn new(session: &'a Session, secs: u64, rounds: u64, images: usize, large: bool) -> anyhow::Result<Self> {
        let upstream = distribution::upstream(session)?;
        let pusher = Pusher::new(session, upstream.addr)?;
        let key = Key::generate()?;
        let large_image = |tag, seed| {
            let layer = Blob::noise(BLOB_BYTES, seed);
            anyhow::Ok((pusher.push_layer(tag, &layer)?, layer))
        };
        Ok(Self {
            session,
            secs,
            rounds,
            verified: pusher.push("preview-v1")?,
            plain: pusher.push("v1")?,
            unsigned: pusher.push("preview-v2")?,
            many: (0..images).map(|n| pusher.push(&format!("preview-v3-{n}"))).collect::<Result<_, _>>()?,
            large: match large {
                true => Some(Large { verified: large_image("preview-v4", 1)?, plain: large_image("v4", 2)? }),
                false => None,
            },
            mirror: Mirror::new(session, "data", upstream.addr, &key)?,
            key,
            upstream,
        })
    }

    fn peers(&self, table: &mut Table) -> anyhow::Result<Peers> {
        let (session, upstream) = (self.session, self.upstream.addr);
        let certificate = Certificate::new()?;
        let (nginx, nginx_tls) = nginx::start(session, upstream, &certificate)?;
        let mut servers = vec![nginx, distribution::release_2(session, upstream)?];
        match distribution::release_3(session, upstream) {
            Ok(server) => servers.push(server),
            Err(error) => table.left_out("distribution 3", &error),
        }
        session.go_on()?;
        Ok(Peers { servers, nginx_tls, certificate })
    }

    /// Submits every signature, and pulls every image once by its tag, as somebody does first.
    fn fill(&self, ours: &Server) -> anyhow::Result<()> {
        let large = self.large.as_ref();
        for image in self.many.iter().chain([&self.verified]).chain(large.map(|large| &large.verified.0)) {
            self.session.go_on()?;
            mirror::submit(self.session, ours, image, &self.key)?;
            ours.check(self.session, &image.path_by_tag(), &Expected::Manifest(image.manifest.clone()))?;
        }
        for image in [&self.plain].into_iter().chain(large.map(|large| &large.plain.0)) {
            ours.check(self.session, &image.path_by_tag(), &Expected::Manifest(image.manifest.clone()))?;
        }
        ours.verified(self.session, &self.verified)
    }
}
