//! Who signs without a key of his own: whom an authority named, and whom we believe.

use std::{collections::BTreeMap, fmt};

use regex_lite::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use x509_cert::der::asn1::ObjectIdentifier;

use super::rejection::SigstoreRejection;
use crate::trust::SignerId;

/// Whom a certificate names. Only one whose issuer is believed says the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// An e-mail address, a URI or a user name.
    pub(super) subject: String,
    /// Who vouched for the subject: the URL of an issuer of OpenID identities.
    pub(super) issuer: String,
    pub(super) claims: BTreeMap<Claim, String>,
}

impl Identity {
    /// Stands for whom it names, whatever else the certificate claims.
    pub(super) fn digest(&self) -> [u8; 32] {
        let issuer = self.issuer.len().to_be_bytes();
        let text = [b"keyless ".as_slice(), &issuer, self.issuer.as_bytes(), self.subject.as_bytes()].concat();
        *SignerId::of(&text).as_bytes()
    }
}

/// Whose signatures count: those of every subject and issuer that match, with every claim demanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "KeylessForm", into = "KeylessForm")]
pub struct Keyless {
    issuer: Matcher,
    subject: Matcher,
    claims: BTreeMap<Claim, Matcher>,
}

/// A text, or a pattern that must match from its first to its last character.
#[derive(Debug, Clone)]
pub enum Matcher {
    Exact(String),
    Pattern(Box<Regex>, String),
}

/// A [`Keyless`] as signer files and the API write it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeylessForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject_pattern: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<Claim, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    claim_patterns: BTreeMap<Claim, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeylessError {
    #[error(
        "{name} is missing: {name} or {name}_pattern is expected, because who vouches for whom is half of an identity"
    )]
    Missing { name: &'static str },
    #[error("{name} and {name}_pattern exclude each other")]
    Both { name: &'static str },
    #[error("the claim {claim} stands in claims and in claim_patterns")]
    ClaimTwice { claim: Claim },
    #[error("{name} is empty")]
    Empty { name: &'static str },
    #[error("{name} has at most {MAX_TEXT_BYTES} bytes")]
    TooLong { name: &'static str },
    #[error("{name}_pattern is not a regular expression, or one that grows too large")]
    Pattern { name: &'static str },
}

impl Keyless {
    pub fn new(issuer: Matcher, subject: Matcher, claims: BTreeMap<Claim, Matcher>) -> Self {
        Self { issuer, subject, claims }
    }

    /// Whether `identity` is one of those, and if not, what is not as demanded.
    pub(super) fn admits(&self, identity: &Identity) -> Result<(), SigstoreRejection> {
        if !self.issuer.matches(&identity.issuer) {
            return Err(SigstoreRejection::Issuer);
        }
        if !self.subject.matches(&identity.subject) {
            return Err(SigstoreRejection::Identity);
        }
        let unmet = |(claim, matcher): &(&Claim, &Matcher)| {
            !identity.claims.get(claim).is_some_and(|value| matcher.matches(value))
        };
        match self.claims.iter().find(unmet) {
            Some((claim, _)) => Err(SigstoreRejection::Claim { claim: *claim }),
            None => Ok(()),
        }
    }

    /// The same for the same demands, in whatever file or order they stand, and for no others.
    pub(in crate::trust) fn canonical(&self) -> Vec<u8> {
        let mut canonical = Vec::new();
        let mut part = |name: &str, matcher: &Matcher| {
            let (kind, text) = match matcher {
                Matcher::Exact(text) => ("exact", text),
                Matcher::Pattern(_, text) => ("pattern", text),
            };
            for text in [name, kind, text] {
                canonical.extend((text.len() as u64).to_be_bytes());
                canonical.extend(text.as_bytes());
            }
        };
        part("keyless issuer", &self.issuer);
        part("keyless subject", &self.subject);
        self.claims.iter().for_each(|(claim, matcher)| part(claim.name(), matcher));
        canonical
    }
}

impl Matcher {
    pub fn exact(text: &str, name: &'static str) -> Result<Self, KeylessError> {
        checked(text, name)?;
        Ok(Self::Exact(text.to_owned()))
    }

    pub fn pattern(text: &str, name: &'static str) -> Result<Self, KeylessError> {
        checked(text, name)?;
        let build = |text: &str| RegexBuilder::new(text).size_limit(MAX_PATTERN_BYTES).build();
        // Alone first: `a)|(?:b` would break out of what anchors it. A comment of verbose mode at the end
        // would swallow the bracket, and so is an error.
        let anchored = build(text).and_then(|_| build(&format!(r"\A(?:{text})\z")));
        Ok(Self::Pattern(Box::new(anchored.map_err(|_| KeylessError::Pattern { name })?), text.to_owned()))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == text,
            Self::Pattern(pattern, _) => pattern.is_match(text),
        }
    }
}

fn checked(text: &str, name: &'static str) -> Result<(), KeylessError> {
    match text.len() {
        0 => Err(KeylessError::Empty { name }),
        1..=MAX_TEXT_BYTES => Ok(()),
        _ => Err(KeylessError::TooLong { name }),
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(one), Self::Exact(other)) => one == other,
            (Self::Pattern(_, one), Self::Pattern(_, other)) => one == other,
            (Self::Exact(_), Self::Pattern(..)) | (Self::Pattern(..), Self::Exact(_)) => false,
        }
    }
}

impl Eq for Matcher {}

impl TryFrom<KeylessForm> for Keyless {
    type Error = KeylessError;

    fn try_from(form: KeylessForm) -> Result<Self, KeylessError> {
        let one = |exact: Option<String>, pattern: Option<String>, name| match (exact, pattern) {
            (Some(text), None) => Matcher::exact(&text, name),
            (None, Some(text)) => Matcher::pattern(&text, name),
            (None, None) => Err(KeylessError::Missing { name }),
            (Some(_), Some(_)) => Err(KeylessError::Both { name }),
        };
        let mut claims = BTreeMap::new();
        for (claim, text) in form.claims {
            claims.insert(claim, Matcher::exact(&text, claim.name())?);
        }
        for (claim, text) in form.claim_patterns {
            if claims.insert(claim, Matcher::pattern(&text, claim.name())?).is_some() {
                return Err(KeylessError::ClaimTwice { claim });
            }
        }
        Ok(Self {
            issuer: one(form.issuer, form.issuer_pattern, "issuer")?,
            subject: one(form.subject, form.subject_pattern, "subject")?,
            claims,
        })
    }
}

impl From<Keyless> for KeylessForm {
    fn from(keyless: Keyless) -> Self {
        let split = |matcher| match matcher {
            Matcher::Exact(text) => (Some(text), None),
            Matcher::Pattern(_, text) => (None, Some(text)),
        };
        let (issuer, issuer_pattern) = split(keyless.issuer);
        let (subject, subject_pattern) = split(keyless.subject);
        let mut form = Self { issuer, issuer_pattern, subject, subject_pattern, ..Self::default() };
        for (claim, matcher) in keyless.claims {
            match matcher {
                Matcher::Exact(text) => form.claims.insert(claim, text),
                Matcher::Pattern(_, text) => form.claim_patterns.insert(claim, text),
            };
        }
        form
    }
}

macro_rules! claims {
    ($($variant:ident $name:literal $number:literal,)*) => {
        /// What an authority certifies of a signer's circumstances, by the names of its documentation.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Claim { $($variant,)* }

        impl Claim {
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$variant),*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)* }
            }
        }
    };
}

claims! {
    GithubWorkflowTrigger "github_workflow_trigger" 2,
    GithubWorkflowSha "github_workflow_sha" 3,
    GithubWorkflowName "github_workflow_name" 4,
    GithubWorkflowRepository "github_workflow_repository" 5,
    GithubWorkflowRef "github_workflow_ref" 6,
    BuildSignerUri "build_signer_uri" 9,
    BuildSignerDigest "build_signer_digest" 10,
    RunnerEnvironment "runner_environment" 11,
    SourceRepositoryUri "source_repository_uri" 12,
    SourceRepositoryDigest "source_repository_digest" 13,
    SourceRepositoryRef "source_repository_ref" 14,
    SourceRepositoryIdentifier "source_repository_identifier" 15,
    SourceRepositoryOwnerUri "source_repository_owner_uri" 16,
    SourceRepositoryOwnerIdentifier "source_repository_owner_identifier" 17,
    BuildConfigUri "build_config_uri" 18,
    BuildConfigDigest "build_config_digest" 19,
    BuildTrigger "build_trigger" 20,
    RunInvocationUri "run_invocation_uri" 21,
    SourceRepositoryVisibility "source_repository_visibility" 22,
    DeploymentEnvironment "deployment_environment" 23,
    TokenSubject "token_subject" 24,
}

impl Claim {
    pub(super) fn oid(self) -> ObjectIdentifier {
        FULCIO.push_arc(self.number()).expect("one more arc fits")
    }

    /// The oldest extensions hold text without any ASN.1 around it.
    pub(super) fn is_raw(self) -> bool {
        self.number() < 7
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
const MAX_TEXT_BYTES: usize = 1024;
/// Of the compiled pattern, so that matching stays cheap however it was written.
const MAX_PATTERN_BYTES: usize = 64 << 10;
