//! How a signature becomes a record, whichever way it comes in: the same checks, identities and audit.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    audit::{Action, Event, Who},
    oci::{Digest, Repository, Tag, TagType},
    store::{Identity, Record, StoreError, Submission, SubmitRules, Submitted},
    trust::{Format, Inconclusive, Outcome},
};

use super::{Puller, Signed};

/// How long whoever submits waits for a registry; a manifest that did not come is judged as not held.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(5);

/// A signature that is well formed and wants to be a record.
#[derive(Debug, Clone)]
pub struct NewRecord {
    pub digest: Digest,
    pub repository: Option<Repository>,
    pub tag: Tag,
    pub tag_type: Option<TagType>,
    pub environment: Option<String>,
    /// Whether it came as an artifact of the digest: it then bears on the digest, as one found upstream does.
    pub of_digest: bool,
    pub format: Format,
    pub signed: Signed,
    pub signer: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub expires_at: Option<Timestamp>,
    /// When it was met elsewhere; whoever says so may.
    pub first_seen: Option<Timestamp>,
}

/// Why a signature did not become a record.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// New, and at an end already.
    #[error("it has ended before it began")]
    Ended,
    #[error("it could not be examined")]
    NotExamined,
    #[error(transparent)]
    Conflict(#[from] Conflict),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of a signature that keeps it from being a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    #[error("this signature was withdrawn, under whatever tag and in whatever encoding it comes again")]
    Withdrawn,
    #[error("this signature has had its life; sign again to get a new one")]
    Expired,
    #[error(
        "this signature is known under another tag, type, environment or repository; giving it new ones needs \
         AUTH_ENABLED=true"
    )]
    Promotion,
    #[error("too many signatures of this image that no trusted key verifies came from here already")]
    TooMany,
}

impl Puller {
    /// Makes a record of a signature; says whether that is new. The answer comes after the durable commit,
    /// and after its event.
    pub async fn submit(&self, new: NewRecord, who: &Who, may_promote: bool) -> Result<(Record, bool), SubmitError> {
        let (outcome, identities) = self.examined(&new, who.account.is_none()).await?;
        let known = self.knows_any(&identities)?;
        // What is known and has ended is a conflict; only what is new can be told that it ended too early.
        if !known && new.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(SubmitError::Ended);
        }
        let verified = matches!(outcome, Outcome::Verified(_));
        let rules = SubmitRules { life: self.standings.preview_ttl, may_promote, verified };
        let submission = Submission {
            digest: new.digest,
            repository: new.repository,
            tag: new.tag,
            tag_type: new.tag_type,
            environment: new.environment,
            of_digest: new.of_digest,
            format: new.format.as_str().to_owned(),
            signature: new.signed.signature,
            payload: new.signed.payload,
            annotations: new.signed.annotations,
            signer: new.signer,
            metadata: new.metadata,
            expires_at: new.expires_at,
            first_seen: new.first_seen,
            // Whoever may submit at all has the one role there is, and with authentication off everybody has it.
            granted: true,
            identities,
            submitted_by: who.account.clone().unwrap_or_else(|| who.address.to_string()),
        };
        let (created, record) = match self.store.submit(submission, rules).await? {
            Submitted::Created(record) => (true, record),
            Submitted::Existing(record) => (false, record),
            Submitted::Withdrawn => return Err(Conflict::Withdrawn.into()),
            Submitted::Expired => return Err(Conflict::Expired.into()),
            Submitted::PromotionRefused => return Err(Conflict::Promotion.into()),
            Submitted::TooMany => return Err(Conflict::TooMany.into()),
        };
        let promoted = known && created && self.has_other_labels(&record)?;
        let action = if promoted { Action::Promoted } else { Action::Submitted };
        let event = || Event { reason: outcome.code(), ..Event::of_record(self.clock.now(), action, who, &record) };
        if created {
            self.audit.record(event()).await?;
        } else {
            // Repetitions are free for whoever makes them, so they are counted and not kept one by one.
            self.audit.note(who.address, action, &record.id, event);
        }
        Ok((record, created))
    }

    /// The bytes of a manifest that a signature is to be checked against, asked for and kept, where they
    /// come in the time that somebody waits for them.
    pub async fn awaited_subject(
        &self,
        repository: Option<&Repository>,
        digest: &Digest,
        anonymous: bool,
    ) -> Option<Bytes> {
        let fetch = self.subject(repository?, digest, anonymous);
        tokio::time::timeout(UPSTREAM_PATIENCE, fetch).await.ok().flatten()
    }

    /// What a signature is worth, and what makes it the one that it is. Where that takes the manifest, it is
    /// asked for.
    async fn examined(&self, new: &NewRecord, anonymous: bool) -> Result<(Outcome, Vec<Identity>), SubmitError> {
        let judge = &self.standings.judge;
        let examine = |manifest| judge.submission(new.digest, new.repository.clone(), new.signed.clone(), manifest);
        let held = self.store.manifest(&new.digest)?.map(|held| held.bytes);
        let (mut outcome, mut identities) = examine(held).await;
        if matches!(outcome, Outcome::Unknown(Inconclusive::ManifestNotHeld))
            && let Some(manifest) = self.awaited_subject(new.repository.as_ref(), &new.digest, anonymous).await
        {
            (outcome, identities) = examine(Some(manifest)).await;
        }
        if identities.is_empty() { Err(SubmitError::NotExamined) } else { Ok((outcome, identities)) }
    }

    /// Whether the same signature is there under other labels too.
    fn has_other_labels(&self, record: &Record) -> Result<bool, StoreError> {
        let is_same = |other: &Record| other.identities.iter().any(|identity| record.identities.contains(identity));
        Ok(self.store.records_of(&record.digest)?.iter().any(|other| other.id != record.id && is_same(other)))
    }

    fn knows_any(&self, identities: &[Identity]) -> Result<bool, StoreError> {
        for identity in identities {
            if self.store.identity(identity)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
