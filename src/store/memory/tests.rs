use std::{collections::BTreeMap, path::Path, time::Duration};

use futures_util::future::join_all;

use super::*;
use crate::store::{
    AuditKind, AuditRow, Config, Disk, FoundEnvelope, Identity, TagPage,
    tests::{Running, clock, config, repository, seconds, start},
};

fn sighting(running: &Running, name: &str, tag: Option<(&str, bool)>, children: &[&str]) -> Sighting {
    let digest = |name: &str| Digest::sha256(name.as_bytes());
    Sighting {
        repository: repository("team/app"),
        digest: digest(name),
        manifest: Some((Bytes::from(format!("{{\"{name}\":1}}")), "application/vnd.oci.image.index.v1+json".into())),
        tag: tag.map(|(tag, enforced)| (tag.parse().unwrap(), enforced)),
        confirmed: None,
        children: children.iter().map(|name| digest(name)).collect(),
        at: running.clock.now(),
    }
}

fn small(dir: &Path, memory_max_bytes: u64) -> Running {
    Running::on(Disk::files(), &Config { memory_max_bytes, ..config(dir) }, clock())
}

#[tokio::test]
async fn a_sighting_is_remembered_whole_and_again_without_a_commit() {
    let (dir, running) = start();
    let seen = sighting(&running, "index", Some(("v1", false)), &["amd64", "arm64"]);
    let before = running.store.generation_of(seen.digest);
    running.store.remember(seen.clone()).await.unwrap();
    assert_ne!(running.store.generation_of(seen.digest), before);
    let commits = running.store.counters().commits;
    running.store.remember(seen.clone()).await.unwrap();
    running.store.remember(Sighting { tag: None, manifest: None, ..seen.clone() }).await.unwrap();
    running.clock.advance(Duration::from_secs(599));
    running.store.remember(Sighting { at: running.clock.now(), ..seen.clone() }).await.unwrap();
    assert_eq!(running.store.counters().commits, commits);
    let another_tag = Sighting { tag: Some(("v2".parse().unwrap(), false)), ..seen.clone() };
    running.store.remember(another_tag).await.unwrap();
    assert_eq!(running.store.counters().commits, commits + 1);

    let clock = running.clock.clone();
    drop(running);
    let store = Running::at(dir.path(), &clock).store.clone();
    drop(store);
    let running = Running::at(dir.path(), &clock);
    let store = &running.store;
    let (bytes, media_type) = seen.manifest.clone().unwrap();
    assert_eq!(store.manifest(&seen.digest).unwrap(), Some(HeldManifest { bytes, media_type }));
    assert_eq!(store.tags_seen(&seen.repository, &seen.digest).unwrap(), ["v1", "v2"].map(|tag| tag.parse().unwrap()));
    assert_eq!(store.presence(&seen.repository, &seen.digest).unwrap(), Some(seen.at));
    for child in &seen.children {
        assert_eq!(store.parents(&seen.repository, child).unwrap(), [seen.digest]);
        assert_eq!(store.parents(&repository("other/app"), child).unwrap(), []);
        assert_eq!(store.presence(&seen.repository, child).unwrap(), None, "named is not seen");
    }
    assert!(!store.knows_enforced_tags(&seen.repository).unwrap());
}

#[tokio::test]
async fn an_enforced_tag_marks_its_repository_and_is_known_itself() {
    let (_dir, running) = start();
    let store = &running.store;
    let (repository, tag, other): (_, Tag, Tag) =
        (repository("team/app"), "preview-1".parse().unwrap(), "v1".parse().unwrap());
    let before = store.generation_of(&repository);
    store.remember(sighting(&running, "image", Some(("v1", false)), &["layer"])).await.unwrap();
    assert_eq!(store.generation_of(&repository), before);
    assert!(!store.is_enforced_tag(&repository, &other).unwrap());
    store.remember(sighting(&running, "image", Some(("preview-1", true)), &["layer"])).await.unwrap();
    assert_ne!(store.generation_of(&repository), before);
    assert!(store.knows_enforced_tags(&repository).unwrap() && store.is_enforced_tag(&repository, &tag).unwrap());
    assert!(!store.is_enforced_tag(&repository, &other).unwrap());
    // An ordinary tag that a record has classed since.
    store.remember(sighting(&running, "image", Some(("v1", true)), &["layer"])).await.unwrap();
    assert!(store.is_enforced_tag(&repository, &other).unwrap());

    assert!(!store.knows_internal_tags(&repository).unwrap());
    store.mark_internal_tags(&repository).await.unwrap();
    assert!(store.knows_internal_tags(&repository).unwrap());
}

#[tokio::test]
async fn presence_is_made_by_a_sighting_and_renewed_only_by_who_asked() {
    let (_dir, running) = start();
    let store = &running.store;
    let seen = sighting(&running, "image", None, &[]);
    store.remember(seen.clone()).await.unwrap();
    running.clock.advance(Duration::from_secs(3600));
    let now = running.clock.now();
    store.remember(Sighting { at: now, ..seen.clone() }).await.unwrap();
    assert_eq!(store.presence(&seen.repository, &seen.digest).unwrap(), Some(seen.at));
    store.remember_presence(&seen.repository, &seen.digest, now).await.unwrap();
    assert_eq!(store.presence(&seen.repository, &seen.digest).unwrap(), Some(now));
    store.forget_presence(&seen.repository, &seen.digest).await.unwrap();
    assert_eq!(store.presence(&seen.repository, &seen.digest).unwrap(), None);
}

#[tokio::test]
async fn the_digest_that_a_tag_was_confirmed_to_name_is_kept_with_the_time() {
    let (dir, running) = start();
    let store = &running.store;
    let tag: Tag = "v1".parse().unwrap();
    let confirmed = |name: &str| {
        let seen = sighting(&running, name, Some(("v1", false)), &[]);
        Sighting { confirmed: Some(seen.at), ..seen }
    };
    let known = |store: &Store| store.tag_digest(&repository("team/app"), &tag).unwrap();
    let first = confirmed("image");
    let of_first = Some(Confirmed { what: first.digest, at: first.at });
    store.remember(first.clone()).await.unwrap();
    assert_eq!(known(store), of_first);
    assert_eq!(store.tag_digest(&repository("other/app"), &tag).unwrap(), None);
    // What nobody asked the upstream for, and what it said again just now, is no news.
    let commits = store.counters().commits;
    for seconds in [599, 1] {
        running.clock.advance(Duration::from_secs(seconds));
        let unasked = Sighting { confirmed: None, at: first.at, ..confirmed("image") };
        store.remember(unasked).await.unwrap();
        assert_eq!((known(store), store.counters().commits), (of_first.clone(), commits));
    }
    store.remember(confirmed("image")).await.unwrap();
    assert_eq!(known(store).unwrap().at, running.clock.now());
    // There and back again, sooner than what is known is renewed.
    for name in ["other", "image", "other"] {
        store.remember(confirmed(name)).await.unwrap();
        assert_eq!(known(store).unwrap().what, Digest::sha256(name.as_bytes()), "{name}");
    }
    // A time that lies ahead of the clock is put right.
    let ahead = seconds(&running, 300);
    store.remember(Sighting { confirmed: Some(ahead), ..confirmed("image") }).await.unwrap();
    assert_eq!(known(store).unwrap().at, ahead);
    store.remember(confirmed("other")).await.unwrap();
    store.remember(confirmed("image")).await.unwrap();
    assert_eq!(known(store).unwrap().at, running.clock.now());

    store.forget_tag_digest(&repository("team/app"), &tag).await.unwrap();
    assert_eq!(known(store), None);
    store.remember(confirmed("image")).await.unwrap();
    let (kept, clock) = (known(store), running.clock.clone());
    assert!(kept.is_some());
    drop(running);
    let running = Running::at(dir.path(), &clock);
    assert_eq!(known(&running.store), kept);
}

#[tokio::test]
async fn of_a_repository_so_many_pages_of_tags_are_kept_and_so_many_bytes() {
    let (_dir, running) = start();
    let store = &running.store;
    let (ours, theirs) = (repository("team/app"), repository("team/application"));
    let page = |tag: &str, bytes: usize| TagPage { tags: vec![tag.to_owned(); bytes / 100 + 1], next: None };
    let put = async |repository: &Repository, query: String, page: TagPage| {
        store.remember_tag_page(repository, &query, &page, running.clock.now()).await.unwrap();
        running.clock.advance(Duration::from_secs(1));
    };
    let kept = |repository, n: usize| store.tag_page(repository, &format!("n={n}")).unwrap().is_some();
    put(&theirs, "n=0".into(), page("v1", 0)).await;
    for n in 0..tag_pages::PAGES_MAX + 3 {
        put(&ours, format!("n={n}"), page("v1", 0)).await;
    }
    assert!((0..3).all(|n| !kept(&ours, n)) && (3..tag_pages::PAGES_MAX + 3).all(|n| kept(&ours, n)));
    // Of bytes too: each of these takes a third of the room.
    let tag = "x".repeat(97);
    for n in 100..104 {
        put(&ours, format!("n={n}"), page(&tag, tag_pages::PAGES_BYTES_MAX / 3)).await;
    }
    assert!((0..102).all(|n| !kept(&ours, n)) && kept(&ours, 102) && kept(&ours, 103));
    // What is larger than all the room is not kept, nor is what was listed before it.
    put(&ours, "n=103".into(), page(&tag, 2 * tag_pages::PAGES_BYTES_MAX)).await;
    assert!(!kept(&ours, 103) && kept(&ours, 102) && kept(&theirs, 0));
    let commits = store.counters().commits;
    put(&theirs, "n=0".into(), page("v1", 0)).await;
    assert_eq!(store.counters().commits, commits, "nothing new");
    put(&theirs, "n=0".into(), page("v2", 0)).await;
    let known = store.tag_page(&theirs, "n=0").unwrap().unwrap();
    assert_eq!(known.what, page("v2", 0));
    store.forget_tag_pages(&ours).await.unwrap();
    assert!(!kept(&ours, 102) && kept(&theirs, 0));
    store.forget_tag_pages(&theirs).await.unwrap();
    assert_eq!(store.inner.memory.read(rows::used).unwrap(), 0);
}

#[tokio::test]
async fn what_was_confirmed_is_forgotten_with_all_that_it_took() {
    let (_dir, running) = start();
    let store = &running.store;
    for n in 0..5 {
        let seen = sighting(&running, "image", Some((&format!("v{n}"), n % 2 == 0)), &[]);
        store.remember(Sighting { confirmed: Some(seen.at), ..seen }).await.unwrap();
    }
    let written = store.inner.memory.write(0, |transaction| {
        let mut touched = Touched::default();
        let mut tables = MemoryTables::open(transaction)?;
        while tables.evict(0, 1, &mut touched)? > 0 {
            tables.account()?;
        }
        Ok(Done::changed((), touched))
    });
    written.await.unwrap();
    assert_eq!(store.tag_digest(&repository("team/app"), &"v1".parse().unwrap()).unwrap(), None);
    // What stays is the mark on the repository.
    let mark = rows::cost(repository_key(&repository("team/app")).as_bytes().len(), 0);
    assert_eq!(store.inner.memory.read(rows::used).unwrap(), u64::try_from(mark).unwrap());
}

#[tokio::test]
async fn a_noted_sighting_is_written_again_once_it_was_forgotten() {
    let (_dir, running) = start();
    let store = &running.store;
    let seen = sighting(&running, "image", Some(("v1", false)), &["layer"]);
    for _ in 0..3 {
        store.remember(seen.clone()).await.unwrap();
    }
    let layer = seen.children[0];
    let written = store.inner.memory.write(0, |transaction| {
        let mut touched = Touched::default();
        let mut tables = MemoryTables::open(transaction)?;
        let forgotten = tables.evict(0, 100, &mut touched)?;
        tables.account()?;
        Ok(Done::changed(forgotten, touched))
    });
    assert_eq!(written.await.unwrap(), 3);
    assert_eq!(store.parents(&seen.repository, &layer).unwrap(), []);
    store.remember(seen.clone()).await.unwrap();
    assert_eq!(store.parents(&seen.repository, &layer).unwrap(), [seen.digest]);
    assert_eq!(store.tags_seen(&seen.repository, &seen.digest).unwrap().len(), 1);

    store.remember(seen.clone()).await.unwrap();
    store.forget_presence(&seen.repository, &seen.digest).await.unwrap();
    store.remember(seen.clone()).await.unwrap();
    assert_eq!(store.presence(&seen.repository, &seen.digest).unwrap(), Some(seen.at));
}

#[tokio::test]
async fn sightings_at_once_are_few_commits() {
    let (_dir, running) = start();
    let same = sighting(&running, "image", Some(("v1", false)), &["layer"]);
    let sightings = (0..50).map(|_| running.store.remember(same.clone()));
    assert!(join_all(sightings).await.into_iter().all(|result| result.is_ok()));
    assert!(running.store.counters().commits <= 2, "{:?}", running.store.counters());
}

#[tokio::test]
async fn what_is_found_upstream_keeps_its_first_sight_and_is_capped() {
    let (_dir, running) = start();
    let (repository, digest) = (repository("team/app"), Digest::sha256(b"image"));
    let found = |n: usize, at: i64| FoundEnvelope {
        signature: n.to_be_bytes().to_vec(),
        payload: n.is_multiple_of(2).then(|| vec![1]),
        annotations: Default::default(),
        format: "simple-signing".into(),
        first_seen: seconds(&running, at),
        verified: None,
    };
    let now = running.clock.now();
    running.store.put_found(&repository, &digest, vec![found(0, 0), found(1, 1)], now).await.unwrap();
    running.store.put_found(&repository, &digest, vec![found(0, 9), found(1, -1)], now).await.unwrap();
    assert_eq!(running.store.found(&repository, &digest).unwrap(), [found(1, -1), found(0, 0)]);
    let flood = (2..1000).map(|n| found(n, 2)).collect();
    running.store.put_found(&repository, &digest, flood, now).await.unwrap();
    assert_eq!(running.store.found(&repository, &digest).unwrap().len(), 320);
}

#[tokio::test]
async fn what_is_found_now_takes_the_place_of_what_is_gone_and_never_of_what_has_verified() {
    let (_dir, running) = start();
    let (store, now) = (&running.store, running.clock.now());
    let (repository, digest) = (repository("team/app"), Digest::sha256(b"image"));
    let found = |n: usize| FoundEnvelope {
        signature: n.to_be_bytes().to_vec(),
        payload: None,
        annotations: [("evidence".to_owned(), n.to_string())].into(),
        format: "raw".into(),
        first_seen: now + SignedDuration::from_secs(i64::try_from(n).unwrap()),
        verified: None,
    };
    let put = async |round: Vec<FoundEnvelope>| store.put_found(&repository, &digest, round, now).await.unwrap();
    let kept = || -> Vec<usize> {
        let found = store.found(&repository, &digest).unwrap();
        found.iter().map(|found| usize::from_be_bytes(found.signature.clone().try_into().unwrap())).collect()
    };
    put((0..320).map(found).collect()).await;
    // Many signatures that verify are one, if what stands beside one of them is all that they differ in.
    let generation = store.generation_of(digest);
    let (one, other) = (Identity([1; 32]), Identity([2; 32]));
    let verified = [(found(2).id(), one), (found(3).id(), one), (found(5).id(), other)];
    store.found_verified(&repository, &digest, verified.to_vec()).await.unwrap();
    store.found_verified(&repository, &digest, vec![(found(4).id(), one), (found(999).id(), one)]).await.unwrap();
    let marked = store.found(&repository, &digest).unwrap().into_iter().filter_map(|found| found.verified);
    assert_eq!(marked.collect::<Vec<_>>(), [one, other]);
    assert!(store.is_current(generation), "nothing of it changes a verdict");
    // The oldest gives way first, and what is found again does not.
    put([0, 1, 400, 401].map(found).to_vec()).await;
    let left: Vec<_> = [0, 1, 2, 5].into_iter().chain(6..320).chain([400, 401]).collect();
    assert_eq!(kept(), left);
    put((500..1000).map(found).collect()).await;
    assert_eq!(kept(), [2, 5].into_iter().chain(500..818).collect::<Vec<_>>());
    // The same with other evidence is another.
    let changed = FoundEnvelope { annotations: BTreeMap::new(), ..found(500) };
    assert_ne!(changed.id(), found(500).id());
}

#[tokio::test]
async fn the_oldest_is_forgotten_first_and_what_is_enforced_last() {
    let dir = tempfile::tempdir().unwrap();
    let running = small(dir.path(), 0);
    let store = &running.store;
    let fill = async |memory: &Running| {
        for (name, tag) in [("enforced", ("preview-1", true)), ("old", ("v1", false)), ("new", ("v2", false))] {
            memory.store.remember(sighting(memory, name, Some(tag), &[&format!("{name} child")])).await.unwrap();
            memory.clock.advance(Duration::from_secs(3600));
        }
    };
    fill(&running).await;
    assert_eq!(store.evict(100).await.unwrap(), 0, "each write has made room for itself");
    let left = store.inner.memory.read(rows::used).unwrap();
    let mark = rows::cost(repository_key(&repository("team/app")).as_bytes().len(), 0);
    assert_eq!(left, mark.cast_unsigned(), "everything is gone but the mark");
    assert!(store.knows_enforced_tags(&repository("team/app")).unwrap());

    let dir = tempfile::tempdir().unwrap();
    let roomy = small(dir.path(), 1 << 30);
    fill(&roomy).await;
    drop(roomy);
    let running = small(dir.path(), 0);
    let tags =
        |name: &str| running.store.tags_seen(&repository("team/app"), &Digest::sha256(name.as_bytes())).unwrap().len();
    let mut order = Vec::new();
    while running.store.evict(1).await.unwrap() == 1 {
        order.push([tags("old"), tags("new"), tags("enforced")]);
    }
    order.dedup();
    assert_eq!(order, [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]);
    let digest = Digest::sha256(b"enforced child");
    assert_eq!(running.store.parents(&repository("team/app"), &digest).unwrap(), []);
}

#[tokio::test]
async fn the_file_stays_within_its_size_however_much_is_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let max = 8 << 20;
    let running = small(dir.path(), max);
    for round in 0..40 {
        let sightings = (0..16).map(|n| {
            let name = format!("{round} {n}");
            let bytes = Bytes::from(vec![b'x'; (n * 7919 + round * 104_729) % 60_000]);
            running.store.remember(Sighting {
                manifest: Some((bytes, "application/json".into())),
                ..sighting(&running, &name, Some(("v1", false)), &["a", "b", &name])
            })
        });
        assert!(join_all(sightings).await.into_iter().all(|result| result.is_ok()));
        running.clock.advance(Duration::from_secs(1));
    }
    let length = std::fs::metadata(dir.path().join("memory.redb")).unwrap().len();
    assert!(length <= max, "{length} bytes");
    let last = Digest::sha256(b"39 15");
    assert_eq!(running.store.tags_seen(&repository("team/app"), &last).unwrap().len(), 1, "the newest is kept");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_left_to_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::on(Disk::files(), &Config { disk_reserve_bytes: u64::MAX, ..config(dir.path()) }, clock());
    for n in 0..20 {
        let bytes = Bytes::from(vec![b'x'; 500_000]);
        let seen = Sighting {
            manifest: Some((bytes, "application/json".into())),
            ..sighting(&running, &n.to_string(), Some(("v1", false)), &[])
        };
        running.store.remember(seen).await.unwrap();
        running.clock.advance(Duration::from_secs(1));
    }
    let used = running.store.inner.memory.read(rows::used).unwrap();
    assert!((3 << 20..=BUDGET_MIN).contains(&used), "{used}");
    assert!(running.store.manifest(&Digest::sha256(b"19")).unwrap().is_some());
    assert!(running.store.manifest(&Digest::sha256(b"0")).unwrap().is_none());
}

#[tokio::test]
async fn events_of_pulls_give_way_to_newer_ones() {
    let dir = tempfile::tempdir().unwrap();
    let running = small(dir.path(), 8 * 10 * (100 + 32));
    for n in 0..25 {
        let row = AuditRow { at: seconds(&running, n), json: vec![u8::try_from(n).unwrap(); 100] };
        running.store.append_audit(vec![row], AuditKind::Pulls).await.unwrap();
    }
    let events = running.store.audit_page(None, 100).unwrap().items;
    assert_eq!(events.iter().map(|json| json[0]).collect::<Vec<_>>(), (15..25).rev().collect::<Vec<_>>());
}
