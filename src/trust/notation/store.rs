//! Trust stores: the certificates that a statement of a trust policy believes, by name.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use der::pem::{self, LineEnding};

use super::certificate::{Certificate, CertificateFlaw};
use crate::trust::{KeyError, scheme::SchemeError};

/// What the certificates of a store vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum StoreKind {
    /// Signers of the scheme `notary.x509`.
    Ca,
    /// Signers of the scheme `notary.x509.signingAuthority`.
    SigningAuthority,
    /// Timestamps.
    Tsa,
}

/// A store as a policy names it: `ca:acme`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoreName {
    pub kind: StoreKind,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not ca:NAME, signingAuthority:NAME or tsa:NAME with letters, digits, '_', '.' and '-' as name")]
pub(super) struct StoreNameError;

/// Every store there is, and what each holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stores(BTreeMap<StoreName, Vec<Arc<Certificate>>>);

/// Why a file does not belong into a trust store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFlaw {
    #[error("a certificate file has at most {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("there is no certificate in it: PEM blocks of the kind CERTIFICATE, or DER, are expected")]
    Empty,
    #[error("only certificates are expected in it, at most {MAX_CERTIFICATES} of them")]
    NotCertificates,
    #[error(transparent)]
    Certificate(#[from] CertificateFlaw),
    #[error("a certificate's key cannot be used: {0}")]
    Key(#[from] KeyError),
    #[error("a certificate cannot be used: {0}")]
    Scheme(#[from] SchemeError),
    #[error("a certificate is neither that of a CA nor self-signed")]
    NoRoot,
    #[error("in a store of timestamp authorities only self-signed roots are expected")]
    NoTimestampRoot,
}

/// A bundle of many roots has some hundred KiB.
const MAX_FILE_BYTES: usize = 1 << 20;
const MAX_CERTIFICATES: usize = 256;

impl Stores {
    /// Puts a file's certificates into the store.
    pub(super) fn add(&mut self, store: StoreName, file: &[u8]) -> Result<(), StoreFlaw> {
        let certificates = read(file)?;
        for certificate in &certificates {
            check(certificate, store.kind)?;
        }
        self.0.entry(store).or_default().extend(certificates.into_iter().map(Arc::new));
        Ok(())
    }

    /// These stores alone, as far as they are there.
    pub(super) fn only(&self, names: &[StoreName]) -> Self {
        let found = names.iter().filter_map(|name| Some((name.clone(), self.0.get(name)?.clone())));
        Self(found.collect())
    }

    pub(super) fn has(&self, name: &StoreName) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn to_pem(&self) -> BTreeMap<String, String> {
        let pem = |certificate: &Arc<Certificate>| {
            pem::encode_string("CERTIFICATE", LineEnding::LF, certificate.der()).expect("a certificate has a PEM form")
        };
        self.0.iter().map(|(name, certificates)| (name.to_string(), certificates.iter().map(pem).collect())).collect()
    }

    pub(super) fn of_kind(&self, kind: StoreKind) -> impl Iterator<Item = &Arc<Certificate>> {
        self.0.iter().filter(move |(name, _)| name.kind == kind).flat_map(|(_, certificates)| certificates)
    }
}

/// The certificates of a file, which is PEM or one certificate in DER.
pub(super) fn read(file: &[u8]) -> Result<Vec<Certificate>, StoreFlaw> {
    if file.len() > MAX_FILE_BYTES {
        return Err(StoreFlaw::TooLarge);
    }
    let text = match str::from_utf8(file) {
        Ok(text) if text.contains("-----BEGIN ") => text,
        _ if file.first() == Some(&0x30) => return Ok(vec![Certificate::from_der(file)?]),
        _ => return Err(StoreFlaw::Empty),
    };
    let mut certificates = Vec::new();
    // What stands between the blocks is for people.
    for block in text.split("-----BEGIN ").skip(1) {
        let end = block.find(END).map(|at| at + END.len()).ok_or(StoreFlaw::NotCertificates)?;
        let block = ["-----BEGIN ", &block[..end]].concat();
        match pem::decode_vec(block.as_bytes()) {
            Ok(("CERTIFICATE", der)) if certificates.len() < MAX_CERTIFICATES => {
                certificates.push(Certificate::from_der(&der)?);
            }
            Ok(_) | Err(_) => return Err(StoreFlaw::NotCertificates),
        }
    }
    Ok(certificates)
}

/// What notation demands of a store's certificates. Intermediate ones may be there too: whoever puts
/// them there trusts what they issue.
fn check(certificate: &Certificate, kind: StoreKind) -> Result<(), StoreFlaw> {
    let key = certificate.key()?;
    let is_root = || Ok::<_, StoreFlaw>(certificate.is_self_issued() && certificate.is_signed_by(&key)?);
    match kind {
        StoreKind::Ca | StoreKind::SigningAuthority if certificate.is_authority() || is_root()? => Ok(()),
        StoreKind::Ca | StoreKind::SigningAuthority => Err(StoreFlaw::NoRoot),
        StoreKind::Tsa if is_root()? => Ok(()),
        StoreKind::Tsa => Err(StoreFlaw::NoTimestampRoot),
    }
}

impl StoreKind {
    const ALL: [Self; 3] = [Self::Ca, Self::SigningAuthority, Self::Tsa];

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::SigningAuthority => "signingAuthority",
            Self::Tsa => "tsa",
        }
    }
}

impl FromStr for StoreName {
    type Err = StoreNameError;

    fn from_str(text: &str) -> Result<Self, StoreNameError> {
        let (kind, name) = text.split_once(':').ok_or(StoreNameError)?;
        Self::new(StoreKind::of(kind).ok_or(StoreNameError)?, name)
    }
}

impl StoreName {
    /// A name is that of a directory, so it cannot lead out of one.
    pub(super) fn new(kind: StoreKind, name: &str) -> Result<Self, StoreNameError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        match !name.is_empty() && name.bytes().all(is_name) && !matches!(name, "." | "..") {
            true => Ok(Self { kind, name: name.to_owned() }),
            false => Err(StoreNameError),
        }
    }
}

impl fmt::Display for StoreName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.as_str(), self.name)
    }
}

const END: &str = "-----END CERTIFICATE-----";
