//! The image as users start it: built without a network, run by a Docker daemon with the lines of the documentation,
//! on volumes as they find them. What the process may still do, and what survives a restart, is looked at from outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bases;
mod demo;
mod engine;
mod page;
mod settings;
mod takeover;
mod texts;

use std::fs;

use engine::{Engine, IMAGE, engine};
use page::Signed;

/// How the documentation starts a container.
const DOCKER_RUN: &str = "docker run -d --name sig-repo -p 8080:8080 -v /local/data:/data \
                          REGISTRY/image-signature-repo:preview-internal-VERSION";

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn a_container_started_as_documented_keeps_its_records_over_a_restart() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    fs::remove_dir(&data).unwrap(); // Docker creates it, and gives it to root.
    let line = engine.as_here(DOCKER_RUN).replace("/local/data", data.to_str().unwrap());
    engine.shell(&line);
    engine.wait_until_ready();

    let signed = Signed::new(&engine, "preview-v1.2.3-rc1");
    let (status, created) = engine.submit(&signed, &[]);
    assert_eq!(status, 201, "{created}");
    assert_eq!((&created["is_valid"], &created["reason"]), (&false.into(), &"no-trusted-key".into()), "{created}");
    fs::copy(&signed.public_key, data.join("trust/ci.pub")).unwrap();
    let before = engine.wait_for_valid(&signed, &[]);

    engine.shell("docker rm -f sig-repo");
    engine.shell(&line);
    engine.wait_until_ready();

    let after = engine.signatures(&signed, &[]);
    assert_eq!(after, before);
    assert_eq!(after["signatures"][0]["id"], created["id"]);
    assert_eq!(after["signatures"][0]["verified_by"]["name"], "ci");
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn the_compose_service_keeps_its_records_over_down_and_up() {
    let engine = engine();
    let project = engine.fresh_directory("compose");
    let compose = fs::read_to_string(texts::repository().join("deploy/compose.yaml")).unwrap();
    fs::write(project.join("compose.yaml"), engine.as_here(&compose)).unwrap();
    let docker_compose = format!("docker-compose --project-directory {0} -f {0}/compose.yaml", project.display());
    engine.shell(&format!("{docker_compose} up -d"));
    engine.wait_until_ready();

    let signed = Signed::new(&engine, "internal-v1.2.3");
    let (status, answer) = engine.submit(&signed, &[]);
    assert_eq!(status, 401, "{answer}");
    let (status, answer) = engine.submit(&signed, &["-u", "team-admin:wrong"]);
    assert_eq!(status, 401, "{answer}");
    let login = ["-u", "team-admin:team-pass-123"];
    let (status, created) = engine.submit(&signed, &login);
    assert_eq!(status, 201, "{created}");

    // No `-v`: the named volume stays.
    engine.shell(&format!("{docker_compose} down"));
    engine.shell(&format!("{docker_compose} up -d"));
    engine.wait_until_ready();
    let after = engine.signatures(&signed, &login);
    assert_eq!(after["signatures"][0]["id"], created["id"], "{after}");
    engine.shell(&format!("{docker_compose} down -v"));
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn the_health_check_turns_healthy() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    engine.run("", &data, "");
    engine.wait_for("the container to be healthy", || {
        engine.docker(&["inspect", "-f", "{{.State.Health.Status}}", "sig-repo"]) == "healthy"
    });
    let check = "{{json .State.Health.Log}}";
    assert!(!engine.docker(&["inspect", "-f", check, "sig-repo"]).contains(r#""ExitCode":1"#));
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn docker_stop_ends_it_with_code_0() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    engine.run("", &data, "");
    engine.wait_until_ready();
    engine.docker(&["stop", "sig-repo"]);
    // 137 would be Docker's SIGKILL after ten seconds.
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "sig-repo"]), "0", "{}", engine.logs());
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn the_image_is_small_and_sets_no_environment() {
    let engine = engine();
    let image = engine.as_here(IMAGE);
    let inspect = |format: &str| engine.docker(&["image", "inspect", "-f", format, &image]);
    assert_eq!(inspect("{{json .Config.Volumes}}"), r#"{"/data":{}}"#);
    assert_eq!(inspect("{{json .Config.ExposedPorts}}"), r#"{"8080/tcp":{}}"#);
    assert_eq!(inspect(r#"{{index .Config.Labels "org.opencontainers.image.licenses"}}"#), "Apache-2.0");
    // Docker itself puts PATH there.
    assert!(!inspect("{{json .Config.Env}}").contains(','), "{}", inspect("{{json .Config.Env}}"));
    let base = engine.docker(&["image", "inspect", "-f", "{{.Size}}", bases::RUNTIME]);
    let added = inspect("{{.Size}}").parse::<u64>().unwrap() - base.parse::<u64>().unwrap();
    assert!(added < BINARY_MAX_BYTES, "the image adds {added} bytes to its base");
}

/// What the binary may weigh, and with it all that the image adds to its base.
const BINARY_MAX_BYTES: u64 = 25_000_000;

impl Engine {
    /// Starts the image under the documented name and port, with further `docker run` options.
    fn run(&self, options: &str, data: &std::path::Path, command: &str) {
        let line = DOCKER_RUN
            .replace("docker run -d", &format!("docker run -d {options}"))
            .replace("/local/data", data.to_str().unwrap());
        self.shell(&format!("{} {command}", self.as_here(&line)));
    }
}
