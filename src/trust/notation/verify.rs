//! The steps of verification: trust store and trust policy specification, "Signature Verification".

use std::cell::OnceCell;

use der::Encode;
use jiff::{SignedDuration, Timestamp};

use super::{
    NotationRejection,
    attributes::SigningScheme,
    certificate::Certificate,
    chain::{self, Purpose},
    credential::NotationCredential,
    envelope::{Envelope, Signed},
    policy::Action,
    revocation::{RevocationCheck, Revocations, Standing},
    store::StoreKind,
    timestamp::{self, Stamp, TimestampFlaw},
};
use crate::{
    oci::Digest,
    trust::{Subject, key::Hash, scheme::Scheme},
};

/// One envelope in question, for as many statements as are asked about it.
pub(in crate::trust) struct Examination<'a> {
    envelope: &'a Envelope,
    subject: &'a Subject<'a>,
    revocations: &'a Revocations,
    now: Timestamp,
    /// Whether chain and signature hold in themselves, which is the same for all.
    integrity: OnceCell<Result<(), NotationRejection>>,
}

/// Why an envelope does not count by a statement, or cannot be told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) enum Shortfall {
    Rejected(NotationRejection),
    /// The payload names another image.
    OtherSubject {
        found: Digest,
    },
    /// The manifest's bytes are needed and not held.
    ManifestNotHeld,
    /// Whether these were revoked has to be asked first.
    RevocationUnknown(Vec<RevocationCheck>),
}

/// An envelope that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) struct Found {
    /// The signer's certificate and the root of its chain.
    pub(in crate::trust) signer: Certificate,
    pub(in crate::trust) root: Certificate,
    /// A time at which the signature was there, on the word of somebody other than its signer.
    pub(in crate::trust) authentic_time: Option<Timestamp>,
    /// The first instant at which this may be no longer so.
    pub(in crate::trust) until: Option<Timestamp>,
    /// What does not hold, and the statement's level lets pass.
    pub(in crate::trust) passed_over: Vec<NotationRejection>,
}

impl<'a> Examination<'a> {
    pub(in crate::trust) fn new(
        envelope: &'a Envelope,
        subject: &'a Subject<'a>,
        revocations: &'a Revocations,
        now: Timestamp,
    ) -> Self {
        Self { envelope, subject, revocations, now, integrity: OnceCell::new() }
    }

    /// What a statement makes of it. What costs little comes first, and whom nobody trusts is told so
    /// before his signature is checked.
    pub(in crate::trust) fn by(&self, credential: &NotationCredential) -> Result<Found, Shortfall> {
        let statement = credential.statement();
        let name = || statement.name.clone();
        if !statement.scope.includes(self.subject.repository) {
            return Err(NotationRejection::Scope.into());
        }
        if statement.verification.skips() {
            return Err(NotationRejection::Skipped { statement: name() }.into());
        }
        let signed = self.envelope.statement.as_ref().map_err(|flaw| NotationRejection::from(*flaw))?;
        if signed.target.digest != *self.subject.digest {
            return Err(Shortfall::OtherSubject { found: signed.target.digest });
        }
        let kind = match signed.attributes.scheme {
            SigningScheme::X509 => StoreKind::Ca,
            SigningScheme::SigningAuthority { .. } => StoreKind::SigningAuthority,
        };
        let place_of =
            |trusted: &Certificate| self.envelope.chain.iter().position(|certificate| certificate == trusted);
        let Some(trusted) = credential.certificates(kind).find_map(|trusted| place_of(trusted)) else {
            return Err(NotationRejection::Store { statement: name(), store: kind.as_str() }.into());
        };
        self.integrity.get_or_init(|| self.integrity(signed, trusted)).clone()?;
        let (signer, root) = match self.envelope.chain.as_slice() {
            [signer, .., root] => (signer, root),
            [alone] => (alone, alone),
            [] => return Err(NotationRejection::Signature.into()),
        };
        if !statement.identities.include(signer.subject()) {
            return Err(NotationRejection::Identity { statement: name() }.into());
        }
        self.manifest(signed)?;
        self.lasting(credential, signed, signer, root)
    }

    /// Chain, algorithm and signature.
    fn integrity(&self, signed: &Signed, trusted: usize) -> Result<(), NotationRejection> {
        let key = chain::check(&self.envelope.chain, Purpose::CodeSigning, trusted)?;
        let scheme = Scheme::of_signing_key(&key).ok_or(NotationRejection::Algorithm)?;
        if name_of(scheme) != Some(signed.attributes.algorithm) {
            return Err(NotationRejection::Algorithm);
        }
        match scheme.verifies_fixed(&key, &self.envelope.signed, &self.envelope.signature) {
            true => Ok(()),
            false => Err(NotationRejection::Signature),
        }
    }

    /// Size and media type are signed beside the digest, and have to be the manifest's own.
    fn manifest(&self, signed: &Signed) -> Result<(), Shortfall> {
        let actual = self.subject.media_type().ok_or(Shortfall::ManifestNotHeld)?;
        let size = self.subject.manifest_len() as u64;
        if signed.target.size != size {
            return Err(NotationRejection::Size { signed: signed.target.size, actual: size }.into());
        }
        match signed.target.media_type == actual {
            true => Ok(()),
            false => Err(NotationRejection::MediaType { actual: actual.to_owned() }.into()),
        }
    }

    /// What the statement's level decides about: expiry, authentic timestamp, revocation.
    fn lasting(
        &self,
        credential: &NotationCredential,
        signed: &Signed,
        signer: &Certificate,
        root: &Certificate,
    ) -> Result<Found, Shortfall> {
        let verification = &credential.statement().verification;
        let mut found = Found {
            signer: signer.clone(),
            root: root.clone(),
            authentic_time: None,
            until: None,
            passed_over: Vec::new(),
        };
        if let Some(expiry) = signed.attributes.expiry {
            let expired = NotationRejection::Expired { since: expiry };
            let checked = if self.now < expiry { Ok(Some(expiry)) } else { Err(expired.into()) };
            found.settle(verification.expiry, checked)?;
        }
        let timed = self.timed(credential, signed, &mut found.authentic_time);
        found.settle(verification.authentic_timestamp, timed)?;
        // Nobody is asked about what would be passed over.
        if verification.revocation == Action::Enforce {
            let time = found.authentic_time;
            let revoked = |at| NotationRejection::Revoked { at };
            found.settle(Action::Enforce, self.unrevoked(&self.envelope.chain, time, revoked))?;
        }
        Ok(found)
    }

    /// Whether the signature was made while its certificates were valid, and until when that can be said.
    fn timed(
        &self,
        credential: &NotationCredential,
        signed: &Signed,
        authentic: &mut Option<Timestamp>,
    ) -> Result<Option<Timestamp>, Shortfall> {
        let chain = &self.envelope.chain;
        if let SigningScheme::SigningAuthority { signed_at } = signed.attributes.scheme {
            *authentic = Some(signed_at);
            return match chain.iter().all(|certificate| certificate.is_valid_at(signed_at)) {
                true => Ok(None),
                false => Err(NotationRejection::SigningTime { at: signed_at }.into()),
            };
        }
        let expires = chain.iter().map(|certificate| certificate.not_after).min();
        let has_expired = expires.is_some_and(|expires| expires < self.now);
        let statement = credential.statement();
        let wants_stamp =
            statement.has_store(StoreKind::Tsa) && (has_expired || !statement.verification.timestamp_after_expiry_only);
        if wants_stamp {
            let (stamp, until) = self.stamp(credential)?;
            *authentic = Some(stamp.latest);
            return Ok(until);
        }
        if let Some(since) = expires.filter(|_| has_expired) {
            return Err(NotationRejection::CertificateExpired { since }.into());
        }
        match chain.iter().map(|certificate| certificate.not_before).filter(|from| self.now < *from).max() {
            Some(from) => Err(NotationRejection::CertificateNotYetValid { from }.into()),
            // The last second counts.
            None => Ok(expires.and_then(|expires| expires.checked_add(SignedDuration::from_secs(1)).ok())),
        }
    }

    /// The timestamp, if all of it holds: its authority's revocation does too, or the time is worth nothing.
    fn stamp(&self, credential: &NotationCredential) -> Result<(Stamp, Option<Timestamp>), Shortfall> {
        let wrong = |flaw| Shortfall::Rejected(NotationRejection::Timestamp(flaw));
        let token = self.envelope.timestamp.as_ref().ok_or(wrong(TimestampFlaw::Missing))?;
        let roots: Vec<_> = credential.certificates(StoreKind::Tsa).cloned().collect();
        let stamp = timestamp::verify(token, &self.envelope.signature, &roots).map_err(wrong)?;
        if !stamp.lies_within(&self.envelope.chain) {
            return Err(wrong(TimestampFlaw::Outside { at: stamp.latest }));
        }
        let revoked = |_| NotationRejection::Timestamp(TimestampFlaw::Revoked);
        let until = self.unrevoked(&stamp.chain, None, revoked)?;
        Ok((stamp, until))
    }

    /// Whether no certificate of a chain was revoked, and until when that can be said. A root has nobody
    /// above it who could revoke it, and a certificate that names no place to ask cannot be asked about.
    fn unrevoked(
        &self,
        chain: &[Certificate],
        authentic: Option<Timestamp>,
        revoked: impl Fn(usize) -> NotationRejection,
    ) -> Result<Option<Timestamp>, Shortfall> {
        let mut unknown = Vec::new();
        let mut until = None;
        for (at, pair) in chain.windows(2).enumerate() {
            let [certificate, issuer] = pair else { continue };
            let Some(check) = RevocationCheck::of(certificate, issuer) else { continue };
            match self.revocations.standing(&check, authentic, self.now) {
                Standing::Good { until: next } => until = until.into_iter().chain([next]).min(),
                Standing::Revoked => return Err(revoked(at).into()),
                Standing::Unknown => unknown.push(check),
            }
        }
        if unknown.is_empty() { Ok(until) } else { Err(Shortfall::RevocationUnknown(unknown)) }
    }
}

impl Found {
    /// What tells one signer from another.
    pub(in crate::trust) fn identity(&self) -> Vec<u8> {
        let subject = self.signer.subject().to_der().expect("a subject that was read can be written");
        [b"notation ".as_slice(), &self.root.fingerprint(), &subject].concat()
    }

    /// From the signature to the statement, a line for each link.
    pub(in crate::trust) fn links(&self, statement: &str) -> Vec<String> {
        let mut links = vec![
            format!("signed by {}", self.signer.subject()),
            format!("certified by {} (sha256:{})", self.root.subject(), hex::encode(self.root.fingerprint())),
            format!("trusted by the notation trust policy's statement '{statement}'"),
        ];
        links.extend(self.authentic_time.map(|time| format!("made at {time} or before")));
        links.extend(self.passed_over.iter().map(|rejection| format!("passed over: {rejection}")));
        links
    }

    /// Takes what a check found: as an end to what was found, or, where the level lets it pass, as a remark.
    fn settle(&mut self, action: Action, checked: Result<Option<Timestamp>, Shortfall>) -> Result<(), Shortfall> {
        match (checked, action) {
            (Ok(until), Action::Enforce) => self.until = self.until.into_iter().chain(until).min(),
            (Ok(_), Action::Log | Action::Skip) | (Err(_), Action::Skip) => {}
            (Err(shortfall), Action::Enforce) => return Err(shortfall),
            (Err(Shortfall::Rejected(rejection)), Action::Log) => self.passed_over.push(rejection),
            (Err(_), Action::Log) => {}
        }
        Ok(())
    }
}

impl From<NotationRejection> for Shortfall {
    fn from(rejection: NotationRejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// The name that envelopes have for it.
fn name_of(scheme: Scheme) -> Option<&'static str> {
    match scheme {
        Scheme::RsaPss(Hash::Sha256) => Some("PS256"),
        Scheme::RsaPss(Hash::Sha384) => Some("PS384"),
        Scheme::RsaPss(Hash::Sha512) => Some("PS512"),
        Scheme::Ecdsa(Hash::Sha256) => Some("ES256"),
        Scheme::Ecdsa(Hash::Sha384) => Some("ES384"),
        Scheme::Ecdsa(Hash::Sha512) => Some("ES512"),
        Scheme::RsaPkcs1(_) | Scheme::Ed25519 => None,
    }
}
