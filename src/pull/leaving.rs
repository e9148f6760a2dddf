//! The end of the story: what a verdict means for whoever asks, its event, and what leaves.

use std::sync::Arc;

use crate::{
    audit::{Action, Event, Who},
    oci::{Digest, Manifest, Reference},
    policy::{Decision, Reason, Statement},
};

use super::{Admitted, Ask, Asker, Puller, Refused, standing::Standing};

impl Puller {
    /// What leaves for a verdict. That of an internal image leaves once its event is written.
    pub(super) async fn answer(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let digest = manifest.digest;
        let admitted = match self.admit(ask, manifest.clone(), standing) {
            Err(refused) if ask.asker.may_read_to_sign() => {
                return self.read_to_sign(ask, manifest, standing, refused).await;
            }
            admitted => admitted?,
        };
        if standing.internal {
            let event = self.event(ask, action(&admitted), Some(digest), &standing.statement, &standing.decision);
            self.audit.record(event).await.map_err(|error| self.unreadable(error))?;
        }
        Ok(admitted)
    }

    pub(super) fn admit(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let warning = outcome(standing)?.map(|reason| {
            let text = format!("{} served unverified: {reason} (policy {})", display(ask), standing.statement.name);
            Arc::from(text)
        });
        let digest = manifest.digest;
        let admitted = Admitted::new(manifest, warning);
        if !standing.internal {
            let action = action(&admitted);
            let event = || self.event(ask, action, Some(digest), &standing.statement, &standing.decision);
            self.audit.note(ask.asker.address, action, (&ask.repository, &digest), event);
        }
        if let Decision::Unverified(_) = &standing.decision {
            // A full queue is no loss: the next pull asks again.
            drop(self.searches.try_send((ask.repository.clone(), digest)));
        }
        Ok(admitted)
    }

    /// Hands a signer the manifest that wants a signature: on the record, and nothing of what it names.
    async fn read_to_sign(
        &self,
        ask: &Ask,
        manifest: Arc<Manifest>,
        standing: &Standing,
        refused: Refused,
    ) -> Result<Admitted<Arc<Manifest>>, Refused> {
        let wants_signature = matches!(
            refused.reason,
            Reason::Unsigned | Reason::Threshold { .. } | Reason::Rejected(_) | Reason::Unknown(_)
        );
        if !wants_signature {
            return Err(refused);
        }
        let digest = Some(manifest.digest);
        let event = self.event(ask, Action::ReadToSign, digest, &standing.statement, &standing.decision);
        self.audit.record(event).await.map_err(|error| self.unreadable(error))?;
        let warning =
            format!("{} served to be signed: {} (policy {})", display(ask), refused.reason, refused.statement.name);
        Ok(Admitted::new(manifest, Some(Arc::from(warning))))
    }

    /// Writes down a refusal. One that cannot be written is still a refusal.
    pub(super) async fn refuse(&self, ask: &Ask, refused: Refused) -> Refused {
        if refused.holds() {
            let decision = Decision::Refused(refused.reason.clone());
            let digest = match &ask.reference {
                Reference::Digest(digest) => Some(*digest),
                Reference::Tag(_) => None,
            };
            let event = || self.event(ask, Action::Refused, digest, &refused.statement, &decision);
            let subject = (&ask.repository, ask.reference.to_string(), refused.reason.code());
            self.audit.note(ask.asker.address, Action::Refused, subject, event);
        }
        refused
    }

    pub(super) fn event(
        &self,
        ask: &Ask,
        action: Action,
        digest: Option<Digest>,
        statement: &Statement,
        decision: &Decision,
    ) -> Event {
        let verified_by = match decision {
            Decision::Verified(signers) => Some(signers.clone()),
            _ => None,
        };
        Event {
            repository: Some(ask.repository.clone()),
            reference: Some(ask.reference.to_string()),
            digest,
            statement: Some(statement.name.to_string()),
            reason: decision.reason().map(Reason::code),
            verified_by,
            ..Event::new(self.clock.now(), action, who(&ask.asker))
        }
    }
}

/// What a verdict means for whoever asks: served, served with a warning, or refused.
pub(super) fn outcome(standing: &Standing) -> Result<Option<&Reason>, Refused> {
    match &standing.decision {
        Decision::Verified(_) | Decision::Skipped => Ok(None),
        Decision::Unverified(reason) => Ok(Some(reason)),
        Decision::Refused(reason) => Err(Refused { reason: reason.clone(), statement: standing.statement.clone() }),
    }
}

fn action(admitted: &Admitted<Arc<Manifest>>) -> Action {
    if admitted.warning().is_some() { Action::Warned } else { Action::Admitted }
}

fn display(ask: &Ask) -> String {
    match &ask.reference {
        Reference::Tag(tag) => format!("{}:{tag}", ask.repository),
        Reference::Digest(digest) => format!("{}@{digest}", ask.repository),
    }
}

pub(super) fn who(asker: &Asker) -> Who {
    Who {
        account: asker.account.as_deref().map(str::to_owned),
        address: asker.address,
        user_agent: Some(asker.user_agent.to_string()),
    }
}
