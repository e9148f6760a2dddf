//! Signed metadata: what a role says, and by whom it is signed.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{Algorithm, SHA256, SHA512, digest};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    super::envelope::strict_json,
    error::{TufFlaw, TufRole},
    key::KeyDescription,
};

/// What stands in one file, whoever signed it.
pub(super) struct Metadata<T> {
    pub(super) version: u64,
    pub(super) expires: Timestamp,
    pub(super) content: T,
    /// What the signatures are over.
    canonical: Vec<u8>,
    signatures: Vec<Signature>,
}

pub(super) trait Content: DeserializeOwned {
    const ROLE: TufRole;
}

#[derive(Deserialize)]
pub(super) struct Root {
    #[serde(default)]
    pub(super) consistent_snapshot: bool,
    keys: BTreeMap<String, KeyDescription>,
    roles: Roles,
}

#[derive(Deserialize)]
struct Roles {
    root: Role,
    timestamp: Role,
    snapshot: Role,
    targets: Role,
}

#[derive(Deserialize)]
struct Role {
    keyids: Vec<String>,
    threshold: u64,
}

#[derive(Deserialize)]
pub(super) struct TimestampContent {
    meta: BTreeMap<String, Pin>,
}

#[derive(Deserialize)]
pub(super) struct Snapshot {
    pub(super) meta: BTreeMap<String, Pin>,
}

#[derive(Deserialize)]
pub(super) struct Targets {
    pub(super) targets: BTreeMap<String, Target>,
}

/// What one file says of another.
#[derive(Clone, Deserialize)]
pub(super) struct Pin {
    pub(super) version: u64,
    pub(super) length: Option<u64>,
    hashes: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Deserialize)]
pub(super) struct Target {
    pub(super) length: u64,
    hashes: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Envelope {
    signed: Value,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "_type")]
    role: String,
    spec_version: String,
    version: u64,
    expires: Timestamp,
}

impl<T: Content> Metadata<T> {
    /// Reads what a file says, in which nothing is verified yet.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TufFlaw> {
        let form = |what| TufFlaw::Form { role: T::ROLE, what };
        // Bounds it, and refuses what two readers would read differently.
        strict_json::parse(bytes)?;
        let Envelope { signed, signatures } =
            serde_json::from_slice(bytes).map_err(|_| form("\"signed\" or \"signatures\""))?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(TufFlaw::TooManySignatures);
        }
        let head = Head::deserialize(&signed)
            .map_err(|_| form("one of \"_type\", \"spec_version\", \"version\" and \"expires\""))?;
        if head.role != T::ROLE.to_string() {
            return Err(form("\"_type\""));
        }
        if head.spec_version.split('.').next() != Some("1") {
            return Err(form("\"spec_version\""));
        }
        if head.version == 0 {
            return Err(form("\"version\""));
        }
        let mut canonical = Vec::with_capacity(bytes.len());
        write_canonical(&signed, &mut canonical)?;
        let content = T::deserialize(signed).map_err(|_| form("what the role says"))?;
        Ok(Self { version: head.version, expires: head.expires, content, canonical, signatures })
    }

    /// Section 5: a threshold of the keys that a root names for the role has signed it. A key counts
    /// once, under how many ids it may stand there.
    pub(super) fn verify_by(&self, root: &Metadata<Root>) -> Result<(), TufFlaw> {
        let Role { keyids, threshold } = root.content.role(T::ROLE);
        if *threshold == 0 {
            return Err(TufFlaw::Form { role: TufRole::Root, what: "a threshold of at least 1" });
        }
        if keyids.len() > MAX_SIGNATURES {
            return Err(TufFlaw::TooManySignatures);
        }
        let mut signers = BTreeSet::new();
        for signature in self.signatures.iter().filter(|signature| keyids.contains(&signature.keyid)) {
            let key = root.content.keys.get(&signature.keyid).and_then(KeyDescription::read);
            // Empty where a signer is expected and has not signed yet.
            let bytes = hex::decode(&signature.sig).ok().filter(|bytes| !bytes.is_empty());
            if let (Some(key), Some(bytes)) = (key, bytes)
                && key.verifies(&self.canonical, &bytes)
            {
                signers.insert(key.id());
            }
        }
        match signers.len() {
            found if (found as u64) < *threshold => {
                Err(TufFlaw::Threshold { role: T::ROLE, root: root.version, found, threshold: *threshold })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_valid_at(&self, now: Timestamp) -> Result<(), TufFlaw> {
        match self.expires > now {
            true => Ok(()),
            false => Err(TufFlaw::Expired { role: T::ROLE, version: self.version, at: self.expires, now }),
        }
    }

    pub(super) fn has_version(&self, expected: u64) -> Result<(), TufFlaw> {
        match self.version == expected {
            true => Ok(()),
            false => Err(TufFlaw::Version { role: T::ROLE, found: self.version, expected }),
        }
    }

    /// Whether both say the same; who signed it may differ.
    pub(super) fn says_what(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Root {
    fn role(&self, role: TufRole) -> &Role {
        match role {
            TufRole::Root => &self.roles.root,
            TufRole::Timestamp => &self.roles.timestamp,
            TufRole::Snapshot => &self.roles.snapshot,
            TufRole::Targets => &self.roles.targets,
        }
    }
}

impl TimestampContent {
    pub(super) fn snapshot(&self) -> Result<&Pin, TufFlaw> {
        self.meta.get(SNAPSHOT_FILE).ok_or_else(|| TufFlaw::NotListed { file: SNAPSHOT_FILE.to_owned() })
    }
}

impl Pin {
    /// A pin without length or hashes leaves it at the version, which is signed too.
    pub(super) fn admits(&self, bytes: &[u8]) -> Result<(), TufFlaw> {
        if let Some(expected) = self.length {
            has_length(bytes, expected)?;
        }
        self.hashes.as_ref().map_or(Ok(()), |hashes| has_hashes(bytes, hashes))
    }
}

impl Target {
    pub(super) fn admits(&self, bytes: &[u8]) -> Result<(), TufFlaw> {
        has_length(bytes, self.length)?;
        has_hashes(bytes, &self.hashes)
    }

    /// The hash that its file is named by; digits only, so that it leads nowhere else.
    pub(super) fn hash(&self) -> Result<String, TufFlaw> {
        let digits = HASHES.iter().find_map(|(name, _)| self.hashes.get(*name)).ok_or(TufFlaw::NoHash)?;
        Ok(hex::encode(hex::decode(digits).map_err(|_| TufFlaw::NoHash)?))
    }
}

fn has_length(bytes: &[u8], expected: u64) -> Result<(), TufFlaw> {
    match bytes.len() as u64 {
        found if found == expected => Ok(()),
        found => Err(TufFlaw::Length { found, expected }),
    }
}

/// All of them that we know, and of these one at least.
fn has_hashes(bytes: &[u8], hashes: &BTreeMap<String, String>) -> Result<(), TufFlaw> {
    let known = HASHES.iter().filter_map(|(name, algorithm)| Some((*name, *algorithm, hashes.get(*name)?)));
    let mut none = true;
    for (name, algorithm, digits) in known {
        let expected = hex::decode(digits).map_err(|_| TufFlaw::NoHash)?;
        if digest(algorithm, bytes).as_ref() != expected {
            return Err(TufFlaw::Hash { algorithm: name });
        }
        none = false;
    }
    if none { Err(TufFlaw::NoHash) } else { Ok(()) }
}

/// The canonical JSON of securesystemslib, which is not RFC 8785: only quotes and backslashes are
/// escaped, members stand in the order of their bytes, numbers are integers.
fn write_canonical(value: &Value, out: &mut Vec<u8>) -> Result<(), TufFlaw> {
    match value {
        Value::Null | Value::Bool(_) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::Number(_) => return Err(TufFlaw::NotCanonical),
        Value::String(text) => write_string(text, out),
        Value::Array(values) => {
            out.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_canonical(value, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here: a feature of serde_json that any crate may turn on keeps the order of the text.
            let members: BTreeMap<_, _> = members.iter().collect();
            out.push(b'{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_canonical(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

impl Content for Root {
    const ROLE: TufRole = TufRole::Root;
}

impl Content for TimestampContent {
    const ROLE: TufRole = TufRole::Timestamp;
}

impl Content for Snapshot {
    const ROLE: TufRole = TufRole::Snapshot;
}

impl Content for Targets {
    const ROLE: TufRole = TufRole::Targets;
}

const SNAPSHOT_FILE: &str = "snapshot.json";
pub(super) const TARGETS_FILE: &str = "targets.json";
const HASHES: [(&str, &Algorithm); 2] = [("sha256", &SHA256), ("sha512", &SHA512)];
/// Also of the keys of one role; sigstore's root has five.
pub(super) const MAX_SIGNATURES: usize = 64;
