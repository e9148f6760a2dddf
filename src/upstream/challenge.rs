//! What a 401 asks for: RFC 9110, section 11.6.1, read strictly.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

use super::UpstreamError;

/// A way to authenticate that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A token from the service at `realm`: distribution specification, "Token authentication".
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
    Basic,
}

/// The best of the challenges in an answer; none: there is none that we know.
pub(super) fn best(headers: &HeaderMap) -> Result<Option<Challenge>, UpstreamError> {
    const MALFORMED: UpstreamError = UpstreamError::Malformed { what: "challenge" };
    let mut offers = Vec::new();
    for line in headers.get_all(WWW_AUTHENTICATE) {
        let line = line.to_str().map_err(|_| MALFORMED)?;
        if line.len() > MAX_LINE || offers.len() > MAX_OFFERS {
            return Err(MALFORMED);
        }
        offers.extend(Line(line).offers().ok_or(MALFORMED)?);
    }
    let of_scheme = |scheme: &str| offers.iter().find(|offer| offer.scheme.eq_ignore_ascii_case(scheme));
    if let Some(bearer) = of_scheme("bearer") {
        return Ok(Some(Challenge::Bearer {
            realm: bearer.parameter("realm").ok_or(MALFORMED)?,
            service: bearer.parameter("service"),
            scope: bearer.parameter("scope"),
        }));
    }
    Ok(of_scheme("basic").map(|_| Challenge::Basic))
}

struct Offer<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Offer<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

/// What is left of a header line.
struct Line<'a>(&'a str);

impl<'a> Line<'a> {
    /// A list whose commas separate both the challenges and their parameters: a word that is
    /// followed by `=` is a parameter of the challenge before it, any other begins a new one.
    fn offers(mut self) -> Option<Vec<Offer<'a>>> {
        let mut offers: Vec<Offer<'a>> = Vec::new();
        loop {
            self.0 = self.0.trim_start_matches([' ', '\t', ',']);
            if self.0.is_empty() {
                return Some(offers);
            }
            let word = self.word()?;
            let spaced = self.skip_spaces();
            if self.skip('=') {
                self.skip_spaces();
                let value = self.value()?;
                let offer = offers.last_mut()?;
                if offer.parameter(word).is_some() {
                    return None;
                }
                offer.parameters.push((word, value));
                self.end_of_item()?;
            } else {
                offers.push(Offer { scheme: word, parameters: Vec::new() });
                match spaced {
                    true => self.skip_token68(),
                    false => self.end_of_item()?,
                }
            }
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let end = self.0.find(|c: char| !is_token_char(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    fn value(&mut self) -> Option<String> {
        if !self.skip('"') {
            return self.word().map(str::to_owned);
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                c => value.push(c),
            }
        }
        None
    }

    /// Credentials of schemes that we do not know, as in `Negotiate YII=`.
    fn skip_token68(&mut self) {
        let is_char = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
        let rest = self.0.trim_start_matches(is_char).trim_start_matches('=').trim_start_matches([' ', '\t']);
        if rest.is_empty() || rest.starts_with(',') {
            self.0 = rest;
        }
    }

    fn skip(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_spaces(&mut self) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_start_matches([' ', '\t']);
        self.0.len() < before
    }

    fn end_of_item(&mut self) -> Option<()> {
        self.skip_spaces();
        (self.0.is_empty() || self.0.starts_with(',')).then_some(())
    }
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

const MAX_LINE: usize = 4 << 10;
const MAX_OFFERS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Option<Challenge>, UpstreamError> {
        best(&lines.iter().map(|line| (WWW_AUTHENTICATE, line.parse().unwrap())).collect())
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Option<Challenge>, UpstreamError> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Ok(Some(Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }))
    }

    #[test]
    fn challenges_of_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;
        let expected =
            bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:library/nginx:pull"));
        assert_eq!(read(&[hub]), expected);
        assert_eq!(read(&["Basic realm=x", hub]), expected);
        assert_eq!(read(&[&format!("Negotiate YII==, Basic realm=\"a, b\", {hub}")]), expected);
        assert_eq!(read(&["bearer REALM = \"https://a/\\\"b\" , service=s"]), bearer("https://a/\"b", Some("s"), None));
        assert_eq!(read(&["Negotiate, NTLM"]), Ok(None));
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["Basic"]), Ok(Some(Challenge::Basic)));
    }

    #[test]
    fn malformed_challenges_are_refused() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(MAX_LINE));
        for bad in [
            "Bearer",
            "Bearer service=\"s\"",
            "Bearer realm=\"https://a",
            "Bearer realm=\"https://a\\",
            "Bearer realm=\"https://a\" service=\"s\"",
            "Bearer realm=\"https://a\",realm=\"https://b\"",
            "Bearer realm=",
            "realm=\"https://a\"",
            "Bearer realm=\"https://a\", =x",
            "Bearer realm=\"https://a\";service=s",
            "\"Bearer\"",
            &long,
        ] {
            assert_eq!(read(&[bad]), Err(UpstreamError::Malformed { what: "challenge" }), "{bad}");
        }
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn quoted(text: &str) -> String {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

            #[test]
            fn no_header_is_too_strange(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
                let lines = lines.iter().filter_map(|line| http::HeaderValue::from_bytes(line).ok());
                drop(best(&lines.map(|line| (WWW_AUTHENTICATE, line)).collect()));
            }

            #[test]
            fn a_challenge_is_read_as_it_was_written(
                realm in "[ -~]{1,30}", service in prop::option::of("[ -~]{0,20}"), before in "(Basic realm=x, |Negotiate YII==, )?",
            ) {
                let mut line = format!("{before}Bearer realm={}", quoted(&realm));
                if let Some(service) = &service {
                    line += &format!(", service={}", quoted(service));
                }
                prop_assert_eq!(read(&[&line]), bearer(&realm, service.as_deref(), None));
            }

            #[test]
            fn nearly_a_challenge_is_one_or_malformed(
                line in "(Bearer|Basic|bearer)[ ,]{0,2}(realm|service|scope)?[ =]{0,2}[\"]?[a-z:/.,=\\\\ ]{0,12}[\"]?[ ,;]{0,2}(scope=\"a\")?",
            ) {
                match read(&[&line]) {
                    Ok(Some(Challenge::Bearer { realm, .. })) => {
                        prop_assert!(line.replace('\\', "").contains(&realm.replace('\\', "")), "{}", line);
                    }
                    Ok(Some(Challenge::Basic) | None) => {}
                    Err(error) => prop_assert_eq!(error, UpstreamError::Malformed { what: "challenge" }),
                }
            }
        }
    }
}
