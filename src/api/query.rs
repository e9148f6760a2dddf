//! The query string: every parameter known and named once, and the two that all lists share.

use std::collections::BTreeMap;

use super::{
    cursor::Cursor,
    fields::{shortened, unknown},
    problem::{Problem, quoted},
};

/// How many entries a list has where nothing is said.
pub(super) const DEFAULT_LIMIT: usize = 100;
pub(super) const MAX_LIMIT: usize = 1000;

#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(Problem::parameter(shortened(&name), unknown("parameter", &name, known)));
            }
            if parameters.insert(name.clone().into_owned(), value.into_owned()).is_some() {
                return Err(Problem::parameter(name, "is there more than once"));
            }
        }
        Ok(Self(parameters))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(super) fn limit(&mut self) -> Result<usize, Problem> {
        let Some(text) = self.take("limit") else { return Ok(DEFAULT_LIMIT) };
        text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
            Problem::parameter("limit", format!("{} is not a number from 1 to {MAX_LIMIT}", quoted(&text)))
        })
    }

    /// The position to go on from, in the list that `scope` names.
    pub(super) fn position(&mut self, scope: &str) -> Result<Option<Vec<u8>>, Problem> {
        let Some(text) = self.take("cursor") else { return Ok(None) };
        Cursor::new(scope)
            .read(&text)
            .map(Some)
            .ok_or_else(|| Problem::parameter("cursor", "is not the `next` of an earlier answer to the same question"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(problem: Problem) -> String {
        serde_json::to_value(problem).unwrap()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn parameters_are_known_named_once_and_in_range() {
        let known = ["limit", "cursor"];
        let limit = |query| Query::parse(Some(query), &known).and_then(|mut query| query.limit());
        assert_eq!(limit("").unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit("limit=1000").unwrap(), 1000);
        for (query, expected) in [
            ("limit=0", r#"limit: "0" is not a number from 1 to 1000"#),
            ("limit=1001", r#"limit: "1001" is not a number from 1 to 1000"#),
            ("limit=-1", r#"limit: "-1" is not a number from 1 to 1000"#),
            ("limit=", r#"limit: "" is not a number from 1 to 1000"#),
            ("limit=1&limit=2", "limit: is there more than once"),
            ("limits=1", "limits: there is no parameter of this name; did you mean limit?"),
            ("%FF=1", "\u{fffd}: there is no parameter of this name; there are limit, cursor"),
        ] {
            assert_eq!(detail(limit(query).unwrap_err()), expected, "{query}");
        }
    }

    #[test]
    fn a_cursor_that_we_did_not_write_is_named() {
        let position = |query: &str| Query::parse(Some(query), &["cursor"]).unwrap().position("audit");
        assert_eq!(position("").unwrap(), None);
        assert_eq!(position(&format!("cursor={}", Cursor::new("audit").write(b"7"))).unwrap(), Some(b"7".to_vec()));
        let problem = position(&format!("cursor={}", Cursor::new("tags").write(b"7"))).unwrap_err();
        assert_eq!(detail(problem), "cursor: is not the `next` of an earlier answer to the same question");
    }
}
