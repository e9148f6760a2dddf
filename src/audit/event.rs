use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    oci::{Digest, Repository},
    store::Record,
    trust::SignerIdentity,
};

/// One thing that happened. Names and texts in it may come from strangers: they are data, and the
/// log escapes them.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub at: Timestamp,
    pub action: Action,
    #[serde(flatten)]
    pub who: Who,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<Repository>,
    /// The tag or digest that was asked for, or the record or key that was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// As many as the statement wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_by: Option<Arc<[SignerIdentity]>>,
    pub count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A manifest was served after a signature verified, or where none is asked for.
    Admitted,
    /// A manifest was served under audit although nothing verified.
    Warned,
    Refused,
    /// A manifest that nothing verifies was read by a signer's account, to be signed.
    ReadToSign,
    Submitted,
    /// An artifact was kept that came through the registry's own protocol; its signatures have events of their own.
    Pushed,
    Promoted,
    Withdrawn,
    SignerAdded,
    SignerRevoked,
    /// Records of internal images were read.
    InternalQueried,
    /// Blobs are kept no longer because somebody said so: those of an image, or all.
    CacheRemoved,
}

/// Who did it, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Who {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    pub address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Event {
    pub fn new(at: Timestamp, action: Action, who: Who) -> Self {
        Self {
            at,
            action,
            who,
            repository: None,
            reference: None,
            digest: None,
            statement: None,
            reason: None,
            verified_by: None,
            count: 1,
        }
    }

    /// What was done with a record.
    pub fn of_record(at: Timestamp, action: Action, who: &Who, record: &Record) -> Self {
        Self {
            repository: record.repository.clone(),
            reference: Some(record.tag.to_string()),
            digest: Some(record.digest),
            ..Self::new(at, action, who.clone())
        }
    }

    pub(super) fn counted(&self, count: u64) -> Self {
        Self { count, ..self.clone() }
    }

    /// The event as one line of the log.
    pub(super) fn log(&self) {
        let image = self.image();
        let (address, action, reason) = (self.who.address, self.action.as_str(), self.reason.unwrap_or("-"));
        let statement = self.statement.as_deref().unwrap_or("-");
        match self.action {
            Action::Admitted | Action::InternalQueried => {
                tracing::debug!(%address, action, statement, reason, image, "{image} {action}");
            }
            Action::Warned => {
                tracing::info!(%address, action, statement, reason, image, "{image} served unverified: {reason}")
            }
            Action::Refused => tracing::warn!(%address, action, statement, reason, image, "{image} refused: {reason}"),
            _ => tracing::info!(%address, action, image, "{action} {image}"),
        }
    }

    fn image(&self) -> String {
        let mut image = self.repository.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(reference) = &self.reference {
            if !image.is_empty() {
                image.push(if reference.contains(':') { '@' } else { ':' });
            }
            image.push_str(reference);
        }
        image
    }
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Warned => "warned",
            Self::Refused => "refused",
            Self::ReadToSign => "read-to-sign",
            Self::Submitted => "submitted",
            Self::Pushed => "pushed",
            Self::Promoted => "promoted",
            Self::Withdrawn => "withdrawn",
            Self::SignerAdded => "signer-added",
            Self::SignerRevoked => "signer-revoked",
            Self::InternalQueried => "internal-queried",
            Self::CacheRemoved => "cache-removed",
        }
    }
}
