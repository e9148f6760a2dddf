//! Tools that know no mirrors and go where the reference says. Each copies into a directory of its own in the layout
//! that the image specification gives for one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Client, Origin, Program, Pull};
use crate::world::World;

pub(super) fn pull(pull: &Pull<'_>, world: &World) -> Command {
    let (client, plain, name) = (pull.client, pull.door.is_plain_http(), pull.name(world));
    let target = layout(client, world);
    match client.program {
        Program::Oras => {
            let mut command = client.origin.command("oras", world);
            command.arg("cp");
            if plain {
                command.arg("--from-plain-http");
            }
            command.arg(name).arg("--to-oci-layout").arg(format!("{}:pulled", target.display()));
            command
        }
        Program::Regctl => {
            let mut command = client.origin.command("regctl", world);
            if plain {
                command.args(["--host", &format!("reg={},tls=disabled", world.doors.host(pull.door))]);
            }
            command.args(["image", "copy"]).arg(name).arg(format!("ocidir://{}:pulled", target.display()));
            command
        }
        _ => crane(client.origin, &name, plain, &target, world),
    }
}

pub(super) fn crane(origin: Origin, name: &str, plain: bool, target: &Path, world: &World) -> Command {
    let mut command = origin.command("crane", world);
    if plain {
        command.arg("--insecure");
    }
    command.args(["pull", "--format=oci", name]).arg(target);
    command
}

/// The names of all that is in the layout, as digests.
pub(super) fn held(client: Client, world: &World) -> String {
    listed(&layout(client, world).join("blobs"))
}

pub(super) fn empty(client: Client, world: &World) {
    let layout = layout(client, world);
    if layout.exists() {
        fs::remove_dir_all(layout).unwrap();
    }
}

/// The files below `directory` that have a digest for a name.
pub(super) fn listed(directory: &Path) -> String {
    let Ok(algorithms) = fs::read_dir(directory) else { return String::new() };
    let mut held = String::new();
    for algorithm in algorithms.map(|entry| entry.unwrap()) {
        for blob in fs::read_dir(algorithm.path()).unwrap() {
            let (algorithm, blob) = (algorithm.file_name(), blob.unwrap().file_name());
            held += &format!("{}:{}\n", algorithm.display(), blob.display());
        }
    }
    held
}

pub(super) fn layout(client: Client, world: &World) -> PathBuf {
    world.scratch.join(client.slug())
}
