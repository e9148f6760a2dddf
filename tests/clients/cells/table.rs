//! The table of clients, as README shows it: a row for each client, told about us as a mirror or pulling by name.

use std::{collections::BTreeSet, fmt::Write};

use super::{Cell, Outcome, Told, state::Expected};
use crate::{
    clients::{Client, Mode},
    doors::Door,
};

pub(super) const HEAD: &str = "| client | pulls | what is signed comes | refusals that held | says why | through |";

pub(super) fn markdown(outcomes: &[Outcome]) -> String {
    let mut text = format!("{HEAD}\n|---|---|---|---|---|---|\n");
    for client in Client::of_matrix() {
        for (mirror, way) in [(true, "mirror"), (false, "by name")] {
            let is_of_row = |cell: Cell| cell.client == client && (cell.mode == Mode::Mirror) == mirror;
            let of_row: Vec<_> = outcomes.iter().filter(|outcome| is_of_row(outcome.cell)).collect();
            if of_row.is_empty() {
                continue;
            }
            let (came, refused): (Vec<_>, Vec<_>) =
                of_row.iter().partition(|outcome| outcome.cell.state.expected() == Expected::Comes);
            let (why, doors) = (why(&refused), doors(&of_row));
            let (came, refused) = (held_of(&came), held_of(&refused));
            writeln!(text, "| {client} | {way} | {came} | {refused} | {why} | {doors} |").unwrap();
        }
    }
    text
}

fn held_of(outcomes: &[&Outcome]) -> String {
    let held = outcomes.iter().filter(|outcome| outcome.told.is_ok()).count();
    format!("{held} of {}", outcomes.len())
}

/// `yes`, or where not.
fn why(refused: &[&Outcome]) -> String {
    let mut exceptions = BTreeSet::new();
    for outcome in refused {
        let cell = outcome.cell;
        exceptions.insert(match outcome.told {
            Ok(Told::Came | Told::Reason) | Err(_) => continue,
            Ok(Told::Status) if cell.door == Door::Dropping => "the status alone where the phrase is lost",
            Ok(Told::Status) => "the status alone",
            Ok(Told::Nothing) if !cell.target.is_tag() => "not by digest",
            Ok(Told::Nothing) => "no",
        });
    }
    if refused.iter().any(|outcome| matches!(outcome.told, Ok(Told::Reason))) {
        exceptions.insert("");
    }
    let all: Vec<_> =
        exceptions.into_iter().map(|exception| if exception.is_empty() { "yes" } else { exception }).collect();
    all.join("; ")
}

/// The doors behind which everything was as it has to be.
fn doors(outcomes: &[&Outcome]) -> String {
    let holds = |door: &Door| outcomes.iter().all(|outcome| outcome.cell.door != *door || outcome.told.is_ok());
    let names: Vec<_> = Door::ALL.into_iter().filter(holds).map(name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn name(door: Door) -> &'static str {
    match door {
        Door::Plain => "plain",
        Door::Tls => "nginx",
        Door::Dropping => "no phrase",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table there is a copy of what a run printed; a client that it lacks, or has too much, shows that it is old.
    #[test]
    fn readme_shows_the_clients_of_the_suite() {
        let readme = include_str!("../../../README.md");
        let (_, table) = readme.split_once(HEAD).expect("README has the table");
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        // Two rows for one that can be told about a mirror.
        let builds: BTreeSet<_> = rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect();
        let shown: Vec<_> = builds.into_iter().map(of_any_version).collect();
        let named = |clients: Vec<Client>| clients.into_iter().map(|client| client.called("*")).collect::<Vec<_>>();
        // What a short run has not may be missing.
        assert_eq!(without(shown.clone(), &named(Client::every())), [""; 0], "shown, and none of the suite's");
        assert_eq!(without(named(Client::of_short_matrix()), &shown), [""; 0], "not shown");
    }

    /// The first list without one of each of the second.
    fn without(mut these: Vec<String>, those: &[String]) -> Vec<String> {
        for that in those {
            if let Some(at) = these.iter().position(|this| this == that) {
                these.remove(at);
            }
        }
        these
    }

    /// Debian moves on in the last figures, so versions are for the reader alone.
    fn of_any_version(client: &str) -> String {
        let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit());
        match client.split(' ').find(is_version) {
            Some(version) => client.replace(version.trim_end_matches(','), "*"),
            None => client.to_owned(),
        }
    }
}
