//! Where a client's binaries come from. `tests/run` puts those there that are not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{self, Daemon, run},
    world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// Debian 12's packages, as on the machine.
    Installed,
    /// Debian 13's, unpacked.
    Trixie,
    /// Debian's newest, unpacked.
    Sid,
    /// Compiled from their published source, at a version that is pinned.
    Compiled,
}

impl Origin {
    /// The tree that `tests/run` unpacked or compiled into.
    pub(crate) fn tree(self) -> Option<PathBuf> {
        let name = match self {
            Self::Installed => return None,
            Self::Trixie => "trixie",
            Self::Sid => "sid",
            Self::Compiled => "compiled",
        };
        Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// Its own programs first, then the machine's.
    fn path(self) -> String {
        let own = self.tree().map(|tree| {
            let tree = tree.display();
            format!("{tree}/usr/sbin:{tree}/usr/bin:")
        });
        format!("{}{SYSTEM_PATH}", own.unwrap_or_default())
    }

    pub(crate) fn command(self, program: &str, world: &World) -> Command {
        let mut command = world.command(program);
        command.env("PATH", self.path());
        command
    }

    pub(crate) fn daemon(self, name: &'static str, scratch: &Path, arguments: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = process::daemon(name, scratch);
        arguments(command.env("PATH", self.path()));
        Daemon::start(name, command)
    }

    pub(super) fn version(self, package: &str) -> String {
        let version = match self.tree() {
            None => {
                let mut query = Command::new("dpkg-query");
                run(query.args(["--show", "--showformat=${Version}", package])).expect("dpkg-query")
            }
            Some(tree) => {
                let file = tree.join(".packages").join(package);
                fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}: tests/run", file.display()))
            }
        };
        if self == Self::Compiled {
            return version.trim().to_owned();
        }
        let end = version.find(['+', '~', '-']).unwrap_or(version.len());
        version[..end].trim().to_owned()
    }
}

const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
