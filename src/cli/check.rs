use std::path::PathBuf;

use nix::unistd::geteuid;

use crate::{app, clock::Clock, telemetry};

/// Does what a start does before it listens, and changes nothing.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    let config = super::configuration(file)?;
    let clock = Clock::system();
    telemetry::init(telemetry::LogLevel::Warn, move || clock.system_time());
    // Root would be let into every directory, and gives itself up at a start.
    if !geteuid().is_root() {
        config.check_directories()?;
    }
    let keys = app::check(&config)?;
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    println!("the configuration is good; trusted keys in {}: {keys}", config.trust_dir.display());
    Ok(())
}
