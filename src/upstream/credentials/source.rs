//! Where an upstream's credentials come from, and when they are asked for anew.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Credentials, CredentialsFailure, Fingerprint, Found, Program, ServerAddress, Terms, WatchedDockerConfig};
use crate::upstream::flights::Flights;

/// The credentials of one upstream, whichever of its addresses is asked.
pub(in crate::upstream) enum Source {
    Nowhere,
    Fixed(Credentials),
    Helper(Asked),
    DockerConfig(FromDockerConfig),
}

type Answer = Result<Option<Credentials>, CredentialsFailure>;

/// A helper, and what it said last.
pub(in crate::upstream) struct Asked {
    shared: Arc<Shared>,
    /// One question at a time.
    flights: Flights<(), Answer>,
}

struct Shared {
    program: Program,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    /// What it gave last, which counts until the upstream refuses it.
    given: Option<Option<Credentials>>,
    /// When it was asked last, and whether that failed.
    asked: Option<(Instant, Option<CredentialsFailure>)>,
}

/// The file of docker's, for one registry.
pub(in crate::upstream) struct FromDockerConfig {
    config: Arc<WatchedDockerConfig>,
    registry: ServerAddress,
    terms: Terms,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// From when on there is something for the registry. It stays: what was had with credentials may still be here.
    since: Option<Since>,
    /// Of the helper that the file names at present.
    helper: Option<Arc<Asked>>,
}

#[derive(Clone, Copy)]
enum Since {
    Start,
    At(Instant),
}

/// What the file has, with the helper that was asked before where it is the same.
enum Having {
    Nothing,
    Credentials(Credentials),
    Helper(Arc<Asked>),
}

impl Source {
    /// Whether there may be credentials that open more than an anonymous client may see.
    pub(in crate::upstream) fn may_give(&self) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Fixed(_) | Self::Helper(_) => true,
            Self::DockerConfig(from) => from.seen.lock().since.is_some(),
        }
    }

    /// None: somebody said that there are none.
    pub(in crate::upstream) async fn credentials(&self) -> Answer {
        match self {
            Self::Nowhere => Ok(None),
            Self::Fixed(credentials) => Ok(Some(credentials.clone())),
            Self::Helper(asked) => asked.credentials().await,
            Self::DockerConfig(from) => match from.having().await {
                Having::Nothing => Ok(None),
                Having::Credentials(credentials) => Ok(Some(credentials)),
                Having::Helper(asked) => asked.credentials().await,
            },
        }
    }

    /// What a request that begins now is made with, where that may change; none: nobody was asked yet.
    pub(in crate::upstream) fn at_hand(&self) -> Option<Option<Fingerprint>> {
        match self {
            Self::Nowhere | Self::Fixed(_) => None,
            Self::Helper(asked) => asked.at_hand(),
            Self::DockerConfig(from) => match from.known() {
                Having::Nothing => Some(None),
                Having::Credentials(credentials) => Some(Some(credentials.fingerprint)),
                Having::Helper(asked) => asked.at_hand(),
            },
        }
    }

    /// After a refusal: whether there are now others than those that were refused.
    pub(in crate::upstream) async fn has_others_than(
        &self,
        refused: Option<Fingerprint>,
    ) -> Result<bool, CredentialsFailure> {
        match self {
            Self::Nowhere | Self::Fixed(_) => Ok(false),
            Self::Helper(asked) => asked.has_others_than(refused).await,
            Self::DockerConfig(from) => match from.having().await {
                Having::Nothing => Ok(refused.is_some()),
                Having::Credentials(credentials) => Ok(refused != Some(credentials.fingerprint)),
                Having::Helper(asked) => asked.has_others_than(refused).await,
            },
        }
    }
}

impl Asked {
    pub(in crate::upstream) fn new(program: Program) -> Self {
        Self { shared: Arc::new(Shared { program, said: Mutex::default() }), flights: Flights::new() }
    }

    async fn credentials(&self) -> Answer {
        {
            let said = self.shared.said.lock();
            if let Some(given) = &said.given {
                return Ok(given.clone());
            }
            if let Some(Some(failure)) = self.shared.lately(&said) {
                return Err(failure);
            }
        }
        self.ask().await
    }

    fn at_hand(&self) -> Option<Option<Fingerprint>> {
        self.shared.said.lock().given.as_ref().map(fingerprint)
    }

    async fn has_others_than(&self, refused: Option<Fingerprint>) -> Result<bool, CredentialsFailure> {
        {
            let said = self.shared.said.lock();
            if said.given.as_ref().is_some_and(|given| fingerprint(given) != refused) {
                return Ok(true);
            }
            match self.shared.lately(&said) {
                Some(Some(failure)) => return Err(failure),
                Some(None) => return Ok(false),
                None => {}
            }
        }
        Ok(fingerprint(&self.ask().await?) != refused)
    }

    async fn ask(&self) -> Answer {
        let start = || {
            let shared = Arc::clone(&self.shared);
            async move {
                let mut question = Question { shared: &shared, answer: Err(CredentialsFailure::HelperTimeout) };
                question.answer = shared.program.ask().await;
                question.answer.clone()
            }
            .boxed()
        };
        self.flights.join(&(), start).await
    }
}

/// Noted once it is over, also where nobody waited for its end: a helper that hangs is not asked again at once.
struct Question<'a> {
    shared: &'a Shared,
    answer: Answer,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut said = self.shared.said.lock();
        said.asked = Some((self.shared.now(), self.answer.as_ref().err().copied()));
        if let Ok(given) = &self.answer {
            said.given = Some(given.clone());
        }
    }
}

impl Shared {
    fn now(&self) -> Instant {
        self.program.terms.clock.instant()
    }

    /// How it went, if it was asked so lately that asking again is too early.
    fn lately(&self, said: &Said) -> Option<Option<CredentialsFailure>> {
        let (at, outcome) = said.asked?;
        (self.now().saturating_duration_since(at) < ASKED_AGAIN).then_some(outcome)
    }
}

impl FromDockerConfig {
    pub(in crate::upstream) fn new(config: Arc<WatchedDockerConfig>, registry: ServerAddress, terms: Terms) -> Self {
        let since = (!matches!(config.known().of(&registry), Found::Nothing)).then_some(Since::Start);
        let seen = Mutex::new(Seen { since, helper: None });
        Self { config, registry, terms, seen }
    }

    async fn having(&self) -> Having {
        let found = self.config.current().await.of(&self.registry);
        self.take_up(found)
    }

    fn known(&self) -> Having {
        self.take_up(self.config.known().of(&self.registry))
    }

    fn take_up(&self, found: Found) -> Having {
        let mut seen = self.seen.lock();
        if matches!(found, Found::Nothing) {
            return Having::Nothing;
        }
        let now = self.terms.clock.instant();
        match *seen.since.get_or_insert(Since::At(now)) {
            // What an anonymous client was let pass to while there were none is not asked for with them.
            Since::At(since) if now.saturating_duration_since(since) < FIRST_USED_AFTER => return Having::Nothing,
            Since::At(_) | Since::Start => {}
        }
        match found {
            Found::Nothing => Having::Nothing,
            Found::Credentials(credentials) => Having::Credentials(credentials),
            Found::Helper(helper, registry) => {
                let is_same = |asked: &&Arc<Asked>| {
                    let program = &asked.shared.program;
                    program.helper == helper && program.registry == registry
                };
                if let Some(asked) = seen.helper.as_ref().filter(is_same) {
                    return Having::Helper(Arc::clone(asked));
                }
                let asked = Arc::new(Asked::new(Program { helper, registry, terms: self.terms.clone() }));
                seen.helper = Some(Arc::clone(&asked));
                Having::Helper(asked)
            }
        }
    }
}

fn fingerprint(given: &Option<Credentials>) -> Option<Fingerprint> {
    given.as_ref().map(|credentials| credentials.fingerprint)
}

/// A helper may ask a service in its turn, which has limits.
const ASKED_AGAIN: Duration = Duration::from_secs(30);
/// Longer than any request takes that began before.
const FIRST_USED_AFTER: Duration = Duration::from_secs(60);
