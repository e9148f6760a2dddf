use super::*;

#[test]
fn a_second_opening_is_told_who_has_the_directory() {
    let (dir, _running) = start();
    let error = Store::open(&config(dir.path()), clock()).map(drop).unwrap_err();
    assert!(matches!(&error, StoreError::Locked { path } if path.starts_with(dir.path())), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("records.redb is in use by another process") && !text.contains('\n'), "{text}");
}

#[test]
fn closing_gives_the_directory_up() {
    let (dir, running) = start();
    drop(running);
    drop(Running::at(dir.path(), &clock()));
}

#[test]
fn a_directory_that_is_missing_or_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    for (path, kind) in
        [(dir.path().join("missing"), std::io::ErrorKind::NotFound), (file, std::io::ErrorKind::NotADirectory)]
    {
        let error = Store::open(&config(&path), clock()).map(drop).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(matches!(error, StoreError::Directory { source, .. } if source.kind() == kind));
    }
}

#[test]
fn another_format_and_foreign_bytes_are_refused() {
    let (dir, running) = start();
    drop(running);
    let path = dir.path().join("memory.redb");
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(schema::META).unwrap().insert("format", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&config(dir.path()), clock()).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::FormatVersion { found: 2, expected: 1, .. }), "{error:?}");

    std::fs::write(&path, b"not a database at all").unwrap();
    let error = Store::open(&config(dir.path()), clock()).map(drop).unwrap_err();
    assert!(matches!(&error, StoreError::Open { path: named, .. } if *named == path), "{error:?}");
}

#[test]
fn files_are_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, _running) = start();
    for file in ["records.redb", "memory.redb"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}: {mode:o}");
    }
}
