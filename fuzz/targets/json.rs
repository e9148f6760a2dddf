//! JSON of strangers: the strict reader that envelopes go through, manifests and indexes, lists of tags and
//! referrers. Beside each the ordinary reader, which must not see something else.

#![no_main]

use serde_json::Value;
use sig_repo::{
    oci::{Digest, MAX_CHILDREN, Manifest, Tag},
    trust, upstream,
};
use sig_repo_fuzz::{Target, bounded, fixtures};

struct Json;

impl Target for Json {
    fn new() -> Self {
        Self
    }

    fn seeds() -> Vec<Vec<u8>> {
        let digest = Digest::sha256(b"").to_string();
        let descriptor = |kind: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":2,"annotations":{{"a":"b"}}}}"#
            )
        };
        let (config, layer) = (descriptor("config.v1+json"), descriptor("layer.v1.tar+gzip"));
        let manifest = descriptor("manifest.v1+json");
        let image = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"a/b","config":{config},"layers":[{layer},{layer}],"subject":{manifest}}}"#
        );
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{manifest},{manifest}]}}"#
        );
        let docker = image.replace("oci.image.manifest.v1", "docker.distribution.manifest.v2");
        let tags = r#"{"name":"app","tags":["latest","v1.0","preview-1","not a tag",""]}"#.to_owned();
        let files = ["trust/manifest", "trust/payload", "sigstore/manifest.json", "notation/manifest", "openpgp/claim"];
        let made = [image, index, docker, tags].map(String::into_bytes);
        files.iter().map(|name| fixtures::file(name)).chain(made).collect()
    }

    fn run(&self, input: &[u8]) {
        let ordinary: Option<Value> = serde_json::from_slice(input).ok();
        if let Ok(strict) = bounded(input, || trust::fuzzing::strict_json(input)) {
            let ordinary = ordinary.as_ref().expect("what is strict is JSON");
            assert_eq!(strict, seen_strictly(ordinary));
        }
        if let Ok(manifest) = Manifest::parse(input.to_vec().into(), None, None) {
            is_what_others_see(&manifest, ordinary.as_ref().expect("a manifest is JSON"));
            assert_eq!((manifest.digest, &manifest.bytes[..]), (Digest::sha256(input), input));
            let (digest, media_type) = (Some(&manifest.digest), manifest.media_type.as_str());
            let again = Manifest::parse(manifest.bytes.clone(), digest, Some(media_type)).expect("the same manifest");
            assert_eq!(again.kind, manifest.kind);
        }
        if let Ok(tags) = upstream::fuzzing::tags(input) {
            assert!(tags.iter().all(|tag| tag.parse::<Tag>().is_ok()));
        }
        // What is not looked at may hold bytes that are no text.
        if let Ok(referrers) = upstream::fuzzing::referrers(input)
            && let Some(ordinary) = &ordinary
        {
            assert!(referrers.len() <= ordinary["manifests"].as_array().map_or(0, Vec::len));
        }
    }
}

/// Numbers that are not whole, and truth values, are all one to the strict reader.
fn seen_strictly(value: &Value) -> Value {
    match value {
        Value::Bool(_) => Value::Bool(true),
        Value::Number(number) if number.as_i64().is_none() => Value::Bool(true),
        Value::Array(list) => list.iter().map(seen_strictly).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), seen_strictly(value))).collect(),
        Value::Null | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

fn is_what_others_see(manifest: &Manifest, ordinary: &Value) {
    let entries = |name: &str| ordinary[name].as_array().cloned().unwrap_or_default();
    let seen: Vec<_> = match manifest.is_index() {
        true => entries("manifests"),
        false => [ordinary["config"].clone()].into_iter().chain(entries("layers")).collect(),
    };
    let digests: Vec<_> = manifest.children().map(|child| child.digest.to_string()).collect();
    let seen: Vec<_> = seen.iter().map(|entry| entry["digest"].as_str().unwrap_or_default()).collect();
    assert_eq!(digests, seen);
    assert!(digests.len() <= MAX_CHILDREN);
    assert!(!manifest.is_artifact() || !manifest.is_index());
    let subject = manifest.subject.as_ref().map(|subject| subject.digest.to_string());
    assert_eq!(subject.as_deref(), ordinary["subject"]["digest"].as_str());
}

sig_repo_fuzz::target!(Json);
