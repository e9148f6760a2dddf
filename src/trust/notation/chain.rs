//! Chains of certificates: signature specification, "Certificate Requirements". They hold for every
//! chain, whatever a trust store says of it, and say nothing of the time.

use der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{KeyUsage, KeyUsages};

use super::certificate::{Certificate, Extensions};
use crate::trust::{
    KeyError, PublicKey,
    scheme::{Scheme, SchemeError},
};

/// What the first certificate of a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    CodeSigning,
    Timestamping,
}

/// What is wrong with a chain. A certificate is told by its place: 0 is the signer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFlaw {
    #[error("the chain does not end with a self-signed root")]
    NoRoot,
    #[error("certificate {at} is self-signed, and not the last of the chain")]
    RootWithin { at: usize },
    #[error("certificate {at} was not issued by the one after it")]
    NotIssued { at: usize },
    #[error("certificate {at}: {error}")]
    Scheme { at: usize, error: SchemeError },
    #[error("certificate {at}: {error}")]
    Key { at: usize, error: KeyError },
    #[error("the signer's key is neither RSA of 2048, 3072 or 4096 bits nor ECDSA on P-256, P-384 or P-521")]
    SignerKey,
    #[error("certificate {at} is not a CA: critical basic constraints with cA are expected")]
    NotAuthority { at: usize },
    #[error("the signer's certificate is that of a CA")]
    SignerIsAuthority,
    #[error("certificate {at} allows fewer certificates below it than there are")]
    PathLength { at: usize },
    #[error("certificate {at}: a critical key usage of {expected} and nothing beside it is expected")]
    KeyUsage { at: usize, expected: &'static str },
    #[error("the signer's extended key usage is not one for {purpose}")]
    ExtendedKeyUsage { purpose: &'static str },
}

/// Checks the chain, and hands out its first certificate's key. `trusted` is the place of the certificate for which the
/// chain is believed.
pub(super) fn check(chain: &[Certificate], purpose: Purpose, trusted: usize) -> Result<PublicKey, ChainFlaw> {
    let (signer, authorities) = chain.split_first().ok_or(ChainFlaw::NoRoot)?;
    let keys = chain.iter().enumerate().map(|(at, certificate)| {
        let key = certificate.key();
        key.map_err(|error| ChainFlaw::Key { at, error })
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    // A forger has the trusted certificate and nothing that it issued to him: what is beneath it comes first, and then
    // upwards, so that a forgery costs a check or two, however long it is.
    let beneath = (0..trusted).rev();
    for at in beneath.clone().take(1).chain(trusted..chain.len()).chain(beneath.skip(1)) {
        check_link(chain, &keys, at)?;
    }
    check_signer(&signer.extensions, &keys[0], purpose)?;
    for (below, authority) in authorities.iter().enumerate() {
        check_authority(below, &authority.extensions, purpose)?;
    }
    Ok(keys.into_iter().next().expect("a chain has a first certificate"))
}

/// Whether certificate `at` was issued by the one after it, or the last by itself.
fn check_link(chain: &[Certificate], keys: &[PublicKey], at: usize) -> Result<(), ChainFlaw> {
    let (certificate, key) = (&chain[at], &keys[at]);
    let (Some(issuer), Some(issuer_key)) = (chain.get(at + 1), keys.get(at + 1)) else {
        let is_root = certificate.is_self_issued() && is_issued(at, certificate, key)?;
        return if is_root { Ok(()) } else { Err(ChainFlaw::NoRoot) };
    };
    let by_issuer = certificate.issuer() == issuer.subject() && is_issued(at, certificate, issuer_key)?;
    // By two keys one signature does not verify.
    let may_be_root = certificate.is_self_issued() && (!by_issuer || key == issuer_key);
    match (may_be_root && is_issued(at, certificate, key)?, by_issuer) {
        (true, _) => Err(ChainFlaw::RootWithin { at }),
        (false, true) => Ok(()),
        (false, false) => Err(ChainFlaw::NotIssued { at }),
    }
}

fn is_issued(at: usize, certificate: &Certificate, key: &PublicKey) -> Result<bool, ChainFlaw> {
    certificate.is_signed_by(key).map_err(|error| ChainFlaw::Scheme { at, error })
}

fn check_signer(extensions: &Extensions, key: &PublicKey, purpose: Purpose) -> Result<(), ChainFlaw> {
    if Scheme::of_signing_key(key).is_none() {
        return Err(ChainFlaw::SignerKey);
    }
    if extensions.basic_constraints.as_ref().is_some_and(|constraints| constraints.value.ca) {
        return Err(ChainFlaw::SignerIsAuthority);
    }
    // With `nonRepudiation` beside it nothing is lost; with any other the key is for something else too.
    let usage = key_usage(extensions, purpose).filter(|KeyUsage(usages)| {
        usages.contains(KeyUsages::DigitalSignature)
            && (*usages - (KeyUsages::DigitalSignature | KeyUsages::NonRepudiation)).is_empty()
    });
    if usage.is_none() {
        return Err(ChainFlaw::KeyUsage { at: 0, expected: "digitalSignature" });
    }
    let usages = extensions.extended_key_usage.as_ref();
    let fits = match purpose {
        Purpose::CodeSigning => usages.is_none_or(|usages| !usages.value.iter().any(|usage| FOREIGN.contains(usage))),
        // RFC 3161, section 2.3.
        Purpose::Timestamping => usages.is_some_and(|usages| usages.critical && usages.value == [TIME_STAMPING]),
    };
    match (fits, purpose) {
        (true, _) => Ok(()),
        (false, Purpose::CodeSigning) => Err(ChainFlaw::ExtendedKeyUsage { purpose: "signing code alone" }),
        (false, Purpose::Timestamping) => Err(ChainFlaw::ExtendedKeyUsage { purpose: "timestamps alone, critical" }),
    }
}

/// `below` is the number of CAs between this one and the signer.
fn check_authority(below: usize, extensions: &Extensions, purpose: Purpose) -> Result<(), ChainFlaw> {
    let at = below + 1;
    match &extensions.basic_constraints {
        Some(constraints) if constraints.critical && constraints.value.ca => {
            if constraints.value.path_len_constraint.is_some_and(|most| usize::from(most) < below) {
                return Err(ChainFlaw::PathLength { at });
            }
        }
        Some(_) | None => return Err(ChainFlaw::NotAuthority { at }),
    }
    match key_usage(extensions, purpose) {
        Some(KeyUsage(usages)) if usages.contains(KeyUsages::KeyCertSign) => Ok(()),
        Some(_) | None => Err(ChainFlaw::KeyUsage { at, expected: "keyCertSign" }),
    }
}

/// The key usage, where it is there as the purpose demands: of a timestamp's it only should be critical.
fn key_usage(extensions: &Extensions, purpose: Purpose) -> Option<KeyUsage> {
    let usage = extensions.key_usage.as_ref()?;
    (usage.critical || purpose == Purpose::Timestamping).then_some(usage.value)
}

impl ChainFlaw {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoRoot | Self::RootWithin { .. } | Self::NotIssued { .. } => "notation-chain",
            Self::Scheme { .. } => "notation-certificate-algorithm",
            Self::Key { .. } | Self::SignerKey => "notation-certificate-key",
            Self::NotAuthority { .. } | Self::SignerIsAuthority | Self::PathLength { .. } => {
                "notation-basic-constraints"
            }
            Self::KeyUsage { .. } => "notation-key-usage",
            Self::ExtendedKeyUsage { .. } => "notation-extended-key-usage",
        }
    }
}

const fn purpose(oid: &'static str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(oid)
}

const TIME_STAMPING: ObjectIdentifier = purpose("1.3.6.1.5.5.7.3.8");

/// What a certificate that signs code may not be for: any purpose, servers, clients, mail, timestamps,
/// and answers about revocation.
const FOREIGN: [ObjectIdentifier; 6] = [
    purpose("2.5.29.37.0"),
    purpose("1.3.6.1.5.5.7.3.1"),
    purpose("1.3.6.1.5.5.7.3.2"),
    purpose("1.3.6.1.5.5.7.3.4"),
    TIME_STAMPING,
    purpose("1.3.6.1.5.5.7.3.9"),
];
