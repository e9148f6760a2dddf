//! Whose certificates a command believes.

use std::path::PathBuf;

use anyhow::Context as _;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

#[derive(Clone)]
pub(super) struct Roots(RootCertStore);

#[derive(Debug, thiserror::Error)]
#[error("no certificates in PEM form in it")]
pub(super) struct NoCertificates;

impl Roots {
    /// Those of the platform, and of these files.
    pub(super) fn with(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let mut roots = Self(roots);
        for path in files {
            let pem = std::fs::read(path).with_context(|| format!("--ca {}", path.display()))?;
            roots.add(&pem).with_context(|| format!("--ca {}", path.display()))?;
        }
        Ok(roots)
    }

    pub(super) fn add(&mut self, pem: &[u8]) -> Result<(), NoCertificates> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let certificates = certificates.map_err(|_| NoCertificates)?;
        match self.0.add_parsable_certificates(certificates) {
            (0, _) => Err(NoCertificates),
            _ => Ok(()),
        }
    }

    pub(super) fn config(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of these versions")
            .with_root_certificates(self.0.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}
