//! What is known of a digest that is asked for as such, and what follows for it.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    oci::{Digest, Repository, Tag, TagType},
    policy::{Decision, Reason, Statement, TrustPolicy},
    store::StoreError,
    trust::Inconclusive,
};

use super::{
    super::{
        judge::{Judgement, Origin},
        recent::{Asker, Step},
        tag_lists::TagListError,
    },
    Standing, Standings, Subject,
};

/// What a request by digest is known by: its tags with their classes, and its parents.
pub(super) struct Known {
    pub(super) tags: Vec<(Tag, Option<TagType>)>,
    pub(super) parents: Vec<(Digest, Arc<Standing>)>,
}

impl Standings {
    /// What is known of a digest: the tags it was seen under or that a verified record names, and
    /// the standing of each index that names it, decided now.
    #[expect(clippy::too_many_arguments, reason = "one step of the walk above, with its state")]
    pub(super) async fn known(
        &self,
        policy: &TrustPolicy,
        repository: &Repository,
        digest: Digest,
        judgement: &Judgement,
        asker: &Asker,
        step: Step,
        depth: usize,
    ) -> Result<Known, StoreError> {
        let seen = self.store.tags_seen(repository, &digest)?;
        let mut tags: BTreeSet<Tag> = seen.iter().cloned().collect();
        tags.extend(
            judgement
                .signatures
                .iter()
                .filter(|judged| judged.is_authentic())
                .filter_map(|judged| judged.tag().cloned()),
        );
        let tags = tags
            .into_iter()
            .map(|tag| {
                let class = class_of(&tag, &seen, judgement);
                (tag, class)
            })
            .collect();
        let mut parents = Vec::new();
        if depth < MAX_DEPTH {
            for parent in self.store.parents(repository, &digest)?.into_iter().take(MAX_PARENTS) {
                let subject = Subject { digest: parent, manifest: None };
                let standing = self.of_digest_at(policy, repository, subject, asker, step, depth + 1).await?;
                parents.push((parent, standing));
            }
        }
        Ok(Known { tags, parents })
    }

    /// The statement that a digest is held to, and whether it is internal.
    pub(super) fn statement_of(
        &self,
        policy: &TrustPolicy,
        repository: &Repository,
        known: &Known,
    ) -> Result<(Statement, bool), StoreError> {
        let enforced_tag =
            known.tags.iter().map(|(_, class)| (policy.statement_for(*class), *class)).find(|(s, _)| s.is_enforced());
        let enforced_parent = known.parents.iter().find(|(_, parent)| parent.statement.is_enforced());
        // Hidden only while no tag shows it to everybody.
        let internal = match known.tags.as_slice() {
            [] if !known.parents.is_empty() => known.parents.iter().all(|(_, parent)| parent.internal),
            [] => self.isolation && self.store.knows_internal_tags(repository)?,
            tags => tags.iter().all(|(_, class)| *class == Some(TagType::Internal)),
        };
        let statement = match (enforced_tag, enforced_parent) {
            (Some((statement, _)), _) => statement.clone(),
            (None, Some((_, parent))) => parent.statement.clone(),
            (None, None) if known.tags.is_empty() && known.parents.is_empty() => {
                if self.store.knows_enforced_tags(repository)? {
                    policy.unknown_digest()
                } else {
                    policy.statement_for(None).clone()
                }
            }
            (None, None) => policy.statement_for(None).clone(),
        };
        Ok((statement, internal))
    }

    pub(super) fn decide_known(
        &self,
        policy: &TrustPolicy,
        statement: &Statement,
        known: &Known,
        judgement: &Judgement,
        failure: Option<Inconclusive>,
        hidden: bool,
    ) -> Decision {
        // A parent admits by what it was verified under: one served under audit admits nothing that
        // an enforced tag or parent knows.
        let admitting = known.parents.iter().find_map(|(_, parent)| match &parent.decision {
            Decision::Verified(signers) if parent.statement.is_enforced() || !statement.is_enforced() => {
                Some(signers.clone())
            }
            _ => None,
        });
        if let Some(signers) = admitting {
            return Decision::Verified(signers);
        }
        let candidates: Vec<_> = known
            .tags
            .iter()
            .filter(|(_, class)| policy.statement_for(*class).is_enforced() == statement.is_enforced())
            .collect();
        let mut refusal = None;
        for (tag, class) in candidates {
            match self.decide(statement, *class, |judged| judged.bears_on(tag), judgement, failure, hidden) {
                verified @ (Decision::Verified(_) | Decision::Skipped) => return verified,
                other => refusal = refusal.or(Some(other)),
            }
        }
        match refusal {
            Some(refusal) => refusal,
            None => {
                let of_parent = known.parents.iter().find_map(|(_, parent)| parent.decision.reason());
                let own = self.decide(statement, None, |judged| judged.tag().is_none(), judgement, failure, hidden);
                match (own, of_parent) {
                    // What its index lacks says more than that it has no signature of its own.
                    (Decision::Refused(Reason::Unsigned), Some(reason)) => Decision::Refused(reason.clone()),
                    (own, _) => own,
                }
            }
        }
    }

    /// Where internal images are hidden, a digest of which nothing is known is public only if the
    /// repository has no internal tags: its list is read. What could not be read could be internal.
    pub(super) async fn learn_tags(
        &self,
        repository: &Repository,
        known: &Known,
    ) -> Result<Option<Inconclusive>, StoreError> {
        if !known.tags.is_empty() || !known.parents.is_empty() {
            return Ok(None);
        }
        let Some(upstream) = self.upstreams.of(repository.registry()) else { return Ok(None) };
        match self.tag_lists.learn(&upstream, repository).await {
            Ok(()) => Ok(None),
            Err(TagListError::Upstream(error)) => {
                tracing::warn!(%repository, "the tags of {repository} could not be listed: {error}");
                Ok(Some(Inconclusive::UpstreamFailed))
            }
            Err(TagListError::Store(error)) => Err(error),
        }
    }
}

/// The class of a tag: its first word says, or a verified record that names it, unless the
/// repository serves the digest under another tag too.
pub(super) fn class_of(tag: &Tag, seen: &[Tag], judgement: &Judgement) -> Option<TagType> {
    tag.stated_type().or_else(|| {
        if seen.iter().any(|other| other != tag) {
            return None;
        }
        judgement.signatures.iter().find_map(|judged| match &judged.origin {
            Origin::Record { tag: named, tag_type, granted: true, .. } if named == tag && judged.is_authentic() => {
                *tag_type
            }
            _ => None,
        })
    })
}

/// Indexes of indexes are walked up this far.
const MAX_DEPTH: usize = 4;

/// Indexes that name one child and are asked in turn.
const MAX_PARENTS: usize = 32;
