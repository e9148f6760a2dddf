use std::path::PathBuf;

use nix::unistd::geteuid;

/// Does what a start does before it listens, and changes nothing.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>) -> Result<(), anyhow::Error> {
    let config = super::configuration(file)?;
    // Root would be let into every directory, and gives itself up at a start.
    if !geteuid().is_root() {
        config.check_directories()?;
    }
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    println!("the configuration is good");
    Ok(())
}
