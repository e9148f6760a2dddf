//! The signatures of an archive, as submissions.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::found::{Content, Sink};
use crate::cli::archive::Reader;

/// Reads it twice: nothing of an archive that was cut or changed is sent.
pub(super) async fn walk(path: &Path, has_account: bool, sink: &Sink) -> anyhow::Result<()> {
    Reader::check(path)?;
    let mut reader = Reader::open(path)?;
    while let Some(signature) = reader.next().with_context(|| path.display().to_string())? {
        let place = format!("{} {}", path.display(), signature["id"].as_str().unwrap_or("-"));
        let content = match signature {
            Value::Object(signature) => content(signature, has_account),
            _ => Content::Broken { reason: "malformed", detail: "it is no object".to_owned() },
        };
        sink.put(place, content).await?;
    }
    Ok(())
}

/// The age of a signature only an account may state. For whoever has none, the end that the signature had stands in
/// for it, so that it lives no longer than it would have.
fn content(mut signature: Map<String, Value>, has_account: bool) -> Content {
    let first_seen = signature.remove("first_seen").filter(Value::is_string);
    let ends_at = signature.remove("ends_at").filter(Value::is_string);
    signature.retain(|name, value| FIELDS.contains(&name.as_str()) && !value.is_null());
    let mut ended = signature.clone();
    if let Some(ends_at) = ends_at {
        ended.insert("expires_at".to_owned(), ends_at);
    }
    let ended = Value::Object(ended);
    match first_seen.filter(|_| has_account) {
        Some(first_seen) => {
            signature.insert("first_seen".to_owned(), first_seen);
            Content::Signature { submission: signature.into(), otherwise: Some(ended) }
        }
        None => Content::Signature { submission: ended, otherwise: None },
    }
}

/// What a submission has of it.
const FIELDS: [&str; 15] = [
    "image_digest",
    "tag",
    "tag_type",
    "signature",
    "payload",
    "format",
    "certificate",
    "chain",
    "bundle",
    "rfc3161timestamp",
    "signer",
    "metadata",
    "repository",
    "environment",
    "expires_at",
];
