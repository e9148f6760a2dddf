//! A disk that is full or read-only, files that are taken away: the process refuses what it could not
//! remember, says so, loses nothing that it acknowledged, and goes on by itself when the cause is gone.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};
use serde_json::{Value, json};
use sig_repo::oci::Digest;
use tempfile::TempDir;

use crate::support::{
    key::Key,
    process::{self, Server},
    registry::{Image, Registry},
};

/// The process over a registry with two signed images, the first of which was pulled.
struct Stage {
    registry: Registry,
    _runtime: tokio::runtime::Runtime,
    key: Key,
    trust: TempDir,
    data_dir: PathBuf,
    images: Vec<Image>,
    acknowledged: Vec<String>,
}

impl Stage {
    fn new(data_dir: PathBuf) -> (Self, Server) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = runtime.block_on(Registry::start());
        let images = ["preview-1", "preview-2"].map(|tag| registry.push_image("team/app", Some(tag), &[b"layer"]));
        let key = Key::generate();
        let trust = tempfile::tempdir().unwrap();
        fs::write(trust.path().join("ci.pub"), key.pem()).unwrap();
        let images = images.into();
        let mut stage = Self { registry, _runtime: runtime, key, trust, data_dir, images, acknowledged: Vec::new() };
        let server = stage.start();
        for n in 0..2 {
            let digest = stage.images[n].digest;
            assert_eq!(stage.submit(&server, &digest, &format!("preview-{}", n + 1)), 201);
        }
        stage.comes(&server, 0);
        (stage, server)
    }

    fn start(&self) -> Server {
        let upstream = self.registry.url().to_string();
        // Read before root is given up, where the tests run as root.
        let trust = self.trust.path().to_str().unwrap();
        Server::start(&self.data_dir, &[("PROXY_REMOTEURL", &upstream), ("TRUST_DIR", trust)])
    }

    fn submit(&mut self, server: &Server, digest: &Digest, tag: &str) -> u16 {
        let signature = self.key.sign_base64(digest.to_string().as_bytes());
        let body = json!({ "image_digest": digest.to_string(), "tag": tag, "signature": signature });
        let (status, answer) = server.post("/api/v1/signatures", &body);
        match status {
            201 => self.acknowledged.push(answer["id"].as_str().unwrap().to_owned()),
            _ => assert_eq!(answer["type"], "urn:sig-repo:problem:store-unavailable", "{answer}"),
        }
        status
    }

    fn pull(server: &Server, reference: impl std::fmt::Display) -> String {
        server.get(&format!("/v2/team/app/manifests/{reference}"))
    }

    fn comes(&self, server: &Server, n: usize) {
        for reference in [format!("preview-{}", n + 1), self.images[n].digest.to_string()] {
            let answer = Self::pull(server, reference);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.as_bytes(), self.images[n].bytes);
        }
    }

    fn is_refused(&self, server: &Server, n: usize) {
        let answer = Self::pull(server, format!("preview-{}", n + 1));
        let reason = "refused: the signature could not be checked: the signature store did not answer";
        assert!(answer.starts_with("HTTP/1.1 300 ") && answer.contains(reason), "{answer}");
    }

    /// Everything works, and everything that was acknowledged is there.
    fn works(&mut self, server: &Server, new: &str) {
        server.until("an end of it", |server| server.degraded() == "[]");
        assert_eq!(metric(server, "sig_repo_store_degraded"), "0");
        (0..2).for_each(|n| self.comes(server, n));
        assert_eq!(self.submit(server, &Digest::sha256(new.as_bytes()), "preview-new"), 201);
        self.is_all_there(server);
    }

    fn is_all_there(&self, server: &Server) {
        let listed = server.json("/api/v1/tags?limit=1000");
        let listed: Vec<&Value> = listed["tags"].as_array().unwrap().iter().map(|tag| &tag["record"]["id"]).collect();
        for id in &self.acknowledged {
            assert!(listed.contains(&&json!(id)), "{id} was acknowledged and is not in {listed:?}");
        }
    }

    /// Killed, and started again.
    fn survives_a_kill(&mut self, server: Server) {
        server.signal(Signal::SIGKILL);
        server.ended();
        let server = self.start();
        self.works(&server, "after a kill");
    }
}

fn metric(server: &Server, name: &str) -> String {
    let metrics = server.get("/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{metrics}"));
    line.trim().to_owned()
}

/// Refuses what is new, says why, and answers what it knows.
fn refuses_what_is_new(stage: &mut Stage, server: &Server, why: &str) {
    server.until(why, |server| server.degraded().contains(why));
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200 "), "replicas that turn unready together are walked round");
    assert_eq!(metric(server, "sig_repo_store_degraded"), "1");
    assert_eq!(stage.submit(server, &Digest::sha256(b"meanwhile"), "preview-new"), 503);
    stage.is_refused(server, 1);
    stage.comes(server, 0);
    stage.is_all_there(server);
}

/// Runs a test where its mounts are its own.
fn with_own_mounts(test: impl FnOnce(&Path) + Send) {
    std::thread::scope(|scope| {
        let apart = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(&["--make-rprivate", "/"]);
            let directory = tempfile::tempdir().unwrap();
            test(directory.path());
        });
        apart.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn mount(arguments: &[&str]) {
    assert!(Command::new("mount").args(arguments).status().unwrap().success(), "mount {arguments:?}");
}

fn unmount(path: &Path) {
    assert!(Command::new("umount").arg(path).status().unwrap().success(), "umount {path:?}");
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_refuses_what_is_new_until_there_is_room() {
    with_own_mounts(|directory| {
        let data_dir = directory.join("data");
        fs::create_dir(&data_dir).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=24m,mode=755", "tests", data_dir.to_str().unwrap()]);
        let (mut stage, server) = Stage::new(data_dir.clone());
        let filler = data_dir.join("filler");
        let mut file = File::create(&filler).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        refuses_what_is_new(&mut stage, &server, "the disk is full");
        // Blobs go past the disk.
        let layer = server.get(&format!("/v2/team/app/blobs/{}", Digest::sha256(b"layer")));
        assert!(layer.starts_with("HTTP/1.1 200 ") && layer.ends_with("\r\n\r\nlayer"), "{layer}");
        assert_eq!(metric(&server, "sig_repo_cache_past_disk_total"), "1");
        assert_eq!(server.json("/api/v1/cache")["past_disk"], 1);
        fs::remove_file(filler).unwrap();
        drop(file);
        stage.works(&server, "afterwards");
        stage.survives_a_kill(server);
    });
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_fills_up_under_load_loses_nothing() {
    with_own_mounts(|directory| {
        let data_dir = directory.join("data");
        fs::create_dir(&data_dir).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=24m,mode=755", "tests", data_dir.to_str().unwrap()]);
        let (mut stage, server) = Stage::new(data_dir.clone());
        // What is left is less than a few submissions take, and somebody else takes that too.
        let filler = data_dir.join("filler");
        let mut file = File::create(&filler).unwrap();
        let mut refused = 0;
        for n in 0..400 {
            drop(file.write_all(&[1; 64 << 10]));
            refused +=
                u32::from(stage.submit(&server, &Digest::sha256(format!("{n}").as_bytes()), "preview-new") == 503);
        }
        assert!(refused > 0 && stage.acknowledged.len() > 50, "{refused} refused, {} kept", stage.acknowledged.len());
        fs::remove_file(filler).unwrap();
        drop(file);
        stage.works(&server, "afterwards");
        stage.survives_a_kill(server);
    });
}

#[test]
#[ignore = "needs root"]
fn a_directory_that_becomes_read_only_refuses_what_is_new_until_it_is_not() {
    with_own_mounts(|directory| {
        let data_dir = directory.join("data");
        fs::create_dir(&data_dir).unwrap();
        let (mut stage, server) = Stage::new(data_dir.clone());
        // The kernel lets no file system become read-only under open files; what covers it may be.
        let path = data_dir.to_str().unwrap();
        mount(&["--bind", path, path]);
        mount(&["-o", "remount,bind,ro", path]);
        refuses_what_is_new(&mut stage, &server, "read-only");
        unmount(&data_dir);
        stage.works(&server, "afterwards");

        server.signal(Signal::SIGKILL);
        server.ended();
        mount(&["--bind", path, path]);
        mount(&["-o", "remount,bind,ro", path]);
        let output = process::run(&[], &[("DATA_DIR", path)]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("DATA_DIR"), "{said}");
        unmount(&data_dir);
        let cache = data_dir.join("cache");
        mount(&["-t", "tmpfs", "-o", "ro,uid=65532,gid=65532", "tests", cache.to_str().unwrap()]);
        let output = process::run(&[], &[("DATA_DIR", path), ("HTTP_ADDR", "127.0.0.1:0")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("read-only"), "{said}");
        unmount(&cache);
        let server = stage.start();
        stage.works(&server, "after a start");
    });
}

#[test]
#[ignore = "needs root"]
fn another_file_system_over_the_directory_is_not_written_to() {
    with_own_mounts(|directory| {
        let data_dir = directory.join("data");
        fs::create_dir(&data_dir).unwrap();
        let (mut stage, server) = Stage::new(data_dir.clone());
        mount(&["-t", "tmpfs", "tests", data_dir.to_str().unwrap()]);
        server.until("removed", |server| server.degraded().contains("was removed"));
        (0..2).for_each(|n| stage.is_refused(&server, n));
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 0);
        unmount(&data_dir);
        stage.works(&server, "afterwards");
        stage.survives_a_kill(server);
    });
}

#[test]
fn files_that_are_taken_away_are_refused_without_and_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let (mut stage, server) = Stage::new(data_dir.clone());
    let aside = directory.path().join("aside");
    for name in ["records.redb", "memory.redb", "."] {
        // The directory itself, too.
        let path = if name == "." { data_dir.clone() } else { data_dir.join(name) };
        fs::rename(&path, &aside).unwrap();
        server.until("removed", |server| server.degraded().contains("was removed"));
        assert_eq!(metric(&server, "sig_repo_store_degraded"), "1");
        (0..2).for_each(|n| stage.is_refused(&server, n));
        if name != "memory.redb" {
            assert_eq!(stage.submit(&server, &Digest::sha256(b"meanwhile"), "preview-new"), 503);
        }
        assert!(!path.exists(), "an empty one was made");
        fs::rename(&aside, &path).unwrap();
        stage.works(&server, name);
    }
    stage.survives_a_kill(server);
}

#[test]
fn a_file_that_was_deleted_can_be_saved_from_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let (mut stage, server) = Stage::new(data_dir.clone());
    let path = data_dir.join("records.redb");
    let owner = fs::metadata(&path).unwrap();
    fs::remove_file(&path).unwrap();
    server.until("removed", |server| server.degraded().contains("was removed"));
    stage.is_refused(&server, 0);

    // Nor does a start take it for a new store.
    let saved = directory.path().join("saved");
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().map(|entry| entry.unwrap().path());
    let held = open.into_iter().find(|fd| {
        fs::read_link(fd).is_ok_and(|target| target.to_string_lossy() == format!("{} (deleted)", path.display()))
    });
    fs::copy(held.unwrap(), &saved).unwrap();
    chown(&saved, Some(owner.uid()), Some(owner.gid())).unwrap();
    fs::rename(&saved, &path).unwrap();
    stage.works(&server, "afterwards");
    stage.survives_a_kill(server);
}

#[test]
fn a_start_without_the_records_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let (mut stage, server) = Stage::new(data_dir.clone());
    server.signal(Signal::SIGKILL);
    server.ended();
    let aside = directory.path().join("aside");
    fs::rename(data_dir.join("records.redb"), &aside).unwrap();
    let output = process::run(&[], &[("DATA_DIR", data_dir.to_str().unwrap())]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("records.redb is missing or empty") && said.contains("Put it back"), "{said}");
    fs::rename(&aside, data_dir.join("records.redb")).unwrap();
    let server = stage.start();
    stage.works(&server, "afterwards");
}

#[test]
fn a_digest_that_was_refused_stays_so_when_the_memory_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let (stage, server) = Stage::new(data_dir.clone());
    let unsigned = stage.registry.push_image("team/app", Some("preview-3"), &[b"unsigned"]);
    let plain = stage.registry.push_image("team/other", Some("v1"), &[b"plain"]);
    let status = |server: &Server, path: &str| server.get(path)[9..12].to_owned();
    let by_digest = |repository: &str, image: &Image| format!("/v2/{repository}/manifests/{}", image.digest);
    assert_eq!(status(&server, "/v2/team/app/manifests/preview-3"), "300");
    assert_eq!(status(&server, &by_digest("team/app", &unsigned)), "300");
    server.signal(Signal::SIGKILL);
    server.ended();
    fs::remove_file(data_dir.join("memory.redb")).unwrap();

    let server = stage.start();
    assert!(server.beginning.contains("memory.redb was lost"), "{}", server.beginning);
    assert_eq!(status(&server, &by_digest("team/app", &unsigned)), "300");
    // Signed ones come, and so do tags that are not enforced, and then their digests.
    (0..2).for_each(|n| stage.comes(&server, n));
    assert_eq!(status(&server, &by_digest("team/other", &plain)), "300");
    assert_eq!(status(&server, "/v2/team/other/manifests/v1"), "200");
    assert_eq!(status(&server, &by_digest("team/other", &plain)), "200");
}
