use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quick_cache::{Equivalent, sync::Cache};

use crate::oci::{Digest, Repository, Tag};

/// Who asks, as far as two requests of one pull share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Asker {
    pub address: IpAddr,
    pub user_agent: Arc<str>,
    /// Whose credentials came along, if they were right.
    pub account: Option<Arc<str>>,
    /// Whether it means us, and not the registry that we stand in for: see `registry::RegistryHosts`.
    pub by_our_name: bool,
}

impl Asker {
    /// Nobody's credentials came along, so nothing is shown that is not for everybody.
    pub fn is_anonymous(&self) -> bool {
        self.account.is_none()
    }

    /// A signer reads a manifest by our own name before there is a signature, to make it. A mirror's
    /// client never does, whatever its credentials: it would run what it gets.
    pub(super) fn may_read_to_sign(&self) -> bool {
        self.by_our_name && self.account.is_some()
    }
}

/// Which tag an asker came by to a digest.
///
/// dockerd turns every pull of a tag into a request by digest: that one is decided as the tag. It is
/// decided again, so nothing is remembered here but the question.
pub(super) struct RecentTags {
    asked: Cache<(Repository, Digest, Asker), (Tag, Instant)>,
}

/// The key of what was asked, not copied.
#[derive(Hash)]
struct Asked<'a>(&'a Repository, &'a Digest, &'a Asker);

impl Equivalent<(Repository, Digest, Asker)> for Asked<'_> {
    fn equivalent(&self, (repository, digest, asker): &(Repository, Digest, Asker)) -> bool {
        (self.0, self.1, self.2) == (repository, digest, asker)
    }
}

/// How long a request by digest belongs to the request by tag before it.
const MANIFEST_WINDOW: Duration = Duration::from_secs(60);

/// The layers of the same pull follow for as long as a large image takes.
const BLOB_WINDOW: Duration = Duration::from_secs(3600);

const MAX_ASKED: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    Manifest,
    Blob,
}

impl RecentTags {
    pub(super) fn new() -> Self {
        Self { asked: Cache::new(MAX_ASKED) }
    }

    pub(super) fn asked(&self, repository: &Repository, digest: &Digest, asker: &Asker, tag: &Tag, now: Instant) {
        self.asked.insert((repository.clone(), *digest, asker.clone()), (tag.clone(), now));
    }

    pub(super) fn tag(
        &self,
        repository: &Repository,
        digest: &Digest,
        asker: &Asker,
        step: Step,
        now: Instant,
    ) -> Option<Tag> {
        let window = match step {
            Step::Manifest => MANIFEST_WINDOW,
            Step::Blob => BLOB_WINDOW,
        };
        let (tag, at) = self.asked.get(&Asked(repository, digest, asker))?;
        (now.saturating_duration_since(at) < window).then_some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_belongs_to_the_tag_its_asker_came_by_for_a_minute() {
        let recent = RecentTags::new();
        let repository = Repository::new(&"docker.io".parse().unwrap(), "a/b").unwrap();
        let digest = Digest::sha256(b"x");
        let asker = |address: &str, agent: &str| Asker {
            address: address.parse().unwrap(),
            user_agent: agent.into(),
            account: None,
            by_our_name: false,
        };
        let (me, tag) = (asker("192.0.2.1", "docker/1"), "v1".parse::<Tag>().unwrap());
        let now = crate::clock::Clock::system().instant();
        recent.asked(&repository, &digest, &me, &tag, now);
        let seen = |asker: &Asker, step, later| {
            recent.tag(&repository, &digest, asker, step, now + Duration::from_secs(later))
        };
        assert_eq!(seen(&me, Step::Manifest, 59), Some(tag.clone()));
        assert_eq!(seen(&me, Step::Manifest, 60), None);
        assert_eq!(seen(&me, Step::Blob, 60), Some(tag));
        assert_eq!(seen(&asker("192.0.2.2", "docker/1"), Step::Manifest, 1), None);
        assert_eq!(seen(&asker("192.0.2.1", "docker/2"), Step::Manifest, 1), None);
    }
}
