//! The two base images and the image itself, made from this system's own packages and toolchain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use crate::{
    engine::{Engine, output, succeed},
    texts::repository,
};

pub(crate) const RUNTIME: &str = "sig-repo-test/runtime:latest";
const BUILDER: &str = "sig-repo-test/builder:latest";

/// Builds the image under `name`, in a daemon that has no network.
pub(crate) fn build(engine: &Engine, name: &str) {
    let dir = engine.fresh_directory("build");
    thread::scope(|scope| {
        let runtime = scope.spawn(|| debootstrap(&dir.join("runtime"), &["ca-certificates"]));
        let builder = scope.spawn(|| {
            let root = dir.join("builder");
            debootstrap(&root, &["gcc", "libc6-dev"]);
            add_toolchain(&root);
        });
        let context = scope.spawn(|| context(&dir.join("context")));
        for part in [runtime, builder, context] {
            part.join().expect("a part of the build failed; its message stands above");
        }
    });
    import(engine, &dir.join("runtime"), RUNTIME, &[]);
    import(engine, &dir.join("builder"), BUILDER, &["--change", "ENV PATH=/usr/local/rust/bin:/usr/bin:/bin"]);
    engine.docker(&[
        "build",
        "--network=none",
        &format!("--build-arg=BUILDER={BUILDER}"),
        &format!("--build-arg=RUNTIME={RUNTIME}"),
        "--tag",
        name,
        dir.join("context").to_str().unwrap(),
    ]);
    fs::remove_dir_all(dir).unwrap();
}

/// A minimal system of the release that this machine runs, from where this machine gets its packages.
fn debootstrap(root: &Path, packages: &[&str]) {
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(CODENAME) $(COMPONENT)",
        "Created-By: Packages",
    ]));
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap();
    let mirror = targets
        .lines()
        .find_map(|line| line.strip_suffix(&format!(" {codename} main")))
        .unwrap_or_else(|| panic!("apt has no source for {codename} main: {targets}"));
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("packages").join(packages[0]);
    fs::create_dir_all(&cache).unwrap();
    succeed(
        Command::new("debootstrap")
            .arg("--variant=minbase")
            .arg(format!("--cache-dir={}", cache.display()))
            .arg(format!("--include={}", packages.join(",")))
            .arg(codename)
            .arg(root)
            .arg(mirror),
    );
}

/// Copies the toolchain that compiles these tests, without its documentation.
fn add_toolchain(root: &Path) {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(repository()));
    let to = root.join("usr/local/rust");
    fs::create_dir_all(to.join("bin")).unwrap();
    for part in ["bin/cargo", "bin/rustc", "lib"] {
        succeed(Command::new("cp").arg("-a").arg(Path::new(&sysroot).join(part)).arg(to.join(part)));
    }
}

/// What a user would send to the build: what `.dockerignore` lets through, and the crates.
fn context(to: &Path) {
    fs::create_dir(to).unwrap();
    let allowed = fs::read_to_string(repository().join(".dockerignore")).unwrap();
    let names = allowed.lines().filter_map(|line| line.strip_prefix('!')).filter(|name| *name != "vendor");
    for path in names.chain(["Dockerfile", ".dockerignore"]).map(|name| repository().join(name)) {
        if path.exists() {
            succeed(Command::new("cp").arg("-a").arg(path).arg(to));
        }
    }
    succeed(
        Command::new(env!("CARGO"))
            .args(["vendor", "--locked", "--quiet", "--manifest-path"])
            .arg(to.join("Cargo.toml"))
            .arg(to.join("vendor"))
            .stdout(Stdio::null()),
    );
}

fn import(engine: &Engine, root: &Path, name: &str, options: &[&str]) {
    let mut tar = Command::new("tar").arg("-C").arg(root).args(["-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
    let archive = tar.stdout.take().unwrap();
    succeed(engine.command("docker").arg("import").args(options).args(["-", name]).stdin(archive));
    assert!(tar.wait().unwrap().success());
    fs::remove_dir_all(root).unwrap();
}
