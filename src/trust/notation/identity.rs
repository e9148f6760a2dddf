//! Trusted identities: trust store and trust policy specification, "Trusted Identities Constraints".

use std::collections::BTreeMap;

use der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use der::{Tag, Tagged};
use x509_cert::name::Name;

/// Whose signatures count among those that a store vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Identities {
    Any,
    /// As the document has them. Those of a kind that is not known match nobody.
    Listed(Vec<Identity>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) text: String,
    /// None: not an `x509.subject`.
    subject: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFlaw {
    #[error("\"*\" stands alone")]
    WildcardNotAlone,
    #[error("\"x509.subject: C=…, ST=…, O=…\" is expected")]
    Form,
    #[error("the name is not a list of attributes as in \"C=US, ST=WA, O=example\" with ',', ';' and '\\' escaped")]
    Name,
    #[error("an attribute stands twice")]
    Twice,
    #[error("C, ST (or S) and O are required")]
    Incomplete,
    #[error("two identities overlap: whoever matches one matches the other")]
    Overlap,
}

impl Identities {
    pub(super) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, IdentityFlaw> {
        let texts: Vec<_> = texts.into_iter().collect();
        if texts.contains(&WILDCARD) {
            return if texts.len() == 1 { Ok(Self::Any) } else { Err(IdentityFlaw::WildcardNotAlone) };
        }
        let identities = texts.into_iter().map(Identity::parse).collect::<Result<Vec<_>, _>>()?;
        for (at, one) in identities.iter().enumerate() {
            for other in &identities[..at] {
                if let (Some(one), Some(other)) = (&one.subject, &other.subject)
                    && (is_part(one, other) || is_part(other, one))
                {
                    return Err(IdentityFlaw::Overlap);
                }
            }
        }
        Ok(Self::Listed(identities))
    }

    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::Any => vec![WILDCARD.to_owned()],
            Self::Listed(identities) => identities.iter().map(|identity| identity.text.clone()).collect(),
        }
    }

    /// Whether the holder of a certificate with this subject is one of them.
    pub(super) fn include(&self, subject: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(identities) => {
                let subject = attributes(subject);
                identities.iter().filter_map(|identity| identity.subject.as_ref()).any(|wanted| {
                    wanted.iter().all(|(kind, value)| match subject.get(kind.as_str()).map(Vec::as_slice) {
                        // One that the subject has twice names nobody for certain.
                        Some([found]) => found == value,
                        Some(_) | None => false,
                    })
                })
            }
        }
    }
}

impl Identity {
    fn parse(text: &str) -> Result<Self, IdentityFlaw> {
        let (kind, name) = text.split_once(':').ok_or(IdentityFlaw::Form)?;
        let subject = match kind {
            SUBJECT => Some(distinguished_name(name)?),
            _ => None,
        };
        Ok(Self { text: text.to_owned(), subject })
    }
}

fn is_part(part: &BTreeMap<String, String>, whole: &BTreeMap<String, String>) -> bool {
    part.iter().all(|(kind, value)| whole.get(kind) == Some(value))
}

/// RFC 4514, one attribute to each part, as notation demands it.
fn distinguished_name(text: &str) -> Result<BTreeMap<String, String>, IdentityFlaw> {
    if text.contains("=#") {
        return Err(IdentityFlaw::Name);
    }
    let mut name = BTreeMap::new();
    for part in parts(text)? {
        let (kind, value) = part;
        let kind = if kind == "S" { "ST".to_owned() } else { kind };
        if kind.is_empty() || value.is_empty() {
            return Err(IdentityFlaw::Name);
        }
        if name.insert(kind, value).is_some() {
            return Err(IdentityFlaw::Twice);
        }
    }
    match ["C", "ST", "O"].into_iter().all(|kind| name.contains_key(kind)) {
        true => Ok(name),
        false => Err(IdentityFlaw::Incomplete),
    }
}

/// Kind and value of each part; the separators are those that are not escaped.
fn parts(text: &str) -> Result<Vec<(String, String)>, IdentityFlaw> {
    let mut parts = Vec::new();
    let mut kind = None;
    let mut value = Value::default();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let escaped = characters.next().ok_or(IdentityFlaw::Name)?;
                match escaped.to_digit(16) {
                    Some(high) => {
                        let low = characters.next().and_then(|low| low.to_digit(16)).ok_or(IdentityFlaw::Name)?;
                        value.push_byte(u8::try_from(high << 4 | low).map_err(|_| IdentityFlaw::Name)?);
                    }
                    None if " \"#+,;<=>\\".contains(escaped) => value.push_escaped(escaped),
                    None => return Err(IdentityFlaw::Name),
                }
            }
            '=' if kind.is_none() => kind = Some(std::mem::take(&mut value).finish()?),
            ',' | ';' => parts.push((kind.take().ok_or(IdentityFlaw::Name)?, std::mem::take(&mut value).finish()?)),
            // Several attributes in one part: notation refuses them too.
            '+' | '"' | '<' | '>' => return Err(IdentityFlaw::Name),
            other => value.push(other),
        }
    }
    parts.push((kind.ok_or(IdentityFlaw::Name)?, value.finish()?));
    Ok(parts)
}

/// Text being read: spaces around it do not count, unless they are escaped.
#[derive(Default)]
struct Value {
    bytes: Vec<u8>,
    /// Bytes up to here stay, even if they are spaces.
    kept: usize,
}

impl Value {
    fn push(&mut self, character: char) {
        if character == ' ' && self.bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        if character != ' ' {
            self.kept = self.bytes.len();
        }
    }

    fn push_escaped(&mut self, character: char) {
        self.bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.kept = self.bytes.len();
    }

    fn push_byte(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.kept = self.bytes.len();
    }

    fn finish(mut self) -> Result<String, IdentityFlaw> {
        self.bytes.truncate(self.kept);
        String::from_utf8(self.bytes).map_err(|_| IdentityFlaw::Name)
    }
}

/// What a subject says of its holder, by the names that policies use.
fn attributes(subject: &Name) -> BTreeMap<&'static str, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for attribute in subject.0.iter().flat_map(|part| part.0.iter()) {
        let Some((_, kind)) = KINDS.into_iter().find(|(oid, _)| *oid == attribute.oid) else { continue };
        let value = &attribute.value;
        let text = match value.tag() {
            Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned()),
            Tag::PrintableString => value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned()),
            Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned()),
            Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().map(|text| text.as_str().to_owned()),
            _ => continue,
        };
        // What cannot be read still counts as one more of its kind.
        found.entry(kind).or_default().push(text.unwrap_or_default());
    }
    found
}

const WILDCARD: &str = "*";
const SUBJECT: &str = "x509.subject";

const fn kind(oid: &'static str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(oid)
}

const KINDS: [(ObjectIdentifier, &str); 9] = [
    (kind("2.5.4.3"), "CN"),
    (kind("2.5.4.5"), "SERIALNUMBER"),
    (kind("2.5.4.6"), "C"),
    (kind("2.5.4.7"), "L"),
    (kind("2.5.4.8"), "ST"),
    (kind("2.5.4.9"), "STREET"),
    (kind("2.5.4.10"), "O"),
    (kind("2.5.4.11"), "OU"),
    (kind("2.5.4.17"), "POSTALCODE"),
];

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn identities(texts: &[&str]) -> Result<Identities, IdentityFlaw> {
        Identities::parse(texts.iter().copied())
    }

    #[test]
    fn identities_are_those_that_notation_takes() {
        let minimal = "x509.subject: C=US, ST=WA, O=example";
        for (texts, expected) in [
            (&["*"][..], Ok(())),
            (&[minimal], Ok(())),
            (&["x509.subject:C=US,S=WA,O=example,CN=a"], Ok(())),
            (&[minimal, "x509.subject: C=DE, ST=BE, O=example"], Ok(())),
            (&[minimal, "another.kind: anything"], Ok(())),
            (&["*", minimal], Err(IdentityFlaw::WildcardNotAlone)),
            (&["C=US, ST=WA, O=example"], Err(IdentityFlaw::Form)),
            (&["x509.subject: C=US, O=example"], Err(IdentityFlaw::Incomplete)),
            (&["x509.subject: C=US, ST=WA, O="], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=#0401"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=a+OU=b"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=a, O"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=a\\"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=a\\x"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, O=a\\c3"], Err(IdentityFlaw::Name)),
            (&["x509.subject: C=US, ST=WA, S=OR, O=a"], Err(IdentityFlaw::Twice)),
            (&[minimal, "x509.subject: C=US, ST=WA, O=example, OU=x"], Err(IdentityFlaw::Overlap)),
            (&[minimal, minimal], Err(IdentityFlaw::Overlap)),
        ] {
            assert_eq!(identities(texts).map(|_| ()), expected, "{texts:?}");
        }
    }

    #[test]
    fn a_subject_has_to_have_all_that_the_identity_says() {
        let subject = |text: &str| Name::from_str(text).unwrap();
        let full = subject("CN=builder,OU=Release,O=Wabbit\\, Inc.,L=Seattle,ST=WA,C=US");
        for (identity, expected) in [
            ("*", true),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\, Inc.", true),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\2C Inc., CN=builder", true),
            ("x509.subject:   O=Wabbit\\, Inc.  ;  S=WA ; C=US  ", true),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\, Inc., CN=Builder", false),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\, Inc., STREET=1", false),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\, Inc.\\ ", false),
            ("x509.subject: C=US, ST=WA, O=Wabbit", false),
            ("x509.subject: C=US, ST=WA, O=Wabbit\\, Inc., madeUp=x", false),
            ("another.kind: C=US", false),
        ] {
            assert_eq!(identities(&[identity]).unwrap().include(&full), expected, "{identity}");
        }
        let ambiguous = subject("OU=Release,OU=Test,O=example,ST=WA,C=US");
        let by = |identity| identities(&[identity]).unwrap().include(&ambiguous);
        assert!(by("x509.subject: C=US, ST=WA, O=example"));
        assert!(!by("x509.subject: C=US, ST=WA, O=example, OU=Release"));
    }
}
