//! podman, skopeo and buildah. Those of later Debians run in a chroot with the libraries of their age.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use parking_lot::Mutex;

use super::{Client, Program, Pull, settings};
use crate::{
    images::digest_of,
    process::run,
    world::{World, mount},
};

pub(super) fn pull(pull: &Pull<'_>, world: &World) -> Command {
    settings::registries_conf(&world.doors.host(pull.door), pull.door.is_plain_http(), pull.mode);
    let mut command = command(pull.client, world);
    let name = pull.name(world);
    if pull.client.program == Program::Skopeo {
        let directory = state(pull.client, world).join("image");
        fs::create_dir_all(directory.parent().unwrap()).unwrap();
        command.arg("copy").arg(format!("docker://{name}")).arg(format!("dir:{}", directory.display()));
    } else {
        command.arg("pull");
        if pull.client.program == Program::Buildah {
            // Else it asks nobody for a tag that it has.
            command.args(["--policy", "always"]);
        }
        command.arg(name);
    }
    command
}

pub(super) fn held(client: Client, world: &World) -> String {
    match client.program {
        Program::Skopeo => fs::read(state(client, world).join("image/manifest.json"))
            .map_or_else(|_| String::new(), |manifest| digest_of(&manifest)),
        // What it has by an index is in the storage's own list; its output names only one digest.
        Program::Buildah => {
            let images = state(client, world).join("root/vfs-images/images.json");
            fs::read_to_string(images).unwrap_or_default()
        }
        _ => run(command(client, world).args(["images", "--all", "--format", "json"])).expect("podman images"),
    }
}

pub(super) fn empty(client: Client, world: &World) {
    if client.program == Program::Skopeo {
        let directory = state(client, world).join("image");
        if directory.exists() {
            fs::remove_dir_all(directory).unwrap();
        }
    } else {
        run(command(client, world).args(["rmi", "--all", "--force"])).expect("rmi");
    }
}

fn command(client: Client, world: &World) -> Command {
    let program = match client.program {
        Program::Skopeo => "skopeo",
        Program::Buildah => "buildah",
        _ => "podman",
    };
    let mut command = match client.origin.tree() {
        None => world.command(program),
        Some(tree) => {
            let mut command = world.command("chroot");
            command.arg(chroot(&tree, world)).arg(program);
            command
        }
    };
    if client.program != Program::Skopeo {
        let place = state(client, world);
        command.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
        command.args(["--storage-driver", "vfs"]);
    }
    if client.program == Program::Podman {
        command.args(["--events-backend", "none"]);
    }
    command
}

fn state(client: Client, world: &World) -> PathBuf {
    world.scratch.join(client.slug())
}

/// The unpacked tree as a root: what is written there stays in the world, and the world's settings hold in it.
fn chroot(tree: &Path, world: &World) -> PathBuf {
    static READY: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let place = world.scratch.join("roots").join(tree.file_name().unwrap());
    let root = place.join("root");
    // Held until it is ready: without its settings a client that came in between would ask the Hub.
    let mut ready = READY.lock();
    if ready.insert(root.clone()) {
        let [upper, work] = ["upper", "work"].map(|name| place.join(name));
        for directory in [&upper, &work, &root] {
            fs::create_dir_all(directory).unwrap();
        }
        let layers = format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        mount(&["-t", "overlay", "-o", &layers, "world", root.to_str().unwrap()]);
        for shared in ["/proc", "/sys", "/dev", "/run", "/etc"] {
            let inside = root.join(&shared[1..]);
            fs::create_dir_all(&inside).unwrap();
            mount(&["--bind", shared, inside.to_str().unwrap()]);
        }
    }
    root
}
