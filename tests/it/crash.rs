//! What was acknowledged survives `kill -9`, at whatever moment it comes: a child writes under load,
//! says what it was told, and is killed; then everything it was told must be there, and nothing by half.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use futures_util::future::join_all;
use sig_repo::{
    clock::Clock,
    oci::{Digest, Repository, Tag},
    store::{Config, Identity, RecordId, Sighting, Store, Submission, SubmitRules, Submitted},
};

/// After how many acknowledgements the child of each round is killed.
const ROUNDS: [usize; 10] = [1, 30, 2, 75, 10, 150, 5, 60, 100, 40];
const SUBMITTERS: usize = 16;
/// Opening after a crash repairs nothing, however much there is.
const OPENS_WITHIN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn what_was_acknowledged_survives_being_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut created = BTreeMap::new();
    let mut withdrawn = BTreeSet::new();
    let mut tags = BTreeSet::new();
    for acknowledgements in ROUNDS {
        for line in lines_until_killed(dir.path(), acknowledgements) {
            let [what, value, name] = line.split(' ').collect::<Vec<_>>()[1..] else { panic!("{line}") };
            match what {
                "created" => drop(created.insert(value.parse::<RecordId>().unwrap(), name.to_owned())),
                "withdrawn" => drop(withdrawn.insert((value.parse::<RecordId>().unwrap(), name.to_owned()))),
                "seen" => drop(tags.insert(value.parse::<Tag>().unwrap())),
                other => panic!("{other}"),
            }
        }
        // A withdrawal that was not acknowledged may be so all the same: those of `w…` are settled by it.
        let open = Opened::at(dir.path());
        for (id, name) in &created {
            let record = open.store.record(id).unwrap();
            if name.starts_with('w') {
                let tombstone = open.store.identity(&identity(name)).unwrap().unwrap().withdrawn;
                assert_eq!(record.is_none(), tombstone, "{name} is withdrawn by half");
            } else {
                let record = record.unwrap_or_else(|| panic!("{name} was acknowledged and is not there"));
                assert_eq!(open.store.records_of(&record.digest).unwrap(), [record]);
            }
        }
        for (id, name) in &withdrawn {
            assert_eq!(open.store.record(id).unwrap(), None, "{name}");
            assert!(open.store.identity(&identity(name)).unwrap().unwrap().withdrawn, "{name}");
        }
        let seen: BTreeSet<_> = open.store.tags_seen(&repository(), &image()).unwrap().into_iter().collect();
        assert!(tags.is_subset(&seen), "{:?} were forgotten", tags.difference(&seen));
        let checked = open.store.check().unwrap();
        assert_eq!(checked.flaws, [""; 0]);
        assert!(checked.records + withdrawn.len() >= created.len());
    }
    assert!(created.len() > 100 && !withdrawn.is_empty() && !tags.is_empty());
}

/// Runs this same test binary as the child that writes, kills it after some lines and returns all
/// that it managed to say.
fn lines_until_killed(data_dir: &Path, acknowledgements: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child_that_writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .current_dir(data_dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = Vec::new();
    for line in lines.by_ref().filter(|line| line.starts_with("told ")) {
        told.push(line);
        if told.len() == acknowledgements {
            break;
        }
    }
    assert_eq!(told.len(), acknowledgements, "the child ended by itself");
    child.kill().unwrap();
    told.extend(lines.filter(|line| line.starts_with("told ")));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
    // The last line may have been cut short with its writer.
    told.into_iter().filter_map(|line| line.strip_suffix('.').map(str::to_owned)).collect()
}

#[tokio::test]
#[ignore = "the child of the test above: it writes into its working directory until it is killed"]
async fn child_that_writes_until_it_is_killed() {
    let open = Opened::at(Path::new("."));
    join_all((0..SUBMITTERS).map(|submitter| write_for_ever(&open.store, submitter))).await;
}

async fn write_for_ever(store: &Store, submitter: usize) {
    for n in 0.. {
        let kind = if submitter == 0 { 'w' } else { 'k' };
        let name = format!("{kind}{}-{submitter}-{n}", std::process::id());
        let rules = SubmitRules { life: None, may_promote: false, verified: true };
        let Submitted::Created(record) = store.submit(submission(&name), rules).await.unwrap() else {
            panic!("{name} is new")
        };
        tell(&format!("created {} {name}", record.id));
        if kind == 'w' {
            store.withdraw(&record.id, vec![]).await.unwrap().unwrap();
            tell(&format!("withdrawn {} {name}", record.id));
        }
        if submitter == 1 {
            let tag: Tag = name.parse().unwrap();
            let sighting = Sighting {
                repository: repository(),
                digest: image(),
                manifest: Some((b"{}".as_slice().into(), "application/json".into())),
                tag: Some((tag.clone(), true)),
                children: vec![Digest::sha256(b"layer")],
                at: record.created_at,
            };
            store.remember(sighting).await.unwrap();
            tell(&format!("seen {tag} {name}"));
        }
    }
}

/// One write, so that the line is whole or not there; with nobody to read it the child ends.
fn tell(what: &str) {
    std::io::stdout().write_all(format!("\ntold {what}.\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn submission(name: &str) -> Submission {
    Submission {
        digest: Digest::sha256(name.as_bytes()),
        repository: Some(repository()),
        tag: "preview-1".parse().unwrap(),
        tag_type: Some(sig_repo::oci::TagType::Preview),
        environment: Some("test-staging".into()),
        format: "raw".into(),
        signature: vec![7; 200],
        payload: None,
        signer: None,
        metadata: BTreeMap::new(),
        expires_at: Some(Clock::system().now() + Duration::from_secs(3600)),
        granted: true,
        identities: vec![identity(name)],
        submitted_by: "192.0.2.1".into(),
    }
}

fn identity(name: &str) -> Identity {
    Identity(Digest::sha256(name.as_bytes()).as_bytes().try_into().unwrap())
}

fn image() -> Digest {
    Digest::sha256(b"image")
}

fn repository() -> Repository {
    Repository::new(&"docker.io".parse().unwrap(), "team/app").unwrap()
}

struct Opened {
    store: Store,
    writers: Vec<JoinHandle<()>>,
}

impl Opened {
    fn at(data_dir: &Path) -> Self {
        let clock = Clock::system();
        let before = clock.instant();
        let (store, writers) = Store::open(&Config::new(data_dir.to_owned()), clock.clone()).unwrap();
        let took = clock.instant() - before;
        assert!(took < OPENS_WITHIN, "opening took {took:?}");
        let writers = writers.into_iter().map(|writer| std::thread::spawn(move || writer.run())).collect();
        Self { store, writers }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.store.close();
        for writer in self.writers.drain(..) {
            let ended = writer.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}
