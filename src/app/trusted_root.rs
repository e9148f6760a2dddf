//! The trusted roots of sigstore that a command works with: those in force, and the one that a TUF
//! repository has now.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    config::Config,
    pull::{TrustFiles, TrustFilesError},
    trust::{SigstoreRoot, TufError, TufUpdate},
    upstream::{TufRepository, UpstreamError},
};

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{file}: {source}")]
    Upstream { file: String, source: UpstreamError },
    #[error(transparent)]
    Tuf(#[from] TufError),
    #[error("the files did not come within {} seconds", PATIENCE.as_secs())]
    TooSlow,
}

/// Those that signatures are verified with under these settings.
pub fn sigstore_roots(config: &Config) -> Result<Vec<SigstoreRoot>, TrustFilesError> {
    let roots = TrustFiles::read(&config.trust_dir)?.sigstore_roots();
    Ok(roots.unwrap_or_else(|| vec![SigstoreRoot::public_good()]))
}

/// The names of their files.
pub fn sigstore_root_files(config: &Config) -> Result<Vec<String>, TrustFilesError> {
    Ok(TrustFiles::read(&config.trust_dir)?.sigstore_root_files())
}

/// Gives an update each file that it wants.
pub async fn fetch_trusted_root(repository: &TufRepository, update: &mut TufUpdate) -> Result<(), FetchError> {
    let fetching = async {
        while let Some(request) = update.request() {
            let answer = repository.fetch(&request.path, request.most_bytes).await;
            let bytes = answer.map_err(|source| FetchError::Upstream { file: request.path, source })?;
            update.take(bytes.as_deref())?;
        }
        Ok(())
    };
    timeout(PATIENCE, fetching).await.unwrap_or(Err(FetchError::TooSlow))
}

const PATIENCE: Duration = Duration::from_secs(120);
