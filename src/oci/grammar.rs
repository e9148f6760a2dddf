//! The specifications' grammars, written as they stand there and matched by a matcher of their own, so
//! that the parsers have something to be compared with that is not themselves.

use std::collections::BTreeSet;

use proptest::prelude::*;

/// A regular expression over bytes.
pub(crate) enum Re {
    /// One byte of a set, as in `[a-z0-9]`: pairs of first and last.
    One(&'static [(u8, u8)]),
    Text(&'static str),
    Seq(Vec<Re>),
    Any(Vec<Re>),
    /// This often at least, and at most.
    Times(Box<Re>, usize, usize),
}

impl Re {
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.ends(text.as_bytes(), 0).contains(&text.len())
    }

    /// Every position at which a match that begins at `from` may end.
    fn ends(&self, text: &[u8], from: usize) -> BTreeSet<usize> {
        match self {
            Self::One(set) => {
                let byte = text.get(from).filter(|byte| set.iter().any(|(first, last)| (first..=last).contains(byte)));
                byte.map(|_| from + 1).into_iter().collect()
            }
            Self::Text(literal) => {
                let found = text[from..].starts_with(literal.as_bytes());
                found.then_some(from + literal.len()).into_iter().collect()
            }
            Self::Seq(parts) => parts
                .iter()
                .fold(BTreeSet::from([from]), |at, part| at.into_iter().flat_map(|at| part.ends(text, at)).collect()),
            Self::Any(choices) => choices.iter().flat_map(|choice| choice.ends(text, from)).collect(),
            Self::Times(part, least, most) => {
                let mut at = BTreeSet::from([from]);
                let mut ends = if *least == 0 { at.clone() } else { BTreeSet::new() };
                for count in 1..=*most {
                    at = at.into_iter().flat_map(|at| part.ends(text, at)).collect();
                    if at.is_empty() || (count > *least && at.is_subset(&ends)) {
                        break;
                    }
                    if count >= *least {
                        ends.extend(&at);
                    }
                }
                ends
            }
        }
    }
}

fn many(part: Re) -> Re {
    Re::Times(Box::new(part), 1, usize::MAX)
}

fn any_number(part: Re) -> Re {
    Re::Times(Box::new(part), 0, usize::MAX)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`
pub(crate) fn name() -> Re {
    let word = || many(Re::One(&[(b'a', b'z'), (b'0', b'9')]));
    let separator = || Re::Any(vec![Re::Text("."), Re::Text("_"), Re::Text("__"), many(Re::Text("-"))]);
    let component = || Re::Seq(vec![word(), any_number(Re::Seq(vec![separator(), word()]))]);
    Re::Seq(vec![component(), any_number(Re::Seq(vec![Re::Text("/"), component()]))])
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
pub(crate) fn tag() -> Re {
    let first = Re::One(&[(b'a', b'z'), (b'A', b'Z'), (b'0', b'9'), (b'_', b'_')]);
    let next = Re::One(&[(b'a', b'z'), (b'A', b'Z'), (b'0', b'9'), (b'.', b'.'), (b'_', b'_'), (b'-', b'-')]);
    Re::Seq(vec![first, Re::Times(Box::new(next), 0, 127)])
}

/// `algorithm ":" encoded`, for the registered algorithms with their lengths.
pub(crate) fn digest() -> Re {
    let hexadecimal = |digits| Re::Times(Box::new(Re::One(&[(b'a', b'f'), (b'0', b'9')])), digits, digits);
    let sha256 = Re::Seq(vec![Re::Text("sha256:"), hexadecimal(64)]);
    Re::Any(vec![sha256, Re::Seq(vec![Re::Text("sha512:"), hexadecimal(128)])])
}

/// `domain-name [":" port-number]` of distribution's reference grammar.
pub(crate) fn registry() -> Re {
    let alphanumeric = || Re::One(&[(b'a', b'z'), (b'A', b'Z'), (b'0', b'9')]);
    let inner = || Re::One(&[(b'a', b'z'), (b'A', b'Z'), (b'0', b'9'), (b'-', b'-')]);
    let label = || Re::Any(vec![alphanumeric(), Re::Seq(vec![alphanumeric(), any_number(inner()), alphanumeric()])]);
    let port = Re::Seq(vec![Re::Text(":"), many(Re::One(&[(b'0', b'9')]))]);
    let port = Re::Times(Box::new(port), 0, 1);
    Re::Seq(vec![label(), any_number(Re::Seq(vec![Re::Text("."), label()])), port])
}

/// A text of the grammar that `pattern` says, and the same with a few bytes changed, so that most are
/// wrong in one place only.
pub(crate) fn near(pattern: &'static str) -> impl Strategy<Value = String> {
    const BYTES: &str = "aZ09._-/:@%+~ \t\0\u{e9}\u{212a}";
    let change = (any::<prop::sample::Index>(), prop::sample::select(BYTES.chars().collect::<Vec<_>>()), 0..4_u8);
    (pattern, prop::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, with, how) in changes {
            let at = at.index(chars.len() + 1);
            match how {
                0 if at < chars.len() => drop(chars.remove(at)),
                1 if at < chars.len() => chars[at] = with,
                2 if at < chars.len() => chars.insert(at, chars[at]),
                _ => chars.insert(at, with),
            }
        }
        chars.into_iter().collect()
    })
}

pub(crate) const NAME: &str =
    "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}){0,3}";
pub(crate) const TAG: &str = "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}|[a-zA-Z0-9_][a-zA-Z0-9._-]{125,127}";
pub(crate) const DIGEST: &str = "sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}|sha(256|384|512):[a-fA-F0-9]{62,66}";
pub(crate) const REGISTRY: &str =
    "([a-zA-Z0-9]{1,4}(-[a-z0-9]{1,3})?\\.){0,2}[a-z0-9]{1,5}(:[0-9]{1,5})?|(index\\.|registry-1\\.)?[dD]ocker\\.io";
