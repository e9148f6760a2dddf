//! Files of `deploy/` with the programs they are for: each is taken as it is but for host names and paths. What the
//! client settings hold is tested in `tests/clients`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
};

use crate::{
    engine::{Engine, engine, everything, succeed, wait_for},
    texts::repository,
};

/// Where the example host name points in these tests.
const MIRROR: &str = "127.0.0.1:8080";
/// Where a daemon goes that goes round the mirror.
const HUB: &str = "https://registry-1.docker.io";

fn deployed(path: &str) -> String {
    fs::read_to_string(repository().join("deploy").join(path)).unwrap()
}

/// A file of `deploy/` with the mirror of these tests in it, which has no TLS.
pub(crate) fn with_mirror(path: &str) -> String {
    let text = deployed(path);
    assert!(text.contains("sig-repo.example.com"), "{path}");
    text.replace("https://sig-repo.example.com", &format!("http://{MIRROR}")).replace("sig-repo.example.com", MIRROR)
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn docker_with_the_recommended_mirror_does_not_go_round_a_refusal() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    engine.run("", &data, "");
    engine.wait_until_ready();
    // The upstream cannot be reached from here: could not tell, so refused.
    let (said, tried) = engine.refused_pull("team/app:preview-v1");
    assert!(said.contains("sig-repo: ") && said.contains("refused"), "{said}");
    assert_eq!(tried, [format!("http://{MIRROR}")], "{said}");
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn docker_is_held_by_nginx_while_sig_repo_is_down() {
    let engine = engine();
    // Without anything there the daemon goes on to Docker Hub.
    let (said, tried) = engine.refused_pull("team/app:latest");
    assert_eq!(tried, [format!("http://{MIRROR}"), HUB.to_owned()], "{said}");

    let _nginx = Nginx::start(&engine, "127.0.0.1:8081");
    let (said, tried) = engine.refused_pull("team/app:latest");
    assert!(said.contains("sig-repo: refused: the mirror is down (no such process)"), "{said}");
    assert_eq!(tried, [format!("http://{MIRROR}")], "{said}");
    let curl =
        |options: &str| engine.inside(&["sh", "-c", &format!("curl -sS -o /dev/null -w '%{{http_code}}' {options}")]);
    let manifest = format!("http://{MIRROR}/v2/team/app/manifests/latest");
    assert_eq!(curl(&format!("http://{MIRROR}/v2/")), "200");
    assert_eq!(curl(&format!("-I {manifest}?ns=docker.io")), "300");
    assert_eq!(curl(&format!("-A 'containers/5.4 (github.com/containers/image)' {manifest}")), "200");
    assert_eq!(curl(&format!("http://{MIRROR}/api/v1/tags")), "503");
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn nginx_passes_on_the_reason_phrase_the_path_and_the_client() {
    let engine = engine();
    let stub = engine.fresh_directory("stub").join("stub.sock");
    let server = std::os::unix::net::UnixListener::bind(&stub).unwrap();
    let _nginx = Nginx::start(&engine, &format!("unix:{}", stub.display()));
    let answering = thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        let lines = BufReader::new(peer.try_clone().unwrap()).lines().map(Result::unwrap);
        let request: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        peer.write_all(b"HTTP/1.1 300 sig-repo: refused (no such process)\r\nContent-Length: 0\r\n\r\n").unwrap();
        request
    });
    let url = format!("http://{MIRROR}/v2//team%2fapp/manifests/v1?ns=docker.io");
    let answer = engine.inside(&["curl", "-sSi", "-H", "X-Forwarded-For: 192.0.2.7", &url]);
    assert!(answer.starts_with("HTTP/1.1 300 sig-repo: refused (no such process)\r\n"), "{answer}");
    let request = answering.join().unwrap();
    assert_eq!(request[0], "GET /v2//team%2fapp/manifests/v1?ns=docker.io HTTP/1.1");
    assert!(request.contains(&format!("Host: {MIRROR}")), "{request:?}");
    assert!(request.contains(&"X-Forwarded-For: 127.0.0.1".to_owned()), "{request:?}");
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn systemd_finds_no_fault_with_the_unit() {
    let dir = engine().fresh_directory("unit");
    let unit = dir.join("sig-repo.service");
    let text = deployed("systemd/sig-repo.service");
    fs::write(&unit, text.replace("/usr/local/bin/sig-repo", env!("CARGO_BIN_EXE_sig-repo"))).unwrap();
    let said = everything(Command::new("systemd-analyze").args(["verify", "--recursive-errors=no"]).arg(&unit));
    assert_eq!(said, "");
}

/// nginx with the file of `deploy/`, in the daemon's network, in front of `upstream`.
struct Nginx {
    process: Child,
}

impl Nginx {
    fn start(engine: &Engine, upstream: &str) -> Self {
        let dir = engine.fresh_directory("nginx");
        let text = deployed("nginx/sig-repo.conf");
        make_certificate(&dir);
        let here = text.replace("/etc/nginx/tls", dir.to_str().unwrap());
        let site = dir.join("site.conf");
        // As it is, with TLS: nginx takes it.
        fs::write(&site, &here).unwrap();
        let main = dir.join("nginx.conf");
        fs::write(
            &main,
            format!(
                "daemon off; user root; pid {0}/pid; error_log {0}/error.log; events {{}} \
             http {{ access_log off; include {0}/site.conf; }}",
                dir.display()
            ),
        )
        .unwrap();
        succeed(engine.in_its_network("nginx").args(["-t", "-q", "-c"]).arg(&main));
        // And without, where these tests' clients look for the mirror.
        let plain = here.replace("listen 443 ssl;", &format!("listen {MIRROR};")).replace("listen [::]:443 ssl;", "");
        fs::write(&site, plain.replace("server 127.0.0.1:8080;", &format!("server {upstream};"))).unwrap();
        let process = engine.in_its_network("nginx").arg("-c").arg(&main).spawn().unwrap();
        wait_for("nginx", || dir.join("pid").metadata().ok().filter(|file| file.len() > 0));
        Self { process }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, so that the workers go with it.
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        self.process.wait().unwrap();
    }
}

fn make_certificate(dir: &Path) {
    let (key, certificate): (PathBuf, PathBuf) = (dir.join("sig-repo.key"), dir.join("sig-repo.crt"));
    succeed(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", "/CN=sig-repo.example.com", "-days", "1", "-keyout"])
            .arg(key)
            .arg("-out")
            .arg(certificate),
    );
}
