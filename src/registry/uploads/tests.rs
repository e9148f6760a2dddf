use super::*;

fn uploads() -> (Uploads, Clock) {
    let clock = Clock::manual("2026-11-22T12:00:00Z".parse().unwrap());
    (Uploads::new(clock.clone()), clock)
}

fn place(account: &str, repository: &str) -> Place {
    let repository = Repository::new(&"docker.io".parse().unwrap(), repository).unwrap();
    Place { account: account.into(), repository }
}

fn put(uploads: &Uploads, place: &Place, bytes: &[u8]) -> Result<Digest, UploadError> {
    let (name, digest) = (uploads.begin(place.clone())?, Digest::sha256(bytes));
    uploads.append(place, &name, 0, bytes)?;
    uploads.finish(place, &name, &digest).map(|_| digest)
}

#[test]
fn an_upload_is_its_accounts_and_its_repositorys_alone() {
    let (uploads, _clock) = uploads();
    let mine = place("ci", "team/app");
    let name = uploads.begin(mine.clone()).unwrap();
    uploads.append(&mine, &name, 0, b"bytes").unwrap();
    let digest = Digest::sha256(b"bytes");
    for other in [place("other", "team/app"), place("ci", "team/other")] {
        assert_eq!(uploads.received(&other, &name), Err(UploadError::Unknown));
        assert_eq!(uploads.append(&other, &name, 5, b"x"), Err(UploadError::Unknown));
        assert_eq!(uploads.finish(&other, &name, &digest), Err(UploadError::Unknown));
        assert_eq!(uploads.cancel(&other, &name), Err(UploadError::Unknown));
    }
    assert_eq!(uploads.finish(&mine, &name, &digest), Ok(Ended::Waits));
    assert_eq!(uploads.blob(&mine, &digest).as_deref(), Some(b"bytes".as_ref()));
    for other in [place("other", "team/app"), place("ci", "team/other")] {
        assert_eq!(uploads.blob(&other, &digest), None);
    }
}

#[test]
fn what_nobody_asks_about_is_forgotten() {
    let (uploads, clock) = uploads();
    let mine = place("ci", "team/app");
    let name = uploads.begin(mine.clone()).unwrap();
    let digest = put(&uploads, &mine, b"bytes").unwrap();
    clock.advance(KEPT - Duration::from_secs(1));
    uploads.append(&mine, &name, 0, b"x").unwrap();
    clock.advance(Duration::from_secs(1));
    assert_eq!(uploads.blob(&mine, &digest), None);
    assert_eq!(uploads.received(&mine, &name), Ok(1));
    clock.advance(KEPT);
    assert_eq!(uploads.received(&mine, &name), Err(UploadError::Unknown));
    assert_eq!(uploads.state.lock().bytes, 0);
}

#[test]
fn size_number_and_sum_are_capped() {
    let (uploads, _clock) = uploads();
    let mine = place("ci", "team/app");
    let whole = vec![0; MAX_ARTIFACT_BLOB_BYTES];
    let name = uploads.begin(mine.clone()).unwrap();
    uploads.append(&mine, &name, 0, &whole).unwrap();
    assert_eq!(uploads.state.lock().bytes, whole.len());
    assert_eq!(uploads.append(&mine, &name, whole.len(), b"x"), Ok(whole.len() + 1));
    assert_eq!(uploads.state.lock().bytes, 0, "nothing is kept of what is larger");
    let digest = Digest::sha256(&[whole.as_slice(), b"x"].concat());
    assert_eq!(uploads.finish(&mine, &name, &digest), Ok(Ended::ReadPast));
    assert_eq!(uploads.blob(&mine, &digest), None);
    let name = uploads.begin(mine.clone()).unwrap();
    uploads.append(&mine, &name, 0, &[whole.as_slice(), b"y"].concat()).unwrap();
    assert_eq!(uploads.finish(&mine, &name, &digest), Err(UploadError::WrongDigest));
    assert_eq!(uploads.received(&mine, &name), Err(UploadError::Unknown), "it is gone");

    for n in 0..MAX_BYTES / MAX_ARTIFACT_BLOB_BYTES {
        let mut blob = whole.clone();
        blob[0] = u8::try_from(n + 1).unwrap();
        put(&uploads, &mine, &blob).unwrap();
    }
    assert_eq!(put(&uploads, &mine, b"one more"), Err(UploadError::TooMany));
    let digests: Vec<_> = uploads.state.lock().waiting.keys().map(|(_, digest)| *digest).collect();
    uploads.discard(&mine, &digests);
    assert_eq!(uploads.state.lock().bytes, 0);

    for _ in 0..MAX_OF_ACCOUNT {
        uploads.begin(mine.clone()).unwrap();
    }
    assert_eq!(uploads.begin(place("ci", "team/other")), Err(UploadError::TooMany));
    uploads.begin(place("other", "team/app")).unwrap();
}

#[test]
fn bytes_go_where_they_belong_and_have_the_digest_that_they_are_said_to_have() {
    let (uploads, _clock) = uploads();
    let mine = place("ci", "team/app");
    let name = uploads.begin(mine.clone()).unwrap();
    assert_eq!(uploads.append(&mine, &name, 0, b"one "), Ok(4));
    for wrong in [0, 3, 5, usize::MAX] {
        assert_eq!(uploads.append(&mine, &name, wrong, b"two"), Err(UploadError::Range { at: 4 }));
    }
    assert_eq!(uploads.append(&mine, &name, 4, b"two"), Ok(7));
    assert_eq!(uploads.finish(&mine, &name, &Digest::sha256(b"one tow")), Err(UploadError::WrongDigest));
    assert_eq!(uploads.received(&mine, &name), Err(UploadError::Unknown), "it is gone");
    assert_eq!(uploads.state.lock().bytes, 0);
    // The same blob twice is one.
    put(&uploads, &mine, b"bytes").unwrap();
    put(&uploads, &mine, b"bytes").unwrap();
    assert_eq!(uploads.state.lock().bytes, 5);
}
