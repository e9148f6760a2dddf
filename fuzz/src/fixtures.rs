//! The files of `tests/fixtures`, read where they lie.

use std::{fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

pub fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures", name].iter().collect()
}

pub fn file(name: &str) -> Vec<u8> {
    let path = path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn text(name: &str) -> String {
    String::from_utf8(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn json(name: &str) -> Value {
    serde_json::from_slice(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What lies in a directory, by the names that [`file`] takes, in their order.
pub fn names(directory: &str) -> Vec<String> {
    let path = path(directory);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("a directory can be read").file_name())
        .map(|name| format!("{directory}/{}", name.to_str().expect("fixtures have plain names")))
        .collect();
    names.sort();
    names
}

pub fn names_ending(directory: &str, end: &str) -> Vec<String> {
    let mut names = names(directory);
    names.retain(|name| name.ends_with(end));
    names
}

pub fn files_ending(directory: &str, end: &str) -> Vec<Vec<u8>> {
    names_ending(directory, end).iter().map(|name| file(name)).collect()
}

pub fn decoded(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap_or_else(|error| panic!("{error}"))
}

pub fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
