//! containerd, by `ctr` and by the kubelet's interface.

use std::{path::Path, process::Command};

use super::{Mode, Origin, Pull, settings};
use crate::{
    process::{Ran, run},
    world::World,
};

pub(super) const NAMESPACE: &str = "clients";
/// Where the kubelet's interface keeps its images.
pub(super) const CRI_NAMESPACE: &str = "k8s.io";

pub(super) fn pull(pull: &Pull<'_>, world: &World) -> Command {
    let mut command = ctr(pull.client.origin, NAMESPACE, world);
    command.args(["images", "pull"]);
    match pull.mode {
        Mode::Mirror | Mode::Strict => {
            let hosts = world.scratch.join("ctr-hosts");
            settings::containerd_hosts(&hosts, &world.doors.url(pull.door), pull.mode);
            command.arg("--hosts-dir").arg(hosts);
        }
        Mode::Direct | Mode::DirectByName if pull.door.is_plain_http() => drop(command.arg("--plain-http")),
        Mode::Direct | Mode::DirectByName => {}
    }
    command.arg(pull.name(world));
    command
}

/// `PullImage` of `runtime.v1.ImageService`: gRPC, which is a POST over HTTP/2 with the message behind five bytes of
/// length, and the outcome in the trailers.
pub(super) fn pull_by_cri(pull: &Pull<'_>, world: &World) -> Ran {
    let hosts = world.scratch.join(CRI_HOSTS);
    settings::containerd_hosts(&hosts, &world.doors.url(pull.door), pull.mode);
    let image = field(&field(pull.name(world).as_bytes()));
    let length = u32::try_from(image.len()).unwrap().to_be_bytes();
    let message = world.scratch.join("tmp/pull-image");
    std::fs::write(&message, [&[0][..], &length, &image].concat()).unwrap();
    let mut curl = world.command("curl");
    curl.args(["--silent", "--show-error", "--http2-prior-knowledge", "--dump-header", "-", "--output", "/dev/null"]);
    curl.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
    curl.arg("--unix-socket").arg(world.daemons.containerd(pull.client.origin));
    curl.arg("--data-binary").arg(format!("@{}", message.display()));
    curl.arg("http://localhost/runtime.v1.ImageService/PullImage");
    let mut ran = run(&mut curl);
    ran.ok = ran.ok && ran.output.lines().any(|line| line.trim() == "grpc-status: 0");
    ran
}

/// The content too: an image without a name would still be an image.
pub(super) fn held(origin: Origin, namespace: &str, world: &World) -> String {
    ["images", "content"].map(|kind| run(ctr(origin, namespace, world).args([kind, "ls"])).expect(kind)).concat()
}

pub(super) fn empty(origin: Origin, namespace: &str, world: &World) {
    let images = run(ctr(origin, namespace, world).args(["images", "ls", "--quiet"])).expect("ctr images ls");
    if !images.is_empty() {
        let mut remove = ctr(origin, namespace, world);
        run(remove.args(["images", "rm", "--sync"]).args(images.split_whitespace())).expect("ctr images rm");
    }
}

fn ctr(origin: Origin, namespace: &str, world: &World) -> Command {
    let mut command = origin.command("ctr", world);
    command.arg("--address").arg(world.daemons.containerd(origin)).args(["--namespace", namespace]);
    command
}

/// Field 1 of a protocol buffer, which is all that the message and the message in it have.
fn field(content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut bytes = vec![0x0a];
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

/// Where the kubelet's interface looks for the hosts of a registry, in the scratch directory.
pub(super) const CRI_HOSTS: &str = "cri-hosts";

/// The settings of one containerd whose state is in `home`.
pub(super) fn config(home: &Path, hosts: &Path, origin: Origin) -> String {
    let (home, hosts) = (home.display(), hosts.display());
    // The kubelet's part has another name since containerd 2.
    let (version, images) = match origin {
        Origin::Installed | Origin::Trixie => (2, "io.containerd.grpc.v1.cri"),
        Origin::Sid | Origin::Compiled => (3, "io.containerd.cri.v1.images"),
    };
    format!(
        "version = {version}\nroot = '{home}/root'\nstate = '{home}/state'\n\
         disabled_plugins = ['io.containerd.internal.v1.opt']\n\
         [grpc]\naddress = '{home}/containerd.sock'\n\
         [plugins.'{images}'.registry]\nconfig_path = '{hosts}'\n"
    )
}
