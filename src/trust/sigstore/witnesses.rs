use jiff::Timestamp;

use super::{
    bundle::{Bundle, Signed},
    entry::{Logged, Signatory},
    rejection::SigstoreRejection,
    root::{SigstoreRoot, Window},
    verifier::{Demands, Failure},
};
use crate::trust::{timestamp::TimestampToken, verifier::message::Message};

/// What the logs and the timestamp authorities of one root vouch for.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// When the signature was there, each by somebody's word.
    times: Vec<Timestamp>,
    /// How many distinct logs have it.
    pub(super) logs: usize,
    has_timestamp: bool,
    /// When the logs were to be believed that have an entry without a time of its own.
    untimed: Vec<Window>,
    /// A line for each, for whoever asks what a signature rests on.
    pub(super) links: Vec<String>,
}

impl Witnesses {
    /// Since when the signature is there at the latest.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.times.iter().min().copied()
    }

    /// Adds the logs of `root`. Every entry must be about the signature, and every entry of a known log must
    /// be true.
    pub(super) fn add_logs(
        &mut self,
        bundle: &Bundle,
        root: &SigstoreRoot,
        (message, by): (&Message<'_>, Signatory<'_>),
        demands_proof: bool,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let dsse_payload = match &bundle.signed {
            Signed::Statement { encoded, payload_bytes, .. } => Some(&encoded[encoded.len() - payload_bytes..]),
            Signed::Blob { .. } | Signed::SimpleSigning(_) => None,
        };
        let logged = Logged { message, dsse_payload, signature: bundle.signature.bytes(), by };
        let mut counted = Vec::new();
        for entry in &bundle.entries {
            match entry.body.differs(&logged) {
                Some(Ok(())) => {}
                Some(Err(part)) => return Err(SigstoreRejection::LogEntryMismatch { part }.into()),
                None => return Err(Failure::NotHeld),
            }
            let Some(log) = entry.log(&root.logs.known) else { continue };
            let time = entry.verify(log, demands_proof || bundle.wants_proof, now)?;
            if !counted.contains(&&log.id) {
                counted.push(&log.id);
            }
            let shown = if entry.has_proof() { "has" } else { "promised" };
            let since = time.map(|time| format!(" since {time}")).unwrap_or_default();
            self.links.push(format!("the log '{}' {shown} entry {}{since}", log.url, entry.index));
            match time {
                Some(time) => self.times.push(time),
                None => self.untimed.push(log.valid),
            }
        }
        self.logs = counted.len();
        Ok(())
    }

    /// Adds the timestamps by authorities of `root`, each of which must be true. One by an authority that is
    /// not listed says nothing: whoever would gain by it could as well leave it out.
    pub(super) fn add_timestamps(&mut self, bundle: &Bundle, root: &SigstoreRoot) -> Result<(), SigstoreRejection> {
        if root.timestamp_authorities.is_empty() {
            return Ok(());
        }
        for bytes in &bundle.timestamps {
            let token = TimestampToken::parse_granted(bytes).map_err(|_| SigstoreRejection::TimestampMalformed)?;
            let at = token.time();
            let named = root.timestamp_authorities.iter().filter(|authority| token.names(&authority.certificate));
            let mut reason = None;
            for authority in named {
                if !token.is_over(bundle.signature.bytes()) {
                    reason = Some(SigstoreRejection::TimestampMismatch);
                } else if token.check_signer(&authority.der, &authority.key).is_err() {
                    reason = Some(SigstoreRejection::TimestampInvalid);
                } else if !authority.valid.contains(at) {
                    reason = Some(SigstoreRejection::TimestampTime { at });
                } else {
                    self.links.push(format!("a timestamp of {at} by '{}'", authority.url));
                    self.times.push(at);
                    self.has_timestamp = true;
                    reason = None;
                    break;
                }
            }
            if let Some(reason) = reason {
                return Err(reason);
            }
        }
        Ok(())
    }

    pub(super) fn check_timestamp(&self, demands: Demands) -> Result<(), SigstoreRejection> {
        match demands.timestamp && !self.has_timestamp {
            true => Err(SigstoreRejection::TimestampMissing),
            false => Ok(()),
        }
    }

    /// A certificate lives for minutes, so that it counts only at a time that somebody vouches for, and
    /// at each such time.
    pub(super) fn check_times(&self, bundle: &Bundle, valid: Window) -> Result<(), SigstoreRejection> {
        if self.times.is_empty() {
            return Err(match bundle.timestamps.is_empty() {
                true => SigstoreRejection::TimeMissing,
                false => SigstoreRejection::TimestampAuthorityUnknown,
            });
        }
        for at in self.times.iter().copied() {
            if !valid.contains(at) {
                return Err(SigstoreRejection::CertificateTime { at });
            }
            if self.untimed.iter().any(|log| !log.contains(at)) {
                return Err(SigstoreRejection::LogTime { at });
            }
        }
        Ok(())
    }
}
