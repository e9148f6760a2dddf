//! The members of strict JSON, as protocol buffers write them: what has its zero value is left out, a
//! whole number may be a string, and bytes are base64.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::trust::envelope::strict_json::{self, JsonFlaw, Object, Value};

/// What is wrong with a JSON document; never any text of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberFlaw {
    #[error("{0}")]
    Json(#[from] JsonFlaw),
    #[error("{name:?} is missing, or of another kind")]
    Kind { name: &'static str },
    #[error("{name:?} is not base64")]
    Base64 { name: &'static str },
    #[error("{name:?} is not the hexadecimal digits of a hash")]
    Hex { name: &'static str },
    #[error("{name:?} has not {expected} bytes")]
    Length { name: &'static str, expected: usize },
    #[error("{name:?} has more than {limit} values")]
    TooMany { name: &'static str, limit: usize },
    #[error("{name:?} has more than {limit} bytes")]
    TooLarge { name: &'static str, limit: usize },
    #[error("{name:?} is not a time")]
    Time { name: &'static str },
}

type Read<T> = Result<T, MemberFlaw>;

pub(super) fn document(bytes: &[u8], name: &'static str) -> Read<Object> {
    match strict_json::parse(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err(MemberFlaw::Kind { name }),
    }
}

/// A document with one member that nobody here looks into, whatever it holds.
pub(super) fn document_without(bytes: &[u8], name: &'static str, unread: &'static str) -> Read<Object> {
    match strict_json::parse_without(bytes, unread)? {
        Value::Object(object) => Ok(object),
        _ => Err(MemberFlaw::Kind { name }),
    }
}

fn member<'a>(of: &'a Object, name: &'static str) -> Read<Option<&'a Value>> {
    Ok(of.member(name)?.filter(|value| **value != Value::Null))
}

pub(super) fn optional_object<'a>(of: &'a Object, name: &'static str) -> Read<Option<&'a Object>> {
    match member(of, name)? {
        Some(Value::Object(object)) => Ok(Some(object)),
        None => Ok(None),
        Some(_) => Err(MemberFlaw::Kind { name }),
    }
}

pub(super) fn object<'a>(of: &'a Object, name: &'static str) -> Read<&'a Object> {
    optional_object(of, name)?.ok_or(MemberFlaw::Kind { name })
}

/// The objects of a list of at most `limit`.
pub(super) fn objects<'a>(of: &'a Object, name: &'static str, limit: usize) -> Read<Vec<&'a Object>> {
    let object = |value: &'a Value| match value {
        Value::Object(object) => Ok(object),
        _ => Err(MemberFlaw::Kind { name }),
    };
    list(of, name, limit)?.iter().map(object).collect()
}

/// The strings of a list of at most `limit`.
pub(super) fn texts<'a>(of: &'a Object, name: &'static str, limit: usize) -> Read<Vec<&'a str>> {
    let text = |value: &'a Value| match value {
        Value::String(text) => Ok(text.as_str()),
        _ => Err(MemberFlaw::Kind { name }),
    };
    list(of, name, limit)?.iter().map(text).collect()
}

/// One that is absent is empty.
fn list<'a>(of: &'a Object, name: &'static str, limit: usize) -> Read<&'a [Value]> {
    match member(of, name)? {
        Some(Value::List(values)) if values.len() > limit => Err(MemberFlaw::TooMany { name, limit }),
        Some(Value::List(values)) => Ok(values),
        None => Ok(&[]),
        Some(_) => Err(MemberFlaw::Kind { name }),
    }
}

pub(super) fn optional_text<'a>(of: &'a Object, name: &'static str) -> Read<Option<&'a str>> {
    match member(of, name)? {
        Some(Value::String(text)) => Ok(Some(text)),
        None => Ok(None),
        Some(_) => Err(MemberFlaw::Kind { name }),
    }
}

pub(super) fn text<'a>(of: &'a Object, name: &'static str) -> Read<&'a str> {
    optional_text(of, name)?.ok_or(MemberFlaw::Kind { name })
}

pub(super) fn integer(of: &Object, name: &'static str) -> Read<i64> {
    match member(of, name)? {
        Some(Value::Integer(number)) => Ok(*number),
        // Only digits, so that a number has one spelling.
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| MemberFlaw::Kind { name })
        }
        None => Ok(0),
        Some(_) => Err(MemberFlaw::Kind { name }),
    }
}

pub(super) fn whole(of: &Object, name: &'static str) -> Read<u64> {
    u64::try_from(integer(of, name)?).map_err(|_| MemberFlaw::Kind { name })
}

pub(super) fn decoded(text: &str, name: &'static str) -> Read<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| MemberFlaw::Base64 { name })
}

/// The bytes of a member that must be there and must not be empty.
pub(super) fn bytes(of: &Object, name: &'static str, limit: usize) -> Read<Vec<u8>> {
    let bytes = decoded(text(of, name)?, name)?;
    match bytes.len() {
        0 => Err(MemberFlaw::Kind { name }),
        length if length > limit => Err(MemberFlaw::TooLarge { name, limit }),
        _ => Ok(bytes),
    }
}

pub(super) fn hash(of: &Object, name: &'static str) -> Read<[u8; 32]> {
    to_hash(&bytes(of, name, 32)?, name)
}

pub(super) fn to_hash(bytes: &[u8], name: &'static str) -> Read<[u8; 32]> {
    bytes.try_into().map_err(|_| MemberFlaw::Length { name, expected: 32 })
}
