//! JSON in which no two readers see two things: a key that stands twice is an error, and so is one
//! that differs from a known key by case only, because Go's reader takes either.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value, as far as the readers of formats look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::trust) enum Value {
    String(String),
    Integer(i64),
    Object(Object),
    List(Vec<Value>),
    Null,
    /// Another number or a truth value.
    Other,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::trust) struct Object(Vec<(String, Value)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFlaw {
    #[error("it is not JSON")]
    Syntax,
    #[error("a key stands twice, or in two spellings that some readers take for one")]
    DuplicateKey,
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("it has more than {MAX_VALUES} values")]
    TooMany,
}

pub(in crate::trust) fn parse(bytes: &[u8]) -> Result<Value, JsonFlaw> {
    read(bytes, None)
}

/// Reads an object of which one member is nobody's business here: whatever it holds is JSON, and is not kept.
pub(in crate::trust) fn parse_without(bytes: &[u8], unread: &'static str) -> Result<Value, JsonFlaw> {
    read(bytes, Some(unread))
}

fn read(bytes: &[u8], unread: Option<&'static str>) -> Result<Value, JsonFlaw> {
    let limits = Limits { values: Cell::new(MAX_VALUES), broken: Cell::new(None) };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Walk { limits: &limits, depth: 0, unread }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|_| limits.broken.get().unwrap_or(JsonFlaw::Syntax))
}

impl Object {
    /// The member of this name; an error where another spelling of the name stands too, or alone.
    pub(in crate::trust) fn member(&self, name: &str) -> Result<Option<&Value>, JsonFlaw> {
        let mut found = None;
        for (key, value) in &self.0 {
            if key == name {
                found = Some(value);
            } else if folds_to(key, name) {
                return Err(JsonFlaw::DuplicateKey);
            }
        }
        Ok(found)
    }

    pub(in crate::trust) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The members that are strings.
    pub(in crate::trust) fn strings(&self) -> BTreeMap<String, String> {
        self.iter()
            .filter_map(|(key, value)| match value {
                Value::String(text) => Some((key.to_owned(), text.clone())),
                Value::Integer(_) | Value::Object(_) | Value::List(_) | Value::Null | Value::Other => None,
            })
            .collect()
    }
}

/// Go compares field names by Unicode's simple folding, under which two characters beyond ASCII are
/// letters of it: the long s and the Kelvin sign.
fn folds_to(key: &str, name: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(name.chars().map(fold))
}

struct Limits {
    values: Cell<usize>,
    /// Set where a limit ended the reading: serde's own error carries text only.
    broken: Cell<Option<JsonFlaw>>,
}

impl Limits {
    fn stop<E: Error>(&self, flaw: JsonFlaw) -> E {
        self.broken.set(Some(flaw));
        E::custom(flaw)
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    limits: &'a Limits,
    depth: usize,
    unread: Option<&'static str>,
}

impl Walk<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.limits.stop(JsonFlaw::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.limits.values.get().checked_sub(1).ok_or_else(|| self.limits.stop(JsonFlaw::TooMany))?;
        self.limits.values.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Other, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let walk = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(walk)? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let walk = self.deeper()?;
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(self.limits.stop(JsonFlaw::DuplicateKey));
            }
            let value = match walk.unread {
                Some(unread) if walk.depth == 1 && key == unread => {
                    map.next_value::<IgnoredAny>()?;
                    Value::Other
                }
                _ => map.next_value_seed(walk)?,
            };
            members.push((key, value));
        }
        Ok(Value::Object(Object(members)))
    }
}

const MAX_DEPTH: usize = 16;
/// A statement about as many artifacts as one build attests at once, 1,024, has 4,100.
const MAX_VALUES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_and_endless_json_is_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, expected) in [
            (r#"{"a":1,"b":[{"c":null}]}"#.to_owned(), None),
            (r#"{"a":1,"A":2}"#.to_owned(), None),
            (nested(MAX_DEPTH), None),
            (format!("[{}1]", "1,".repeat(MAX_VALUES - 2)), None),
            (String::new(), Some(JsonFlaw::Syntax)),
            ("{} {}".to_owned(), Some(JsonFlaw::Syntax)),
            ("\u{feff}{}".to_owned(), Some(JsonFlaw::Syntax)),
            (r#"{"a":"\ud800"}"#.to_owned(), Some(JsonFlaw::Syntax)),
            (r#"{"a":1,"a":1}"#.to_owned(), Some(JsonFlaw::DuplicateKey)),
            (r#"{"a":1,"\u0061":1}"#.to_owned(), Some(JsonFlaw::DuplicateKey)),
            (r#"[{"x":[{"a":1,"a":1}]}]"#.to_owned(), Some(JsonFlaw::DuplicateKey)),
            (nested(MAX_DEPTH + 1), Some(JsonFlaw::TooDeep)),
            ("[".repeat(1 << 20), Some(JsonFlaw::TooDeep)),
            (r#"{"a":"#.repeat(1 << 17), Some(JsonFlaw::TooDeep)),
            (format!("[{}1]", "1,".repeat(MAX_VALUES - 1)), Some(JsonFlaw::TooMany)),
        ] {
            assert_eq!(parse(text.as_bytes()).err(), expected, "{:.80}", text);
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err(), JsonFlaw::Syntax);
    }

    #[test]
    fn a_member_that_is_not_read_may_be_anything_but_stands_once() {
        let many = "1,".repeat(MAX_VALUES);
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for (text, expected) in [
            (format!(r#"{{"x":[{many}1],"a":1}}"#), None),
            (format!(r#"{{"x":{deep}}}"#), None),
            (r#"{"x":{"a":1,"a":2}}"#.to_owned(), None),
            (r#"{"x":1,"x":1}"#.to_owned(), Some(JsonFlaw::DuplicateKey)),
            (r#"{"x":[}"#.to_owned(), Some(JsonFlaw::Syntax)),
            (format!(r#"{{"a":{{"x":[{many}1]}}}}"#), Some(JsonFlaw::TooMany)),
            (format!(r#"[{{"x":{deep}}}]"#), Some(JsonFlaw::TooDeep)),
        ] {
            assert_eq!(parse_without(text.as_bytes(), "x").err(), expected, "{text:.80}");
        }
        let Value::Object(object) = parse_without(br#"{"x":{"a":1},"a":2}"#, "x").unwrap() else { panic!() };
        assert_eq!(object.iter().collect::<Vec<_>>(), [("x", &Value::Other), ("a", &Value::Integer(2))]);
    }

    #[test]
    fn lists_and_whole_numbers_are_read() {
        let expected = [
            Value::Integer(i64::MIN),
            Value::Integer(i64::MAX),
            Value::Other,
            Value::Other,
            Value::Null,
            Value::List(vec![Value::String("x".into())]),
        ];
        let text = r#"[-9223372036854775808, 9223372036854775807, 9223372036854775808, 1.0, null, ["x"]]"#;
        assert_eq!(parse(text.as_bytes()), Ok(Value::List(expected.into())));
    }

    #[test]
    fn a_member_has_one_spelling() {
        let object = |text: &str| match parse(text.as_bytes()).unwrap() {
            Value::Object(object) => object,
            other => panic!("{other:?}"),
        };
        let fine = object(r#"{"docker-reference":"x","other":1}"#);
        assert_eq!(fine.member("docker-reference"), Ok(Some(&Value::String("x".into()))));
        assert_eq!(fine.member("type"), Ok(None));
        for spelling in ["Docker-Reference", "doc\u{212a}er-reference", "DOCKER-REFERENCE"] {
            let twice = object(&format!(r#"{{"docker-reference":"x","{spelling}":"y"}}"#));
            assert_eq!(twice.member("docker-reference"), Err(JsonFlaw::DuplicateKey), "{spelling}");
            let alone = object(&format!(r#"{{"{spelling}":"y"}}"#));
            assert_eq!(alone.member("docker-reference"), Err(JsonFlaw::DuplicateKey), "{spelling}");
        }
        assert!(folds_to("docker-manife\u{17f}t-dige\u{17f}t", "docker-manifest-digest"));
    }
}
