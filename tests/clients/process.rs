//! Programs: run to their end within a time limit, or kept running until dropped. Ended by their own id only.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parking_lot::{Condvar, Mutex};

/// What a program printed, both streams together, and whether it called itself successful.
pub(crate) struct Ran {
    pub(crate) ok: bool,
    pub(crate) output: String,
}

impl Ran {
    /// The output of a program that has to succeed for the test to mean anything.
    pub(crate) fn expect(self, what: &str) -> String {
        assert!(self.ok, "{what} failed:\n{}", self.output);
        self.output
    }
}

/// A command that inherits nothing of this machine's settings: only the system's own programs, so that another docker
/// earlier in somebody's PATH does not take part, and a home of its own.
pub(crate) fn command(program: &str, scratch: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &CLIENT_LIMIT.as_secs().to_string(), program]);
    clean(&mut command, scratch);
    command
}

/// The same without a time limit, for what stays.
pub(crate) fn daemon(program: &str, scratch: &Path) -> Command {
    let mut command = Command::new(program);
    clean(&mut command, scratch);
    command
}

fn clean(command: &mut Command, scratch: &Path) {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", scratch.join("home"))
        .env("TMPDIR", scratch.join("tmp"))
        .env("DOCKER_CONFIG", scratch.join("home/.docker"))
        .current_dir(scratch)
        .stdin(Stdio::null());
}

pub(crate) fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    Ran { ok: output.status.success(), output: String::from_utf8_lossy(&text).into_owned() }
}

/// A program that stays. Dropped, it is asked to end and then made to.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

impl Daemon {
    pub(crate) fn start(name: &'static str, mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        // The command still holds the writing ends; with it gone the log ends when the program does.
        drop(command);
        let log = Arc::new(Log::default());
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                sink.lines.lock().push(line);
                sink.grew.notify_all();
            }
        });
        Self { name, child, log }
    }

    /// Waits until `ready` says so, asking again whenever the program has said something, and at least every 50 ms.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) {
        let mut asked = Duration::ZERO;
        while !ready() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, self.tail());
            }
            self.wait_a_little(&mut asked);
        }
    }

    /// The same for one that has been ready before, and may be shared.
    pub(crate) fn wait_for(&self, done: impl Fn() -> bool) {
        let mut asked = Duration::ZERO;
        while !done() {
            self.wait_a_little(&mut asked);
        }
    }

    fn wait_a_little(&self, asked: &mut Duration) {
        assert!(*asked < START_LIMIT, "{} is not ready after {START_LIMIT:?}:\n{}", self.name, self.tail());
        let mut lines = self.log.lines.lock();
        self.log.grew.wait_for(&mut lines, POLL);
        *asked += POLL;
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The last lines that the program printed.
    pub(crate) fn tail(&self) -> String {
        let lines = self.log.lines.lock();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn ended_within(&mut self, limit: Duration) -> bool {
        let mut waited = Duration::ZERO;
        while waited < limit {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            let mut lines = self.log.lines.lock();
            self.log.grew.wait_for(&mut lines, POLL);
            waited += POLL;
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It may end between the question and the signal; then there is nothing left to end.
        if kill(self.id(), Signal::SIGTERM).is_ok() && self.ended_within(END_LIMIT) {
            return;
        }
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

/// No pull of these small images takes long; one that does is a client waiting for something that never comes.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);
const START_LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
const TAIL: usize = 60;
