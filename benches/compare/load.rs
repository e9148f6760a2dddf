//! One load: `wrk` against one path of one server, what that cost the server, and whether every answer was right.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::{
    images::{ACCEPT, USER_AGENT},
    program::{Core, Invocation},
    server::{Expected, Kind, Server},
    session::Session,
};

pub(crate) const WRK: &str = "/usr/bin/wrk";
pub(crate) const CONNECTIONS: u64 = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) requests_per_second: f64,
    /// Microseconds of the server's CPU for one request.
    pub(crate) cpu: f64,
    /// Bytes that the server held afterwards.
    pub(crate) memory: u64,
}

/// What wrk says of a run.
#[derive(Debug, PartialEq)]
struct Report {
    requests: u64,
    seconds: f64,
    failed: u64,
    bytes: f64,
    /// Seconds that the slowest hundredth took at least.
    slowest_hundredth: f64,
}

pub(crate) fn run(
    session: &Session,
    server: &Server,
    path: &str,
    expected: &Expected,
    secs: u64,
) -> anyhow::Result<Measured> {
    // The first answer may be what fills the cache.
    server.get(session, path)?;
    server.check(session, path, expected)?;
    let decided = |server: &Server| match (server.kind, expected) {
        (Kind::Ours, Expected::Manifest(_)) => server.decisions(session, "admitted", "-"),
        (Kind::Ours, Expected::Refusal(reason)) => server.decisions(session, "refused", reason),
        _ => Ok(0),
    };
    let (cpu, decisions) = (server.program.cpu()?, decided(server)?);
    let report = wrk(session, &server.url(path), secs)?;
    let (cpu, decisions) = (server.program.cpu()? - cpu, decided(server)? - decisions);

    let memory = server.program.memory()?;
    let Report { requests, failed, bytes, .. } = report;
    let what = format!("{} at {path}", server.name);
    ensure!(requests > 0, "{what}: nothing was answered in {secs} s, which --secs makes longer");
    match expected {
        Expected::Refusal(_) => ensure!(failed == requests, "{what}: {requests} requests, only {failed} refused"),
        Expected::Manifest(_) | Expected::Json(_) => ensure!(failed == 0, "{what}: {failed} answers are no success"),
    }
    if let Expected::Manifest(manifest) = expected {
        ensure!(bytes >= (manifest.len() as u64 * requests) as f64 * ROUNDED, "{what}: answers without all bytes");
    }
    if server.kind == Kind::Ours && !matches!(expected, Expected::Json(_)) {
        ensure!(
            decisions >= requests,
            "{what}: {requests} answers, only {decisions} of them decided as they should be"
        );
    }
    server.check(session, path, expected)?;
    Ok(Measured {
        requests_per_second: requests as f64 / report.seconds,
        cpu: cpu.as_secs_f64() * 1e6 / requests as f64,
        memory,
    })
}

/// Seconds within which all but a hundredth of the answers come, each of which is a success.
pub(crate) fn slowest_hundredth(session: &Session, server: &Server, path: &str, secs: u64) -> anyhow::Result<f64> {
    let report = wrk(session, &server.url(path), secs)?;
    ensure!(report.requests > 0 && report.failed == 0, "{}: {report:?} for {path}", server.name);
    Ok(report.slowest_hundredth)
}

/// A short load that is not counted, so that caches and the CPU's clock have settled.
pub(crate) fn warm_up(session: &Session, server: &Server, path: &str) -> anyhow::Result<()> {
    wrk(session, &server.url(path), WARM_UP_SECS)?;
    Ok(())
}

const WARM_UP_SECS: u64 = 1;

/// wrk rounds what it has read.
const ROUNDED: f64 = 0.99;

fn wrk(session: &Session, url: &str, secs: u64) -> anyhow::Result<Report> {
    let (threads, connections) = ("-t1", format!("-c{CONNECTIONS}"));
    let args = [
        threads,
        &connections,
        &format!("-d{secs}s"),
        // Slow is what is to be measured, and no error.
        "--timeout",
        "60s",
        "--latency",
        "-H",
        &format!("Accept: {ACCEPT}"),
        "-H",
        &format!("User-Agent: {USER_AGENT}"),
        url,
    ];
    let output = session.path().join("wrk.log");
    let sink = File::create(&output)?;
    let mut command: Command = Invocation::new(WRK, &args).on(Core::Load);
    let mut child = command.stdout(sink.try_clone()?).stderr(Stdio::from(sink)).spawn().context("cannot start wrk")?;
    let limit = Duration::from_secs(secs) + GRACE;
    let waited = session.wait("wrk", limit, || Ok(child.try_wait()?.is_some()));
    if waited.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    waited?;
    let text = fs::read_to_string(&output)?;
    ensure!(status.success(), "wrk: {text}");
    Report::read(&text).with_context(|| format!("wrk says {text}"))
}

const GRACE: Duration = Duration::from_secs(15);

impl Report {
    fn read(text: &str) -> anyhow::Result<Self> {
        if let Some(errors) = text.lines().find(|line| line.contains("Socket errors")) {
            bail!("{}", errors.trim());
        }
        let summary = text.lines().find(|line| line.contains(" requests in ")).context("no summary")?;
        let (requests, rest) = summary.trim().split_once(" requests in ").context("no count")?;
        let (seconds, read) = rest.split_once(", ").context("no time")?;
        let slowest = text.lines().find_map(|line| line.trim().strip_prefix("99%")).context("no percentiles")?;
        let failed = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
        Ok(Self {
            requests: requests.parse()?,
            seconds: quantity(seconds, &TIMES)?,
            slowest_hundredth: quantity(slowest.trim(), &TIMES)?,
            failed: failed.map_or(Ok(0), str::parse)?,
            bytes: quantity(
                read.trim_end_matches(" read"),
                &[("KB", 1024.0), ("MB", 1024.0 * 1024.0), ("GB", 1024.0 * 1024.0 * 1024.0), ("B", 1.0)],
            )?,
        })
    }
}

const TIMES: [(&str, f64); 4] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0)];

fn quantity(text: &str, units: &[(&str, f64)]) -> anyhow::Result<f64> {
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .with_context(|| format!("{text} has no unit"))?;
    Ok(number.parse::<f64>()? * unit)
}
