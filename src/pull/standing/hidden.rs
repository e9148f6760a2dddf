use crate::{
    oci::{Digest, Repository},
    policy::TrustPolicy,
    pull::recent::{Asker, Step},
    store::StoreError,
    trust::Inconclusive,
};

use super::{Standings, Subject};

/// Whether an image is hidden from whoever asks, and all that is about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pull) enum Hidden {
    No,
    Yes,
    /// What its repository has could not be learnt: it may be internal.
    Unknown(Inconclusive),
}

impl Standings {
    /// By the rule that its manifest is held to when asked for by digest, of which nothing is decided here.
    pub(in crate::pull) async fn hidden(
        &self,
        policy: &TrustPolicy,
        repository: &Repository,
        digest: &Digest,
        asker: &Asker,
    ) -> Result<Hidden, StoreError> {
        if !self.hides_internal_from(asker) {
            return Ok(Hidden::No);
        }
        let subject = Subject { digest: *digest, manifest: None };
        let judgement = self.judgement(repository, subject).await?;
        let known = self.known(policy, repository, *digest, &judgement, asker, Step::Manifest, 0).await?;
        if let Some(unread) = self.learn_tags(repository, &known).await? {
            return Ok(Hidden::Unknown(unread));
        }
        let (_, internal) = self.statement_of(policy, repository, &known)?;
        Ok(if internal { Hidden::Yes } else { Hidden::No })
    }
}
