//! The machine's own `docker`, where a daemon answers.

use std::{
    io,
    process::{Command, Output, Stdio},
    time::Duration,
};

use tokio::{task, time};

use super::Pulled;

/// The version of the daemon that the `docker` command reaches, if it reaches one.
pub(super) async fn daemon() -> Option<String> {
    let output = run(&["version", "--format", "{{.Server.Version}}"], PROBE).await.ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// Pulls with it. None: it failed for a reason that is not the mirror's, such as a daemon that runs elsewhere and does
/// not reach this machine's loopback addresses; what it said then is in `said` all the same.
pub(super) async fn pull(image: &str, said: &mut Vec<String>) -> Option<Pulled> {
    let output = match run(&["pull", image], PULL).await {
        Ok(output) => output,
        Err(error) => {
            said.push(format!("docker: {error}"));
            return None;
        }
    };
    for text in [&output.stdout, &output.stderr] {
        said.extend(String::from_utf8_lossy(text).lines().map(str::to_owned));
    }
    if output.status.success() {
        return Some(Pulled::Came);
    }
    said.iter().any(|line| line.contains("sig-repo: ")).then_some(Pulled::Refused)
}

/// Removes what the demo pulled; what is not there needs no removing.
pub(super) async fn remove(image: &str) {
    if let Err(error) = run(&["image", "rm", image], PROBE).await {
        tracing::warn!(image, "the image stays in Docker: {error}");
    }
}

async fn run(arguments: &[&str], patience: Duration) -> io::Result<Output> {
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    let output = task::spawn_blocking(move || command.output());
    time::timeout(patience, output).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??
}

const PROBE: Duration = Duration::from_secs(10);
const PULL: Duration = Duration::from_secs(60);
