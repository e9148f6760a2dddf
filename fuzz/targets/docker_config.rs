//! `config.json` as `docker login` writes it, looked up for some registries.

#![no_main]

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use sig_repo::upstream::fuzzing::{self, Given};
use sig_repo_fuzz::{Target, bounded};

const REMOTES: [&str; 3] =
    ["https://registry-1.docker.io", "https://registry.example", "http://registry.example:5000/prefix"];

/// In every secret of the seeds.
const SECRET: &str = "hunter2";

struct DockerConfig;

impl Target for DockerConfig {
    fn new() -> Self {
        Self
    }

    fn seeds() -> Vec<Vec<u8>> {
        let auth = BASE64_STANDARD.encode("team:hunter2");
        let entries = [
            format!(r#"{{"auth":"{auth}","email":"a@b.example"}}"#),
            format!(r#"{{"auth":"{}"}}"#, BASE64_STANDARD.encode("team:hunter2:x\0\0")),
            r#"{"username":"team","password":"hunter2"}"#.to_owned(),
            r#"{"username":"<token>","password":"hunter2"}"#.to_owned(),
            format!(r#"{{"auth":"{}","identitytoken":"hunter2"}}"#, BASE64_STANDARD.encode("0000-0000:")),
            r#"{"registrytoken":"hunter2"}"#.to_owned(),
            r#"{"password":"hunter2"}"#.to_owned(),
            "{}".to_owned(),
            "null".to_owned(),
        ];
        let keys = ["https://index.docker.io/v1/", "registry.example", "https://Registry.Example:5000/v2/"];
        let each = entries.iter().zip(keys.iter().cycle());
        let files = each.map(|(entry, key)| format!(r#"{{"auths":{{"{key}":{entry}}},"psFormat":"x"}}"#));
        let helpers = r#"{"auths":{"registry.example":{}},"credHelpers":{"registry.example":"ecr-login","registry.example:5000":""},"credsStore":"pass"}"#;
        files.chain([helpers.to_owned()]).map(String::into_bytes).collect()
    }

    fn run(&self, input: &[u8]) {
        let ordinary: Option<Value> = serde_json::from_slice(input).ok();
        for remote in REMOTES {
            let remote = remote.parse().expect("a URL");
            match (bounded(input, || fuzzing::docker_config(input, &remote)), &ordinary) {
                (Ok(given), Some(ordinary)) => stands_there(&given, ordinary),
                // What is not looked at may hold bytes that are no text.
                (Ok(_), None) => {}
                (Err(error), ordinary) => {
                    let is_of_a_key = ordinary.as_ref().is_none_or(is_named);
                    assert!(is_of_a_key || !error.to_string().contains(SECRET), "{error}");
                }
            }
        }
    }
}

/// Whether a key has what else is in secrets alone: keys are told.
fn is_named(ordinary: &Value) -> bool {
    let named = |member: &str| members(ordinary, member).any(|(key, _)| key.contains(SECRET));
    named("auths") || named("credHelpers")
}

/// Nothing is given but what another reader of JSON sees there.
fn stands_there(given: &Given, ordinary: &Value) {
    let mut entries = members(ordinary, "auths").map(|(_, entry)| entry);
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or_default().to_owned();
    let stands = match given {
        Given::Nobody => true,
        Given::Basic(header) => {
            let encoded = header.strip_prefix("Basic ").expect("Basic").to_owned();
            let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).expect("base64")).expect("text");
            entries.any(|entry| {
                let auth = BASE64_STANDARD.decode(text(entry, "auth")).unwrap_or_default();
                let plain = format!("{}:{}", text(entry, "username"), text(entry, "password"));
                let (username, password) = pair.split_once(':').expect("a user and a password");
                assert!(!username.is_empty() && username != "<token>", "{pair}");
                let auth = String::from_utf8(auth).unwrap_or_default();
                let auth = auth.split_once(':').map(|(username, password)| (username, password.trim_matches('\0')));
                auth == Some((username, password)) || plain == pair
            })
        }
        Given::IdentityToken(token) => entries.any(|entry| {
            let auth = BASE64_STANDARD.decode(text(entry, "auth")).unwrap_or_default();
            let auth = String::from_utf8(auth).unwrap_or_default();
            let by_auth = auth.strip_prefix("<token>:").map(|token| token.trim_matches('\0'));
            let is_plain = text(entry, "username") == "<token>" && text(entry, "password") == *token;
            text(entry, "identitytoken") == *token || is_plain || by_auth == Some(token)
        }),
        Given::Helper(program, registry) => {
            let name = program.strip_prefix("docker-credential-").expect("a helper");
            assert!(!name.is_empty() && !name.contains(['/', '\0', ' ']), "{name:?}");
            let own = members(ordinary, "credHelpers").find(|(key, _)| *key == registry);
            own.map_or(&ordinary["credsStore"], |(_, helper)| helper) == name
        }
    };
    assert!(stands, "{given:?} is not in {ordinary}");
}

fn members<'a>(ordinary: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    ordinary[name].as_object().into_iter().flatten()
}

sig_repo_fuzz::target!(DockerConfig);
