//! Whose certificates are believed: the platform's roots, and an upstream's own.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

/// The roots that every upstream shares.
pub(super) struct Roots(RootCertStore);

/// The bytes are no certificates in PEM form.
#[derive(Debug)]
pub(super) struct Unusable;

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

    pub(super) fn client_config(&self, ca: Option<&[u8]>) -> Result<ClientConfig, Unusable> {
        let mut roots = self.0.clone();
        if let Some(pem) = ca {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let certificates = certificates.map_err(|_| Unusable)?;
            if certificates.is_empty() {
                return Err(Unusable);
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|_| Unusable)?;
            }
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of these versions");
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}
