//! PostgreSQL with Trillian's tables, from the package's programs and in a directory of the test's own.

use std::{fs, path::Path, process::Command};

use crate::{
    clients::Origin,
    process::{self, Daemon, run},
    world::{World, free_address},
};

/// The process, and the address that Trillian takes.
pub(super) fn start(world: &World, directory: &Path) -> (Daemon, String) {
    let place = directory.join("postgresql");
    run(world.command("install").args(["--directory", "--owner=postgres", "--mode=700"]).arg(&place)).expect("install");
    let mut command = server("initdb", &place, world.command("setpriv"));
    run(command.args(["--auth=trust", "--no-sync", "--username", USER])).expect("initdb");

    let address = free_address();
    let mut command = server("postgres", &place, process::daemon("setpriv", &world.scratch));
    command.args(["-c", &format!("listen_addresses={}", address.ip()), "-c", &format!("port={}", address.port())]);
    // Nothing has to outlive the test, however it ends.
    command.args(["-c", "fsync=off", "-c", &format!("unix_socket_directories={}", place.display())]);
    let mut daemon = Daemon::start("postgres", command);

    let url = format!("postgresql://{USER}@{address}/postgres?sslmode=disable");
    let psql = |arguments: &[&str]| run(world.command("psql").args(["--quiet", &url]).args(arguments));
    daemon.wait_until(|| psql(&["--command", "SELECT 1"]).ok);
    let tables = Origin::Compiled.tree().expect("it is unpacked nowhere else").join("usr/share/trillian/storage.sql");
    psql(&["--set", "ON_ERROR_STOP=1", "--file", tables.to_str().unwrap()]).expect("psql");
    (daemon, url)
}

/// One of the programs that refuse to run as root, as the package's user and on `place`. They are in no PATH.
fn server(program: &str, place: &Path, mut setpriv: Command) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed: tests/run");
    let newest = versions.map(|version| version.unwrap().path()).max().expect("a version of PostgreSQL");
    setpriv.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    setpriv.arg(newest.join("bin").join(program)).arg("-D").arg(place);
    setpriv
}

const USER: &str = "trillian";
