//! The real clients: how each is told where the mirror is, made to pull, asked what it holds, and emptied.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    images::{Image, digest_of},
    process::{Ran, run},
    world::World,
};

mod daemons;
mod settings;

pub(crate) use daemons::Daemons;

/// Debian 12's versions; dockerd with its classic image store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Docker,
    Containerd,
    Podman,
    Skopeo,
    /// `docker build` with BuildKit, on the same daemon: the base image of a build is a pull of another kind.
    BuildKit,
}

/// How the client has been told about us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As a mirror of Docker Hub, with the Hub behind it in the client's own list.
    Mirror,
    /// As the only place where Docker Hub is, by the examples in `deploy` as they stand: over TLS, under their name.
    /// dockerd of this age has no such setting.
    Strict,
    /// By our address in the reference.
    Direct,
    /// By our address, the upstream's name after it.
    DirectByName,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reference<'a> {
    Tag(&'a str),
    Digest(&'a str),
}

/// One pull by one client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull<'a> {
    pub(crate) client: Client,
    pub(crate) mode: Mode,
    pub(crate) repository: &'a str,
    pub(crate) reference: Reference<'a>,
}

impl Client {
    /// Those that pull. A build is made of pulls but leaves an image of its own, so it has its own tests.
    pub(crate) const ALL: [Self; 4] = [Self::Docker, Self::Containerd, Self::Podman, Self::Skopeo];

    /// Whether it prints anything of what we say when it asks for this. At a bare path podman 4.3 and skopeo 1.9 are
    /// held by a manifest that is none; pulling by digest they only say that it is not the one they asked for.
    pub(crate) fn prints_reasons(self, mode: Mode, reference: Reference<'_>) -> bool {
        let bare = matches!(mode, Mode::Mirror | Mode::Direct);
        !(bare && matches!((self, reference), (Self::Podman | Self::Skopeo, Reference::Digest(_))))
    }

    /// Which manifest it holds after pulling an index: the index, or what it chose from it.
    pub(crate) fn keeps_the_index(self) -> bool {
        self != Self::Skopeo
    }

    /// Everything it holds: names and digests, as text to look into.
    pub(crate) fn held(self, world: &World) -> String {
        match self {
            Self::Docker | Self::BuildKit => {
                let format = "{{.Repository}}:{{.Tag}}@{{.Digest}}";
                let mut list = self.command(world);
                run(list.args(["images", "--all", "--digests", "--no-trunc", "--format", format]))
                    .expect("docker images")
            }
            // The content too: an image without a name would still be an image.
            Self::Containerd => {
                ["images", "content"].map(|kind| run(self.command(world).args([kind, "ls"])).expect(kind)).concat()
            }
            Self::Podman => {
                run(self.command(world).args(["images", "--all", "--format", "json"])).expect("podman images")
            }
            Self::Skopeo => fs::read(skopeo_directory(world).join("manifest.json"))
                .map_or_else(|_| String::new(), |manifest| digest_of(&manifest)),
        }
    }

    /// Leaves it without any image.
    pub(crate) fn empty(self, world: &World) {
        let list = |arguments: &[&str]| -> Vec<String> {
            let list = run(self.command(world).args(arguments)).expect("a list of images");
            list.split_whitespace().map(str::to_owned).collect()
        };
        match self {
            Self::Docker | Self::BuildKit => {
                let images = list(&["images", "--all", "--quiet", "--no-trunc"]);
                if !images.is_empty() {
                    run(self.command(world).args(["rmi", "--force"]).args(images)).expect("docker rmi");
                }
            }
            Self::Containerd => {
                let images = list(&["images", "ls", "--quiet"]);
                if !images.is_empty() {
                    run(self.command(world).args(["images", "rm", "--sync"]).args(images)).expect("ctr images rm");
                }
            }
            Self::Podman => drop(run(self.command(world).args(["rmi", "--all", "--force"])).expect("podman rmi")),
            Self::Skopeo => {
                let directory = skopeo_directory(world);
                if directory.exists() {
                    fs::remove_dir_all(directory).unwrap();
                }
            }
        }
    }

    fn command(self, world: &World) -> Command {
        let daemons = &world.daemons;
        match self {
            Self::Docker | Self::BuildKit => {
                let mut command = world.command("/usr/bin/docker");
                command.arg("--host").arg(daemons.docker_host());
                command
            }
            Self::Containerd => {
                let mut command = world.command("ctr");
                command.arg("--address").arg(daemons.containerd_socket()).args(["--namespace", "clients"]);
                command
            }
            Self::Podman => {
                let mut command = world.command("podman");
                let place = |name: &str| world.scratch.join("podman").join(name);
                command.arg("--root").arg(place("root")).arg("--runroot").arg(place("run"));
                command.args(["--storage-driver", "vfs", "--events-backend", "none"]);
                command
            }
            Self::Skopeo => world.command("skopeo"),
        }
    }
}

impl Pull<'_> {
    /// It comes, as it is upstream, and through the mirror alone.
    #[track_caller]
    pub(crate) fn comes(&self, world: &World, digest: &str) {
        let watch = world.hub.watch();
        self.run(world).expect(&format!("{self:?}"));
        let held = self.client.held(world);
        assert!(held.contains(digest), "{self:?} has not got {digest}:\n{held}");
        watch.assert_nobody_went_round(&format!("{self:?}"));
    }

    /// It fails, the client says why where it can, and nobody went round the mirror.
    #[track_caller]
    pub(crate) fn stays(&self, world: &World, reason: &str) {
        let watch = world.hub.watch();
        let ran = self.run(world);
        assert!(!ran.ok, "{self:?} came:\n{}", ran.output);
        watch.assert_nobody_went_round(&format!("{self:?}"));
        if self.client.prints_reasons(self.mode, self.reference) {
            assert!(ran.output.contains(reason), "{self:?} does not say {reason:?}:\n{}", ran.output);
        }
    }

    /// The same, and nothing of the image is left in the client.
    #[track_caller]
    pub(crate) fn is_refused(&self, world: &World, image: &Image, reason: &str) {
        self.stays(world, reason);
        let held = self.client.held(world);
        for digest in [&image.single, &image.index, &image.child] {
            assert!(!held.contains(digest.as_str()), "{self:?} left {digest}:\n{held}");
        }
    }

    pub(crate) fn run(&self, world: &World) -> Ran {
        let name = self.name(world);
        let mut command = self.client.command(world);
        match self.client {
            Client::Docker => command.arg("pull").arg(&name),
            Client::BuildKit => {
                let context = world.scratch.join("build");
                fs::create_dir_all(&context).unwrap();
                // Another label each time: a build that is remembered asks nobody.
                let text = format!("FROM {name}\nLABEL of=\"{name}\"\n");
                fs::write(context.join("Dockerfile"), text).unwrap();
                command.env("DOCKER_BUILDKIT", "1").args(["build", "--progress=plain", "--tag", BUILT]).arg(context)
            }
            Client::Containerd => {
                command.args(["images", "pull"]);
                match self.mode {
                    Mode::Mirror | Mode::Strict => {
                        let hosts = settings::containerd_hosts(&world.scratch, world.mirror, self.mode);
                        command.arg("--hosts-dir").arg(hosts)
                    }
                    Mode::Direct | Mode::DirectByName => command.arg("--plain-http"),
                };
                command.arg(&name)
            }
            Client::Podman => {
                settings::registries_conf(world.mirror, self.mode);
                command.args(["pull", &name])
            }
            Client::Skopeo => {
                settings::registries_conf(world.mirror, self.mode);
                let mut target = std::ffi::OsString::from("dir:");
                target.push(skopeo_directory(world));
                command.arg("copy").arg(format!("docker://{name}")).arg(target)
            }
        };
        run(&mut command)
    }

    /// The reference as a user of this client types it.
    fn name(&self, world: &World) -> String {
        let host = match self.mode {
            Mode::Mirror | Mode::Strict => "docker.io".to_owned(),
            Mode::Direct => world.mirror.to_string(),
            Mode::DirectByName => format!("{}/docker.io", world.mirror),
        };
        match self.reference {
            Reference::Tag(tag) => format!("{host}/{}:{tag}", self.repository),
            Reference::Digest(digest) => format!("{host}/{}@{digest}", self.repository),
        }
    }
}

/// What a build makes.
const BUILT: &str = "built";

fn skopeo_directory(world: &World) -> PathBuf {
    world.scratch.join("skopeo")
}
