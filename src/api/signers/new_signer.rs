use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    api::{
        fields::Fields,
        problem::{Problem, ProblemKind, quoted},
        signatures::time,
    },
    trust::{Credential, NotOneCredential},
};

/// Someone who is to be trusted, by a credential of one kind.
#[derive(Debug, ToSchema)]
pub struct NewSigner {
    #[schema(max_length = 128, example = "release")]
    pub name: String,
    #[schema(value_type = SignerCredential, inline)]
    #[serde(flatten)]
    pub credential: Credential,
    /// The first instant at which it counts (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// The first instant at which it no longer counts (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<Timestamp>,
}

/// One of these.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what `Credential` reads and writes")]
pub(super) struct SignerCredential {
    /// One PEM block `PUBLIC KEY`, as `cosign generate-key-pair` and `openssl pkey -pubout` write it.
    pub(super) public_key: Option<String>,
    /// One OpenPGP public key, as `gpg --armor --export` writes it.
    pub(super) openpgp: Option<String>,
}

const MAX_NAME_CHARS: usize = 128;

const FIELDS: &[&str] = &["name", "not_before", "not_after"];

impl NewSigner {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let known = [FIELDS, &Credential::KINDS].concat();
        let mut fields = Fields::parse(body, &known)?;
        let name = fields.required("name", "a name for the signer")?;
        if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let detail = format!(
                "{} is not a name, expected 1 to {MAX_NAME_CHARS} characters without control characters",
                quoted(&name)
            );
            return Err(Problem::field("name", detail));
        }
        let credential = credential(body)?;
        let not_before = fields.string("not_before")?.map(|text| time("not_before", &text)).transpose()?;
        let not_after = fields.string("not_after")?.map(|text| time("not_after", &text)).transpose()?;
        if let (Some(from), Some(until)) = (not_before, not_after)
            && until <= from
        {
            return Err(Problem::field("not_after", "is not after not_before"));
        }
        Ok(Self { name, credential, not_before, not_after })
    }
}

/// The one credential there is, in a body whose fields are known.
fn credential(body: &[u8]) -> Result<Credential, Problem> {
    let unreadable =
        |error| Problem::new(ProblemKind::MalformedBody, format!("the body is not one JSON object: {error}"));
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).map_err(unreadable)?;
    Credential::among(&members).map_err(|error| match error {
        NotOneCredential::Missing => {
            let detail = format!("is missing, expected one of {}", Credential::KINDS.join(", "));
            Problem::field(Credential::KINDS[0], detail)
        }
        NotOneCredential::Two(kind, other) => {
            Problem::field(other, format!("stands beside {kind}, expected one credential"))
        }
        // The text is not repeated: it may be a private key that was given by mistake.
        NotOneCredential::Invalid { kind, error } => Problem::field(kind, error),
    })
}
