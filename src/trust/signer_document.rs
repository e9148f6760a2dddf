use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Credential, NotOneCredential};

/// A signer as a file describes one: JSON with the members that a signer has in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerDocument {
    /// Left out, the name of the file stands in.
    pub name: Option<String>,
    pub credential: Credential,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
}

/// What is wrong with a document; nothing of a credential is repeated.
#[derive(Debug, thiserror::Error)]
pub enum SignerDocumentError {
    #[error("not one JSON object: {0}")]
    Json(serde_json::Error),
    #[error("{0:?} stands there twice")]
    Twice(String),
    #[error("there is no member {0:?}; there are name, not_before, not_after and one of {kinds}", kinds = Credential::KINDS.join(", "))]
    Unknown(String),
    #[error("{member}: is not {expected}")]
    Member { member: &'static str, expected: &'static str },
    #[error("not_after: is not after not_before")]
    Times,
    #[error(transparent)]
    Credential(#[from] NotOneCredential),
}

impl SignerDocument {
    pub fn from_json(text: &[u8]) -> Result<Self, SignerDocumentError> {
        let Members(members) = serde_json::from_slice(text).map_err(SignerDocumentError::Json)?;
        let mut by_name = BTreeMap::new();
        for (name, value) in members {
            if !(Self::MEMBERS.contains(&name.as_str()) || Credential::KINDS.contains(&name.as_str())) {
                return Err(SignerDocumentError::Unknown(name.chars().take(64).collect()));
            }
            if by_name.insert(name.clone(), value).is_some() {
                return Err(SignerDocumentError::Twice(name));
            }
        }
        let name: Option<String> = read(&by_name, "name", "a text")?;
        if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
            return Err(SignerDocumentError::Member { member: "name", expected: "a name" });
        }
        let time = "a time of RFC 3339, as in 2024-05-20T10:30:00Z";
        let (not_before, not_after) = (read(&by_name, "not_before", time)?, read(&by_name, "not_after", time)?);
        if matches!((not_before, not_after), (Some(from), Some(until)) if until <= from) {
            return Err(SignerDocumentError::Times);
        }
        let credential = Credential::among(&by_name)?;
        Ok(Self { name, credential, not_before, not_after })
    }

    const MEMBERS: [&str; 3] = ["name", "not_before", "not_after"];
}

fn read<T: DeserializeOwned>(
    members: &BTreeMap<String, Box<RawValue>>,
    member: &'static str,
    expected: &'static str,
) -> Result<Option<T>, SignerDocumentError> {
    let Some(value) = members.get(member) else { return Ok(None) };
    serde_json::from_str(value.get()).map_err(|_| SignerDocumentError::Member { member, expected })
}

/// The members of an object in their order, each that stands there.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::fixtures::{KEYS, at, key};

    #[test]
    fn a_document_has_a_credential_and_what_the_api_knows_of_a_signer() {
        let pem = serde_json::to_string(KEYS[0].1).unwrap();
        let document = SignerDocument::from_json(format!(r#"{{"public_key":{pem}}}"#).as_bytes()).unwrap();
        let credential = Credential::PublicKey(key(KEYS[0].0));
        let bare = SignerDocument { name: None, credential, not_before: None, not_after: None };
        assert_eq!(document, bare);
        let whole = format!(
            r#"{{"name":"ci","not_before":"2026-11-22T12:00:00Z","not_after":"2027-01-01T00:00:00Z","public_key":{pem}}}"#
        );
        let (from, until) = (Some(at("2026-11-22T12:00:00Z")), Some(at("2027-01-01T00:00:00Z")));
        let expected = SignerDocument { name: Some("ci".into()), not_before: from, not_after: until, ..bare };
        assert_eq!(SignerDocument::from_json(whole.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn every_wrong_member_is_named_and_no_secret_is_repeated() {
        let pem = serde_json::to_string(KEYS[0].1).unwrap();
        let with = |more: &str| format!(r#"{{"public_key":{pem},{more}}}"#);
        for (text, expected) in [
            ("[]".into(), "not one JSON object: invalid type: sequence, expected an object at line 1 column 0"),
            ("{}".into(), "a credential is missing: one of "),
            (with(r#""nmae":"ci""#), r#"there is no member "nmae"; there are name, not_before, not_after and one of "#),
            (with(r#""name":"a","name":"b""#), r#""name" stands there twice"#),
            (with(r#""name":1"#), "name: is not a text"),
            (with(r#""name":" ""#), "name: is not a name"),
            (with(r#""not_after":"tomorrow""#), "not_after: is not a time of RFC 3339"),
            (
                with(r#""not_before":"2027-01-01T00:00:00Z","not_after":"2026-01-01T00:00:00Z""#),
                "not_after: is not after not_before",
            ),
            (
                r#"{"public_key":"-----BEGIN PRIVATE KEY-----\nSECRET"}"#.into(),
                "public_key: this is a private key; give its public key, and treat the private one as disclosed",
            ),
            (r#"{"public_key":["SECRET"]}"#.into(), "public_key: is not of the form that is expected there"),
        ] {
            let error = SignerDocument::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains("SECRET"), "{error}");
        }
    }
}
