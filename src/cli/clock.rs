use std::path::PathBuf;

use clap::Args;

use crate::{app, clock::Clock};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Take the system's time for right, though the store has seen a later one
    #[arg(long, required = true)]
    accept: bool,
}

/// Undoes a clock that was ahead, on the word of whoever may write to the store.
#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn run(file: Option<PathBuf>, Options { accept: _ }: &Options) -> Result<(), anyhow::Error> {
    let config = super::configuration(file)?;
    let clock = Clock::system();
    let before = app::accept_time(&config, &clock)?;
    let now = clock.system_time();
    match before {
        Some(before) => println!("signatures are judged from {now:.0} on; the latest time known was {before:.0}"),
        None => println!("signatures are judged from {now:.0} on"),
    }
    Ok(())
}
