//! What a setting lets through, from what it says and from what its URLs turned out to be. Pure.

use std::collections::BTreeMap;

use http::StatusCode;

use super::{
    address::Address,
    exchange::ExchangeError,
    family::{Cause, Family, Taken},
    probe::{Found, Probe, Readiness},
    settings::{Mirror, Place, Setting, Software},
    words,
};

/// From the best to the worst that can be said of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Held,
    Unknown,
    Round,
}

/// What was found about one URL or one setting, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) why: Vec<String>,
    pub(super) close: Vec<String>,
}

pub(super) type Probes = BTreeMap<Address, Probe>;

impl Judged {
    fn held(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Held, why: vec![why.into()], close: Vec::new() }
    }

    fn add(&mut self, verdict: Verdict, why: impl Into<String>, close: impl Into<String>) {
        self.verdict = self.verdict.max(verdict);
        let (why, close) = (why.into(), close.into());
        if !self.why.contains(&why) {
            self.why.push(why);
        }
        if !close.is_empty() && !self.close.contains(&close) {
            self.close.push(close);
        }
    }
}

/// How one family fares with a mirror that answers, where the registry itself comes after it.
pub(super) fn of_family(found: &Found, family: Family) -> Judged {
    match found.of(family) {
        Taken::Held(form) => Judged::held(words::form(*form)),
        Taken::Round(cause) => Judged {
            verdict: Verdict::Round,
            why: vec![words::cause(cause, found.is_ours)],
            close: vec![words::mend(cause, found.is_ours)],
        },
    }
}

/// Whether anything is to be said against the whole of what answers at a URL, beside what each family makes of it.
pub(super) fn of_whole(found: &Found) -> Judged {
    let mut judged = Judged { verdict: Verdict::Held, why: Vec::new(), close: Vec::new() };
    if found.base == StatusCode::UNAUTHORIZED {
        judged.add(
            Verdict::Round,
            "/v2/ asks for a login: Docker and podman may send the user's Docker Hub password here, and where that or a \
             token is not to be had they go on to the registry",
            words::mend(&Cause::Challenged, found.is_ours),
        );
    }
    match &found.readiness {
        Readiness::Ready | Readiness::Untold => {}
        Readiness::Degraded(what) => judged.add(
            Verdict::Held,
            format!("it is degraded: {what}"),
            "look into its log; what it cannot decide on it refuses meanwhile",
        ),
        Readiness::Unready(what) => judged.add(
            Verdict::Unknown,
            format!("it is not ready: {what}"),
            "ask again when it is: until then it is no test of anything",
        ),
        Readiness::Down => judged.add(
            Verdict::Unknown,
            "sig-repo does not answer: what stands before it refuses in its place",
            "start sig-repo, and ask again: what it answers itself could not be seen",
        ),
    }
    judged
}

/// What the client that has this setting can be brought to. `given` is the mirror that it should have been told of.
pub(super) fn of_setting(setting: &Setting, probes: &Probes, given: Option<&Address>) -> Judged {
    let family = setting.software.family();
    let mut judged = Judged { verdict: Verdict::Held, why: Vec::new(), close: Vec::new() };
    let first = setting.mirrors().next();
    if first.is_none() {
        judged.add(
            Verdict::Round,
            "it is told of no mirror, and gets every image from the registry itself",
            words::strict(setting, given.cloned().map(Mirror::at).as_ref()),
        );
    }
    for hole in &setting.holes {
        judged.add(Verdict::Round, hole.what.clone(), hole.close.clone());
    }
    if first.is_none() {
        return judged;
    }
    let falls_back = setting.places.contains(&Place::Registry);
    for mirror in setting.mirrors() {
        judge_mirror(&mut judged, mirror, probes.get(&mirror.address), family, falls_back);
    }
    if falls_back {
        let when = match setting.software {
            Software::Docker => "registry-mirrors, with the classic image store, always falls back",
            Software::DockerContainerd => "registry-mirrors falls back",
            Software::Containerd | Software::Containers => "this setting falls back",
        };
        judged.add(
            Verdict::Round,
            format!("when no mirror answers, the registry itself is asked: {when}"),
            words::strict(setting, first),
        );
    }
    if judged.verdict == Verdict::Held {
        judged.why.insert(0, "there is no other place that it would ask".to_owned());
    }
    judged
}

fn judge_mirror(judged: &mut Judged, mirror: &Mirror, probe: Option<&Probe>, family: Family, falls_back: bool) {
    let address = &mirror.address;
    match probe.map(|probe| &probe.found) {
        None => judged.add(Verdict::Unknown, format!("{address} was not asked"), ""),
        // The client looks at no certificate; this program does, and so got no further.
        Some(Err(error @ ExchangeError::Tls(_))) if mirror.insecure => judged.add(
            Verdict::Unknown,
            format!("{address} could not be asked ({error})"),
            "give its authority's certificate: --ca FILE",
        ),
        Some(Err(error)) if falls_back => judged.add(
            Verdict::Round,
            format!("{address} does not answer now, so the registry itself is asked ({error})"),
            "start the mirror, or mend its URL in this file",
        ),
        Some(Err(error)) => judged.add(
            Verdict::Held,
            format!("{address} does not answer now, so nothing can be pulled ({error})"),
            "start the mirror, or mend its URL in this file",
        ),
        Some(Ok(found)) if !found.is_ours => judged.add(
            Verdict::Round,
            format!("{address} does not answer as sig-repo does: what it hands out is not verified"),
            "leave every mirror but sig-repo out of this setting",
        ),
        Some(Ok(found)) if falls_back => {
            if let Taken::Round(cause) = found.of(family) {
                judged.add(
                    Verdict::Round,
                    format!("a refusal by {address} does not stop it: {}", words::cause(cause, found.is_ours)),
                    words::mend(cause, found.is_ours),
                );
            }
        }
        Some(Ok(found)) if *found.of(family) == Taken::Round(Cause::Served) => judged.add(
            Verdict::Round,
            format!("{address} hands the test image out"),
            words::mend(&Cause::Served, found.is_ours),
        ),
        Some(Ok(_)) => {}
    }
}

#[cfg(test)]
mod tests;
