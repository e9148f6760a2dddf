//! What ours is held against other servers in: each asks the same of all of them, in turn.

use super::{Peers, Row, World};
use crate::{
    blobs::{BLOB_BYTES, Moved, STREAMS, Source},
    download::Door,
    load::{self, Measured},
    server::{Expected, Kind, Server},
    table::{Comparison, Goal, Table, Throughput},
};

impl World<'_> {
    pub(super) fn compare(&self, row: Row, servers: &[&Server]) -> anyhow::Result<Comparison> {
        let manifest = Expected::Manifest(self.verified.manifest.clone());
        let refusal = Expected::Refusal("unsigned");
        let ours = |server: &Server| server.kind == Kind::Ours;
        let nginx = |server: &Server| server.kind == Kind::Nginx;
        let (what, goal): (&str, Option<Goal>) = match row {
            Row::Tag => ("manifest by tag", Some(Goal::AtMost(MANIFEST_GOAL))),
            Row::Skip => ("manifest by digest, ours under `skip`", None),
            Row::Refusal => ("refusal of an unsigned image (the others: 404)", None),
            Row::Query => ("signatures of a digest (nginx: manifest by digest)", None),
            _ => ("verified manifest by digest", Some(Goal::AtMost(MANIFEST_GOAL))),
        };
        let absent = format!("/v2/{}/manifests/absent", crate::images::REPOSITORY);
        let asked = |server: &Server| match row {
            Row::Tag => Some((self.verified.path_by_tag(), manifest.clone())),
            Row::Skip => Some((self.plain.path(), Expected::Manifest(self.plain.manifest.clone()))),
            Row::Refusal if ours(server) => Some((self.unsigned.path_by_tag(), refusal.clone())),
            Row::Refusal => Some((absent.clone(), refusal.clone())),
            Row::Query if ours(server) => {
                let path = format!("/api/v1/signatures?digest={}", self.verified.digest);
                Some((path, Expected::Json("\"is_valid\":true".to_owned())))
            }
            Row::Query if !nginx(server) => None,
            _ => Some((self.verified.path(), manifest.clone())),
        };
        let mut rounds: Vec<Vec<Measured>> = vec![Vec::new(); servers.len()];
        for round in 0..=self.rounds {
            eprintln!("{what}: round {round} of {}", self.rounds);
            for (server, measured) in servers.iter().zip(&mut rounds) {
                let Some((path, expected)) = asked(server) else { continue };
                if round == 0 {
                    load::warm_up(self.session, server, &path)?;
                } else {
                    measured.push(load::run(self.session, server, &path, &expected, self.secs)?);
                }
            }
        }
        if let (Row::Digest | Row::Tag, Some(ours)) = (row, servers.iter().find(|server| ours(server))) {
            ours.verified(self.session, &self.verified)?;
        }
        Ok(Comparison { what: what.to_owned(), rounds, goal })
    }

    pub(super) fn blobs(&self, servers: &[&Server], table: &mut Table) -> anyhow::Result<()> {
        let Some(large) = &self.large else { return Ok(()) };
        let mut sources = Vec::new();
        for server in servers {
            let door = Door::plain(server.addr);
            let policy_on = Source { server, door: door.clone(), blob: &large.verified.1 };
            if server.kind == Kind::Ours {
                sources.push((format!("{}, verified", server.name), policy_on));
                sources.push((format!("{}, `skip`", server.name), Source { server, door, blob: &large.plain.1 }));
            } else {
                sources.push((server.name.clone(), policy_on));
            }
        }
        let ours = sources.len() - 2;
        let distribution_3 = sources.iter().position(|(name, _)| name.starts_with("distribution 3"));
        let others = [0].into_iter().chain(distribution_3);
        let rate_goals: Vec<_> = others.map(|against| (against, Goal::AtLeast(1.0))).collect();
        let cpu_goals: Vec<_> = [(0, Goal::AtMost(1.3))]
            .into_iter()
            .chain(distribution_3.map(|against| (against, Goal::AtMost(0.8))))
            .collect();
        for streams in STREAMS {
            let (rate_goals, cpu_goals) = (rate_goals.clone(), cpu_goals.clone());
            let what = format!("cached blob of {} MiB, {}", BLOB_BYTES >> 20, counted(streams));
            let servers = self.throughputs(&what, &sources, streams)?;
            table.throughputs.push(Throughput { what, servers, ours, rate_goals, cpu_goals });
        }
        Ok(())
    }

    /// nginx and ours, each with its own TLS.
    pub(super) fn blobs_over_tls(&self, peers: &Peers, table: &mut Table) -> anyhow::Result<()> {
        let (Some(large), Some(nginx)) = (&self.large, peers.servers.first()) else { return Ok(()) };
        let (ours, door) = self.mirror.start_tls(self.session, &peers.certificate)?;
        let nginx_door = Door { addr: peers.nginx_tls, tls: door.tls.clone() };
        let blob = &large.verified.1;
        let sources = [
            (nginx.name.clone(), Source { server: nginx, door: nginx_door, blob }),
            (ours.name.clone(), Source { server: &ours, door, blob }),
        ];
        for streams in STREAMS {
            let what = format!("cached blob over TLS, {}", counted(streams));
            let servers = self.throughputs(&what, &sources, streams)?;
            let (rate_goals, cpu_goals) = (vec![(0, Goal::AtLeast(1.0))], vec![(0, Goal::AtMost(1.1))]);
            table.throughputs.push(Throughput { what, servers, ours: 1, rate_goals, cpu_goals });
        }
        ours.program.end()
    }

    /// In turn, as all loads are.
    fn throughputs(
        &self,
        what: &str,
        sources: &[(String, Source<'_>)],
        streams: usize,
    ) -> anyhow::Result<Vec<(String, Vec<Moved>)>> {
        let mut measured: Vec<_> = sources.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
        for round in 0..=self.rounds {
            eprintln!("{what}: round {round} of {}", self.rounds);
            for ((_, source), (_, moved)) in sources.iter().zip(&mut measured) {
                if round == 0 {
                    source.warm_up(self.session)?;
                } else {
                    moved.push(source.run(self.session, &self.upstream.program, streams, self.secs)?);
                }
            }
        }
        Ok(measured)
    }
}

fn counted(streams: usize) -> String {
    if streams == 1 { "1 stream".to_owned() } else { format!("{streams} streams") }
}

const MANIFEST_GOAL: f64 = 0.6;
