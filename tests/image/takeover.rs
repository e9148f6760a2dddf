//! What the process does as root before it stops being root, and what it can do afterwards.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::Path,
};

use crate::{
    engine::{Engine, engine},
    page::Signed,
};

/// Who the process becomes where the owner of its directory does not say it.
const NOBODY: u32 = 65532;

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn a_data_directory_made_by_docker_is_taken_over_and_root_is_dropped() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    fs::remove_dir(&data).unwrap();
    engine.run("", &data, "");
    engine.wait_until_ready();
    assert_eq!(owner(&data), (NOBODY, NOBODY));
    for thread in threads(&engine) {
        assert_is(&thread, NOBODY);
    }
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn the_owner_of_the_data_directory_is_who_it_runs_as() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    chown(&data, Some(1234), Some(1234)).unwrap();
    engine.run("", &data, "");
    engine.wait_until_ready();
    assert_eq!(owner(&data), (1234, 1234));
    for thread in threads(&engine) {
        assert_is(&thread, 1234);
    }
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn a_planted_link_and_another_mount_are_not_taken_over() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    let outside = engine.fresh_directory("outside");
    let mounted = engine.fresh_directory("mounted");
    for dir in [&outside, &mounted] {
        fs::write(dir.join("secret"), "root's").unwrap();
    }
    symlink("/outside/secret", data.join("to-a-file")).unwrap();
    symlink("/outside", data.join("to-a-directory")).unwrap();
    fs::create_dir(data.join("trust")).unwrap();
    symlink("/outside/secret", data.join("trust/ci.pub")).unwrap();
    let options = format!("-v {}:/outside -v {}:/data/mounted", outside.display(), mounted.display());
    engine.run(&options, &data, "");
    engine.wait_until_ready();
    assert_eq!(owner(&data), (NOBODY, NOBODY));
    for path in [&outside, &outside.join("secret"), &mounted, &mounted.join("secret")] {
        assert_eq!(owner(path), (0, 0), "{}", path.display());
    }
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn a_link_in_the_place_of_a_file_of_its_own_gives_nothing_away() {
    let engine = engine();
    let outside = engine.fresh_directory("outside");
    fs::write(outside.join("secret"), "root's").unwrap();
    for name in own_files(&engine) {
        engine.shell("docker rm -f sig-repo 2>/dev/null || true");
        let data = engine.fresh_directory("data");
        symlink("/outside/secret", data.join(&name)).unwrap();
        engine.run(&format!("-v {}:/outside", outside.display()), &data, "");
        // It may start without the file or say that it cannot; what it may not do is to touch what the link names.
        let answered = "{{or (not .State.Running) (eq .State.Health.Status \"healthy\")}}";
        engine.wait_for("it to start or to end", || engine.docker(&["inspect", "-f", answered, "sig-repo"]) == "true");
        assert_eq!(owner(&outside.join("secret")), (0, 0), "{name}");
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "root's", "{name}");
    }
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn it_runs_as_a_given_user_with_a_read_only_root_and_no_capabilities() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    chown(&data, Some(1000), Some(1000)).unwrap();
    engine.run("--user 1000:1000 --read-only --cap-drop ALL", &data, "");
    engine.wait_until_ready();
    let (status, answer) = engine.submit(&Signed::new(&engine, "preview-v1"), &[]);
    assert_eq!(status, 201, "{answer}");
    for thread in threads(&engine) {
        assert_is(&thread, 1000);
    }
}

#[test]
#[ignore = "needs root and a docker daemon: tests/run"]
fn a_given_user_without_a_writable_directory_is_told_so() {
    let engine = engine();
    let data = engine.fresh_directory("data");
    engine.run("--user 1000:1000", &data, "");
    engine.wait_for("it to end", || engine.docker(&["inspect", "-f", "{{.State.Running}}", "sig-repo"]) == "false");
    assert_ne!(engine.docker(&["inspect", "-f", "{{.State.ExitCode}}", "sig-repo"]), "0");
    let said = engine.logs();
    assert!(said.lines().any(|line| line.contains("DATA_DIR") && line.contains("/data")), "{said}");
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

/// What a plain start leaves in its directory.
fn own_files(engine: &Engine) -> Vec<String> {
    let data = engine.fresh_directory("data");
    engine.run("", &data, "");
    engine.wait_until_ready();
    let names: Vec<_> =
        fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!names.is_empty());
    names
}

/// /proc/…/status of every thread of the process.
fn threads(engine: &Engine) -> Vec<BTreeMap<String, String>> {
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "sig-repo"]);
    let all = engine.inside(&["sh", "-c", &format!("tail -n +1 /proc/{pid}/task/*/status")]);
    let threads: Vec<BTreeMap<_, _>> = all
        .split("==> ")
        .filter(|part| !part.is_empty())
        .map(|status| {
            let lines = status.lines().filter_map(|line| line.split_once(':'));
            lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
        })
        .collect();
    assert!(threads.len() > 1, "{all}");
    threads
}

fn assert_is(thread: &BTreeMap<String, String>, id: u32) {
    let ids = format!("{id}\t{id}\t{id}\t{id}");
    assert_eq!((&thread["Uid"], &thread["Gid"]), (&ids, &ids), "{thread:?}");
    assert!(thread["Groups"].split_whitespace().all(|group| group == id.to_string()), "{thread:?}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(thread[set], "0000000000000000", "{set}");
    }
}
