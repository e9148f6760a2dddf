//! Whose certificates are believed: the platform's roots, and an upstream's own.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The roots that every upstream shares.
pub(super) struct Roots(RootCertStore);

#[derive(Debug)]
pub(super) enum CaError {
    Read(std::io::Error),
    Unusable,
}

impl Roots {
    /// Those of the platform. A machine may have none and still mirror a registry without TLS, so
    /// that is no error here; connections that need them fail.
    pub(super) fn of_platform() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            tracing::warn!(errors = found.errors.len(), "the platform has no root certificates: https needs `ca`");
        }
        Self(roots)
    }

    pub(super) fn client_config(&self, ca: Option<&Path>) -> Result<ClientConfig, CaError> {
        let mut roots = self.0.clone();
        if let Some(path) = ca {
            let pem = std::fs::read(path).map_err(CaError::Read)?;
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
            let certificates = certificates.map_err(|_| CaError::Unusable)?;
            if certificates.is_empty() {
                return Err(CaError::Unusable);
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|_| CaError::Unusable)?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of these versions");
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}
