use std::path::PathBuf;

use crate::app;

/// Serves until a signal.
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    Ok(app::serve(super::configuration(file)?)?)
}
