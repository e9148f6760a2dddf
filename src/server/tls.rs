use std::{
    fmt, fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject};

use super::pinned::Pinned;

/// A certificate chain and its key, read and found to belong together; http/1.1 and nothing else is
/// offered, because the reason phrase that stops a client has no place in HTTP/2.
#[derive(Clone)]
pub struct Tls {
    config: Arc<rustls::ServerConfig>,
    chain: Arc<[CertificateDer<'static>]>,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: no certificate in PEM form in it", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: no usable private key in PEM form in it", path.display())]
    NoKey { path: PathBuf },
    #[error("certificate {} and key {}: {source}", certificate.display(), key.display())]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

impl Tls {
    /// Reads both files, which the process may not be able to do later.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_chain(certificate)?;
        let unusable = |source| TlsError::Unusable { certificate: certificate.into(), key: key.into(), source };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain.clone(), read_key(key)?)
            .map_err(unusable)?;
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Ok(Self { config: Arc::new(config), chain: chain.into() })
    }

    /// The server's own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// A client that speaks with the holder of this very certificate and with nobody else, whoever
    /// issued what somebody else shows: for a process that asks itself.
    pub fn client_of_this_certificate(&self, server: IpAddr) -> Result<rustls::ClientConnection, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pinned = Arc::new(Pinned::new(self.chain[0].clone(), &provider));
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(pinned)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        rustls::ClientConnection::new(Arc::new(config), server.into())
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.config.clone().into()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({} certificates)", self.chain.len())
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) | Err(_) => Err(TlsError::NoCertificate { path: path.into() }),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_: pem::Error| TlsError::NoKey { path: path.into() })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.into(), source })
}

const ALPN_HTTP1: &[u8] = b"http/1.1";
