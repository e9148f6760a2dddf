use std::{fmt, sync::Arc};

use crate::trust::{Inconclusive, Outcome, Rejection, SignerIdentity, Verified};

use super::{Level, Statement, Vote};

/// What became of one signature, as far as a statement cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Verified(Vote),
    Rejected(Rejection),
    Unknown(Inconclusive),
}

/// What a statement makes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Signatures of as many signers verified as the statement wants: these.
    Verified(Arc<[SignerIdentity]>),
    /// Served although nothing verified; the reason goes out as a warning.
    Unverified(Reason),
    /// The statement asks for no verification.
    Skipped,
    Refused(Reason),
}

/// Why an image was not verified, or not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is no signature that bears on what was asked for.
    Unsigned,
    /// Signatures verified, of fewer signers than the statement wants.
    Threshold {
        found: usize,
        needed: usize,
    },
    Rejected(Rejection),
    Unknown(Inconclusive),
    /// Internal, and whoever asks has no role.
    Invisible,
    /// The upstream does not have it.
    Absent,
    /// The upstream failed, so that there is nothing to decide on.
    Upstream(&'static str),
    /// The upstream is a mirror of our kind and refuses it: that holds here too, whatever the level.
    UpstreamRefused,
    /// What the upstream sent is no manifest, or not the one asked for.
    InvalidManifest,
    /// A name that is not configured.
    UnknownRegistry,
    ShuttingDown,
    /// A fault of our own.
    Internal,
}

impl Statement {
    /// The verdict on an image from what was found about each signature that bears on it.
    pub fn decide<'a>(&self, findings: impl IntoIterator<Item = &'a Finding>) -> Decision {
        if self.level == Level::Skip {
            return Decision::Skipped;
        }
        let (mut reason, mut votes) = (Reason::Unsigned, Vec::new());
        for finding in findings {
            let candidate = match finding {
                Finding::Verified(vote) => {
                    votes.push(vote);
                    continue;
                }
                Finding::Rejected(rejection) => Reason::Rejected(rejection.clone()),
                Finding::Unknown(inconclusive) => Reason::Unknown(*inconclusive),
            };
            if candidate.weight() > reason.weight() {
                reason = candidate;
            }
        }
        let (signers, needed) = (self.threshold.count(&votes), self.threshold.get());
        if signers.len() >= needed {
            return Decision::Verified(signers.into());
        }
        let short = Reason::Threshold { found: signers.len(), needed };
        if !signers.is_empty() && short.weight() > reason.weight() {
            reason = short;
        }
        match self.level {
            Level::Enforce => Decision::Refused(reason),
            Level::Audit | Level::Skip => Decision::Unverified(reason),
        }
    }
}

impl Decision {
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Unverified(reason) | Self::Refused(reason) => Some(reason),
            Self::Verified(_) | Self::Skipped => None,
        }
    }
}

impl Reason {
    /// The stable code in metrics, audit events and the API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::Threshold { .. } => "threshold-not-met",
            Self::Rejected(rejection) => rejection.code(),
            Self::Unknown(inconclusive) => inconclusive.code(),
            Self::Invisible => "invisible",
            Self::Absent => "absent",
            Self::Upstream(code) => code,
            Self::UpstreamRefused => "upstream-refused",
            Self::InvalidManifest => "invalid-manifest",
            Self::UnknownRegistry => "unknown-registry",
            Self::ShuttingDown => "shutting-down",
            Self::Internal => "internal-error",
        }
    }

    /// The same, for whoever asks: what is hidden from them and what is not there have one.
    pub fn code_for_asker(&self) -> &'static str {
        match self {
            Self::Invisible => Self::Absent.code(),
            other => other.code(),
        }
    }

    /// Whether somebody has decided. If not something has failed, and it may come the next time.
    pub fn is_decided(&self) -> bool {
        !matches!(self, Self::Upstream(_) | Self::InvalidManifest | Self::ShuttingDown | Self::Internal)
    }

    /// Which of several reasons helps most: a signature that nearly counted says more than one that
    /// nobody knows, and "could not tell" more than both, since it may pass.
    fn weight(&self) -> u8 {
        match self {
            Self::Unknown(_) => 5,
            Self::Threshold { .. } => 4,
            Self::Rejected(Rejection::NoTrustedKey | Rejection::Malformed) => 1,
            Self::Rejected(Rejection::SubjectMismatch { .. }) => 2,
            Self::Rejected(_) => 3,
            _ => 0,
        }
    }
}

/// One line for the client: no address, no path, nothing that the asker may not know.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("no valid signature"),
            Self::Threshold { found, needed } => {
                write!(f, "valid signatures of {found} of the {needed} signers that are needed")
            }
            Self::Rejected(rejection) => write!(f, "no valid signature: {rejection}"),
            Self::Unknown(inconclusive) => write!(f, "the signature could not be checked: {inconclusive}"),
            // One text for both, so that an answer does not tell what exists.
            Self::Invisible | Self::Absent => f.write_str("refused or not found"),
            Self::Upstream(code) => write!(f, "the upstream registry could not be asked: {code}"),
            Self::UpstreamRefused => f.write_str("the upstream registry refuses it"),
            Self::InvalidManifest => f.write_str("the upstream registry sent no valid manifest"),
            Self::UnknownRegistry => f.write_str("this registry is not configured here"),
            Self::ShuttingDown => f.write_str("shutting down"),
            Self::Internal => f.write_str("internal error"),
        }
    }
}

impl From<Outcome> for Finding {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Verified(Verified { signer, identity, entry, .. }) => {
                Self::Verified(Vote { signer, identity, entry })
            }
            Outcome::Rejected(rejection) => Self::Rejected(rejection),
            Outcome::Unknown(inconclusive) => Self::Unknown(inconclusive),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::SignerId;

    fn statement(level: Level, threshold: &str) -> Statement {
        Statement { name: "release".into(), level, threshold: threshold.parse().unwrap() }
    }

    fn signed_by(name: &str) -> Finding {
        let id: SignerId = format!("sha256:{}", hex::encode([name.as_bytes()[0]; 32])).parse().unwrap();
        let (identity, entry) = (*id.as_bytes(), *id.as_bytes());
        Finding::Verified(Vote { signer: SignerIdentity { id, name: name.to_owned() }, identity, entry })
    }

    #[test]
    fn as_many_signers_as_the_statement_wants_must_have_signed() {
        let [ci, qa] = [signed_by("ci"), signed_by("qa")];
        let names = |decision| match decision {
            Decision::Verified(signers) => signers.iter().map(|signer| signer.name.clone()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(names(statement(Level::Enforce, "1").decide([&ci, &qa])), ["ci"]);
        assert_eq!(names(statement(Level::Enforce, "2").decide([&ci, &qa])), ["ci", "qa"]);
        let short = Reason::Threshold { found: 1, needed: 2 };
        assert_eq!(statement(Level::Enforce, "2").decide([&ci, &ci]), Decision::Refused(short.clone()));
        assert_eq!(statement(Level::Audit, "2").decide([&ci]), Decision::Unverified(short));
        assert_eq!(statement(Level::Skip, "2").decide([&ci]), Decision::Skipped);
        assert_eq!(statement(Level::Enforce, "2").decide([]), Decision::Refused(Reason::Unsigned));
    }

    #[test]
    fn a_signature_that_could_not_be_checked_may_be_the_one_that_is_missing() {
        let unknown = Finding::Unknown(Inconclusive::UpstreamFailed);
        let rejected = Finding::Rejected(Rejection::Expired);
        let two = statement(Level::Enforce, "2");
        let decision = two.decide([&signed_by("ci"), &rejected, &unknown]);
        assert_eq!(decision, Decision::Refused(Reason::Unknown(Inconclusive::UpstreamFailed)));
        let decision = two.decide([&signed_by("ci"), &rejected]);
        assert_eq!(decision, Decision::Refused(Reason::Threshold { found: 1, needed: 2 }));
        assert!(matches!(two.decide([&unknown, &signed_by("ci"), &signed_by("qa")]), Decision::Verified(_)));
    }
}
