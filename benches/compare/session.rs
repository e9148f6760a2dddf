//! What lasts as long as a run: a directory, a client, and whether somebody has asked for the end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::bail;
use sig_repo::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::http::Http;

/// How often something is looked at that nobody announces.
pub(crate) const POLL: Duration = Duration::from_millis(20);

pub(crate) struct Session {
    pub(crate) http: Http,
    pub(crate) clock: Clock,
    directory: TempDir,
    interruption: Interruption,
}

/// Raised by a signal.
#[derive(Clone, Default)]
pub(crate) struct Interruption(Arc<AtomicBool>);

impl Interruption {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Session {
    pub(crate) fn new(runtime: Handle, interruption: Interruption) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sig-repo-bench").tempdir()?;
        // A program that gives up root goes on as somebody who must reach its own directory in here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        Ok(Self { http: Http::new(runtime), clock: Clock::system(), directory, interruption })
    }

    /// A directory of the run's own; it goes with it.
    pub(crate) fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.path().join(name);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn go_on(&self) -> anyhow::Result<()> {
        if self.interruption.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Asks again and again until `done`, the limit, or an interruption.
    pub(crate) fn wait(
        &self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = self.clock.instant();
        while !done()? {
            self.go_on()?;
            if self.clock.instant() - begun > limit {
                bail!("{what}: not after {limit:?}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Lets this much time pass.
    pub(crate) fn rest(&self, time: Duration) -> anyhow::Result<()> {
        let begun = self.clock.instant();
        self.wait("resting", time * 2, || Ok(self.clock.instant() - begun >= time))
    }
}

/// A port of loopback that was free a moment ago.
pub(crate) fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
