//! The parts of a trust policy's JSON, and what is wrong with them: told by statement and field.

use crate::trust::{
    JsonFlaw,
    envelope::strict_json::{self, Object, Value},
    notation::identity::IdentityFlaw,
};

/// Why a document is not a trust policy. The statement's name is its author's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", place(.statement, .field))]
pub struct PolicyError {
    pub statement: Option<String>,
    pub field: &'static str,
    pub problem: PolicyProblem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    #[error("a trust policy has at most {MAX_POLICY_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    Json(#[from] JsonFlaw),
    #[error("it is missing, or of another kind: {expected} is expected")]
    Missing { expected: &'static str },
    #[error("{name:?} is not known here")]
    Unknown { name: String },
    #[error("only version 1.0 is known")]
    Version,
    #[error("one statement at least is expected")]
    NoStatement,
    #[error("another statement has the same name")]
    NameTwice,
    #[error("{value:?} is not one of {expected}")]
    Value { value: String, expected: &'static str },
    #[error("the level skip has nothing to override, no trust stores and no identities")]
    Skip,
    #[error("{scope:?} is neither a repository with its registry, as in registry.example/team/app, nor \"*\" alone")]
    Scope { scope: String },
    #[error("{scope:?} is in another statement too")]
    ScopeTwice { scope: String },
    #[error("{store:?} is not ca:NAME, signingAuthority:NAME or tsa:NAME")]
    Store { store: String },
    #[error(transparent)]
    Identity(#[from] IdentityFlaw),
}

/// Larger documents are refused before they are looked at.
const MAX_POLICY_BYTES: usize = 256 << 10;

/// An object of the document, and the statement that it is in.
pub(super) struct Part<'a> {
    pub(super) statement: Option<&'a str>,
    pub(super) object: &'a Object,
}

impl<'a> Part<'a> {
    pub(super) fn member(&self, field: &'static str) -> Result<Option<&'a Value>, PolicyError> {
        self.object.member(field).map_err(|flaw| self.wrong(field, flaw.into()))
    }

    pub(super) fn string(&self, field: &'static str) -> Result<&'a str, PolicyError> {
        match self.member(field)? {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.missing(field, "a text")),
        }
    }

    pub(super) fn list(&self, field: &'static str) -> Result<&'a [Value], PolicyError> {
        match self.member(field)? {
            Some(Value::List(list)) => Ok(list),
            _ => Err(self.missing(field, "a list")),
        }
    }

    /// A list of texts with one at least, unless it may be missing.
    pub(super) fn strings(&self, field: &'static str, optional: bool) -> Result<Vec<&'a str>, PolicyError> {
        let missing = || self.missing(field, "a list of texts, one at least");
        let list = match self.member(field)? {
            Some(Value::List(list)) if optional || !list.is_empty() => list.as_slice(),
            None if optional => &[],
            _ => return Err(missing()),
        };
        let text = |value: &'a Value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(missing()),
        };
        list.iter().map(text).collect()
    }

    /// A field that is misspelt would silently not be what its author meant.
    pub(super) fn only(&self, known: &[&'static str]) -> Result<(), PolicyError> {
        for (name, _) in self.object.iter() {
            if !known.contains(&name) {
                let field = known.iter().find(|known| known.eq_ignore_ascii_case(name)).copied().unwrap_or("");
                return Err(self.wrong(field, PolicyProblem::Unknown { name: name.to_owned() }));
            }
        }
        Ok(())
    }

    pub(super) fn missing(&self, field: &'static str, expected: &'static str) -> PolicyError {
        self.wrong(field, PolicyProblem::Missing { expected })
    }

    pub(super) fn value(&self, field: &'static str, value: &str, expected: &'static str) -> PolicyError {
        self.wrong(field, PolicyProblem::Value { value: value.to_owned(), expected })
    }

    pub(super) fn wrong(&self, field: &'static str, problem: PolicyProblem) -> PolicyError {
        PolicyError { statement: self.statement.map(str::to_owned), field, problem }
    }
}

pub(super) fn document(bytes: &[u8]) -> Result<Object, PolicyError> {
    let wrong = |problem| PolicyError { statement: None, field: "", problem };
    if bytes.len() > MAX_POLICY_BYTES {
        return Err(wrong(PolicyProblem::TooLarge));
    }
    match strict_json::parse(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(wrong(PolicyProblem::Missing { expected: "an object" })),
        Err(flaw) => Err(wrong(flaw.into())),
    }
}

fn place(statement: &Option<String>, field: &str) -> String {
    let field = if field.is_empty() { String::new() } else { format!("{field}: ") };
    match statement {
        Some(name) => format!("statement '{name}': {field}"),
        None => field,
    }
}
