//! The same walk as a pull's, for whoever wants to know and not to have: nothing leaves, no event is
//! noted.

use std::sync::Arc;

use crate::{
    oci::{Digest, Reference},
    policy::{Decision, Statement},
};

use super::{
    Ask, Judged, Puller, Refused,
    standing::{Standing, Subject},
};

/// What is made of an image, and of every signature of it.
#[derive(Debug)]
pub struct Explanation {
    pub digest: Digest,
    pub statement: Statement,
    pub decision: Decision,
    pub signatures: Vec<Judged>,
}

impl Puller {
    /// What a pull of this would come to. An error where there is nothing to decide on.
    pub async fn explain(&self, ask: &Ask) -> Result<Explanation, Refused> {
        let Ask { repository, reference, .. } = ask;
        let upstream = self.upstream_of(repository)?;
        let anonymous = ask.asker.is_anonymous();
        let fetched = match reference {
            Reference::Tag(tag) => self.fetcher.tag_or_last_known(&upstream, repository, tag, anonymous).await,
            Reference::Digest(digest) => self.fetcher.digest(&upstream, repository, digest, anonymous).await,
        };
        let broken = |reason| Refused { reason, statement: self.statement_when_broken(reference) };
        let manifest = fetched.map_err(|error| broken(error.reason()))?.manifest;
        let (digest, bytes) = (manifest.digest, Some(&manifest.bytes));
        let subject = Subject { digest, manifest: bytes };
        let mut standing = self.standing_of(ask, subject).await?;
        if matches!(standing.decision, Decision::Unverified(_)) {
            // A pull that is served all the same does not wait for the search.
            self.standings.search_audited(repository, &digest).await;
            standing = self.standing_of(ask, subject).await?;
        }
        let judgement = self.standings.judge.image(repository, &digest, bytes).await;
        let judgement = judgement.map_err(|error| self.unreadable(error))?;
        Ok(Explanation {
            digest,
            statement: standing.statement.clone(),
            decision: standing.decision.clone(),
            signatures: judgement.signatures.clone(),
        })
    }

    async fn standing_of(&self, ask: &Ask, subject: Subject<'_>) -> Result<Arc<Standing>, Refused> {
        match &ask.reference {
            Reference::Tag(tag) => {
                let standing = self.standings.of_tag(&self.policy, &ask.repository, tag, subject, &ask.asker).await;
                standing.map_err(|error| self.unreadable(error))
            }
            Reference::Digest(_) => self.standing_of_digest(ask, subject.digest, subject.manifest).await,
        }
    }
}
