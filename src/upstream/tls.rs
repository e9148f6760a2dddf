//! Whose certificates are believed: the platform's roots, and an upstream's own; and the certificate that
//! we show, to those alone that it is for.

use std::{collections::BTreeSet, sync::Arc};

use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::ExposeSecret;

use super::{ClientIdentity, connector::Endpoint};

/// The roots that every upstream shares.
pub(super) struct Roots(RootCertStore);

/// The bytes are no certificates in PEM form.
#[derive(Debug)]
pub(super) struct Unusable;

/// Why a certificate of ours cannot be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableIdentity {
    #[error("clientCertificate holds no certificate in PEM form")]
    Certificate,
    #[error("clientKey holds no private key in PEM form that is not encrypted (PKCS#8, PKCS#1 or SEC1)")]
    Key,
    #[error("clientKey is not the key of the first certificate in clientCertificate")]
    OtherKey,
}

/// How TLS is spoken with everybody, and with those who are shown who we are.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) with_all: ClientConfig,
    pub(super) with_own: Option<(BTreeSet<Endpoint>, ClientConfig)>,
}

impl From<ClientConfig> for Tls {
    fn from(with_all: ClientConfig) -> Self {
        Self { with_all, with_own: None }
    }
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

    /// Shows nobody who we are.
    pub(super) fn client_config(&self, ca: Option<&[u8]>) -> Result<ClientConfig, Unusable> {
        Ok(builder().with_root_certificates(self.with(ca)?).with_no_client_auth())
    }

    /// Shows it to whoever asks, as the servers do that this is for.
    pub(super) fn showing(
        &self,
        ca: Option<&[u8]>,
        identity: &ClientIdentity,
    ) -> Result<ClientConfig, UnusableIdentity> {
        let roots = self.with(ca).map_err(|_| UnusableIdentity::Certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(UnusableIdentity::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(identity.key.expose_secret().as_bytes());
        let key = key.map_err(|_| UnusableIdentity::Key)?;
        builder().with_root_certificates(roots).with_client_auth_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => UnusableIdentity::OtherKey,
            rustls::Error::InvalidCertificate(_) => UnusableIdentity::Certificate,
            _ => UnusableIdentity::Key,
        })
    }

    fn with(&self, ca: Option<&[u8]>) -> Result<RootCertStore, Unusable> {
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
        Ok(roots)
    }
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the cipher suites of these versions")
}
