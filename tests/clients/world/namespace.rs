//! Makes the inside of fresh namespaces into the world. The mounts cover the machine's directories for us alone.

use std::{fs, net::Ipv4Addr, path::Path, process::Command};

use crate::process;

/// The namespaces that this process is in.
pub(super) fn names() -> String {
    ["mnt", "net"].map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()).join(" ")
}

/// Covers what the daemons write to, and gives the world its network.
pub(super) fn enter(scratch: &Path, outside: &str) {
    // In the machine's own namespaces all of this would change the machine.
    let (inside, outside): (String, Vec<&str>) = (names(), outside.split(' ').collect());
    let apart = outside.len() == 2 && inside.split(' ').zip(&outside).all(|(inside, outside)| inside != *outside);
    assert!(apart && std::process::id() == 1, "this is not a world of its own");

    mount(&["-t", "tmpfs", "-o", "mode=755,size=2g", "world", "/run"]);
    fs::create_dir_all(scratch).unwrap();
    for covered in ["/etc", "/var/lib"] {
        let upper = scratch.join("cover").join(&covered[1..]);
        let work = scratch.join("work").join(&covered[1..]);
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let layers = format!("lowerdir={covered},upperdir={},workdir={}", upper.display(), work.display());
        mount(&["-t", "overlay", "-o", &layers, "world", covered]);
    }
    system("ip", &["link", "set", "lo", "up"]);
    // As in a container: who has given up root may still listen on 443.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
}

/// The CA bundle of the world holds this one certificate.
pub(super) fn trust(pem: &str) {
    fs::write("/etc/ssl/certs/ca-certificates.crt", pem).unwrap();
}

/// The Hub's names, at one address for everybody and at another for those who see `hosts.mirror`.
pub(super) fn name_the_hub(scratch: &Path, names: &[&str], clients: Ipv4Addr, mirror: Ipv4Addr) {
    for address in [clients, mirror] {
        system("ip", &["address", "add", &format!("{address}/32"), "dev", "lo"]);
    }
    let hosts = |hub| format!("127.0.0.1 localhost {}\n{hub} {}\n", super::MIRROR_NAME, names.join(" "));
    replace("/etc/hosts", &hosts(clients));
    fs::write(scratch.join("hosts.mirror"), hosts(mirror)).unwrap();
    // Any other name is asked for at loopback, where nobody answers: a quick error instead of a time-out.
    replace("/etc/resolv.conf", "nameserver 127.0.0.1\n");
    replace("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
}

pub(super) fn reserve(port: u16) {
    let reserved = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let others = fs::read_to_string(reserved).unwrap();
    fs::write(reserved, format!("{},{port}", others.trim()).trim_start_matches(',')).unwrap();
}

/// Some machines have these as links, or with odd modes.
fn replace(path: &str, text: &str) {
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path).unwrap();
    }
    fs::write(path, text).unwrap();
}

pub(crate) fn mount(arguments: &[&str]) {
    system("mount", arguments);
}

fn system(program: &str, arguments: &[&str]) {
    process::run(Command::new(program).args(arguments)).expect(&format!("{program} {}", arguments.join(" ")));
}
