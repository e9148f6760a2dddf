//! What the fuzz targets reach that has no other way in; in a build for fuzzing only.

use serde_json::{Number, Value};

use super::envelope::{JsonFlaw, strict_json};

/// What the strict reader sees; what it tells nothing apart of is `true`.
pub fn strict_json(bytes: &[u8]) -> Result<Value, JsonFlaw> {
    strict_json::parse(bytes).map(|value| as_seen(&value))
}

fn as_seen(value: &strict_json::Value) -> Value {
    match value {
        strict_json::Value::String(text) => Value::String(text.clone()),
        strict_json::Value::Integer(number) => Value::Number(Number::from(*number)),
        strict_json::Value::Object(members) => {
            members.iter().map(|(name, value)| (name.to_owned(), as_seen(value))).collect()
        }
        strict_json::Value::List(values) => values.iter().map(as_seen).collect(),
        strict_json::Value::Null => Value::Null,
        strict_json::Value::Other => Value::Bool(true),
    }
}
