//! The test refusal: one reference that must be refused, asked for as each family of clients asks.
//!
//! The reference is a tag of class internal, which is enforced out of the box, with a name that is drawn anew each time
//! and so exists nowhere. That takes the way of every real refusal, through the policy and, where no role hides
//! internal images, the upstream; and it is refused whether the upstream has an answer, has none, or is away. A name
//! reserved for this would be refused by another rule than images are, so it would say nothing of them, and a mirror of
//! another release would not know it. An operator whose policy is another names a reference of his own.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::{join, join_all};
use http::{Method, StatusCode};

use super::{
    address::Address,
    exchange::{Answer, ExchangeError, Question, ask, chooses_http2},
    family::{self, Family, Form, Taken},
};
use crate::{cli::roots::Roots, clock::Clock};

/// The reference that must be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestImage {
    pub(super) repository: String,
    pub(super) tag: String,
}

/// What a URL turned out to be.
#[derive(Debug)]
pub(super) struct Probe {
    /// `None` where no connection or no answer came.
    pub(super) found: Result<Found, ExchangeError>,
}

#[derive(Debug)]
pub(super) struct Found {
    /// Whether what answers shows itself as sig-repo.
    pub(super) is_ours: bool,
    pub(super) readiness: Readiness,
    pub(super) taken: Vec<(Family, Taken)>,
    /// What `/v2/` is answered with.
    pub(super) base: StatusCode,
    /// Whether that took longer than it may.
    pub(super) base_slow: bool,
    /// Whether a client that offers HTTP/2 gets it.
    pub(super) http2: bool,
    /// Where a redirect led.
    pub(super) redirected: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    Ready,
    /// It works, and says what does not.
    Degraded(String),
    /// It has not begun yet, or ends.
    Unready(String),
    /// A hop answers in its place.
    Down,
    /// Nobody says; a hop need not pass the question on.
    Untold,
}

impl Found {
    pub(super) fn of(&self, family: Family) -> &Taken {
        let found = self.taken.iter().find(|(known, _)| *known == family);
        &found.expect("every family was asked for").1
    }

    /// Whether dockerd stops only because the phrase arrives, which it does not in HTTP/2.
    pub(super) fn needs_the_phrase(&self) -> bool {
        matches!(self.of(Family::Docker), Taken::Held(Form::StatusLine(_)))
    }
}

/// Asks everything of one URL.
pub(super) async fn probe(roots: &Roots, address: &Address, image: &TestImage, clock: &Clock) -> Probe {
    let agent = Family::Docker.agent();
    let base = Question { method: Method::GET, path: "/v2/".to_owned(), agent };
    let asked = clock.instant();
    let (answered, http2) = join(ask(roots, address, &base, BASE_LIMIT), chooses_http2(roots, address)).await;
    let waited = clock.instant().duration_since(asked);
    let base = match answered {
        Ok(answer) => answer,
        Err(error) => return Probe { found: Err(error) },
    };
    let answers = ask_all(roots, address, image).await;
    let found = judge(&base, &answers, http2, readiness(roots, address).await);
    let is_ours = found.is_ours || says_what_it_is(roots, address).await;
    Probe { found: Ok(Found { is_ours, base_slow: waited > BASE_AT_ONCE, ..found }) }
}

fn judge(base: &Answer, answers: &Answers, http2: bool, readiness: Readiness) -> Found {
    let all = || answers.values().flatten().filter_map(|answer| answer.as_ref().ok());
    let taken = Family::ALL.into_iter().map(|family| {
        let taken = match family.leaves_at_base(base) {
            Some(cause) => Taken::Round(cause),
            None => family.takes(answers.get(family.name()).map_or(&[][..], Vec::as_slice)),
        };
        (family, taken)
    });
    let down = all().any(family::says_mirror_is_down);
    Found {
        is_ours: all().any(family::is_signed_by_us),
        readiness: if down { Readiness::Down } else { readiness },
        taken: taken.collect(),
        base: base.status,
        base_slow: false,
        http2,
        redirected: base.redirected.clone(),
    }
}

/// By the family's name.
type Answers = BTreeMap<&'static str, Vec<Result<Answer, String>>>;

/// The first question alone: a cache on the way that keeps its answer will hand it to the others.
async fn ask_all(roots: &Roots, address: &Address, image: &TestImage) -> Answers {
    let mut questions =
        Family::ALL.into_iter().flat_map(|family| family.methods().iter().map(move |method| (family, method)));
    let one = |(family, method): (Family, &'static Method)| async move {
        let question = Question { method: method.clone(), path: image.path(family), agent: family.agent() };
        let answer = ask(roots, address, &question, ANSWER_LIMIT).await;
        (family, answer.map_err(|error| error.to_string()))
    };
    let mut answers = Answers::new();
    let Some(first) = questions.next() else { return answers };
    let first = one(first).await;
    for (family, answer) in std::iter::once(first).chain(join_all(questions.map(one)).await) {
        answers.entry(family.name()).or_default().push(answer);
    }
    answers
}

async fn readiness(roots: &Roots, address: &Address) -> Readiness {
    let question = Question { method: Method::GET, path: "/readyz".to_owned(), agent: AGENT };
    let Ok(answer) = ask(roots, address, &question, BASE_LIMIT).await else { return Readiness::Untold };
    let said: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let degraded = said["degraded"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (said["status"].as_str(), degraded) {
        (Some("ready"), []) => Readiness::Ready,
        (Some("ready"), degraded) => {
            let lines: Vec<_> = degraded.iter().filter_map(|line| line.as_str()).collect();
            Readiness::Degraded(lines.join("; "))
        }
        (Some(status @ ("starting" | "shutting down")), _) => Readiness::Unready(status.to_owned()),
        _ => Readiness::Untold,
    }
}

/// Its page at a path that is nobody's. For a mirror whose refusals do not arrive as its own.
async fn says_what_it_is(roots: &Roots, address: &Address) -> bool {
    let question = Question { method: Method::GET, path: "/".to_owned(), agent: AGENT };
    let answer = ask(roots, address, &question, BASE_LIMIT).await;
    answer.is_ok_and(|answer| answer.body.starts_with(b"sig-repo: "))
}

impl TestImage {
    /// A name that nobody has used before.
    pub(super) fn fresh() -> Self {
        let mut drawn = [0; 8];
        // Without randomness the name is only easier to foresee, and still nobody's.
        if aws_lc_rs::rand::fill(&mut drawn).is_err() {
            drawn = *b"sig-repo";
        }
        Self { repository: "sig-repo/doctor".to_owned(), tag: format!("internal-{}", hex::encode(drawn)) }
    }

    fn path(&self, family: Family) -> String {
        let Self { repository, tag } = self;
        let ns = if family.names_registry() { "?ns=docker.io" } else { "" };
        format!("/v2/{repository}/manifests/{tag}{ns}")
    }
}

impl std::fmt::Display for TestImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

const AGENT: &str = concat!("sig-repo-doctor/", env!("CARGO_PKG_VERSION"));
/// dockerd leaves when `/v2/` takes as long as this.
const BASE_LIMIT: Duration = Duration::from_secs(15);
/// Where it takes longer than this, something stands between that should not.
const BASE_AT_ONCE: Duration = Duration::from_secs(5);
/// A refusal may wait for an upstream, and every client waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(130);
