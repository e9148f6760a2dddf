//! What a `docker-credential-` program answers to `get`.

#![no_main]

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use sig_repo::upstream::fuzzing::{self, Given};
use sig_repo_fuzz::{Target, bounded};

struct CredentialHelper;

impl Target for CredentialHelper {
    fn new() -> Self {
        Self
    }

    fn seeds() -> Vec<Vec<u8>> {
        [
            r#"{"ServerURL":"https://registry.example","Username":"AWS","Secret":"hunter2"}"#,
            r#"{"ServerURL":"registry.example:5000","Username":"team","Secret":"h\u00fcnter:2\n","More":[1,{"a":null}]}"#,
            r#"{"Username":"<token>","Secret":"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}"#,
            r#"{"ServerURL":"https://registry.example","Username":"","Secret":""}"#,
            r#"["AWS","hunter2"]"#,
            "credentials not found in native keychain\n",
        ]
        .map(|answer| answer.as_bytes().to_vec())
        .to_vec()
    }

    fn run(&self, input: &[u8]) {
        let Ok(given) = bounded(input, || fuzzing::credential_helper(input)) else { return };
        // What is not looked at may hold bytes that are no text.
        let Ok(ordinary) = serde_json::from_slice::<Value>(input) else { return };
        let text = |member: &str| ordinary[member].as_str().expect("it was read");
        let (username, secret) = (text("Username"), text("Secret"));
        match given {
            Given::Nobody => assert_eq!((username, secret), ("", "")),
            Given::Basic(header) => {
                assert!(!username.contains(':') && username != "<token>", "{username}");
                assert!(!username.is_empty() && !secret.is_empty(), "{input:?}");
                let pair = BASE64_STANDARD.encode(format!("{username}:{secret}"));
                assert_eq!(header, format!("Basic {pair}"));
            }
            Given::IdentityToken(token) => assert_eq!((username, secret), ("<token>", token.as_str())),
            Given::Helper(program, _) => panic!("{program} was told of by another helper"),
        }
    }
}

sig_repo_fuzz::target!(CredentialHelper);
