//! The program itself, as a process of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

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
}

struct Ending(Child);

impl Server {
    /// Starts it on a free port of loopback, and waits until it says that it listens.
    pub(crate) fn start(data_dir: &TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = command(&[], variables);
        command.env("HTTP_ADDR", "127.0.0.1:0").env("DATA_DIR", data_dir.path());
        let mut process = Ending(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let mut so_far = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened:\n{so_far}");
            let listening = line.split("listening on ").nth(1).and_then(|rest| rest.split_whitespace().next());
            if let Some(addr) = listening {
                return Self { addr: addr.parse().unwrap(), process, log };
            }
            so_far.push_str(&line);
        }
    }

    /// The whole answer to a GET, as text.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.process.0.id().try_into().unwrap())
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

impl Drop for Ending {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}
