//! Trust policy documents as the notation CLI has them: trust store and trust policy specification,
//! "Trust Policy".

mod part;

use std::collections::BTreeSet;

pub use self::part::{PolicyError, PolicyProblem};

use self::part::{Part, document};
use super::{
    identity::Identities,
    store::{StoreKind, StoreName},
};
use crate::{
    oci::{RegistryName, Repository},
    trust::envelope::strict_json::{Object, Value},
};

/// What a document says, one statement after the other.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) name: String,
    pub(super) scope: Scope,
    pub(super) verification: Verification,
    pub(super) stores: Vec<StoreName>,
    pub(super) identities: Identities,
}

/// The repositories that a statement is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    Only(BTreeSet<Repository>),
    /// All but those that another statement of the document names.
    AllBut(BTreeSet<Repository>),
}

/// How much of a signature has to hold. Integrity and authenticity always have to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verification {
    level: &'static str,
    pub(super) authentic_timestamp: Action,
    pub(super) expiry: Action,
    pub(super) revocation: Action,
    /// A timestamp is asked for only once a certificate has expired.
    pub(super) timestamp_after_expiry_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Enforce,
    Log,
    Skip,
}

impl Policy {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let document = Part { statement: None, object: &document(bytes)? };
        document.only(&["version", "trustPolicies"])?;
        if document.string("version")? != "1.0" {
            return Err(document.wrong("version", PolicyProblem::Version));
        }
        let mut statements = Vec::<Statement>::new();
        for value in document.list("trustPolicies")? {
            let Value::Object(object) = value else {
                return Err(document.missing("trustPolicies", "a list of statements"));
            };
            let statement = Statement::parse(object)?;
            if statements.iter().any(|earlier| earlier.name == statement.name) {
                return Err(statement.wrong("name", PolicyProblem::NameTwice));
            }
            statements.push(statement);
        }
        if statements.is_empty() {
            return Err(document.wrong("trustPolicies", PolicyProblem::NoStatement));
        }
        settle_scopes(&mut statements)?;
        Ok(Self { statements })
    }
}

impl Statement {
    fn parse(object: &Object) -> Result<Self, PolicyError> {
        let unnamed = Part { statement: None, object };
        let name = unnamed.string("name")?;
        if name.is_empty() {
            return Err(unnamed.missing("name", "a name"));
        }
        let part = Part { statement: Some(name), object };
        part.only(&["name", "registryScopes", "signatureVerification", "trustStores", "trustedIdentities"])?;
        let scope = Scope::parse(&part)?;
        let verification = Verification::parse(&part)?;
        let stores = part.strings("trustStores", verification.skips())?;
        let identities = part.strings("trustedIdentities", verification.skips())?;
        if verification.skips() && !(stores.is_empty() && identities.is_empty()) {
            return Err(part.wrong("signatureVerification", PolicyProblem::Skip));
        }
        let store = |text: &str| {
            let store = text.parse().map_err(|_| PolicyProblem::Store { store: text.to_owned() });
            store.map_err(|problem| part.wrong("trustStores", problem))
        };
        let stores = stores.into_iter().map(store).collect::<Result<_, _>>()?;
        let identities = Identities::parse(identities).map_err(|flaw| part.wrong("trustedIdentities", flaw.into()))?;
        Ok(Self { name: name.to_owned(), scope, verification, stores, identities })
    }

    /// One statement alone, as a document has it.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, PolicyError> {
        Self::parse(&document(bytes)?)
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let stores: Vec<_> = self.stores.iter().map(ToString::to_string).collect();
        serde_json::json!({
            "name": self.name,
            "registryScopes": self.scope.to_texts(),
            "signatureVerification": self.verification.to_json(),
            "trustStores": stores,
            "trustedIdentities": self.identities.texts(),
        })
    }

    pub(super) fn has_store(&self, kind: StoreKind) -> bool {
        self.stores.iter().any(|store| store.kind == kind)
    }

    fn wrong(&self, field: &'static str, problem: PolicyProblem) -> PolicyError {
        PolicyError { statement: Some(self.name.clone()), field, problem }
    }
}

/// A repository is named by one statement, and what none names is the global statement's.
fn settle_scopes(statements: &mut [Statement]) -> Result<(), PolicyError> {
    let mut named = BTreeSet::new();
    let mut has_global = false;
    for statement in statements.iter() {
        match &statement.scope {
            Scope::Only(repositories) => {
                for repository in repositories {
                    if !named.insert(repository.clone()) {
                        let scope = repository.to_string();
                        return Err(statement.wrong("registryScopes", PolicyProblem::ScopeTwice { scope }));
                    }
                }
            }
            Scope::AllBut(_) if has_global => {
                let scope = WILDCARD.to_owned();
                return Err(statement.wrong("registryScopes", PolicyProblem::ScopeTwice { scope }));
            }
            Scope::AllBut(_) => has_global = true,
        }
    }
    for statement in statements {
        if let Scope::AllBut(others) = &mut statement.scope {
            others.clone_from(&named);
        }
    }
    Ok(())
}

impl Scope {
    fn parse(part: &Part<'_>) -> Result<Self, PolicyError> {
        let scopes = part.strings("registryScopes", false)?;
        if scopes == [WILDCARD] {
            return Ok(Self::AllBut(BTreeSet::new()));
        }
        let mut repositories = BTreeSet::new();
        for scope in scopes {
            let wrong = || part.wrong("registryScopes", PolicyProblem::Scope { scope: scope.to_owned() });
            let (registry, path) = scope.split_once('/').ok_or_else(wrong)?;
            let registry: RegistryName = registry.parse().map_err(|_| wrong())?;
            repositories.insert(Repository::new(&registry, path).map_err(|_| wrong())?);
        }
        Ok(Self::Only(repositories))
    }

    fn to_texts(&self) -> Vec<String> {
        match self {
            Self::Only(repositories) => repositories.iter().map(ToString::to_string).collect(),
            Self::AllBut(_) => vec![WILDCARD.to_owned()],
        }
    }

    /// Whether a signature in this repository is the statement's to judge. Where no repository is asked
    /// about, any that the statement is for will do.
    pub(super) fn includes(&self, repository: Option<&Repository>) -> bool {
        match (self, repository) {
            (_, None) => true,
            (Self::Only(repositories), Some(repository)) => repositories.contains(repository),
            (Self::AllBut(others), Some(repository)) => !others.contains(repository),
        }
    }
}

impl Verification {
    fn parse(part: &Part<'_>) -> Result<Self, PolicyError> {
        let object = match part.member("signatureVerification")? {
            Some(Value::Object(object)) => object,
            _ => return Err(part.missing("signatureVerification", "an object with a level")),
        };
        let part = Part { statement: part.statement, object };
        part.only(&["level", "override", "verifyTimestamp"])?;
        let level = part.string("level")?;
        let wrong = || part.value("level", level, "strict, permissive, audit and skip");
        let mut verification = Self::of(LEVELS.into_iter().find(|known| *known == level).ok_or_else(wrong)?);
        match part.member("override")? {
            Some(Value::Object(overrides)) if overrides.iter().next().is_some() => {
                if verification.skips() {
                    return Err(part.wrong("override", PolicyProblem::Skip));
                }
                for (check, action) in overrides.iter() {
                    verification.set(&part, check, action)?;
                }
            }
            Some(Value::Object(_)) | None => {}
            Some(_) => return Err(part.missing("override", "an object")),
        }
        verification.timestamp_after_expiry_only = match part.member("verifyTimestamp")? {
            None => false,
            Some(Value::String(when)) => match when.as_str() {
                "" | "always" => false,
                "afterCertExpiry" => true,
                _ => return Err(part.value("verifyTimestamp", when, "always and afterCertExpiry")),
            },
            Some(_) => return Err(part.missing("verifyTimestamp", "always or afterCertExpiry")),
        };
        Ok(verification)
    }

    /// Permissive and audit differ in authenticity, which always has to hold with us.
    fn of(level: &'static str) -> Self {
        let action = match level {
            "strict" => Action::Enforce,
            "skip" => Action::Skip,
            _ => Action::Log,
        };
        Self {
            level,
            authentic_timestamp: action,
            expiry: action,
            revocation: action,
            timestamp_after_expiry_only: false,
        }
    }

    /// Nothing is verified, so nothing counts.
    pub(super) fn skips(&self) -> bool {
        self.level == SKIP
    }

    fn to_json(self) -> serde_json::Value {
        let of_level = Self::of(self.level);
        let mut overrides = serde_json::Map::new();
        for (check, action, usual) in [
            ("authenticTimestamp", self.authentic_timestamp, of_level.authentic_timestamp),
            ("expiry", self.expiry, of_level.expiry),
            ("revocation", self.revocation, of_level.revocation),
        ] {
            if action != usual {
                overrides.insert(check.to_owned(), action.as_str().into());
            }
        }
        let mut json = serde_json::json!({ "level": self.level });
        if !overrides.is_empty() {
            json["override"] = overrides.into();
        }
        if self.timestamp_after_expiry_only {
            json["verifyTimestamp"] = "afterCertExpiry".into();
        }
        json
    }

    fn set(&mut self, part: &Part<'_>, check: &str, action: &Value) -> Result<(), PolicyError> {
        let Value::String(text) = action else { return Err(part.missing("override", "enforce or log")) };
        let action = match (text.as_str(), check) {
            ("enforce", _) => Action::Enforce,
            ("log", _) => Action::Log,
            ("skip", "revocation") => Action::Skip,
            (_, "revocation") => return Err(part.value("override", text, "enforce, log and skip")),
            _ => return Err(part.value("override", text, "enforce and log")),
        };
        match check {
            // It has to hold whatever the document says.
            "authenticity" => {}
            "authenticTimestamp" => self.authentic_timestamp = action,
            "expiry" => self.expiry = action,
            "revocation" => self.revocation = action,
            _ => return Err(part.value("override", check, "authenticity, authenticTimestamp, expiry and revocation")),
        }
        Ok(())
    }
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Skip => "skip",
        }
    }
}

const SKIP: &str = "skip";
const LEVELS: [&str; 4] = ["strict", "permissive", "audit", SKIP];
const WILDCARD: &str = "*";
