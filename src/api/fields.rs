//! Bodies as strict JSON: one object, every field known and named once.
//!
//! serde's derived readers name a wrong field only inside a sentence, and a JSON value forgets that a
//! key came twice; a client is told which field it was. What a field means is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::problem::{Problem, ProblemKind, quoted};

/// More fields than any body of ours has; the rest is not even kept.
const MAX_ENTRIES: usize = 256;

/// How alike a wrong name and a right one must be to be suggested.
const MIN_SIMILARITY: f64 = 0.7;

/// The fields of a body, taken out one after the other.
#[derive(Debug)]
pub(super) struct Fields(BTreeMap<String, Value>);

#[derive(Debug)]
enum Value {
    Null,
    String(String),
    Object(Vec<(String, Value)>),
    Array(Vec<Value>),
    Other(&'static str),
}

impl Fields {
    /// Reads one JSON object that has no field beside `known`.
    pub(super) fn parse(body: &[u8], known: &[&str]) -> Result<Self, Problem> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Problem::new(ProblemKind::MalformedBody, format!("the body is not one JSON object: {error}"))
        })?;
        let Value::Object(entries) = value else {
            let detail = format!("the body is {}, expected an object", value.kind());
            return Err(Problem::new(ProblemKind::MalformedBody, detail));
        };
        let mut fields = BTreeMap::new();
        for (name, value) in entries {
            if !known.contains(&name.as_str()) {
                return Err(Problem::field(shortened(&name), unknown("field", &name, known)));
            }
            if fields.insert(name.clone(), value).is_some() {
                return Err(Problem::field(name, "is there more than once"));
            }
        }
        Ok(Self(fields))
    }

    /// A string; `null` is as good as absent.
    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Problem::field(name, format!("is {}, expected a string", other.kind()))),
        }
    }

    pub(super) fn required(&mut self, name: &str, expected: &str) -> Result<String, Problem> {
        self.string(name)?.ok_or_else(|| Problem::field(name, format!("is missing, expected {expected}")))
    }

    /// An array of strings, of so many at most; none where it is absent.
    pub(super) fn strings(&mut self, name: &str, max: usize) -> Result<Vec<String>, Problem> {
        let entries = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(other) => {
                return Err(Problem::field(name, format!("is {}, expected an array of strings", other.kind())));
            }
        };
        if entries.len() > max {
            return Err(Problem::field(name, format!("has more than {max} entries")));
        }
        let string = |entry| match entry {
            Value::String(text) => Ok(text),
            other => Err(Problem::field(name, format!("holds {}, expected an array of strings", other.kind()))),
        };
        entries.into_iter().map(string).collect()
    }

    /// An object whose values are all strings.
    pub(super) fn string_map(&mut self, name: &str) -> Result<BTreeMap<String, String>, Problem> {
        let entries = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(entries)) => entries,
            Some(other) => {
                return Err(Problem::field(name, format!("is {}, expected an object of strings", other.kind())));
            }
        };
        let mut seen = BTreeSet::new();
        let mut map = BTreeMap::new();
        for (key, value) in entries {
            if !seen.insert(key.clone()) {
                return Err(Problem::field(name, format!("the key {} is there more than once", quoted(&key))));
            }
            let Value::String(text) = value else {
                let detail = format!("the value of {} is {}, expected a string", quoted(&key), value.kind());
                return Err(Problem::field(name, detail));
            };
            map.insert(key, text);
        }
        Ok(map)
    }
}

/// Why a name is not known, with the name that was probably meant.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&shortened(name).to_lowercase(), candidate), candidate))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match near {
        Some((_, candidate)) => format!("there is no {what} of this name; did you mean {candidate}?"),
        None => format!("there is no {what} of this name; there are {}", known.join(", ")),
    }
}

/// A name for the `field` of a problem, where it stands by itself.
pub(super) fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::String(_) => "a string",
            Self::Object(_) => "an object",
            Self::Array(_) => "an array",
            Self::Other(kind) => kind,
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor { in_array: false })
    }
}

/// An entry of an array: what it holds in its turn is read past, never kept.
struct Entry;

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor { in_array: true })
    }
}

struct ValueVisitor {
    in_array: bool,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other("true or false"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while !self.in_array && entries.len() < MAX_ENTRIES {
            let Some(entry) = seq.next_element_seed(Entry)? else { return Ok(Value::Array(entries)) };
            entries.push(entry);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Array(entries))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while !self.in_array && entries.len() < MAX_ENTRIES {
            let Some(entry) = map.next_entry()? else { return Ok(Value::Object(entries)) };
            entries.push(entry);
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["tag", "tag_type", "metadata"];

    fn detail(body: &str) -> String {
        let problem = Fields::parse(body.as_bytes(), KNOWN)
            .and_then(|mut fields| Ok((fields.required("tag", "a tag")?, fields.string_map("metadata")?)))
            .unwrap_err();
        serde_json::to_value(problem).unwrap()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (body, expected) in [
            ("", "the body is not one JSON object: EOF while parsing a value at line 1 column 0"),
            ("{} {}", "the body is not one JSON object: trailing characters at line 1 column 4"),
            ("[]", "the body is an array, expected an object"),
            ("null", "the body is null, expected an object"),
            ("{}", "tag: is missing, expected a tag"),
            (r#"{"tag":null}"#, "tag: is missing, expected a tag"),
            (r#"{"tag":1}"#, "tag: is a number, expected a string"),
            (r#"{"tag":["a"]}"#, "tag: is an array, expected a string"),
            (r#"{"tag":"a","tag":"b"}"#, "tag: is there more than once"),
            (r#"{"tag":"a","t\u0061g":"b"}"#, "tag: is there more than once"),
            (r#"{"tags":"a"}"#, "tags: there is no field of this name; did you mean tag?"),
            (r#"{"tagType":"a"}"#, "tagType: there is no field of this name; did you mean tag_type?"),
            (r#"{"zz":"a"}"#, "zz: there is no field of this name; there are tag, tag_type, metadata"),
            (r#"{"tag":"a","metadata":"b"}"#, "metadata: is a string, expected an object of strings"),
            (r#"{"tag":"a","metadata":{"b":{}}}"#, r#"metadata: the value of "b" is an object, expected a string"#),
            (r#"{"tag":"a","metadata":{"b":"","b":""}}"#, r#"metadata: the key "b" is there more than once"#),
        ] {
            assert_eq!(detail(body), expected, "{body}");
        }
    }

    #[test]
    fn an_array_holds_strings_and_no_more_than_are_wanted() {
        let strings = |body: &str| {
            let strings = Fields::parse(body.as_bytes(), KNOWN).and_then(|mut fields| fields.strings("tag", 2));
            strings.map_err(|problem| serde_json::to_value(problem).unwrap()["detail"].as_str().unwrap().to_owned())
        };
        for absent in ["{}", r#"{"tag":null}"#, r#"{"tag":[]}"#] {
            assert_eq!(strings(absent), Ok(Vec::new()), "{absent}");
        }
        assert_eq!(strings(r#"{"tag":["a","b"]}"#), Ok(vec!["a".to_owned(), "b".to_owned()]));
        for (body, expected) in [
            (r#"{"tag":"a"}"#, "tag: is a string, expected an array of strings"),
            (r#"{"tag":["a",["b"]]}"#, "tag: holds an array, expected an array of strings"),
            (r#"{"tag":[{"a":"b"}]}"#, "tag: holds an object, expected an array of strings"),
            (r#"{"tag":["a","b","c"]}"#, "tag: has more than 2 entries"),
        ] {
            assert_eq!(strings(body), Err(expected.to_owned()), "{body}");
        }
    }

    #[test]
    fn deep_json_is_an_error_and_not_a_stack_overflow() {
        let objects = format!("{}1{}", r#"{"tag":"#.repeat(300_000), "}".repeat(300_000));
        assert!(detail(&objects).contains("recursion limit exceeded"));
        let arrays = format!(r#"{{"tag":{}{}}}"#, "[".repeat(900_000), "]".repeat(900_000));
        assert_eq!(detail(&arrays), "tag: is an array, expected a string");
    }

    #[test]
    fn more_entries_than_any_body_has_are_not_kept() {
        let many: String = (0..100_000).map(|n| format!(r#""k{n}":"","#)).collect();
        let body = format!(r#"{{"metadata":{{{many}"z":""}}}}"#);
        let mut fields = Fields::parse(body.as_bytes(), KNOWN).unwrap();
        assert_eq!(fields.string_map("metadata").unwrap().len(), MAX_ENTRIES);
    }
}
