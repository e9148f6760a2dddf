use super::{identity::Identity, *};

fn form(value: Value) -> Result<Keyless, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn identity(subject: &str, issuer: &str) -> Identity {
    let claims = [(Claim::BuildTrigger, "push".to_owned())].into();
    Identity { subject: subject.into(), issuer: issuer.into(), claims }
}

#[test]
fn issuer_and_subject_are_both_demanded() {
    for (value, expected) in [
        (json!({"issuer": "i"}), "subject is missing"),
        (json!({"subject": "s"}), "issuer is missing"),
        (json!({"issuer": "i", "subject": "s", "subject_pattern": "s"}), "subject and subject_pattern exclude"),
        (json!({"issuer": "", "subject": "s"}), "issuer is empty"),
        (json!({"issuer": "i", "subject_pattern": "("}), "subject_pattern is not a regular expression"),
        (json!({"issuer": "i", "subject_pattern": "a)|(?:b"}), "subject_pattern is not a regular expression"),
        (json!({"issuer": "i", "subject_pattern": "(?x)a #"}), "subject_pattern is not a regular expression"),
        (json!({"issuer": "i", "subject_pattern": "(a{100}){100}"}), "subject_pattern is not a regular expression"),
        (json!({"issuer": "i", "subject": "s".repeat(1025)}), "subject has at most 1024 bytes"),
        (json!({"issuer": "i", "subject": "s", "claims": {"colour": "red"}}), "unknown variant `colour`"),
        (json!({"issuer": "i", "subject": "s", "email": "e"}), "unknown field `email`"),
        (
            json!({"issuer": "i", "subject": "s", "claims": {"build_trigger": "a"}, "claim_patterns": {"build_trigger": "a"}}),
            "the claim build_trigger stands in claims and in claim_patterns",
        ),
    ] {
        let error = form(value.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{value}: {error}");
    }
}

#[test]
fn a_pattern_matches_from_the_first_to_the_last_character() {
    let keyless = form(json!({
        "issuer_pattern": "https://issuer|https://other",
        "subject_pattern": r"https://github\.com/team/.+|[a-z]+@team\.example",
        "claim_patterns": {"build_trigger": "push|release"},
    }))
    .unwrap();
    let issuer = "https://issuer";
    assert_eq!(keyless.admits(&identity("https://github.com/team/app", issuer)), Ok(()));
    assert_eq!(keyless.admits(&identity("dev@team.example", "https://other")), Ok(()));
    for subject in [
        "https://github.com/team/",
        "https://github_com/team/app",
        "xhttps://github.com/team/app",
        "dev@team.example.org",
        "dev@team.example\n",
        "dev@team.example\nx",
        "",
    ] {
        let outcome = keyless.admits(&identity(subject, issuer));
        assert_eq!(outcome, Err(SigstoreRejection::Identity), "{subject:?}");
    }
    for other in ["https://issuer.example", "https://issuer/", "http://issuer", ""] {
        assert_eq!(keyless.admits(&identity("dev@team.example", other)), Err(SigstoreRejection::Issuer), "{other:?}");
    }
    let mut identity = identity("dev@team.example", issuer);
    let claim = Claim::BuildTrigger;
    identity.claims.insert(claim, "pull_request".into());
    assert_eq!(keyless.admits(&identity), Err(SigstoreRejection::Claim { claim }));
    identity.claims.clear();
    assert_eq!(keyless.admits(&identity), Err(SigstoreRejection::Claim { claim }));
}

#[test]
fn an_identity_has_one_id_and_one_form() {
    let value = json!({
        "issuer": "i",
        "subject_pattern": "s.*",
        "claims": {"build_trigger": "push", "source_repository_ref": "refs/heads/main"},
    });
    let credential = Credential::Keyless(form(value.clone()).unwrap());
    assert_eq!(serde_json::to_value(&credential).unwrap(), json!({"keyless": value}));
    assert_eq!(credential.kind(), "keyless");
    let id = |value: Value| Credential::Keyless(form(value).unwrap()).id();
    let ids = [
        credential.id(),
        id(json!({"issuer": "i", "subject": "s.*"})),
        id(json!({"issuer": "i", "subject_pattern": "s.*"})),
        id(json!({"issuer_pattern": "i", "subject_pattern": "s.*"})),
        id(json!({"issuer": "is", "subject_pattern": ".*"})),
        id(json!({"issuer": "i", "subject_pattern": "s.*", "claims": {"build_trigger": "push"}})),
    ];
    for (at, id) in ids.iter().enumerate() {
        assert!(!ids[..at].contains(id), "{at}");
    }
}

#[test]
fn certificates_of_other_people_and_places_are_refused_for_what_differs() {
    let judge_with = |value: Value| {
        let root = trust(vec![keyless(value)], vec![root_of("trusted_root.json")], Demands::default());
        judge(&file("bundle/keyless-github-rekor2-tsa.json"), &root)
    };
    let issuer = "http://127.0.0.1:8812";
    let subject = "https://github.com/team/app/.github/workflows/release.yml@refs/heads/main";
    let good = json!({"issuer": issuer, "subject": subject});
    verified(judge_with(good.clone()), "good");
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        judge_with(changed)
    };
    assert_eq!(with("issuer", "http://127.0.0.1:8811".into()), rejected(SigstoreRejection::Issuer));
    assert_eq!(with("subject", "https://github.com/team/app".into()), rejected(SigstoreRejection::Identity));
    let claim = Claim::SourceRepositoryRef;
    let outcome = with("claims", json!({"source_repository_ref": "refs/heads/other"}));
    assert_eq!(outcome, rejected(SigstoreRejection::Claim { claim }));
    verified(with("claims", json!({"source_repository_ref": "refs/heads/main"})), "claims");
    verified(with("claim_patterns", json!({"source_repository_uri": "https://github.com/team/.*"})), "claims");
}
