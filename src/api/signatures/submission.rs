//! What a client posts as a signature, field by field: grammar and size, nothing else.

use std::{collections::BTreeMap, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use utoipa::ToSchema;

use crate::{
    api::{
        fields::Fields,
        problem::{Problem, ProblemKind, quoted},
        time::parse_rfc3339,
    },
    oci::{Digest, RegistryName, Repository, Tag, TagType},
    pull::Signed,
    trust::{EVIDENCE_ANNOTATIONS, Format},
};

/// A signature as it is submitted.
#[derive(Debug, ToSchema)]
pub struct NewSignature {
    /// The digest of the image's manifest or index.
    #[schema(value_type = String, example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub image_digest: Digest,
    /// The tag that the signature is for. Where it is the image's own, as in `sha256-<hex>.sig`, the signature is for
    /// the digest whatever its tag, as one found beside the image is.
    #[schema(value_type = String, example = "preview-v1.2.3-rc1")]
    pub tag: Tag,
    /// Left out, the first word of the tag decides; it may not contradict that word.
    #[schema(value_type = Option<String>, pattern = "^(preview|internal)$", example = "preview")]
    pub tag_type: Option<TagType>,
    /// Standard base64 with padding and without line breaks, of 1 MiB at most.
    #[schema(value_type = String, content_encoding = "base64")]
    pub signature: Vec<u8>,
    /// The simple-signing payload that a raw signature was made over; standard base64 of 1 MiB at most.
    #[schema(value_type = Option<String>, content_encoding = "base64")]
    pub payload: Option<Vec<u8>>,
    /// How `signature` is to be read where its content does not tell rightly.
    #[schema(value_type = Option<String>, example = "raw")]
    pub format: Option<Format>,
    /// The certificate of the key that made a raw signature, in PEM, as `cosign sign` gets it from Fulcio.
    pub certificate: Option<String>,
    /// What vouches for the certificate, in PEM, up to its root.
    pub chain: Option<String>,
    /// The transparency log's entry for a raw signature: the text of cosign's annotation `dev.sigstore.cosign/bundle`.
    pub bundle: Option<String>,
    /// A timestamp of a raw signature: the text of cosign's annotation `dev.sigstore.cosign/rfc3161timestamp`.
    pub rfc3161timestamp: Option<String>,
    /// Who is said to have signed: a label, no proof.
    #[schema(max_length = 256, example = "ci")]
    pub signer: Option<String>,
    /// Returned unchanged: 64 entries of 1 KiB (key and value together) at most.
    #[schema(example = json!({"git_commit": "a1b2c3d"}))]
    #[schema(required = false)]
    pub metadata: BTreeMap<String, String>,
    /// Narrows the signature to one repository; without a registry it is one of the default registry.
    #[schema(value_type = Option<String>, example = "library/nginx")]
    pub repository: Option<Repository>,
    /// Classes the signature, as in `test-prod`.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$", example = "test-prod")]
    pub environment: Option<String>,
    /// Ends the signature at a time of its own (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it was met elsewhere (RFC 3339), as an archive says; needs authentication. It makes no life longer.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub first_seen: Option<Timestamp>,
}

/// Of a signature and of a payload, decoded.
pub(crate) const MAX_ENVELOPE_BYTES: usize = 1024 * 1024;
/// Of a certificate, a chain, a log entry or a timestamp.
pub(crate) const MAX_BESIDE_BYTES: usize = 64 * 1024;
pub(crate) const MAX_METADATA_ENTRIES: usize = 64;
/// Of one key and its value together.
pub(crate) const MAX_METADATA_ENTRY_BYTES: usize = 1024;
pub(crate) const MAX_SIGNER_CHARS: usize = 256;
pub(crate) const MAX_ENVIRONMENT_BYTES: usize = 63;

const FIELDS: &[&str] = &[
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
    "first_seen",
];

impl NewSignature {
    /// The signature with all that came with it.
    pub(super) fn signed(&self) -> Signed {
        let beside = [&self.certificate, &self.chain, &self.bundle, &self.rfc3161timestamp];
        let annotations = EVIDENCE_ANNOTATIONS.into_iter().zip(beside);
        Signed {
            format: self.format,
            signature: self.signature.clone(),
            payload: self.payload.clone(),
            annotations: annotations.filter_map(|(name, text)| Some((name.to_owned(), text.clone()?))).collect(),
        }
    }

    /// Whether it is for the digest, and not for one tag.
    pub(super) fn is_of_digest(&self) -> bool {
        names_digest(&self.tag, &self.image_digest)
    }

    /// Reads a body; the repository is meant under `canonical` where it names no registry.
    pub(super) fn parse(body: &[u8], canonical: &RegistryName) -> Result<Self, Problem> {
        let mut fields = Fields::parse(body, FIELDS)?;
        let image_digest = fields.required("image_digest", "a digest, as in sha256:…")?;
        let image_digest = parsed("image_digest", &image_digest)?;
        let tag: Tag = parsed("tag", &fields.required("tag", "a tag, as in preview-v1.2.3-rc1")?)?;
        let tag_type = fields.string("tag_type")?.map(|text| tag_type_field(&text)).transpose()?;
        if let (Some(said), Some(stated)) = (tag_type, tag.stated_type())
            && said != stated
        {
            let detail = format!("is {said}, but the tag {tag} says {stated} by its first word");
            return Err(Problem::about(ProblemKind::TagTypeContradiction, "tag_type", detail));
        }
        if let Some(artifact) = tag.artifact()
            && artifact.subject != image_digest
        {
            let detail = format!("{tag} is a name for what belongs to {}, not to image_digest", artifact.subject);
            return Err(Problem::field("tag", detail));
        }
        if tag_type.is_some() && names_digest(&tag, &image_digest) {
            let detail = format!("the tag {tag} stands for every tag of the image, and has no type");
            return Err(Problem::about(ProblemKind::TagTypeContradiction, "tag_type", detail));
        }
        let signature = fields.required("signature", "a signature in base64")?;
        let signature = decoded("signature", &signature)?;
        let payload = fields.string("payload")?.map(|text| decoded("payload", &text)).transpose()?;
        let repository = fields.string("repository")?.map(|text| {
            Repository::parse(&text, canonical)
                .map_err(|error| Problem::field("repository", format!("{} is none: {error}", quoted(&text))))
        });
        Ok(Self {
            image_digest,
            tag_type: tag_type.or(tag.stated_type()),
            tag,
            signature,
            payload,
            format: fields.string("format")?.map(|text| format(&text)).transpose()?,
            certificate: beside(&mut fields, "certificate")?,
            chain: beside(&mut fields, "chain")?,
            bundle: beside(&mut fields, "bundle")?,
            rfc3161timestamp: beside(&mut fields, "rfc3161timestamp")?,
            signer: fields.string("signer")?.map(signer).transpose()?,
            metadata: metadata(fields.string_map("metadata")?)?,
            repository: repository.transpose()?,
            environment: fields.string("environment")?.map(environment_field).transpose()?,
            expires_at: fields.string("expires_at")?.map(|text| time("expires_at", &text)).transpose()?,
            first_seen: fields.string("first_seen")?.map(|text| time("first_seen", &text)).transpose()?,
        })
    }
}

/// Whether a tag is the name under which registries keep what belongs to a digest.
fn names_digest(tag: &Tag, digest: &Digest) -> bool {
    tag.artifact().is_some_and(|artifact| artifact.subject == *digest) || *tag == Tag::fallback(digest)
}

/// What stands beside a signature.
fn beside(fields: &mut Fields, name: &'static str) -> Result<Option<String>, Problem> {
    match fields.string(name)? {
        Some(text) if text.is_empty() => Err(Problem::field(name, "is empty")),
        Some(text) if text.len() > MAX_BESIDE_BYTES => {
            Err(Problem::field(name, format!("is longer than {MAX_BESIDE_BYTES} bytes")))
        }
        text => Ok(text),
    }
}

fn format(text: &str) -> Result<Format, Problem> {
    text.parse().map_err(|_| {
        let known = Format::ALL.map(Format::as_str).join(", ");
        Problem::field("format", format!("{} is none, expected one of {known}", quoted(text)))
    })
}

/// A tag type by its name.
pub(in crate::api) fn tag_type(text: &str) -> Result<TagType, String> {
    let found = TagType::ALL.into_iter().find(|known| known.as_str() == text);
    found.ok_or_else(|| format!("{} is not a tag type, expected preview or internal", quoted(text)))
}

/// The name of an environment: `[a-z0-9][a-z0-9-]{0,62}`.
pub(in crate::api) fn environment(text: String) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = text.bytes().next().is_some_and(letter)
        && text.len() <= MAX_ENVIRONMENT_BYTES
        && text.bytes().all(|byte| letter(byte) || byte == b'-');
    if fits {
        Ok(text)
    } else {
        Err(format!(
            "{} is not the name of an environment, expected 1 to {MAX_ENVIRONMENT_BYTES} lower-case letters, digits \
             and dashes, the first not a dash, as in test-prod",
            quoted(&text)
        ))
    }
}

fn tag_type_field(text: &str) -> Result<TagType, Problem> {
    tag_type(text).map_err(|detail| Problem::field("tag_type", detail))
}

fn environment_field(text: String) -> Result<String, Problem> {
    environment(text).map_err(|detail| Problem::field("environment", detail))
}

/// A time in a field of a body.
pub(in crate::api) fn time(field: &str, text: &str) -> Result<Timestamp, Problem> {
    parse_rfc3339(text).ok_or_else(|| {
        let detail = format!("{} is not a time of RFC 3339, as in 2024-05-20T10:30:00Z", quoted(text));
        Problem::field(field, detail)
    })
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::field(field, format!("{} is none: {error}", quoted(text))))
}

fn decoded(field: &str, text: &str) -> Result<Vec<u8>, Problem> {
    // Checked before decoding, so that what is refused costs nothing.
    if text.len() / 4 * 3 > MAX_ENVELOPE_BYTES + 2 {
        return Err(Problem::field(field, format!("is longer than {MAX_ENVELOPE_BYTES} bytes")));
    }
    if text.contains(['\n', '\r', ' ', '\t']) {
        let detail = "has line breaks or spaces, expected base64 in one line, as `base64 -w0` and \
                      `openssl base64 -A` write it";
        return Err(Problem::field(field, detail));
    }
    let bytes = BASE64_STANDARD.decode(text).map_err(|error| {
        Problem::field(field, format!("is not standard base64 with padding: {}", base64_error(&error)))
    })?;
    match bytes.len() {
        0 => Err(Problem::field(field, "is empty")),
        length if length > MAX_ENVELOPE_BYTES => {
            Err(Problem::field(field, format!("is longer than {MAX_ENVELOPE_BYTES} bytes")))
        }
        _ => Ok(bytes),
    }
}

fn base64_error(error: &base64::DecodeError) -> String {
    match error {
        base64::DecodeError::InvalidByte(offset, _) => {
            format!("the character at offset {offset} does not belong there")
        }
        base64::DecodeError::InvalidLength(length) => format!("{length} characters cannot be all of it"),
        base64::DecodeError::InvalidLastSymbol(offset, _) => {
            format!("the last character, at {offset}, has bits too many")
        }
        base64::DecodeError::InvalidPadding => "the padding is wrong".to_owned(),
    }
}

fn signer(text: String) -> Result<String, Problem> {
    if text.is_empty() || text.chars().count() > MAX_SIGNER_CHARS || text.chars().any(char::is_control) {
        let detail = format!(
            "{} is not a name, expected 1 to {MAX_SIGNER_CHARS} characters without control characters",
            quoted(&text)
        );
        return Err(Problem::field("signer", detail));
    }
    Ok(text)
}

fn metadata(map: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if map.len() > MAX_METADATA_ENTRIES {
        return Err(Problem::field("metadata", format!("has more than {MAX_METADATA_ENTRIES} entries")));
    }
    if map.contains_key("") {
        return Err(Problem::field("metadata", "has an entry without a key"));
    }
    match map.iter().find(|(key, value)| key.len() + value.len() > MAX_METADATA_ENTRY_BYTES) {
        Some((key, _)) => {
            let detail = format!("the entry {} is longer than {MAX_METADATA_ENTRY_BYTES} bytes", quoted(key));
            Err(Problem::field("metadata", detail))
        }
        None => Ok(map),
    }
}

#[cfg(test)]
mod tests;
