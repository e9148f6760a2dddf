//! Has a server fetch images before anybody asks for them.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{
    progress::Progress,
    server::{Server, ServerOptions},
};

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Options {
    /// As they are pulled, as in library/nginx:1.27 or ghcr.io/org/app@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,

    /// Of images for several platforms only this one, as in linux/amd64; may be given more than once
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    platforms: Vec<String>,

    #[command(flatten)]
    server: ServerOptions,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let server = Server::new(&options.server)?;
    let mut progress = Progress::new();
    let mut end = None;
    let asked = json!({ "images": options.images, "platforms": options.platforms });
    super::block_on(server.post_for_lines("cache/prefetch", &asked, |line| {
        match line["state"].as_str() {
            Some("waiting" | "fetching") if !options.server.json => progress.at(|| so_far(&line)),
            state => {
                progress.clear();
                if state == Some("end") {
                    end = Some(line.clone());
                }
                say(&line, options.server.json);
            }
        }
        Ok(())
    }))?;
    let Some(end) = end else { bail!("the answer broke off; the same command goes on where it was") };
    let count = |how: &str| end["images"][how].as_u64().context("the last line of the answer has no counts");
    Ok(if count("refused")? + count("failed")? == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "the answer of the command")]
fn say(line: &Value, as_json: bool) {
    if as_json { println!("{line}") } else { println!("{}", super::printable(&ended(line))) }
}

fn so_far(line: &Value) -> String {
    let image = line["image"].as_str().unwrap_or("-");
    let number = |member: &str| line[member].as_u64().unwrap_or(0);
    match line["state"].as_str() {
        Some("waiting") => format!("{image}: waits for others"),
        _ => format!(
            "{image}: {} of {} blobs, {} of {} MiB",
            number("blobs_kept"),
            number("blobs"),
            (number("bytes_kept").max(number("bytes_fetched"))) >> 20,
            number("bytes") >> 20
        ),
    }
}

fn ended(line: &Value) -> String {
    let number = |member: &str| line[member].as_u64().unwrap_or(0);
    let text = |member: &str| line[member].as_str().unwrap_or("-");
    let fetched = || {
        format!(
            "{} of {} blobs fetched, {} MiB",
            number("blobs_fetched"),
            number("blobs"),
            number("bytes_fetched") >> 20
        )
    };
    match line["state"].as_str() {
        Some("done") => format!("{}: {}", text("image"), fetched()),
        Some("end") => {
            let images = |how: &str| line["images"][how].as_u64().unwrap_or(0);
            let ended = format!("{} done, {} refused, {} failed", images("done"), images("refused"), images("failed"));
            format!("{ended}; {}", fetched())
        }
        state => format!("{}: {}: {} ({})", text("image"), state.unwrap_or("-"), text("detail"), text("reason")),
    }
}

const AFTER_HELP: &str = "\
The server pulls each image through its own gate: what it would refuse to a client is refused here, with the reason,
and nothing of it is fetched. What is kept already is not fetched again. --json prints the server's lines as they come.
The exit code is 0 where all of it is kept now, 1 where an image was refused or failed, and 2 where the server could
not be asked or its answer broke off.";
