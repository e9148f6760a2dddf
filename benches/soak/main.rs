//! An hour of everything at once: hits, misses, evictions from a small cache, an upstream that breaks, clients that leave.
//!
//! Every byte is compared. It fails where one is wrong, where what is cached is not served, where memory grows, or where a
//! descriptor is left over.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

mod mixed_load;

use std::{path::Path, process::ExitCode, time::Duration};

use clap::Parser;

/// Puts sig-repo under mixed load, and looks at every byte, its memory and its descriptors.
#[derive(Parser)]
#[command(name = "cargo bench --bench soak --")]
struct Options {
    /// How long
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(10..))]
    secs: u64,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match mixed_load::run(Path::new(env!("CARGO_BIN_EXE_sig-repo")), Duration::from_secs(options.secs)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("it did not last: {error:#}");
            ExitCode::FAILURE
        }
    }
}
