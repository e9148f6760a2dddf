//! The demo, where the machine has a Docker daemon.

use std::process::Command;

use crate::engine::engine;

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn the_demo_pulls_with_the_docker_of_the_machine() {
    let engine = engine();
    let demo = engine.inside_with_docker(env!("CARGO_BIN_EXE_sig-repo"), &["demo", "--exit"]);
    assert!(demo.contains("pulled with this machine's Docker"), "{demo}");
    assert!(demo.contains("| Status: Downloaded newer image for 127.0.0.1:"), "{demo}");
    let refused = "denied: sig-repo: ";
    assert!(demo.contains(refused), "{demo}");
    assert!(demo.contains("the signed image came, and the unsigned one was refused"), "{demo}");
    // What it pulled it takes away again.
    let left = engine.docker(&["images", "--format", "{{.Repository}}"]);
    assert!(!left.contains("demo/greeter"), "{left}");
}

#[test]
fn the_demo_pulls_by_itself_where_there_is_no_docker() {
    let output = Command::new(env!("CARGO_BIN_EXE_sig-repo"))
        .args(["demo", "--exit"])
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("PORT")
        .output()
        .unwrap();
    let demo = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{demo}{}", String::from_utf8_lossy(&output.stderr));
    assert!(demo.contains("No Docker daemon answers here"), "{demo}");
    assert!(demo.contains("every byte hashes to the digest it was asked for by"), "{demo}");
    assert!(demo.contains("DENIED: sig-repo: "), "{demo}");
    assert!(demo.contains("the signed image came, and the unsigned one was refused"), "{demo}");
}
