//! The files that users copy, word for word.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sig_repo::trust::{Inconclusive, NotationRejection, OpenPgpRejection, Rejection, SigstoreRejection};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn the_readme_shows_the_line_that_is_tested() {
    assert!(read("README.md").lines().any(|line| line == crate::DOCKER_RUN));
}

#[test]
fn the_readme_shows_the_compose_file() {
    let readme = read("README.md");
    let compose = read("deploy/compose.yaml");
    assert!(readme.contains(&format!("```yaml\n{compose}```")), "README.md shows another Compose service");
}

#[test]
fn the_readme_explains_every_reason() {
    let readme = read("README.md");
    let of_formats = OpenPgpRejection::CODES.iter().chain(&SigstoreRejection::CODES).chain(&NotationRejection::CODES);
    for code in Rejection::CODES.iter().chain(of_formats).chain(&Inconclusive::CODES) {
        assert!(readme.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{code}`"))), "{code}");
    }
}

#[test]
fn the_image_sets_no_environment_of_its_own() {
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.lines().any(|line| line.starts_with("HEALTHCHECK ")));
    assert!(!dockerfile.lines().any(|line| line.starts_with("ENV ")));
}
