//! The notation CLI's own directory: `trustpolicy.json` and `truststore/x509/{ca,signingAuthority,tsa}/NAME/`.

use std::collections::BTreeMap;

use super::{
    NotationCredential,
    policy::{Policy, PolicyError},
    store::{StoreFlaw, StoreKind, StoreName, Stores},
};

/// What files of that layout say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotationFiles {
    /// One for each statement, in the document's order.
    pub credentials: Vec<NotationCredential>,
    /// By the path of what it is about.
    pub problems: Vec<(String, NotationFileProblem)>,
}

/// Why a file is not used, or not as its author may have meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotationFileProblem {
    #[error("{0}")]
    Policy(#[from] PolicyError),
    #[error("it is not used: {OCI_POLICY} takes its place")]
    Replaced,
    #[error("statement '{statement}': the store {store} has no certificate that can be used")]
    EmptyStore { statement: String, store: String },
    #[error("{0}")]
    Certificate(#[from] StoreFlaw),
    #[error("only *.pem, *.crt and *.cer files in a directory for each store are read")]
    Name,
}

impl NotationFiles {
    /// Whether a file at this path, from the directory on, is of the layout at all.
    pub fn know(path: &str) -> bool {
        [OCI_POLICY, POLICY].contains(&path) || path.starts_with(STORES)
    }

    /// Reads files by their paths, in any order.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut read = Self::default();
        let mut stores = Stores::default();
        let mut policies = BTreeMap::new();
        for (path, bytes) in files {
            if [OCI_POLICY, POLICY].contains(&path) {
                policies.insert(path, bytes);
            } else if path.starts_with(STORES) {
                match store_of(path).map(|store| stores.add(store, bytes)) {
                    Some(Ok(())) => {}
                    Some(Err(flaw)) => read.problems.push((path.to_owned(), flaw.into())),
                    None => read.problems.push((path.to_owned(), NotationFileProblem::Name)),
                }
            }
        }
        // The newer name comes first, as it does for notation.
        if policies.len() > 1 {
            policies.remove(POLICY);
            read.problems.push((POLICY.to_owned(), NotationFileProblem::Replaced));
        }
        if let Some((path, bytes)) = policies.first_key_value() {
            match Policy::parse(bytes) {
                Ok(policy) => read.take(path, policy, &stores),
                Err(error) => read.problems.push(((*path).to_owned(), error.into())),
            }
        }
        read
    }

    fn take(&mut self, path: &str, policy: Policy, stores: &Stores) {
        for statement in policy.statements {
            let credential = NotationCredential::new(statement, stores);
            for store in credential.empty_stores() {
                let problem = NotationFileProblem::EmptyStore {
                    statement: credential.name().to_owned(),
                    store: store.to_string(),
                };
                self.problems.push((path.to_owned(), problem));
            }
            self.credentials.push(credential);
        }
    }
}

/// The store of a certificate's file. What lies deeper is not read, as notation does not.
fn store_of(path: &str) -> Option<StoreName> {
    let mut parts = path.strip_prefix(STORES)?.split('/');
    let (kind, name, file) = (parts.next()?, parts.next()?, parts.next()?);
    let (stem, extension) = file.rsplit_once('.')?;
    let is_certificate = !stem.is_empty() && ["pem", "crt", "cer"].contains(&extension) && parts.next().is_none();
    StoreName::new(StoreKind::of(kind)?, name).ok().filter(|_| is_certificate)
}

const POLICY: &str = "trustpolicy.json";
const OCI_POLICY: &str = "trustpolicy.oci.json";
const STORES: &str = "truststore/x509/";
