//! What was measured, as markdown: medians, and the range they were taken from.

use std::fmt;

use crate::{
    blobs::Moved,
    load::{CONNECTIONS, Measured},
};

#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    /// Each with one column for each server; the first is what the others are held against, the last is ours.
    pub(crate) comparisons: Vec<Comparison>,
    pub(crate) throughputs: Vec<Throughput>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) duels: Vec<Duel>,
    left_out: Vec<String>,
}

pub(crate) struct Comparison {
    pub(crate) what: String,
    /// For each server its rounds, none where it has no part.
    pub(crate) rounds: Vec<Vec<Measured>>,
    /// Of our CPU, as a multiple of the first server's.
    pub(crate) goal: Option<Goal>,
}

/// What servers send of what they have cached.
pub(crate) struct Throughput {
    pub(crate) what: String,
    /// The first is what the others are held against.
    pub(crate) servers: Vec<(String, Vec<Moved>)>,
    /// Of the server in the column `ours`, as multiples of those in others.
    pub(crate) ours: usize,
    pub(crate) rate_goals: Vec<(usize, Goal)>,
    pub(crate) cpu_goals: Vec<(usize, Goal)>,
}

/// One of ours that is held against no other program.
pub(crate) struct Figure {
    pub(crate) what: String,
    pub(crate) samples: Samples,
    pub(crate) unit: Unit,
    pub(crate) goal: Option<Goal>,
}

/// Another program's command and ours, which answer the same question.
pub(crate) struct Duel {
    pub(crate) what: String,
    pub(crate) peer: String,
    /// Milliseconds of theirs and of ours.
    pub(crate) pairs: Vec<(f64, f64)>,
}

#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
    Percent,
    Mebibytes,
    Megabytes,
    Times,
    Copies,
    None,
}

/// Never empty.
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(samples: impl Into<Vec<f64>>) -> Self {
        let mut samples = samples.into();
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { (self.0[middle - 1] + self.0[middle]) / 2.0 }
    }

    /// The median, and between which values it lies.
    fn show(&self, unit: Unit) -> String {
        let median = unit.show(self.median());
        match &self.0[..] {
            [first, .., last] => format!("{median} ({} to {})", unit.number(*first), unit.number(*last)),
            _ => median,
        }
    }
}

impl Unit {
    fn number(self, value: f64) -> String {
        let decimals = match (self, value.abs()) {
            (Self::None, _) => 0,
            (Self::Milliseconds | Self::Seconds, value) if value < 1.0 => 3,
            (Self::Times, value) if value < 0.1 => 3,
            (_, value) if value < 10.0 => 2,
            (_, value) if value < 100.0 => 1,
            _ => 0,
        };
        grouped(&format!("{value:.decimals$}"))
    }

    fn show(self, value: f64) -> String {
        let number = self.number(value);
        match self {
            Self::Microseconds => format!("{number} µs"),
            Self::Milliseconds => format!("{number} ms"),
            Self::Seconds => format!("{number} s"),
            Self::Percent => format!("{number} %"),
            Self::Mebibytes => format!("{number} MiB"),
            Self::Megabytes => format!("{number} MB"),
            Self::Times => format!("× {number}"),
            Self::Copies => format!("{number} copies"),
            Self::None => number,
        }
    }
}

impl Goal {
    /// What was to be reached, and whether it was.
    fn show(self, unit: Unit, value: f64) -> String {
        let (sign, limit, reached) = match self {
            Self::AtLeast(limit) => ("≥", limit, value >= limit),
            Self::AtMost(limit) => ("≤", limit, value <= limit),
            Self::Below(limit) => ("<", limit, value < limit),
        };
        let limit_shown = match unit {
            Unit::Times => format!("× {limit}"),
            Unit::None => limit.to_string(),
            unit => format!("{limit} {}", unit.show(0.0).rsplit(' ').next().unwrap_or_default()),
        };
        if reached {
            format!("{sign} {limit_shown}: reached")
        } else {
            format!("{sign} {limit_shown}: missed by {:.0} %", (value / limit - 1.0).abs() * 100.0)
        }
    }
}

impl Table {
    pub(crate) fn name_columns(&mut self, names: impl IntoIterator<Item = String>) {
        self.columns = names.into_iter().collect();
    }

    /// A program that could not take part, and why.
    pub(crate) fn left_out(&mut self, name: &str, error: &anyhow::Error) {
        self.left_out.push(format!("{name} did not take part: {error:#}"));
    }
}

/// One value of each round of each server: the first server's as it is, the others' with their multiple of it.
fn cells<T>(servers: &[Vec<T>], unit: Unit, value: impl Fn(&T) -> f64) -> Vec<String> {
    let Some(base) = servers.first() else { return Vec::new() };
    let of = |rounds: &[T]| Samples::new(rounds.iter().map(&value).collect::<Vec<_>>());
    servers
        .iter()
        .enumerate()
        .map(|(column, rounds)| match column {
            _ if rounds.is_empty() => "–".to_owned(),
            0 => unit.show(of(rounds).median()),
            _ => {
                let ratios = ratios(base, rounds, &value).show(Unit::Times);
                format!("{}, {ratios}", unit.show(of(rounds).median()))
            }
        })
        .collect()
}

/// Round by round, since two loads of one round ran under much the same conditions.
fn ratios<T>(base: &[T], rounds: &[T], value: impl Fn(&T) -> f64) -> Samples {
    Samples::new(rounds.iter().zip(base).map(|(one, base)| value(one) / value(base)).collect::<Vec<_>>())
}

impl Comparison {
    fn goal(&self) -> String {
        match (self.goal, &self.rounds[..]) {
            (Some(goal), [base, .., ours]) => {
                goal.show(Unit::Times, ratios(base, ours, |measured| measured.cpu).median())
            }
            _ => String::new(),
        }
    }
}

impl Throughput {
    fn goals(&self, goals: &[(usize, Goal)], value: impl Fn(&Moved) -> f64) -> String {
        let shown = goals.iter().map(|(against, goal)| {
            let (name, base) = &self.servers[*against];
            let ratio = ratios(base, &self.servers[self.ours].1, &value).median();
            format!("{}, of {name}'s", goal.show(Unit::Times, ratio))
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, servers, .. } = self;
        let names: Vec<_> = servers.iter().map(|(name, _)| name.as_str()).collect();
        let rounds: Vec<_> = servers.iter().map(|(_, rounds)| rounds.clone()).collect();
        let rate = |moved: &Moved| moved.megabytes_per_second;
        let cpu = |moved: &Moved| moved.cpu;
        writeln!(f, "| {what} | {} | to reach |", names.join(" | "))?;
        writeln!(f, "|{}", "---|".repeat(servers.len() + 2))?;
        let rates = cells(&rounds, Unit::None, rate).join(" | ");
        writeln!(f, "| MB a second | {rates} | {} |", self.goals(&self.rate_goals, rate))?;
        let costs = cells(&rounds, Unit::Seconds, cpu).join(" | ");
        writeln!(f, "| CPU a GB | {costs} | {} |", self.goals(&self.cpu_goals, cpu))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.comparisons.is_empty() {
            writeln!(f, "| {CONNECTIONS} connections, warm | {} | to reach |", self.columns.join(" | "))?;
            writeln!(f, "|{}", "---|".repeat(self.columns.len() + 2))?;
            for comparison in &self.comparisons {
                let what = &comparison.what;
                let cpu = cells(&comparison.rounds, Unit::Microseconds, |measured| measured.cpu);
                writeln!(f, "| {what}: CPU a request | {} | {} |", cpu.join(" | "), comparison.goal())?;
                let rate = cells(&comparison.rounds, Unit::None, |measured| measured.requests_per_second);
                writeln!(f, "| … requests a second | {} | |", rate.join(" | "))?;
                let memory =
                    cells(&comparison.rounds, Unit::Mebibytes, |measured| measured.memory as f64 / f64::from(1 << 20));
                writeln!(f, "| … memory afterwards | {} | |", memory.join(" | "))?;
            }
            writeln!(f)?;
        }
        for throughput in &self.throughputs {
            writeln!(f, "{throughput}")?;
        }
        for line in &self.left_out {
            writeln!(f, "{line}\n")?;
        }
        if !self.figures.is_empty() {
            writeln!(f, "| sig-repo {} alone | | to reach |", env!("CARGO_PKG_VERSION"))?;
            writeln!(f, "|---|---|---|")?;
            for Figure { what, samples, unit, goal } in &self.figures {
                let goal = goal.map_or_else(String::new, |goal| goal.show(*unit, samples.median()));
                writeln!(f, "| {what} | {} | {goal} |", samples.show(*unit))?;
            }
            writeln!(f)?;
        }
        if !self.duels.is_empty() {
            writeln!(f, "| on the command line | | sig-repo {} |", env!("CARGO_PKG_VERSION"))?;
            writeln!(f, "|---|---|---|")?;
            for duel in &self.duels {
                let samples = |of: fn(&(f64, f64)) -> f64| Samples::new(duel.pairs.iter().map(of).collect::<Vec<_>>());
                let [theirs, ours] = [samples(|pair| pair.0), samples(|pair| pair.1)];
                let ratio = samples(|(theirs, ours)| ours / theirs).show(Unit::Times);
                let (theirs, ours) = (theirs.show(Unit::Milliseconds), Unit::Milliseconds.show(ours.median()));
                writeln!(f, "| {} | {}: {theirs} | {ours}, {ratio} |", duel.what, duel.peer)?;
            }
        }
        Ok(())
    }
}

/// 12345.6 as 12,345.6.
fn grouped(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut out = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}
