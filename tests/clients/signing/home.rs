use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    clients::Origin,
    process::{Ran, run},
    world::{World, hub_login},
};

/// A home for a program that signs or verifies: its settings, its keys and its logins, one of them at the Hub.
pub(crate) struct Home<'a> {
    world: &'a World,
    directory: PathBuf,
}

impl<'a> Home<'a> {
    pub(crate) fn new(world: &'a World, name: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let directory = world.scratch.join("homes").join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&directory).unwrap();
        // Else gpg warns of it.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let home = Self { world, directory };
        fs::write(home.file(LOGINS), hub_login().to_string()).unwrap();
        home
    }

    /// Signs in under a further name.
    pub(crate) fn log_in(&self, host: &str, (username, password): (&str, &str)) {
        let mut logins = hub_login();
        let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
        logins["auths"][host] = serde_json::json!({"auth": auth});
        fs::write(self.file(LOGINS), logins.to_string()).unwrap();
    }

    pub(crate) fn world(&self) -> &'a World {
        self.world
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn command(&self, origin: Origin, program: &str) -> Command {
        let mut command = origin.command(program, self.world);
        let home = &self.directory;
        command.env("DOCKER_CONFIG", home).env("HOME", home).env("XDG_CONFIG_HOME", home.join("config"));
        command.env("GNUPGHOME", home).env("COSIGN_PASSWORD", "").current_dir(home);
        command
    }

    pub(crate) fn run(&self, origin: Origin, program: &str, arguments: &[&str]) -> Ran {
        run(self.command(origin, program).args(arguments))
    }
}

const LOGINS: &str = "config.json";
