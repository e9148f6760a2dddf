//! Anonymous tokens for what is public, and one account for the rest and for pushes.

use std::{collections::HashMap, fmt::Write};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use parking_lot::Mutex;

/// The Hub's only account.
pub(crate) const ACCOUNT: (&str, &str) = ("harbour", "a pass phrase");

/// Repositories under this name are for the account alone.
const PRIVATE: &str = "private/";

#[derive(Default)]
pub(super) struct Tokens {
    given: Mutex<HashMap<String, Vec<Grant>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    repository: String,
    push: bool,
}

/// The credentials of a token request are somebody else's.
pub(super) struct WrongPassword;

impl Tokens {
    /// A token for those of the scopes that the asker may have; like the Hub's, it is given also when none is left.
    pub(super) fn give(&self, scopes: &[String], credentials: Option<&HeaderValue>) -> Result<String, WrongPassword> {
        let account = match credentials {
            None => false,
            Some(value) if *value == basic(ACCOUNT.0, ACCOUNT.1) => true,
            Some(_) => return Err(WrongPassword),
        };
        let grants = scopes.iter().flat_map(|scope| scope.split(' ')).filter_map(Grant::from_scope);
        let grants: Vec<Grant> = grants
            .filter(|grant| account || !grant.repository.starts_with(PRIVATE))
            .map(|grant| Grant { push: grant.push && account, ..grant })
            .collect();
        let mut given = self.given.lock();
        let mut token = format!("token-{}-", given.len());
        for grant in &grants {
            write!(token, "{}", hex::encode(&grant.repository)).unwrap();
        }
        given.insert(token.clone(), grants);
        Ok(token)
    }

    /// Whether this Authorization reaches that repository.
    pub(super) fn admit(&self, authorization: Option<&HeaderValue>, repository: &str, push: bool) -> bool {
        let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let given = self.given.lock();
        token
            .and_then(|token| given.get(token))
            .is_some_and(|grants| grants.iter().any(|grant| grant.repository == repository && (grant.push || !push)))
    }

    /// Whether it is a token of ours at all, which is what `/v2/` asks.
    pub(super) fn know(&self, authorization: Option<&HeaderValue>) -> bool {
        let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        token.is_some_and(|token| self.given.lock().contains_key(token))
    }
}

impl Grant {
    fn from_scope(scope: &str) -> Option<Self> {
        let (repository, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        Some(Self { repository: repository.to_owned(), push: actions.split(',').any(|action| action == "push") })
    }
}

pub(super) fn basic(username: &str, password: &str) -> HeaderValue {
    let credentials = BASE64_STANDARD.encode(format!("{username}:{password}"));
    format!("Basic {credentials}").parse().expect("base64 is ASCII")
}
