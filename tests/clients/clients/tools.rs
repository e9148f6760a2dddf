//! Tools that know no mirrors and go where the reference says. Each copies into a directory of its own in the layout
//! that the image specification gives for one.

use std::{fs, path::PathBuf, process::Command};

use super::{Client, Program, Pull};
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
        _ => {
            let mut command = client.origin.command("crane", world);
            if plain {
                command.arg("--insecure");
            }
            command.args(["pull", "--format=oci"]).arg(name).arg(target);
            command
        }
    }
}

/// The names of all that is in the layout, as digests.
pub(super) fn held(client: Client, world: &World) -> String {
    let Ok(blobs) = fs::read_dir(layout(client, world).join("blobs/sha256")) else { return String::new() };
    blobs.map(|blob| format!("sha256:{}\n", blob.unwrap().file_name().display())).collect()
}

pub(super) fn empty(client: Client, world: &World) {
    let layout = layout(client, world);
    if layout.exists() {
        fs::remove_dir_all(layout).unwrap();
    }
}

fn layout(client: Client, world: &World) -> PathBuf {
    world.scratch.join(client.slug())
}
