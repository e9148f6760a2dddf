//! Whether a bundle is a signature of an image by a signer that we believe. The cheap questions come
//! first: what is signed, then by whom, and only of a believed signer whether the evidence is true.

use jiff::Timestamp;

use super::{
    bundle::{Bundle, Signed, SignedBy},
    certificate::SignerCertificate,
    entry::Signatory,
    identity::Identity,
    rejection::SigstoreRejection,
    root::SigstoreRoot,
    sct,
    statement::Predicate,
    witnesses::Witnesses,
};
use crate::trust::{
    Credential, Evidence, Inconclusive, Outcome, Rejection, SignerId, Subject, TrustRoot, Verified,
    envelope::Claim,
    root::Standing,
    verifier::{message::Message, signed_by},
};

/// What evidence must come with a signature, beyond what its trusted root and its version demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// How many logs of a root that lists logs must have a keyless signature.
    pub logs: usize,
    /// Whether a proof of each entry is demanded where the version of a bundle would let a promise do.
    pub inclusion_proof: bool,
    /// Whether a signature by a key needs the logs too.
    pub logs_for_keys: bool,
    /// Whether a timestamp by an authority of a root is demanded, beside whatever time a log gives.
    pub timestamp: bool,
    /// Whether the certificate's log is demanded, where a root lists one. For an image always.
    pub certificate_log: bool,
    /// Whether any statement about the subject does, and not only that somebody signed it. Never for an image.
    pub attestations: bool,
}

impl Default for Demands {
    fn default() -> Self {
        Self {
            logs: 1,
            inclusion_proof: false,
            logs_for_keys: false,
            timestamp: false,
            certificate_log: true,
            attestations: false,
        }
    }
}

pub(in crate::trust) fn verify(bundle: &Bundle, subject: &Subject<'_>, root: &TrustRoot, now: Timestamp) -> Outcome {
    let messages = match bundle.messages(subject, root) {
        Ok(messages) => messages,
        Err(rejection) => return Outcome::Rejected(rejection),
    };
    let verification = Verification { bundle, subject, root, now, messages };
    match &bundle.by {
        SignedBy::Key => verification.by_key(),
        SignedBy::Certificate(certificate) => {
            let certified = verification.by_certificate(certificate);
            if certified.is_verified() {
                return certified;
            }
            // Nobody signed that this certificate belongs to the signature: what it would be without one, it is.
            match verification.by_key() {
                Outcome::Rejected(Rejection::NoTrustedKey) => certified,
                other => other,
            }
        }
    }
}

impl Bundle {
    /// What the signature can be over, if it is over this image at all.
    fn messages<'a>(&'a self, subject: &'a Subject<'a>, root: &TrustRoot) -> Result<Vec<Message<'a>>, Rejection> {
        let limit = root.rehashed_bytes();
        let payload = |bytes| Ok(vec![Message::payload(bytes).within(limit)]);
        match &self.signed {
            Signed::Statement { statement: None, .. } => Err(Rejection::PayloadType),
            Signed::Statement { encoded, statement: Some(statement), .. } => {
                if statement.labels_of(subject.digest).is_none() {
                    let found = statement.first_digest().ok_or(SigstoreRejection::NoSubject)?;
                    return Err(Rejection::SubjectMismatch { found });
                }
                match statement.predicate() {
                    Predicate::CosignSign => payload(encoded),
                    Predicate::Attestation if root.demands().attestations => payload(encoded),
                    Predicate::Attestation => Err(SigstoreRejection::PredicateType.into()),
                }
            }
            Signed::SimpleSigning(signed) => match signed.claim() {
                Claim::OtherType => Err(Rejection::PayloadType),
                Claim::Image { digest, .. } if digest != subject.digest => {
                    Err(Rejection::SubjectMismatch { found: *digest })
                }
                Claim::Image { .. } => payload(signed.bytes()),
            },
            Signed::Blob { hash } => {
                let mut messages =
                    vec![Message::manifest(subject).within(limit), Message::digest_string(subject.digest)];
                if let Some((algorithm, hash)) = hash {
                    // One whose hash is not known for want of the bytes may still be it.
                    messages.retain(|message| message.hashed(*algorithm).is_none_or(|found| found.as_ref() == hash));
                }
                match messages.is_empty() {
                    true => Err(SigstoreRejection::Blob.into()),
                    false => Ok(messages),
                }
            }
        }
    }
}

struct Verification<'a> {
    bundle: &'a Bundle,
    subject: &'a Subject<'a>,
    root: &'a TrustRoot,
    now: Timestamp,
    messages: Vec<Message<'a>>,
}

impl Verification<'_> {
    fn by_key(&self) -> Outcome {
        let (mut rejection, mut not_held) = (None, false);
        for key in self.root.keys().filter(|key| self.bundle.signature.fits(key.kind())) {
            for message in &self.messages {
                match signed_by(key, message, self.bundle.signature.bytes()) {
                    Some(true) => {}
                    Some(false) => continue,
                    None => {
                        not_held = true;
                        continue;
                    }
                }
                let verified = self.witnesses_of_key(key.id(), message).and_then(|witnesses| {
                    let link = format!("{} signature over {} by the key {}", key.algorithm(), message.name(), key.id());
                    self.verified(key.id(), *key.id().as_bytes(), message, link, &witnesses)
                });
                match verified {
                    Ok(verified) => return Outcome::Verified(verified),
                    Err(other) => rejection = rejection.or(Some(other)),
                }
            }
        }
        match rejection {
            Some(Failure::Rejected(rejection)) => Outcome::Rejected(rejection),
            Some(Failure::NotHeld) => self.not_held(),
            None if not_held => self.not_held(),
            None => Outcome::Rejected(Rejection::NoTrustedKey),
        }
    }

    /// A key needs no witness, but one that was changed says that something is wrong. A witness that no
    /// root knows is as good as none.
    fn witnesses_of_key(&self, key: SignerId, message: &Message<'_>) -> Result<Witnesses, Failure> {
        let (by, demands) = (Signatory::Key(key), self.root.demands());
        let mut best = Witnesses::default();
        for root in self.root.sigstore() {
            let mut witnesses = Witnesses::default();
            witnesses.add_logs(self.bundle, root, (message, by), demands.inclusion_proof, self.now)?;
            witnesses.add_timestamps(self.bundle, root)?;
            if witnesses.logs >= best.logs && witnesses.links.len() > best.links.len() {
                best = witnesses;
            }
        }
        if demands.logs_for_keys && best.logs < demands.logs {
            return Err(SigstoreRejection::LogEntryMissing { needed: demands.logs, found: best.logs }.into());
        }
        best.check_timestamp(demands)?;
        Ok(best)
    }

    fn by_certificate(&self, certificate: &SignerCertificate) -> Outcome {
        let Some(identity) = &certificate.identity else {
            return Outcome::Rejected(SigstoreRejection::NoIdentity.into());
        };
        match self.certified(certificate, identity) {
            Ok(verified) => Outcome::Verified(verified),
            Err(Failure::Rejected(rejection)) => Outcome::Rejected(rejection),
            Err(Failure::NotHeld) => self.not_held(),
        }
    }

    /// The bytes of a message are wanted, and are not here or not looked at.
    fn not_held(&self) -> Outcome {
        match self.messages.iter().any(Message::is_too_large) {
            true => Outcome::Rejected(Rejection::TooLarge),
            false => Outcome::Unknown(Inconclusive::ManifestNotHeld),
        }
    }

    fn certified(&self, certificate: &SignerCertificate, identity: &Identity) -> Result<Verified, Failure> {
        let mut failure = None;
        for root in self.root.sigstore() {
            match self.certified_under(root, certificate, identity) {
                Ok(verified) => return Ok(verified),
                // The root that knows the certificate has more to say than one that does not.
                Err(Failure::Rejected(Rejection::Sigstore(SigstoreRejection::Chain))) if failure.is_some() => {}
                Err(other) => failure = Some(other),
            }
        }
        Err(failure.unwrap_or_else(|| SigstoreRejection::NoRoot.into()))
    }

    fn certified_under(
        &self,
        root: &SigstoreRoot,
        certificate: &SignerCertificate,
        identity: &Identity,
    ) -> Result<Verified, Failure> {
        let (authority, valid) = certificate.issued_by(root)?;
        let signers = self.believed(identity)?;
        let message = self.signed_message(certificate)?;
        let (by, demands) = (Signatory::Certificate(&certificate.der), self.root.demands());
        let mut witnesses = Witnesses::default();
        if root.certificate_logs.are_demanded && demands.certificate_log {
            sct::verify(&certificate.certificate, &authority.public_key, &root.certificate_logs.known)?;
            witnesses.links.push("the certificate is in a certificate log of the trusted root".to_owned());
        }
        witnesses.add_logs(self.bundle, root, (message, by), demands.inclusion_proof, self.now)?;
        let needed = if root.logs.are_demanded { demands.logs } else { 0 };
        if witnesses.logs < needed {
            return Err(match self.bundle.entries.is_empty() {
                false if witnesses.logs == 0 => SigstoreRejection::LogUnknown.into(),
                _ => SigstoreRejection::LogEntryMissing { needed, found: witnesses.logs }.into(),
            });
        }
        witnesses.add_timestamps(self.bundle, root)?;
        witnesses.check_timestamp(demands)?;
        witnesses.check_times(self.bundle, valid)?;
        let mut failure = None;
        for id in signers {
            let link = format!(
                "{} signature over {} by '{}' of the issuer '{}', whose certificate was valid from {} to {}",
                certificate.key.algorithm(),
                message.name(),
                identity.subject,
                identity.issuer,
                certificate.valid.from,
                certificate.valid.to
            );
            match self.verified(id, identity.digest(), message, link, &witnesses) {
                Ok(verified) => return Ok(verified),
                Err(other) => failure = failure.or(Some(other)),
            }
        }
        Err(failure.unwrap_or(Failure::Rejected(Rejection::NoTrustedKey)))
    }

    /// The signers whose identity the certificate has; if there is none, what is wrong with it for the
    /// one that came nearest.
    fn believed(&self, identity: &Identity) -> Result<Vec<SignerId>, Failure> {
        let mut believed = Vec::new();
        let mut nearest = SigstoreRejection::Issuer;
        for credential in self.root.credentials() {
            let Credential::Keyless(keyless) = credential else { continue };
            match keyless.admits(identity) {
                Ok(()) => believed.push(credential.id()),
                Err(SigstoreRejection::Issuer) => {}
                Err(SigstoreRejection::Identity) if matches!(nearest, SigstoreRejection::Claim { .. }) => {}
                Err(other) => nearest = other,
            }
        }
        match believed.is_empty() {
            true => Err(nearest.into()),
            false => Ok(believed),
        }
    }

    fn signed_message(&self, certificate: &SignerCertificate) -> Result<&Message<'_>, Failure> {
        let mut failure = SigstoreRejection::Signature.into();
        for message in &self.messages {
            match signed_by(&certificate.key, message, self.bundle.signature.bytes()) {
                Some(true) => return Ok(message),
                Some(false) => {}
                None => failure = Failure::NotHeld,
            }
        }
        Err(failure)
    }

    fn verified(
        &self,
        id: SignerId,
        identity: [u8; 32],
        message: &Message<'_>,
        link: String,
        witnesses: &Witnesses,
    ) -> Result<Verified, Failure> {
        match self.root.standing(id, self.now, witnesses.earliest()) {
            Standing::Good { signer, until } => Ok(Verified {
                identity,
                entry: *signer.id.as_bytes(),
                signer,
                payload_hash: message.identity(),
                labels: self.labels(),
                until,
                evidence: Evidence {
                    signed_at: witnesses.earliest(),
                    links: [&[link], witnesses.links.as_slice()].concat(),
                },
            }),
            Standing::Bad(rejection) => Err(Failure::Rejected(rejection)),
        }
    }

    fn labels(&self) -> std::collections::BTreeMap<String, String> {
        match &self.bundle.signed {
            Signed::Statement { statement: Some(statement), .. } => {
                statement.labels_of(self.subject.digest).cloned().unwrap_or_default()
            }
            Signed::SimpleSigning(payload) => match payload.claim() {
                Claim::Image { labels, .. } => labels.clone(),
                Claim::OtherType => Default::default(),
            },
            Signed::Statement { statement: None, .. } | Signed::Blob { .. } => Default::default(),
        }
    }
}

/// Why a bundle did not verify.
pub(super) enum Failure {
    Rejected(Rejection),
    NotHeld,
}

impl From<SigstoreRejection> for Failure {
    fn from(rejection: SigstoreRejection) -> Self {
        Self::Rejected(rejection.into())
    }
}
