//! The program itself, as a process of its own.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sig_repo::clock::Clock;

/// A command with these variables and no others.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sig-repo"));
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command
}

pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments, variables).stdin(Stdio::null()).output().unwrap()
}

/// A server that listens; it ends with the test.
pub(crate) struct Server {
    process: Ending,
    log: BufReader<ChildStderr>,
    pub(crate) addr: SocketAddr,
    /// What it said before it listened.
    pub(crate) beginning: String,
}

struct Ending(Child);

impl Server {
    /// Starts it on a free port of loopback, and waits until it says that it listens.
    pub(crate) fn start(data_dir: impl AsRef<Path>, variables: &[(&str, &str)]) -> Self {
        let mut command = command(&[], variables);
        command.env("HTTP_ADDR", "127.0.0.1:0").env("DATA_DIR", data_dir.as_ref());
        let mut process = Ending(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let log = process.0.stderr.take().unwrap();
        // Room for all that it says while nobody reads: a process that cannot log waits.
        fcntl(&log, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let mut log = BufReader::new(log);
        let mut so_far = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened:\n{so_far}");
            let listening = line.split("listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(addr) = listening {
                return Self { addr: addr.parse().unwrap(), process, log, beginning: so_far };
            }
            so_far.push_str(&line);
        }
    }

    /// The whole answer to a GET, as text.
    pub(crate) fn get(&self, path: &str) -> String {
        exchange(self.addr, "GET", path, "", "").unwrap()
    }

    /// The body of the answer to a GET, which is JSON.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|_| panic!("{answer}"))
    }

    /// Status and body of the answer to a POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = exchange(self.addr, "POST", path, "", &body.to_string()).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
    }

    /// What does not work as it should, as the process says it.
    pub(crate) fn degraded(&self) -> String {
        self.json("/readyz")["degraded"].to_string()
    }

    /// Asks until it is so, as somebody does who waits for a change to count.
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let clock = Clock::system();
        let began = clock.instant();
        while !is_so(self) {
            assert!(clock.instant() - began < PATIENCE, "{what} never came; degraded: {}", self.degraded());
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.0.id().try_into().unwrap())
    }

    /// The number that the next file to be opened gets.
    pub(crate) fn lowest_free_descriptor(&self) -> u64 {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let open: BTreeSet<u64> =
            entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        (0..).find(|number| !open.contains(number)).unwrap()
    }

    /// How many files it may open.
    pub(crate) fn limit_of_files(&self) -> u64 {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn limit_files(&self, files: u64) {
        // As the user that the process has become: another's limits are nobody's to set, not even of root in a container.
        let process = fs::metadata(format!("/proc/{}", self.pid())).unwrap();
        let arguments = [format!("--pid={}", self.pid()), format!("--nofile={files}:")];
        let mut limit = Command::new("prlimit");
        limit.args(arguments).uid(process.uid()).gid(process.gid());
        assert!(limit.status().unwrap().success());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for its end; gives how it ended, and what it had still to say.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.process.0.wait().unwrap(), rest)
    }
}

/// One request on a connection of its own, with more headers where `headers` has lines of them.
pub(crate) fn exchange(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}
