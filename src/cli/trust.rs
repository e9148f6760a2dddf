//! The trusted root of sigstore: what keyless signatures are verified with.

mod installed;
mod report;
mod update;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch the trusted root by TUF and put it into TRUST_DIR, and say what changed
    Update(Box<update::Options>),
}

pub(super) fn run(file: Option<PathBuf>, options: &Options) -> Result<ExitCode, anyhow::Error> {
    match &options.command {
        Command::Update(options) => update::run(file, options),
    }
}
