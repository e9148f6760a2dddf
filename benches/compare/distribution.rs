//! distribution: the upstream of all, and two releases of it as pull-through caches.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    program::{Core, Invocation, Program},
    server::{Kind, Server},
    session::{Session, free_port},
};

/// Debian's package of release 2.8.
const DEBIAN: &str = "/usr/bin/docker-registry";

/// Release 3 is in no package; Go builds it.
const MODULE: &str = "github.com/distribution/distribution/v3/cmd/registry";
const VERSION: &str = "v3.1.2";

/// A registry that holds what is pushed to it.
pub(crate) fn upstream(session: &Session) -> anyhow::Result<Server> {
    start(session, "upstream", Path::new(DEBIAN), Core::Load, None)
}

pub(crate) fn release_2(session: &Session, upstream: SocketAddr) -> anyhow::Result<Server> {
    let output = Command::new(DEBIAN).arg("--version").output()?;
    ensure!(output.status.success(), "docker-registry --version failed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit_once(' ').context("docker-registry says no version")?.1;
    start(session, &format!("distribution {version}"), Path::new(DEBIAN), Core::Server, Some(upstream))
}

/// An error says why there is none: it is left out then, and the table says so.
pub(crate) fn release_3(session: &Session, upstream: SocketAddr) -> anyhow::Result<Server> {
    let program = built()?;
    let name = format!("distribution {}", VERSION.trim_start_matches('v'));
    start(session, &name, &program, Core::Server, Some(upstream))
}

/// The program, built once with the machine's own Go, if that is new enough.
fn built() -> anyhow::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("distribution-{VERSION}"));
    let program = directory.join("registry");
    if program.exists() {
        return Ok(program);
    }
    eprintln!("building distribution {VERSION} (once)");
    let output = Command::new("go")
        .args(["install", &format!("{MODULE}@{VERSION}")])
        .env("GOBIN", &directory)
        .env("GOTOOLCHAIN", "local")
        .output()
        .context("no Go toolchain in PATH")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "go install: {}", errors.lines().last().unwrap_or("failed"));
    Ok(program)
}

fn start(
    session: &Session,
    name: &str,
    program: &Path,
    core: Core,
    upstream: Option<SocketAddr>,
) -> anyhow::Result<Server> {
    let directory = session.directory(&name.replace(' ', "-"))?;
    let addr = free_port()?;
    let proxy = upstream.map_or_else(String::new, |upstream| format!("proxy: {{remoteurl: 'http://{upstream}'}}\n"));
    let file = directory.join("config.yml");
    fs::write(
        &file,
        format!(
            "version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: '{}'}}, cache: {{blobdescriptor: inmemory}}}}
http: {{addr: '{addr}'}}
{proxy}",
            directory.join("data").display()
        ),
    )?;
    let invocation = Invocation::new(program, &["serve", file.to_str().context("a path in UTF-8")?])
        // Release 3 sends traces somewhere unless told otherwise.
        .env("OTEL_TRACES_EXPORTER", "none");
    let mut program = Program::start(session, name, core, &invocation)?;
    program.until_it_answers(session, &format!("http://{addr}/v2/"))?;
    Ok(Server { kind: Kind::Distribution, name: name.to_owned(), addr, program })
}
