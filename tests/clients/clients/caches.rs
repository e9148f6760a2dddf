//! Caches that have us for an upstream, and skopeo, which pulls from them without asking twice. A cache prints nothing;
//! what skopeo prints is what the cache has made of our answer.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use super::{Client, Program, Pull};
use crate::{
    http::Http,
    images::digest_of,
    process::{self, Daemon},
    world::{World, free_address},
};

pub(crate) struct Cache {
    address: String,
    _daemon: Daemon,
}

pub(super) fn pull(pull: &Pull<'_>, world: &World) -> Command {
    let cache = {
        let mut running = world.daemons.caches.lock();
        let start = || Arc::new(Cache::start(pull, world));
        Arc::clone(running.entry((pull.client, pull.door)).or_insert_with(start))
    };
    let mut command = world.command("skopeo");
    command.args(["copy", "--all", "--src-tls-verify=false"]).arg(format!("docker://{}", pull.at(&cache.address)));
    command.arg(format!("dir:{}", pulled(pull.client, world).display()));
    command
}

/// What skopeo got, and what the cache keeps where that can be seen.
pub(super) fn held(client: Client, world: &World) -> String {
    let manifest = fs::read(pulled(client, world).join("manifest.json"));
    manifest.map_or_else(|_| String::new(), |manifest| digest_of(&manifest)) + &digests_below(&home(client, world))
}

/// Ends those that run: the next pull finds an empty one.
pub(super) fn empty(client: Client, world: &World) {
    world.daemons.caches.lock().retain(|(of, _), _| *of != client);
    if home(client, world).exists() {
        fs::remove_dir_all(home(client, world)).unwrap();
    }
}

impl Cache {
    fn start(pull: &Pull<'_>, world: &World) -> Self {
        let (address, upstream) = (free_address(), world.doors.url(pull.door));
        let home = home(pull.client, world).join(format!("{:?}", pull.door));
        fs::create_dir_all(&home).unwrap();
        let (command, ready) = if pull.client.program == Program::SigRepo {
            (sig_repo(&home, address.port(), &upstream, world), "readyz")
        } else {
            (distribution(&home, &address.to_string(), &upstream, world), "v2/")
        };
        let mut daemon = Daemon::start("cache", command);
        let http = Http::new(world.runtime.handle().clone());
        daemon.wait_until(|| http.answers(&format!("http://{address}/{ready}")));
        Self { address: address.to_string(), _daemon: daemon }
    }
}

fn distribution(home: &Path, address: &str, upstream: &str, world: &World) -> Command {
    let (config, storage) = (home.join("config.yml"), home.join("storage"));
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{address}'}}\nproxy: {{remoteurl: '{upstream}'}}\n",
        storage.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = process::daemon("docker-registry", &world.scratch);
    command.arg("serve").arg(config);
    command
}

/// It sees the Hub where the clients see it, so that it is seen there.
fn sig_repo(home: &Path, port: u16, upstream: &str, world: &World) -> Command {
    let [data, trust] = ["data", "trust"].map(|name| home.join(name));
    for directory in [&data, &trust] {
        fs::create_dir_all(directory).unwrap();
    }
    let mut command = process::daemon(env!("CARGO_BIN_EXE_sig-repo"), &world.scratch);
    command.env("DATA_DIR", data).env("TRUST_DIR", trust).env("PORT", port.to_string());
    command.env("PROXY_REMOTEURL", upstream).env("POLICY_DEFAULT", "skip");
    command
}

/// The names of files and directories that are the second half of a digest.
fn digests_below(directory: &Path) -> String {
    let Ok(entries) = fs::read_dir(directory) else { return String::new() };
    let mut found = String::new();
    for entry in entries.map(|entry| entry.unwrap()) {
        let name = entry.file_name().display().to_string();
        if name.len() == 64 {
            found += &format!("sha256:{name}\n");
        } else if entry.file_type().unwrap().is_dir() {
            found += &digests_below(&entry.path());
        }
    }
    found
}

fn pulled(client: Client, world: &World) -> PathBuf {
    home(client, world).join("pulled")
}

fn home(client: Client, world: &World) -> PathBuf {
    world.scratch.join(format!("{}-cache", client.slug()))
}
