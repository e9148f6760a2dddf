use std::collections::BTreeMap;

use super::members::{self, MemberFlaw};
use crate::{oci::Digest, trust::envelope::strict_json::Value};

/// An in-toto statement: what the payload of a DSSE envelope says of which artifacts.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    subjects: Vec<StatedSubject>,
    predicate: Predicate,
}

#[derive(Debug, Clone)]
struct StatedSubject {
    /// Those of its digests that an image could have.
    digests: Vec<Digest>,
    annotations: BTreeMap<String, String>,
}

/// What is said; only one of the two is a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predicate {
    /// What `cosign sign` says: that somebody signed the image.
    CosignSign,
    /// Anything else, as SBOMs, provenance and scans: whoever says it need not have approved the image.
    Attestation,
}

impl Statement {
    /// None where it is no in-toto statement of a version that we know.
    pub(super) fn parse(payload: &[u8]) -> Result<Option<Self>, MemberFlaw> {
        // An SBOM has more values than a signature ever could, and nothing depends on them.
        let statement = members::document_without(payload, "payload", "predicate")?;
        if !TYPES.contains(&members::text(&statement, "_type")?) {
            return Ok(None);
        }
        let predicate = match members::text(&statement, "predicateType")? {
            // It says little; what is larger only costs time.
            COSIGN_SIGN if payload.len() > MAX_SIGN_BYTES => {
                return Err(MemberFlaw::TooLarge { name: "payload", limit: MAX_SIGN_BYTES });
            }
            COSIGN_SIGN => Predicate::CosignSign,
            _ => Predicate::Attestation,
        };
        let subjects = members::objects(&statement, "subject", MAX_SUBJECTS)?;
        let subjects = subjects.into_iter().map(StatedSubject::parse).collect::<Result<_, _>>()?;
        Ok(Some(Self { subjects, predicate }))
    }

    pub(super) fn predicate(&self) -> Predicate {
        self.predicate
    }

    /// What is noted beside this image, or none where the statement does not speak of it.
    pub(super) fn labels_of(&self, image: &Digest) -> Option<&BTreeMap<String, String>> {
        self.subjects.iter().find(|subject| subject.digests.contains(image)).map(|subject| &subject.annotations)
    }

    /// An image that it does speak of.
    pub(super) fn first_digest(&self) -> Option<Digest> {
        self.subjects.iter().find_map(|subject| subject.digests.first()).copied()
    }
}

impl StatedSubject {
    fn parse(subject: &crate::trust::envelope::strict_json::Object) -> Result<Self, MemberFlaw> {
        let mut digests = Vec::new();
        for (algorithm, value) in members::object(subject, "digest")?.iter() {
            match value {
                Value::String(value) if matches!(algorithm, "sha256" | "sha512") => {
                    let digest = format!("{algorithm}:{value}").parse();
                    digests.push(digest.map_err(|_| MemberFlaw::Hex { name: "digest" })?);
                }
                Value::String(_) => {}
                _ => return Err(MemberFlaw::Kind { name: "digest" }),
            }
        }
        let annotations = members::optional_object(subject, "annotations")?;
        let annotations = annotations.map(|object| object.strings()).unwrap_or_default();
        Ok(Self { digests, annotations })
    }
}

const TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const MAX_SUBJECTS: usize = 1024;
const MAX_SIGN_BYTES: usize = 128 << 10;
