//! What is said of ours alone.

use std::time::Duration;

use super::{Row, World};
use crate::{
    cold, connections,
    crowd::Crowds,
    images::Image,
    load,
    mirror::Mirror,
    server::{Expected, Server},
    table::{Figure, Goal, Samples, Unit},
};

impl World<'_> {
    /// What is to be seen where there are many clients, or an upstream that counts.
    pub(super) fn many(&self, wanted: &dyn Fn(Row) -> bool) -> anyhow::Result<Vec<Figure>> {
        let mut figures = Vec::new();
        // An image that takes an upstream with a limit as long as other loads take.
        let megabytes = CROWD_MEGABYTES.min(usize::try_from(self.secs)? * 25);
        let crowds = Crowds::new(self.session, &self.key, megabytes)?;
        if wanted(Row::Crowd) {
            figures.extend(crowds.limited()?);
            figures.extend(crowds.unlimited()?);
        }
        if wanted(Row::Head) {
            figures.push(crowds.head()?);
        }
        if wanted(Row::Revalidation) {
            figures.push(crowds.revalidation(self.rounds)?);
        }
        if wanted(Row::Connections) {
            figures.push(connections::pulling(self.session, &self.key)?);
            figures.extend(connections::idle(self.session, &self.mirror)?);
        }
        Ok(figures)
    }

    /// The same process, an image that was verified against one of which nothing is asked; in pairs, since the machine
    /// changes more from minute to minute than these two differ.
    pub(super) fn tax(&self, ours: &Server) -> anyhow::Result<Figure> {
        let load = |image: &Image| {
            let expected = Expected::Manifest(image.manifest.clone());
            load::run(self.session, ours, &image.path(), &expected, self.secs)
        };
        let mut taxes = Vec::new();
        load::warm_up(self.session, ours, &self.verified.path())?;
        load::warm_up(self.session, ours, &self.plain.path())?;
        let pairs = 2 * self.rounds;
        for pair in 1..=pairs {
            eprintln!("tax of verification: pair {pair} of {pairs}");
            let (verified, plain) = if pair % 2 == 0 {
                let verified = load(&self.verified)?;
                (verified, load(&self.plain)?)
            } else {
                let plain = load(&self.plain)?;
                (load(&self.verified)?, plain)
            };
            taxes.push((verified.cpu / plain.cpu - 1.0) * 100.0);
        }
        ours.verified(self.session, &self.verified)?;
        Ok(Figure {
            what: "tax of verification, CPU (a verified image against one under `skip`)".to_owned(),
            samples: Samples::new(taxes),
            unit: Unit::Percent,
            goal: Some(Goal::Below(3.0)),
        })
    }

    pub(super) fn cold(&self) -> anyhow::Result<[Figure; 2]> {
        eprintln!("cold verdicts");
        let (verdicts, decisions) = cold::measure(self.session, &self.mirror, &self.many)?;
        let figure =
            |what: &str, samples, goal| Figure { what: what.to_owned(), samples, unit: Unit::Milliseconds, goal };
        Ok([
            figure("a cold verdict from the store", verdicts, Some(Goal::Below(0.2))),
            figure(
                "a cold pull by digest, decided (manifest, tags, verdict, audit)",
                decisions,
                Some(Goal::Below(0.2)),
            ),
        ])
    }

    pub(super) fn idle(&self) -> anyhow::Result<[Figure; 2]> {
        eprintln!("idle memory");
        let (ours, _) = self.mirror.start(self.session)?;
        let begun = ours.program.memory()?;
        self.session.rest(IDLE)?;
        let rested = ours.program.memory()?;
        ours.program.end()?;
        let figure = |what: &str, bytes: u64| Figure {
            what: what.to_owned(),
            samples: Samples::new([bytes as f64 / f64::from(1 << 20)]),
            unit: Unit::Mebibytes,
            goal: Some(Goal::AtMost(64.0)),
        };
        Ok([figure("memory when ready", begun), figure("memory after 10 s idle", rested)])
    }

    pub(super) fn starts(&self) -> anyhow::Result<[Figure; 2]> {
        eprintln!("starts");
        let (mut again, mut first) = (Vec::new(), Vec::new());
        for n in 0..STARTS {
            let (ours, took) = self.mirror.start(self.session)?;
            again.push(took.as_secs_f64() * 1e3);
            ours.program.end()?;
            let fresh = Mirror::new(self.session, &format!("fresh-{n}"), self.upstream.addr, &self.key)?;
            let (ours, took) = fresh.start(self.session)?;
            first.push(took.as_secs_f64() * 1e3);
            ours.program.end()?;
        }
        let figure = |what: &str, samples, goal| Figure {
            what: what.to_owned(),
            samples: Samples::new(samples),
            unit: Unit::Milliseconds,
            goal,
        };
        Ok([
            figure("start to ready", again, Some(Goal::AtMost(50.0))),
            figure("start to ready, the first on an empty directory", first, None),
        ])
    }
}

const STARTS: usize = 20;
const CROWD_MEGABYTES: usize = 100;
const IDLE: Duration = Duration::from_secs(10);
