use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    certificate::Certificate,
    policy::{Scope, Statement},
    store::{StoreKind, StoreName, Stores},
};
use crate::oci::Repository;

/// A statement of a trust policy with the stores that it names: whose signatures it says count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotationCredential {
    statement: Statement,
    stores: Stores,
}

impl NotationCredential {
    pub(super) fn new(statement: Statement, stores: &Stores) -> Self {
        let stores = stores.only(&statement.stores);
        Self { statement, stores }
    }

    /// The statement's name.
    pub fn name(&self) -> &str {
        &self.statement.name
    }

    /// The one form in which it is written.
    pub(in crate::trust) fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a statement and certificates can be written")
    }

    /// The stores that the statement names and that hold nothing.
    pub(super) fn empty_stores(&self) -> impl Iterator<Item = &StoreName> {
        self.statement.stores.iter().filter(|store| !self.stores.has(store))
    }

    pub(super) fn statement(&self) -> &Statement {
        &self.statement
    }

    pub(super) fn certificates(&self, kind: StoreKind) -> impl Iterator<Item = &Arc<Certificate>> {
        self.stores.of_kind(kind)
    }
}

/// The statement is as a document has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    statement: serde_json::Value,
    /// PEM, by the names that the statement has for stores.
    #[serde(default)]
    certificates: BTreeMap<String, String>,
    /// What other statements of the same document are for, where this one is for all else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<Repository>,
}

impl Serialize for NotationCredential {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let except = match &self.statement.scope {
            Scope::AllBut(others) => others.iter().cloned().collect(),
            Scope::Only(_) => Vec::new(),
        };
        let statement = self.statement.to_json();
        Wire { statement, certificates: self.stores.to_pem(), except }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NotationCredential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { statement, certificates, except } = Wire::deserialize(deserializer)?;
        let statement = statement.to_string();
        let mut statement = Statement::from_json(statement.as_bytes()).map_err(Error::custom)?;
        if let Scope::AllBut(others) = &mut statement.scope {
            others.extend(except);
        } else if !except.is_empty() {
            return Err(Error::custom("except: only a statement for \"*\" has exceptions"));
        }
        let mut stores = Stores::default();
        for (store, pem) in certificates {
            let name: StoreName = store.parse().map_err(|error| Error::custom(format!("certificates: {error}")))?;
            if !statement.stores.contains(&name) {
                return Err(Error::custom(format!("certificates: the statement names no store {name}")));
            }
            let added = stores.add(name, pem.as_bytes());
            added.map_err(|flaw| Error::custom(format!("certificates: {store}: {flaw}")))?;
        }
        let credential = Self { statement, stores };
        let missing = credential.empty_stores().next().map(ToString::to_string);
        match missing {
            Some(store) => Err(Error::custom(format!("certificates: those of {store} are missing"))),
            None => Ok(credential),
        }
    }
}
