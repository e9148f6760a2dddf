//! dockerd, by its own command line program.

use std::{fs, os::unix::fs::symlink, process::Command};

use super::{ImageStore, Mode, Origin, Pull, settings};
use crate::{process::run, world::World};

/// What a build makes.
pub(crate) const BUILT: &str = "built:latest";

pub(super) fn pull(pull: &Pull<'_>, store: ImageStore, world: &World) -> Command {
    let mut command = told(pull, store, world);
    command.arg("pull").arg(pull.name(world));
    command
}

pub(super) fn build(pull: &Pull<'_>, store: ImageStore, world: &World) -> Command {
    let name = pull.name(world);
    let context = world.scratch.join("build").join(pull.client.slug());
    fs::create_dir_all(&context).unwrap();
    // A label, because BuildKit reads nothing of a base image that it need not.
    fs::write(context.join("Dockerfile"), format!("FROM {name}\nLABEL of=\"{name}\"\n")).unwrap();
    let mut command = told(pull, store, world);
    command.env("DOCKER_BUILDKIT", "1").args(["build", "--progress=plain", "--tag", BUILT]).arg(context);
    command
}

pub(super) fn held(origin: Origin, store: ImageStore, world: &World) -> String {
    let format = "{{.Repository}}:{{.Tag}}@{{.Digest}}";
    let mut list = command(origin, store, world);
    run(list.args(["images", "--all", "--digests", "--no-trunc", "--format", format])).expect("docker images")
}

pub(super) fn empty(origin: Origin, store: ImageStore, world: &World) {
    let mut list = command(origin, store, world);
    let images = run(list.args(["images", "--all", "--quiet", "--no-trunc"])).expect("docker images");
    if !images.is_empty() {
        let mut remove = command(origin, store, world);
        run(remove.args(["rmi", "--force"]).args(images.split_whitespace())).expect("docker rmi");
    }
    // A build that is remembered asks nobody.
    run(command(origin, store, world).args(["builder", "prune", "--all", "--force"])).expect("docker builder prune");
}

/// The daemon's own program, with the daemon told where the mirror is.
pub(super) fn told(pull: &Pull<'_>, store: ImageStore, world: &World) -> Command {
    settings::docker_hosts(pull.mode == Mode::Strict);
    let origin = pull.client.origin;
    if pull.client.builds() {
        world.daemons.dockerd_started_with(origin, store, &world.doors.url(pull.door));
    }
    world.daemons.dockerd(origin, store).look_at(pull.door, world);
    command(origin, store, world)
}

fn command(origin: Origin, store: ImageStore, world: &World) -> Command {
    let dockerd = world.daemons.dockerd(origin, store);
    let mut command = dockerd.origin_of_its_client().command("docker", world);
    command.arg("--host").arg(dockerd.host());
    // Without it a docker of this age builds nothing.
    let buildx =
        dockerd.origin_of_its_client().tree().map(|tree| tree.join("usr/libexec/docker/cli-plugins/docker-buildx"));
    if let Some(buildx) = buildx.filter(|buildx| buildx.exists()) {
        let plugins = world.scratch.join("home/.docker/cli-plugins");
        fs::create_dir_all(&plugins).unwrap();
        let link = plugins.join("docker-buildx");
        if !link.exists() {
            symlink(buildx, link).unwrap();
        }
    }
    command
}
