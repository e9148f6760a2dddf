use jiff::Timestamp;
use utoipa::ToSchema;

use crate::{
    api::{
        fields::Fields,
        problem::{Problem, quoted},
        signatures::time,
    },
    trust::PublicKey,
};

/// A public key that is to be trusted.
#[derive(Debug, ToSchema)]
pub struct NewSigner {
    #[schema(max_length = 128, example = "release")]
    pub name: String,
    /// One PEM block `PUBLIC KEY`, as `cosign generate-key-pair` and `openssl pkey -pubout` write it.
    #[schema(value_type = String)]
    pub public_key: PublicKey,
    /// The first instant at which it counts (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    /// The first instant at which it no longer counts (RFC 3339).
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_after: Option<Timestamp>,
}

const MAX_NAME_CHARS: usize = 128;

const FIELDS: &[&str] = &["name", "public_key", "not_before", "not_after"];

impl NewSigner {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Fields::parse(body, FIELDS)?;
        let name = fields.required("name", "a name for the signer")?;
        if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let detail = format!(
                "{} is not a name, expected 1 to {MAX_NAME_CHARS} characters without control characters",
                quoted(&name)
            );
            return Err(Problem::field("name", detail));
        }
        // The text is not repeated: it may be a private key that was given by mistake.
        let public_key = fields.required("public_key", "a public key in PEM")?;
        let public_key = PublicKey::from_pem(&public_key).map_err(|error| Problem::field("public_key", error))?;
        let not_before = fields.string("not_before")?.map(|text| time("not_before", &text)).transpose()?;
        let not_after = fields.string("not_after")?.map(|text| time("not_after", &text)).transpose()?;
        if let (Some(from), Some(until)) = (not_before, not_after)
            && until <= from
        {
            return Err(Problem::field("not_after", "is not after not_before"));
        }
        Ok(Self { name, public_key, not_before, not_after })
    }
}
