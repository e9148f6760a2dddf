//! The parsers against the grammars of the specifications.

use proptest::prelude::*;

use super::{
    grammar::{self, DIGEST, NAME, REGISTRY, TAG, near},
    *,
};

fn hub() -> RegistryName {
    RegistryName::DOCKER_HUB.parse().unwrap()
}

/// A port says what it is in one way, and is one.
fn port_is_canonical(text: &str) -> bool {
    text.rsplit_once(':')
        .is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repository_is_what_the_grammar_of_names_says(text in near(NAME)) {
        let parsed = Repository::new(&hub(), &text);
        prop_assert_eq!(parsed.is_ok(), grammar::name().matches(&text) && text.len() <= 255, "{:?}", text);
        if let Ok(repository) = parsed {
            let library = if text.contains('/') { "" } else { "library/" };
            prop_assert_eq!(repository.as_str(), format!("docker.io/{library}{text}"));
            let again = Repository::parse(repository.as_str(), &"other.example".parse().unwrap());
            prop_assert_eq!(again, Ok(repository.clone()));
            let stored = serde_json::to_string(&repository).unwrap();
            prop_assert_eq!(serde_json::from_str::<Repository>(&stored).unwrap(), repository);
        }
    }

    #[test]
    fn a_long_name_ends_at_255(length in 240..260_usize, slashes in any::<bool>()) {
        let text: String = (0..length).map(|at| if slashes && at % 9 == 5 { '/' } else { 'a' }).collect();
        let whole = grammar::name().matches(&text);
        // On Docker Hub a name of one component has another before it.
        let stored = if slashes { length } else { length + "library/".len() };
        prop_assert_eq!(Repository::new(&hub(), &text).is_ok(), whole && stored <= 255);
    }

    #[test]
    fn a_registry_is_what_the_grammar_of_domains_says(text in near(REGISTRY)) {
        let parsed = text.parse::<RegistryName>();
        prop_assert_eq!(parsed.is_ok(), grammar::registry().matches(&text) && port_is_canonical(&text), "{:?}", text);
        if let Ok(name) = parsed {
            prop_assert_eq!(name.as_str().parse::<RegistryName>().unwrap(), name.clone(), "canonical at once");
            prop_assert_eq!(text.to_ascii_uppercase().parse::<RegistryName>().unwrap(), name);
        }
    }

    #[test]
    fn a_tag_is_what_the_grammar_of_tags_says(text in near(TAG)) {
        let parsed = text.parse::<Tag>();
        prop_assert_eq!(parsed.is_ok(), grammar::tag().matches(&text), "{:?}", text);
        prop_assert!(parsed.is_err() || (parsed.clone().unwrap().as_str() == text && text.parse() == Ok(Reference::Tag(parsed.unwrap()))));
    }

    #[test]
    fn a_digest_is_what_the_grammar_of_digests_says(text in near(DIGEST)) {
        let parsed = text.parse::<Digest>();
        prop_assert_eq!(parsed.is_ok(), grammar::digest().matches(&text), "{:?}", text);
        prop_assert!(parsed.is_err() || (parsed.clone().unwrap().to_string() == text && text.parse() == Ok(Reference::Digest(parsed.unwrap()))));
    }

    #[test]
    fn a_reference_is_one_of_the_two_and_never_both(text in prop_oneof![near(TAG), near(DIGEST), any::<String>()]) {
        let (tag, digest) = (grammar::tag().matches(&text), grammar::digest().matches(&text));
        prop_assert!(!(tag && digest));
        match text.parse::<Reference>() {
            Ok(reference) => prop_assert!((tag || digest) && reference.to_string() == text, "{:?}", text),
            Err(_) => prop_assert!(!tag && !digest, "{:?}", text),
        }
    }

    #[test]
    fn an_artifact_tag_names_its_digest(text in near("sha256-[a-f0-9]{64}(\\.sig|\\.att|\\.sbom)?")) {
        if let Ok(tag) = text.parse::<Tag>() && let Some(artifact) = tag.artifact() {
            prop_assert_eq!(format!("sha256-{}{}", artifact.subject.encoded(), artifact.suffix), text);
        }
    }

    #[test]
    fn no_text_is_too_strange_for_a_parser(text in any::<String>()) {
        prop_assert_eq!(Repository::new(&hub(), &text).is_ok(), grammar::name().matches(&text) && text.len() <= 255);
        prop_assert_eq!(text.parse::<RegistryName>().is_ok(), grammar::registry().matches(&text) && port_is_canonical(&text));
        if let Ok(repository) = Repository::parse(&text, &hub()) {
            prop_assert!(grammar::name().matches(repository.path()) && grammar::registry().matches(repository.registry()));
        }
    }
}

#[test]
fn the_matcher_knows_its_grammars() {
    for good in ["a", "a/b", "a__b/c-d", "a---b.c/0"] {
        assert!(grammar::name().matches(good), "{good}");
    }
    for bad in ["", "a/", "/a", "a___b", "a.-b", "A", "a//b"] {
        assert!(!grammar::name().matches(bad), "{bad}");
    }
    assert!(grammar::tag().matches(&"a".repeat(128)) && !grammar::tag().matches(&"a".repeat(129)));
    assert!(grammar::digest().matches(&format!("sha512:{}", "0".repeat(128))));
    assert!(!grammar::digest().matches(&format!("sha256:{}", "0".repeat(128))));
    assert!(grammar::registry().matches("a-b.c:1") && !grammar::registry().matches("a-.c"));
}
