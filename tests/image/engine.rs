//! A Docker daemon of the tests' own, in namespaces of its own: there port 8080 is free, nothing outside is reachable,
//! and when the first process goes, everything in it goes. That process ends when the tests' end of its input closes,
//! however they end.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, Once},
    thread,
    time::Duration,
};

use crate::{bases, settings::with_mirror};

/// How the documentation calls the image.
pub(crate) const IMAGE: &str = "REGISTRY/image-signature-repo:preview-internal-VERSION";
const REGISTRY: &str = "registry.test";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long something may take that is a matter of a second, on a machine that does other work beside it.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

pub(crate) struct Engine {
    dir: PathBuf,
    /// The first process of the namespaces, as it is called outside of them.
    init: u32,
    built: Once,
    _supervisor: Child,
}

/// The one daemon, for one test at a time; without any container.
pub(crate) fn engine() -> MutexGuard<'static, Engine> {
    // Started once: where that fails, every test fails at once.
    static ENGINE: LazyLock<Mutex<Engine>> = LazyLock::new(|| Mutex::new(Engine::start()));
    // A test that failed while it held the daemon leaves containers behind at most.
    let engine = ENGINE.lock().unwrap_or_else(|held| held.into_inner());
    engine.shell("docker ps -aq | xargs --no-run-if-empty docker rm -f -v");
    engine
}

impl Engine {
    fn start() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("image-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let cgroup = format!("sig-repo-test-{}", std::process::id());
        let mut settings: serde_json::Value = serde_json::from_str(&with_mirror("docker/daemon.json")).unwrap();
        settings["cgroup-parent"] = format!("/{cgroup}").into();
        settings["debug"] = true.into(); // Then it tells which endpoints it tries.
        fs::write(dir.join("daemon.json"), settings.to_string()).unwrap();
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "sh"])
            .arg(&dir)
            .arg(&cgroup)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let unshare = wait_for("the namespaces", || only_child(supervisor.id()));
        let init = wait_for("the first process in them", || only_child(unshare));
        let engine = Self { dir, init, built: Once::new(), _supervisor: supervisor };
        engine.wait_for("the daemon", || engine.command("docker").arg("version").output().unwrap().status.success());
        engine
    }

    /// A line of the documentation with its two placeholders filled in; the image that they name is there.
    pub(crate) fn as_here(&self, text: &str) -> String {
        let filled_in = |text: &str| text.replace("REGISTRY", REGISTRY).replace("VERSION", VERSION);
        // Once: where the build fails, every test that needs it fails at once.
        self.built.call_once(|| bases::build(self, &filled_in(IMAGE)));
        filled_in(text)
    }

    pub(crate) fn fresh_directory(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        fs::create_dir(&dir).unwrap();
        dir
    }

    /// A program that talks to this daemon.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", format!("unix://{}/docker.sock", self.dir.display()))
            .env("DOCKER_CONFIG", self.dir.join("client"))
            .env("DOCKER_BUILDKIT", "0");
        command
    }

    pub(crate) fn docker(&self, arguments: &[&str]) -> String {
        output(self.command("docker").args(arguments))
    }

    pub(crate) fn shell(&self, line: &str) -> String {
        output(self.command("sh").args(["-e", "-c", line]))
    }

    /// What a program sees and does in the daemon's network, with its process ids.
    pub(crate) fn inside(&self, arguments: &[&str]) -> String {
        output(
            Command::new("nsenter")
                .args(["--net", "--pid", "--mount", "--target", &self.init.to_string(), "--"])
                .args(arguments),
        )
    }

    pub(crate) fn inside_with_docker(&self, program: &str, arguments: &[&str]) -> String {
        output(self.in_its_network(program).args(arguments).env_remove("PORT"))
    }

    /// A program that sees the daemon's network, and else what this process sees.
    pub(crate) fn in_its_network(&self, program: &str) -> Command {
        let mut command = self.command("nsenter");
        command.args(["--net", "--target", &self.init.to_string(), "--", program]);
        command
    }

    /// Pulls an image that must not come: what the client says, and which endpoints the daemon tried.
    pub(crate) fn refused_pull(&self, image: &str) -> (String, Vec<String>) {
        let log = || fs::read_to_string(self.dir.join("dockerd.log")).unwrap();
        let before = log().len();
        let output = self.command("docker").args(["pull", image]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{image} came: {said}");
        let tried = log()[before..]
            .split("Trying to pull ")
            .skip(1)
            .filter_map(|line| {
                Some(line.split_once(" from ")?.1.split_whitespace().next()?.trim_end_matches('/').to_owned())
            })
            .collect();
        (said, tried)
    }

    pub(crate) fn logs(&self) -> String {
        let Output { stdout, stderr, .. } = self.command("docker").args(["logs", "sig-repo"]).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    }

    /// Looks at a condition outside of this process until it holds.
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
            if holds() {
                return;
            }
            thread::sleep(POLL);
        }
        let daemon = fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
        let daemon: Vec<_> = daemon.lines().rev().take(10).collect();
        panic!("waited in vain for {what}; the container says:\n{}the daemon says:\n{daemon:#?}", self.logs());
    }
}

/// $1 is the directory that goes with the daemon, $2 the control group of its containers.
const SUPERVISOR: &str = r#"
    trap "" INT TERM HUP
    unshare --net --mount --pid --fork --mount-proc --kill-child sh -c '
        ip link set lo up || exit 1
        dockerd --config-file "$1/daemon.json" --data-root "$1/root" --exec-root "$1/exec" \
            -H "unix://$1/docker.sock" -p "$1/dockerd.pid" >"$1/dockerd.log" 2>&1 &
        read -r _
    ' sh "$1"
    rm -rf "$1"
    find /sys/fs/cgroup -mindepth 1 -depth -type d -path "*/$2*" -exec rmdir {} + 2>/dev/null
"#;

fn only_child(parent: u32) -> Option<u32> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?.trim().parse().ok()
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(POLL);
    }
    panic!("waited in vain for {what}");
}

/// All that a command says that is expected to fail.
pub(crate) fn everything(command: &mut Command) -> String {
    let Output { stdout, stderr, .. } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

pub(crate) fn succeed(command: &mut Command) {
    output(command);
}

/// What a command prints; one that fails fails the test, with all that it said.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}
