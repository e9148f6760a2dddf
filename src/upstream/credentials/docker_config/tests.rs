use http::HeaderValue;
use secrecy::ExposeSecret;

use super::{super::Form, *};

fn error(text: &str) -> String {
    Contents::parse(text.as_bytes()).map(drop).unwrap_err().to_string()
}

/// What the file has for the registry at this URL, in a word.
fn found(text: &str, remote: &str) -> String {
    let contents = Contents::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
    match contents.of(&ServerAddress::of(&remote.parse().unwrap())) {
        Found::Nothing => "nothing".to_owned(),
        Found::Helper(helper, name) => format!("{helper} {name}"),
        Found::Credentials(Credentials { form: Form::Basic(header), .. }) => {
            let encoded = HeaderValue::to_str(&header).unwrap().strip_prefix("Basic ").unwrap().to_owned();
            String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
        }
        Found::Credentials(Credentials { form: Form::IdentityToken(token), .. }) => {
            format!("<token> {}", token.expose_secret())
        }
    }
}

#[test]
fn every_form_of_an_entry_is_read() {
    for (entry, expected) in [
        (r#"{"auth": "dGVhbTpodW50ZXIy"}"#, "team:hunter2"),
        // The password may have colons, and docker takes padding off it.
        (r#"{"auth": "dGVhbTpodW50ZXI6MgAA"}"#, "team:hunter:2"),
        (r#"{"auth": "dGVhbTpodW50ZXIy", "email": "a@b.example"}"#, "team:hunter2"),
        (r#"{"username": "team", "password": "hunter2"}"#, "team:hunter2"),
        (r#"{"auth": "", "username": "team", "password": "hunter2"}"#, "team:hunter2"),
        (r#"{"auth": "dGVhbTpodW50ZXIy", "username": "other", "password": "other"}"#, "team:hunter2"),
        (r#"{"identitytoken": "opaque"}"#, "<token> opaque"),
        // As Azure's registry is logged in to.
        (
            r#"{"auth": "MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==", "identitytoken": "opaque"}"#,
            "<token> opaque",
        ),
        (r#"{"username": "<token>", "password": "opaque"}"#, "<token> opaque"),
        ("{}", "nothing"),
        ("null", "nothing"),
        (r#"{"auth": null}"#, "nothing"),
    ] {
        let text = format!(r#"{{"auths": {{"registry.example": {entry}}}, "psFormat": "x", "HttpHeaders": {{}}}}"#);
        assert_eq!(found(&text, "https://registry.example"), expected, "{entry}");
    }
}

#[test]
fn registries_are_found_under_dockers_names_for_them() {
    let auths = |key: &str| format!(r#"{{"auths": {{"{key}": {{"auth": "dGVhbTpodW50ZXIy"}}}}}}"#);
    for (key, remote, is_found) in [
        ("https://index.docker.io/v1/", "https://registry-1.docker.io", true),
        ("https://index.docker.io/v1/", "https://index.docker.io", true),
        // What the Hub's key stands for is sent to the Hub, not to whoever mirrors it.
        ("https://index.docker.io/v1/", "https://mirror.example", false),
        ("https://index.docker.io/v1/", "http://registry-1.docker.io", false),
        ("https://index.docker.io/v1/access-token", "https://registry-1.docker.io", false),
        ("index.docker.io", "https://registry-1.docker.io", false),
        ("docker.io", "https://registry-1.docker.io", false),
        ("registry-1.docker.io", "https://registry-1.docker.io", false),
        ("registry.example", "https://registry.example", true),
        ("Registry.Example", "https://registry.example", true),
        ("registry.example", "http://registry.example", true),
        ("registry.example:443", "https://registry.example", true),
        ("registry.example:443", "http://registry.example", false),
        ("registry.example:5000", "https://registry.example:5000", true),
        ("registry.example:5000", "https://registry.example", false),
        ("registry.example", "https://registry.example:5000", false),
        ("https://registry.example", "https://registry.example", true),
        ("https://registry.example/v1/", "https://registry.example", true),
        ("https://registry.example:5000/v2/", "http://registry.example:5000", true),
        ("registry.example/team", "https://registry.example", true),
        ("registry.example", "https://registry.example/prefix", true),
        ("registry.example.evil.example", "https://registry.example", false),
        ("other.example", "https://registry.example", false),
        ("[2001:db8::7]:5000", "https://[2001:db8::7]:5000", true),
        ("", "https://registry.example", false),
    ] {
        let expected = if is_found { "team:hunter2" } else { "nothing" };
        assert_eq!(found(&auths(key), remote), expected, "{key} for {remote}");
    }
    let both =
        r#"{"auths": {"https://a.example/v1/": {"auth": "b2xkOm9sZA=="}, "a.example": {"auth": "bmV3Om5ldw=="}}}"#;
    assert_eq!(found(both, "https://a.example"), "new:new", "the exact key comes first");
}

#[test]
fn a_helper_comes_before_what_the_file_has_itself() {
    let text = r#"{
        "auths": {"a.example": {"auth": "dGVhbTpodW50ZXIy"}, "b.example": {}, "c.example": {"auth": "dGVhbTpodW50ZXIy"}},
        "credHelpers": {"a.example": "ecr-login", "c.example": "", "d.example:443": "gcloud", "https://index.docker.io/v1/": "hub"},
        "credsStore": "pass"
    }"#;
    for (remote, expected) in [
        ("https://a.example", "docker-credential-ecr-login a.example"),
        ("https://b.example", "docker-credential-pass b.example"),
        ("https://c.example", "team:hunter2"),
        ("https://d.example", "docker-credential-gcloud d.example:443"),
        ("https://e.example:5000", "docker-credential-pass e.example:5000"),
        ("https://registry-1.docker.io", "docker-credential-hub https://index.docker.io/v1/"),
    ] {
        assert_eq!(found(text, remote), expected, "{remote}");
    }
    // A helper is of a registry by its name alone.
    let by_url = r#"{"credHelpers": {"https://a.example": "x"}}"#;
    assert_eq!(found(by_url, "https://a.example"), "nothing");
    for empty in ["{}", "null", r#"{"auths": null, "credHelpers": null, "credsStore": ""}"#, r#"{"auths": {}}"#] {
        assert_eq!(found(empty, "https://a.example"), "nothing", "{empty}");
    }
}

#[test]
fn what_is_malformed_is_refused_and_not_quoted() {
    const JSON: &str = "expected JSON as docker login writes it, with no key twice";
    const AUTH: &str = "auths of registry.example: expected auth to be the base64 of user:password";
    let entry = |entry: &str| format!(r#"{{"auths": {{"registry.example": {entry}}}}}"#);
    for (text, expected) in [
        (String::new(), JSON),
        ("hunter2".to_owned(), JSON),
        ("[]".to_owned(), JSON),
        (r#"[{"registry.example": {"auth": "dGVhbTpodW50ZXIy"}}, {}, ""]"#.to_owned(), JSON),
        (entry(r#"["dGVhbTpodW50ZXIy", "", "", "", ""]"#), JSON),
        (r#"{"auths": "hunter2"}"#.to_owned(), JSON),
        (r#"{"auths": []}"#.to_owned(), JSON),
        (r#"{"auths": {}, "auths": {}}"#.to_owned(), JSON),
        (r#"{"auths": {}} {}"#.to_owned(), JSON),
        (r#"{"auths": {"a.example": {}, "a.example": {}}}"#.to_owned(), JSON),
        (r#"{"credHelpers": {"a.example": "hunter2", "a.example": "hunter2"}}"#.to_owned(), JSON),
        (r#"{"credsStore": ["hunter2"]}"#.to_owned(), JSON),
        (entry(r#""hunter2""#), JSON),
        (entry(r#"{"auth": 2}"#), JSON),
        (entry(r#"{"auth": "hunter2", "auth": "hunter2"}"#), JSON),
        (format!("{}hunter2", "[".repeat(200_000)), JSON),
        (entry(r#"{"auth": "hunter2"}"#), AUTH),
        (entry(r#"{"auth": "dGVhbTpodW50ZXIy\n"}"#), AUTH),
        (entry(r#"{"auth": "dGVhbTpodW50ZXIyMg"}"#), AUTH),
        // No colon; nobody before it; no text.
        (entry(r#"{"auth": "aHVudGVyMg=="}"#), AUTH),
        (entry(r#"{"auth": "Omh1bnRlcjI="}"#), AUTH),
        (entry(r#"{"auth": "dGVhbTr//w=="}"#), AUTH),
        (entry(r#"{"auth": "hunter2", "identitytoken": "opaque"}"#), AUTH),
        (
            entry(r#"{"username": "a:b", "password": "hunter2"}"#),
            "auths of registry.example: expected a username without ':'",
        ),
        (entry(r#"{"password": "hunter2"}"#), "auths of registry.example: expected a username without ':'"),
        (
            entry(r#"{"registrytoken": "hunter2"}"#),
            "auths of registry.example: a registrytoken is not supported: expected auth, username or identitytoken",
        ),
        (
            r#"{"auths": {"https://robot:hunter2@registry.example/": {"auth": "x"}}}"#.to_owned(),
            "auths of registry.example: expected auth to be the base64 of user:password",
        ),
        (
            r#"{"credHelpers": {"a.example": "../hunter2"}}"#.to_owned(),
            "credHelpers of a.example: expected what follows docker-credential- in a program's name",
        ),
        (
            r#"{"credsStore": "/bin/hunter2"}"#.to_owned(),
            "credsStore: expected what follows docker-credential- in a program's name",
        ),
    ] {
        let error = error(&text);
        let start = text.chars().take(80).collect::<String>();
        assert!(error.ends_with(expected), "{start}\n  gave {error}\n  not  {expected}");
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
    }
    assert_eq!(error("{\n  \"auths\": 1\n}"), format!("line 2, column 12: {JSON}"));
    assert_eq!(error(r#"{"credHelpers": {"a\nb": "/"}}"#).lines().count(), 1);
}

#[test]
fn the_file_is_read_within_a_limit() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let read = || DockerConfig::read(&file);
    assert!(matches!(read(), Err(DockerConfigError::Unreadable(_))));
    let largest = format!("{{\"x\": \"{}\"}}", "x".repeat((1 << 20) - 9));
    fs::write(&file, &largest).unwrap();
    assert_eq!(read().unwrap().helpers().count(), 0);
    fs::write(&file, largest + " ").unwrap();
    assert!(matches!(read(), Err(DockerConfigError::TooLarge)));
    assert!(matches!(DockerConfig::read(directory.path()), Err(DockerConfigError::Unreadable(_))));
}

#[tokio::test]
async fn a_file_that_changed_is_read_again_and_one_that_broke_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let write = |store: &str| {
        let aside = directory.path().join("aside");
        fs::write(&aside, store).unwrap();
        fs::rename(&aside, &file).unwrap();
    };
    write(r#"{"credsStore": "a"}"#);
    let clock = Clock::manual("2026-11-26T12:00:00Z".parse().unwrap());
    let watched = WatchedDockerConfig::new(DockerConfig::read(&file).unwrap(), clock.clone());
    let store = async || watched.current().await.store.as_ref().unwrap().to_string();
    assert_eq!(store().await, "docker-credential-a");
    write(r#"{"credsStore": "b"}"#);
    assert_eq!(store().await, "docker-credential-a", "within the second nobody looks");
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(store().await, "docker-credential-b");
    write(r#"{"credsStore": "#);
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(store().await, "docker-credential-b");
    fs::remove_file(&file).unwrap();
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(store().await, "docker-credential-b");
    write(r#"{"credsStore": "c"}"#);
    clock.advance(LOOKED_AT_AGAIN);
    assert_eq!(store().await, "docker-credential-c");
}
