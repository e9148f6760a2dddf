//! With the metadata of the public good instance. Repositories that lie are those of `tests/it/trust_update.rs`.

use std::{fs, path::Path};

use jiff::Timestamp;

use super::*;

const NOW: &str = "2026-08-25T12:00:00Z";

/// What the repository has under a path.
fn served(path: &str) -> Option<Vec<u8>> {
    match path {
        "15.root.json" => Some(TufUpdate::PUBLIC_GOOD_ROOT.to_vec()),
        path if path.starts_with("targets/") => {
            Some(include_bytes!("../sigstore/public-good.json").to_vec()).filter(|_| {
                path == "targets/6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66.trusted_root.json"
            })
        }
        path => fs::read(Path::new("tests/fixtures/tuf/public-good").join(path)).ok(),
    }
}

fn update(first_root: &[u8], state: TufState, now: &str, served: impl Fn(&str) -> Option<Vec<u8>>) -> Update {
    let mut update = match TufUpdate::begin(first_root, state, "state", now.parse().unwrap()) {
        Ok(update) => update,
        Err(error) => return Update { result: Err(error), state: TufState::default(), asked: Vec::new() },
    };
    let (mut asked, mut failure) = (Vec::new(), None);
    while let Some(request) = update.request() {
        let answer = served(&request.path);
        asked.push(request.path);
        if let Err(error) = update.take(answer.as_deref()) {
            failure = Some(error);
        }
    }
    let state = update.state().clone();
    Update { result: failure.map_or_else(|| Ok(update.found().unwrap()), Err), state, asked }
}

struct Update {
    result: Result<TufFound, TufError>,
    state: TufState,
    asked: Vec<String>,
}

#[test]
fn the_public_repository_leads_from_an_old_root_with_keys_of_each_form_to_its_trusted_root() {
    let first = served("4.root.json").unwrap();
    let Update { result, state, asked } = update(&first, TufState::default(), NOW, served);
    let TufFound { content, versions } = result.unwrap();
    assert_eq!(content, include_bytes!("../sigstore/public-good.json"));
    assert_eq!(versions.map(|(_, version, _)| version), [15, 762, 165, 14]);
    assert_eq!(versions[1].2, "2026-08-28T19:25:56Z".parse::<Timestamp>().unwrap());
    assert_eq!(state.roots.len(), 12);
    assert_eq!(asked.len(), 16, "{asked:?}");

    // What is known is gone on with, from the shipped root too, and read back as it was written.
    let state = TufState::from_json(state.to_json().as_bytes(), "state").unwrap();
    for first in [first.as_slice(), TufUpdate::PUBLIC_GOOD_ROOT] {
        let again = update(first, state.clone(), NOW, served);
        assert_eq!(again.result.unwrap().content, content);
        assert_eq!((again.state, again.asked[0].as_str()), (state.clone(), "16.root.json"));
    }
}

#[test]
fn what_has_expired_is_frozen_and_says_when() {
    for (now, file, role, at) in [
        ("2026-08-28T19:25:56Z", "timestamp.json", TufRole::Timestamp, "2026-08-28T19:25:56Z"),
        ("2026-11-20T13:58:18Z", "15.root.json", TufRole::Root, "2026-11-20T13:58:18Z"),
    ] {
        let error = update(TufUpdate::PUBLIC_GOOD_ROOT, TufState::default(), now, served).result.unwrap_err();
        let (at, now) = (at.parse::<Timestamp>().unwrap(), now.parse().unwrap());
        assert_eq!(error.file, file);
        assert!(matches!(error.flaw, TufFlaw::Expired { role: r, at: a, now: n, .. } if (r, a, n) == (role, at, now)));
    }
}

#[test]
fn one_byte_that_was_not_signed_is_noticed_in_every_file() {
    for (file, from, to) in [
        ("5.root.json", "2023-04-18T18:13:43Z", "2023-04-18T18:13:44Z"),
        ("15.root.json", "\"threshold\": 3", "\"threshold\": 1"),
        ("timestamp.json", "\"version\": 762", "\"version\": 763"),
        ("165.snapshot.json", "\"version\": 14", "\"version\": 15"),
        ("14.targets.json", "\"length\": 6787", "\"length\": 6788"),
    ] {
        let changed = |path: &str| {
            let bytes = served(path)?;
            if path != file {
                return Some(bytes);
            }
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.contains(from), "{path}");
            Some(text.replace(from, to).into_bytes())
        };
        let error = update(&served("4.root.json").unwrap(), TufState::default(), NOW, changed).result.unwrap_err();
        assert_eq!(error.file, file);
        assert!(matches!(error.flaw, TufFlaw::Threshold { found: 0, .. }), "{error}");
    }
}

#[test]
fn whatever_is_changed_in_a_file_it_leads_to_the_same_or_nowhere() {
    let first = served("14.root.json").unwrap();
    let target = "targets/6494e21ea73fa7ee769f85f57d5a3e6a08725eae1e38c755fc3517c9e6bc0b66.trusted_root.json";
    let found = update(&first, TufState::default(), NOW, served).result.unwrap();
    let mut refused = 0;
    for file in ["15.root.json", "timestamp.json", "165.snapshot.json", "14.targets.json", target] {
        let bytes = served(file).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 16) {
            let (before, after) = (&bytes[..at], &bytes[at + 1..]);
            let flipped = [bytes[at] ^ 1];
            for middle in [&flipped[..], b"", b"0", b"\"", b"[", b"\xff"] {
                let changed = [before, middle, after].concat();
                let served = |path: &str| if path == file { Some(changed.clone()) } else { served(path) };
                match update(&first, TufState::default(), NOW, served).result {
                    Ok(same) => assert_eq!(same, found, "{file} at {at}"),
                    Err(error) => {
                        assert_eq!(error.file, file);
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 240, "{refused}");
}

#[test]
fn what_is_kept_is_verified_when_it_is_read() {
    let state = update(TufUpdate::PUBLIC_GOOD_ROOT, TufState::default(), NOW, served).state;
    let begin = |state: &TufState| {
        TufUpdate::begin(TufUpdate::PUBLIC_GOOD_ROOT, state.clone(), "state", NOW.parse().unwrap()).map(|_| ())
    };
    assert_eq!(begin(&state), Ok(()));
    let flaw = |change: &dyn Fn(&mut TufState)| {
        let mut changed = state.clone();
        change(&mut changed);
        begin(&changed).unwrap_err().flaw
    };
    let seen = |change: fn(&mut state::Seen)| flaw(&move |state: &mut TufState| change(state.seen.as_mut().unwrap()));
    assert_eq!(seen(|seen| seen.timestamp = seen.timestamp.replace("762", "1")), TufFlaw::Damaged);
    assert_eq!(
        seen(|seen| seen.snapshot = seen.snapshot.replace("\"version\": 14", "\"version\": 1")),
        TufFlaw::Damaged
    );
    assert_eq!(seen(|seen| seen.snapshot = "{".to_owned()), TufFlaw::Damaged);
    let old = String::from_utf8(served("14.root.json").unwrap()).unwrap();
    assert_eq!(
        flaw(&|state| state.roots[0] = old.replace("\"version\": 14", "\"version\": 16")),
        TufFlaw::OtherRepository
    );
    assert_eq!(flaw(&|state| state.roots[0] = state.roots[0].replace("2026-11", "2027-11")), TufFlaw::OtherRepository);
    // A newer first root: what was known of the older one counts as far as its keys still do.
    assert_eq!(begin(&TufState { roots: vec![old], seen: state.seen.clone() }), Ok(()));
    for text in ["", "{}", "[]", "{\"roots\": [1]}", "{\"roots\": [], \"more\": 1}"] {
        assert_eq!(TufState::from_json(text.as_bytes(), "state").unwrap_err().flaw, TufFlaw::Damaged, "{text}");
    }
}

#[test]
fn metadata_that_two_readers_would_read_differently_is_none() {
    for (text, expected) in [
        ("{", TufFlaw::Json(crate::trust::JsonFlaw::Syntax)),
        (r#"{"signed": {}, "signed": {}, "signatures": []}"#, TufFlaw::Json(crate::trust::JsonFlaw::DuplicateKey)),
        (r#"{"signed": {}}"#, TufFlaw::Form { role: TufRole::Timestamp, what: "\"signed\" or \"signatures\"" }),
        (
            r#"{"signatures": [], "signed": {"_type": "snapshot", "spec_version": "1.0", "version": 1, "expires": "2027-01-01T00:00:00Z", "meta": {}}}"#,
            TufFlaw::Form { role: TufRole::Timestamp, what: "\"_type\"" },
        ),
        (
            r#"{"signatures": [], "signed": {"_type": "timestamp", "spec_version": "2.0", "version": 1, "expires": "2027-01-01T00:00:00Z", "meta": {}}}"#,
            TufFlaw::Form { role: TufRole::Timestamp, what: "\"spec_version\"" },
        ),
        (
            r#"{"signatures": [], "signed": {"_type": "timestamp", "spec_version": "1.0", "version": 1.5, "expires": "2027-01-01T00:00:00Z", "meta": {}}}"#,
            TufFlaw::Form {
                role: TufRole::Timestamp,
                what: "one of \"_type\", \"spec_version\", \"version\" and \"expires\"",
            },
        ),
        (
            r#"{"signatures": [], "signed": {"_type": "timestamp", "spec_version": "1.0", "version": 1, "expires": "2027-01-01T00:00:00Z", "meta": {}, "x": 1.5}}"#,
            TufFlaw::NotCanonical,
        ),
    ] {
        let parsed = metadata::Metadata::<metadata::TimestampContent>::parse(text.as_bytes());
        assert_eq!(parsed.err(), Some(expected), "{text}");
    }
}
