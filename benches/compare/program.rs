//! Programs that stay: started on one core, looked at through `/proc`, ended by their id.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::session::{POLL, Session};

/// Where a program runs: what is measured never shares a core with what measures.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Server,
    Load,
}

/// Dropped, it is asked to end and then made to.
pub(crate) struct Program {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A program and what it is given; of this process's own settings it sees none.
pub(crate) struct Invocation {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: BTreeMap<&'static str, OsString>,
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const START_LIMIT: Duration = Duration::from_secs(30);
const END_LIMIT: Duration = Duration::from_secs(40);
const TAIL_LINES: usize = 20;

/// Clock ticks a second in `/proc/PID/stat`, as every Linux shows them.
const TICKS: u64 = 100;

impl Core {
    fn number(self) -> &'static str {
        match self {
            Self::Server => "0",
            Self::Load => "1",
        }
    }

    /// The calling thread goes there and stays.
    pub(crate) fn hold(self) -> anyhow::Result<()> {
        let mut cores = CpuSet::new();
        cores.set(self.number().parse()?)?;
        Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
    }
}

impl Invocation {
    pub(crate) fn new(program: impl Into<PathBuf>, args: &[&str]) -> Self {
        Self { program: program.into(), args: args.iter().map(Into::into).collect(), env: BTreeMap::new() }
    }

    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.insert(name, value.into());
        self
    }

    /// The command that runs it on `core`. `taskset` becomes the program, so the id stays the same.
    pub(crate) fn on(&self, core: Core) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", core.number()]).arg(&self.program).args(&self.args);
        command.env_clear().env("PATH", PATH).env("LANG", "C.UTF-8").envs(&self.env).stdin(Stdio::null());
        command
    }
}

impl Program {
    pub(crate) fn start(session: &Session, name: &str, core: Core, invocation: &Invocation) -> anyhow::Result<Self> {
        let log = session.path().join(format!("{}.log", name.replace(' ', "-")));
        let sink = File::options().create(true).append(true).open(&log)?;
        let child = invocation
            .on(core)
            .current_dir(session.path())
            .stdout(sink.try_clone()?)
            .stderr(sink)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until it answers at `url` with success.
    pub(crate) fn until_it_answers(&mut self, session: &Session, url: &str) -> anyhow::Result<()> {
        session
            .wait("an answer", START_LIMIT, || {
                self.is_there()?;
                Ok(session.http.answers(url))
            })
            .with_context(|| format!("{} at {url}:\n{}", self.name, self.tail()))
    }

    /// An error where it has ended by itself.
    pub(crate) fn is_there(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    /// The CPU time that it has used so far, its children's included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for id in self.family()? {
            let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
            // The name, in parentheses, may hold anything.
            let fields: Vec<_> = stat.rsplit_once(')').context("stat")?.1.split_ascii_whitespace().collect();
            let field = |index: usize| -> anyhow::Result<u64> { Ok(fields.get(index).context("stat")?.parse()?) };
            ticks += field(UTIME)? + field(STIME)?;
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS))
    }

    /// The memory that is its own at the moment, its children's included, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.stated("VmRSS:")
    }

    /// The most that it ever had.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        self.stated("VmHWM:")
    }

    fn stated(&self, name: &'static str) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for id in self.family()? {
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
            bytes += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
        }
        Ok(bytes)
    }

    /// Ends it as its user would, and waits for that.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.terminate();
        let ended = self.child.wait()?;
        if !ended.success() {
            bail!("{} ended with {ended}:\n{}", self.name, self.tail());
        }
        Ok(())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn family(&self) -> anyhow::Result<Vec<u32>> {
        let mut family = vec![self.id()];
        let mut next = 0;
        while let Some(id) = family.get(next).copied() {
            for task in fs::read_dir(Path::new("/proc").join(id.to_string()).join("task"))? {
                let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
                family.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            next += 1;
        }
        Ok(family)
    }

    fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn terminate(&mut self) {
        let Ok(id) = i32::try_from(self.id()) else { return };
        // It may have ended by itself, and then there is nothing to ask.
        if kill(Pid::from_raw(id), Signal::SIGTERM).is_err() {
            return;
        }
        let mut waited = Duration::ZERO;
        while waited < END_LIMIT && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
            waited += POLL;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.terminate();
            if self.child.kill().is_ok() {
                drop(self.child.wait());
            }
        }
    }
}

/// Places of the fields of `/proc/PID/stat`, counted from after the name.
const UTIME: usize = 11;
const STIME: usize = 12;
