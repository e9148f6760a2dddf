//! What a walk through a source comes upon.

use std::fmt;

use anyhow::bail;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::{
    oci::{Descriptor, Digest, MediaType, Repository, Tag},
    trust::{Annotations, EVIDENCE_ANNOTATIONS, Envelope, EnvelopeError, Format, MAX_SIGNATURE_BYTES},
};

/// A signature or something else, and where it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: String,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The body of the request that submits it; what to send instead where the server does not take that.
    Signature { submission: Value, otherwise: Option<Value> },
    /// No signature of an image, or none that can be told whose it is.
    Other { reason: String },
    /// A signature that is not what it should be.
    Broken { reason: &'static str, detail: String },
}

/// Where what is found goes; waits while there is too much of it.
#[derive(Debug, Clone)]
pub(super) struct Sink(mpsc::Sender<Found>);

impl Sink {
    pub(super) fn new() -> (Self, mpsc::Receiver<Found>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub(super) async fn put(&self, place: impl fmt::Display, content: Content) -> anyhow::Result<()> {
        if self.0.send(Found { place: place.to_string(), content }).await.is_err() {
            bail!("stopped");
        }
        Ok(())
    }
}

/// How one layer of an artifact is to be read, before it is fetched.
pub(super) enum Layer {
    /// What was signed is the blob, the signature stands beside it.
    SimpleSigning {
        signature: Vec<u8>,
        annotations: Annotations,
    },
    Envelope,
}

impl Layer {
    pub(super) fn of(layer: &Descriptor) -> Result<Self, Content> {
        let text = |name: &str| layer.annotations.get(name).and_then(Value::as_str);
        let too_large = || Content::Broken { reason: "too-large", detail: format!("{} bytes", layer.size) };
        if layer.media_type == MediaType::SIMPLE_SIGNING {
            if layer.size > MAX_SIGNATURE_BYTES as u64 {
                return Err(too_large());
            }
            let signature = text(SIGNATURE).and_then(|text| STANDARD.decode(text).ok());
            let detail = || format!("it lacks its annotation {SIGNATURE}, which is base64");
            let signature = signature.ok_or_else(|| Content::Broken { reason: "malformed", detail: detail() })?;
            let evidence = EVIDENCE_ANNOTATIONS.into_iter();
            let annotations = evidence.filter_map(|name| Some((name.to_owned(), text(name)?.to_owned()))).collect();
            return Ok(Self::SimpleSigning { signature, annotations });
        }
        if layer.media_type.is_envelope() {
            return if layer.size > MAX_SIGNATURE_BYTES as u64 { Err(too_large()) } else { Ok(Self::Envelope) };
        }
        let media_type = layer.media_type.as_str();
        let reason = match media_type {
            "application/vnd.dsse.envelope.v1+json" | "application/vnd.in-toto+json" => "attestation".to_owned(),
            _ if layer.media_type.is_artifact_layer() => "sbom".to_owned(),
            _ => media_type.to_owned(),
        };
        Err(Content::Other { reason })
    }

    /// What is in it, as a signature of `subject` as a whole: like one that the mirror finds beside an image it
    /// bears on the digest, under whatever tag.
    pub(super) fn content(self, subject: &Digest, repository: &Repository, blob: Bytes) -> Content {
        let (signature, payload, annotations) = match self {
            Self::SimpleSigning { signature, annotations } => (signature, Some(blob.to_vec()), annotations),
            Self::Envelope => (blob.to_vec(), None, Annotations::new()),
        };
        let envelope = match &payload {
            Some(payload) => Envelope::parse(Format::SimpleSigning, &signature, Some(payload), &annotations),
            None => Envelope::recognise(&signature, None, &annotations),
        };
        let format = match envelope {
            Ok(envelope) if envelope.is_attestation() => return Content::Other { reason: "attestation".to_owned() },
            Ok(envelope) => envelope.format(),
            Err(error @ EnvelopeError::Unsupported { .. }) => return Content::Other { reason: error.to_string() },
            Err(error @ EnvelopeError::Malformed { .. }) => {
                return Content::Broken { reason: "malformed", detail: error.to_string() };
            }
        };
        let mut submission = submission(subject, Some(repository), &Tag::fallback(subject), format, &signature);
        if let Some(payload) = payload {
            submission.insert("payload".to_owned(), STANDARD.encode(payload).into());
        }
        for (name, field) in EVIDENCE_ANNOTATIONS.into_iter().zip(EVIDENCE_FIELDS) {
            if let Some(text) = annotations.get(name) {
                submission.insert(field.to_owned(), text.clone().into());
            }
        }
        Content::Signature { submission: submission.into(), otherwise: None }
    }
}

/// The members that every submission has.
pub(super) fn submission(
    subject: &Digest,
    repository: Option<&Repository>,
    tag: &Tag,
    format: Format,
    signature: &[u8],
) -> Map<String, Value> {
    let members = json!({
        "image_digest": subject, "tag": tag, "repository": repository,
        "format": format, "signature": STANDARD.encode(signature),
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// What the API calls the annotations, in their order.
const EVIDENCE_FIELDS: [&str; 4] = ["certificate", "chain", "bundle", "rfc3161timestamp"];
/// Each may be a signature of a megabyte.
const WAITING: usize = 8;
