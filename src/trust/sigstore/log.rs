use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};

use super::{
    checkpoint::Checkpoint,
    entry::{EntryBody, Kind},
    members::{self, MemberFlaw},
    merkle,
    rejection::SigstoreRejection,
    root::Log,
};
use crate::trust::{
    envelope::strict_json::Object,
    verifier::{message::Message, signed_by},
};

/// An entry of a transparency log, with what shows that the log has it.
#[derive(Debug, Clone)]
pub(super) struct LogEntry {
    log: Vec<u8>,
    pub(super) index: u64,
    /// When the log says to have taken it, which counts where the log has signed that.
    integrated: i64,
    bytes: Vec<u8>,
    pub(super) body: EntryBody,
    /// The signed entry timestamp: a promise to include the entry at that time.
    promise: Option<Vec<u8>>,
    proof: Option<Proof>,
}

/// That the entry is in the tree that the log has signed.
#[derive(Debug, Clone)]
struct Proof {
    index: u64,
    size: u64,
    root: [u8; 32],
    hashes: Vec<[u8; 32]>,
    checkpoint: Checkpoint,
}

impl LogEntry {
    /// Of a bundle. `proofs_may_be_bare` of a checkpoint, as in version 0.1: then they prove nothing, and are
    /// as good as none.
    pub(super) fn parse(entry: &Object, proofs_may_be_bare: bool) -> Result<Self, MemberFlaw> {
        let bytes = members::bytes(entry, "canonicalizedBody", MAX_BODY)?;
        let body = EntryBody::parse(&bytes)?;
        let version = members::object(entry, "kindVersion")?;
        if Kind::of(members::text(version, "kind")?, members::text(version, "version")?) != Some(body.kind) {
            return Err(MemberFlaw::Kind { name: "kindVersion" });
        }
        let promise = members::optional_object(entry, "inclusionPromise")?;
        let promise =
            promise.map(|promise| members::bytes(promise, "signedEntryTimestamp", MAX_PROMISE)).transpose()?;
        let proof = match members::optional_object(entry, "inclusionProof")? {
            Some(proof) if proofs_may_be_bare && members::optional_object(proof, "checkpoint")?.is_none() => None,
            proof => proof.map(Proof::parse).transpose()?,
        };
        Ok(Self {
            log: members::bytes(members::object(entry, "logId")?, "keyId", MAX_ID)?,
            index: members::whole(entry, "logIndex")?,
            integrated: members::integer(entry, "integratedTime")?,
            bytes,
            body,
            promise,
            proof,
        })
    }

    /// Of the form that cosign puts beside a classic signature, with the log's promise alone.
    pub(super) fn parse_promised(bundle: &Object) -> Result<Self, MemberFlaw> {
        let payload = members::object(bundle, "Payload")?;
        let bytes = members::bytes(payload, "body", MAX_BODY)?;
        Ok(Self {
            log: hex::decode(members::text(payload, "logID")?).map_err(|_| MemberFlaw::Hex { name: "logID" })?,
            index: members::whole(payload, "logIndex")?,
            integrated: members::integer(payload, "integratedTime")?,
            body: EntryBody::parse(&bytes)?,
            bytes,
            promise: Some(members::bytes(bundle, "SignedEntryTimestamp", MAX_PROMISE)?),
            proof: None,
        })
    }

    /// The log of a root that the entry says to be in.
    pub(super) fn log<'r>(&self, logs: &'r [Log]) -> Option<&'r Log> {
        logs.iter().find(|log| log.id == self.log)
    }

    pub(super) fn has_proof(&self) -> bool {
        self.proof.is_some()
    }

    /// Whether the log has it, and since when, where the log has signed that too. Whatever is there must
    /// be true; there must be a proof, or a promise unless the proof is demanded.
    pub(super) fn verify(
        &self,
        log: &Log,
        demands_proof: bool,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, SigstoreRejection> {
        match (&self.proof, &self.promise) {
            (None, None) => return Err(SigstoreRejection::InclusionProofMissing),
            (None, Some(_)) if demands_proof => return Err(SigstoreRejection::InclusionProofMissing),
            (Some(proof), _) => self.is_proven(proof, log)?,
            (None, Some(_)) => {}
        }
        let Some(promise) = &self.promise else { return Ok(None) };
        let signed = format!(
            r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
            STANDARD.encode(&self.bytes),
            self.integrated,
            hex::encode(&self.log),
            self.index
        );
        if signed_by(&log.key, &Message::payload(signed.as_bytes()), promise) != Some(true) {
            return Err(SigstoreRejection::SignedEntryTimestamp);
        }
        let at = Timestamp::from_second(self.integrated).map_err(|_| SigstoreRejection::SignedEntryTimestamp)?;
        match log.valid.contains(at) && at <= now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
            true => Ok(Some(at)),
            false => Err(SigstoreRejection::LogTime { at }),
        }
    }

    fn is_proven(&self, proof: &Proof, log: &Log) -> Result<(), SigstoreRejection> {
        let checkpoint = &proof.checkpoint;
        // Rekor 2 leaves what stands beside the checkpoint unsigned and counts its entries once; an index
        // of Rekor 1 goes on where the log before ended, so that the proof has one of its own.
        let index = if self.body.kind.is_of_rekor_2() {
            self.index
        } else if (proof.root, proof.size) == (checkpoint.root, checkpoint.size) {
            proof.index
        } else {
            return Err(SigstoreRejection::Checkpoint);
        };
        if !merkle::includes(&self.bytes, index, checkpoint.size, &proof.hashes, &checkpoint.root) {
            return Err(SigstoreRejection::InclusionProof);
        }
        match checkpoint.is_signed_by(log) {
            true => Ok(()),
            false => Err(SigstoreRejection::Checkpoint),
        }
    }

    /// Feeds all that tells this entry from another.
    pub(super) fn feed(&self, mut feed: impl FnMut(&[u8])) {
        feed(&self.log);
        feed(&self.index.to_be_bytes());
        feed(&self.integrated.to_be_bytes());
        feed(&self.bytes);
        feed(self.promise.as_deref().unwrap_or_default());
        if let Some(proof) = &self.proof {
            feed(&proof.index.to_be_bytes());
            feed(&proof.size.to_be_bytes());
            feed(&proof.root);
            feed(proof.hashes.as_flattened());
            proof.checkpoint.feed(feed);
        }
    }
}

impl Proof {
    fn parse(proof: &Object) -> Result<Self, MemberFlaw> {
        let checkpoint = members::object(proof, "checkpoint")?;
        let hashes = members::texts(proof, "hashes", MAX_HASHES)?.into_iter();
        let hashes = hashes.map(|text| members::to_hash(&members::decoded(text, "hashes")?, "hashes"));
        Ok(Self {
            index: members::whole(proof, "logIndex")?,
            size: members::whole(proof, "treeSize")?,
            root: members::hash(proof, "rootHash")?,
            hashes: hashes.collect::<Result<_, _>>()?,
            checkpoint: Checkpoint::parse(members::text(checkpoint, "envelope")?)?,
        })
    }
}

/// A certificate, a signature and some hashes.
const MAX_BODY: usize = 64 << 10;
const MAX_PROMISE: usize = 1024;
const MAX_ID: usize = 64;
/// A tree of 2^64 leaves needs no more.
const MAX_HASHES: usize = 64;
/// How far a log's clock may be ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
