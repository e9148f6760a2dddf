//! Looks after the blobs that are kept.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::progress::Progress;
use crate::app::{CacheError, Checked, NotRight, verify_cache};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read all that lies in DATA_DIR/cache and compare it with its digests; with the server stopped
    #[command(after_help = AFTER_HELP)]
    Verify {
        /// Remove what is damaged, so that it is fetched again
        #[arg(long)]
        remove: bool,
    },
}

pub(super) fn run(file: Option<PathBuf>, command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Verify { remove } = *command;
    let Some(cache) = super::configuration(file)?.cache else {
        bail!("CACHE_MAX_SIZE is 0: nothing is kept, and so there is nothing to verify");
    };
    if !cache.directory.try_exists().with_context(|| cache.directory.display().to_string())? {
        bail!("there is no cache at {}: expected the DATA_DIR of a server that has run", cache.directory.display());
    }
    let mut progress = Progress::new();
    let checked = verify_cache(&cache.directory, remove, |checked, not_right| {
        progress.at(|| so_far(checked));
        if let Some(not_right) = not_right {
            progress.clear();
            say(&not_right);
        }
    });
    drop(progress);
    match checked {
        Ok(checked) => Ok(sum(&checked)),
        Err(error @ CacheError::InUse { .. }) => Err(error).context(
            "a server that runs reads through its cache by itself (sig_repo_cache_damaged_total); stop it to verify all at once",
        ),
        Err(error) => Err(error.into()),
    }
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn say(NotRight { digest, why, removed }: &NotRight<'_>) {
    println!("{digest}  {why}{}", if *removed { ", removed" } else { "" });
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn sum(checked: &Checked) -> ExitCode {
    let Checked { blobs_read, bytes_read, damaged, unreadable, removed, .. } = checked;
    let mut line = format!("{blobs_read} blobs of {} MiB read: {damaged} damaged", bytes_read >> 20);
    if *removed > 0 {
        line = format!("{line}, {removed} of them removed");
    }
    if *unreadable > 0 {
        line = format!("{line}, {unreadable} could not be read");
    }
    println!("{line}");
    match (damaged, unreadable) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

fn so_far(Checked { blobs, bytes, blobs_read, bytes_read, damaged, .. }: &Checked) -> String {
    let (read, all) = (bytes_read >> 20, bytes >> 20);
    format!("{blobs_read} of {blobs} blobs, {read} of {all} MiB, {damaged} damaged")
}

const AFTER_HELP: &str = "\
Each damaged blob is a line with its digest and what is wrong with it. The exit code is 0 where all is as it was
written, 1 where something was damaged (removed or not), and 2 where it could not be verified: while a server uses
the cache, or where there is none.";
