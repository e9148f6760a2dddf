//! Every kind of signature that cosign makes here, the forgeries beside them, and cosign's own opinion of each. `tests/fixtures/sigstore` is what a
//! run of this left there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    artifacts::Artifact,
    cosign::{Build, By, Form, Kind},
    forgeries::Forgery,
    issuer::Identity,
    keys::Algorithm,
    trust::{Log, Witnesses},
};
use crate::world::{inside, variable};

/// Where [`FIXTURES`] names a directory, each is also left there.
#[test]
#[ignore = "needs root, real clients and servers that are compiled: tests/run --all"]
fn cosign_accepts_what_it_signs_but_ed25519ph_and_refuses_forgeries() {
    inside(|world| {
        let lab = world.lab();
        let image = world.registry.publish_in("lab", "v1");
        let out = variable(FIXTURES).map(PathBuf::from);
        for kind in kinds() {
            lab.sign(world, kind, &image);
            let verified = lab.verify(world, kind, &image);
            assert_eq!(verified.ok, !kind.is_ed25519ph(), "{kind:?}: {}", verified.output);
            let artifact = lab.take(world, kind, &image);
            if let Some(directory) = &out {
                artifact.write(&directory.join(kind.name()));
            }
        }
        for forgery in Forgery::ALL {
            let bundle = lab.forge(world, forgery, PERSON, &image);
            let by = By::Unlogged(PERSON);
            let kind = Kind { form: Form::Blob, build: Build::Three, by, witnesses: TSA, annotated: false };
            let verified = lab.verify(world, kind, &image);
            assert_eq!(verified.ok, forgery.deceives_cosign(), "{forgery:?}: {}", verified.output);
            if let Some(directory) = &out {
                Artifact::Bundle(bundle).write(&directory.join("forged").join(forgery.name()));
            }
        }
        let Some(directory) = &out else { return };
        fs::write(directory.join("manifest.json"), world.registry.manifest_of(&image)).unwrap();
        lab.write_public_parts(directory);
    });
}

impl Artifact {
    fn write(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self {
            Self::Bundle(bundle) => fs::write(path.with_extension("json"), bundle).unwrap(),
            Self::Classic { payload, annotations } => {
                fs::create_dir_all(path).unwrap();
                fs::write(path.join("payload.json"), payload).unwrap();
                fs::write(path.join("annotations.json"), serde_json::to_vec_pretty(annotations).unwrap()).unwrap();
            }
        }
    }
}

impl Kind {
    /// cosign 3 signs so in the classic form and verifies it as if it were plain Ed25519.
    fn is_ed25519ph(self) -> bool {
        self.form == Form::Classic && self.build == Build::Three && self.by == By::Key(Algorithm::Ed25519)
    }

    /// The fixture's.
    fn name(self) -> String {
        let form = match self.form {
            Form::Bundle if matches!(self.by, By::Unlogged(_)) => "unlogged/",
            Form::Bundle => "bundle/",
            Form::Attestation => "bundle/attestation-",
            Form::Blob => "blob/",
            Form::Classic => "classic/",
        };
        let by = match self.by {
            By::Key(algorithm) => format!("key-{}", algorithm.name()),
            By::Identity(Identity::Person(_)) | By::Unlogged(Identity::Person(_)) => "keyless".to_owned(),
            By::Identity(Identity::Workflow(_)) | By::Unlogged(Identity::Workflow(_)) => "keyless-github".to_owned(),
        };
        let annotated = if self.annotated { "-annotated" } else { "" };
        let log = self.witnesses.log.map_or("", |log| match log {
            Log::First => "-rekor1",
            Log::Second => "-rekor2",
        });
        let timestamp = if self.witnesses.timestamp { "-tsa" } else { "" };
        let none = if self.witnesses == NONE { "-none" } else { "" };
        let build = if self.form == Form::Classic && self.build == Build::Three { "-cosign3" } else { "" };
        format!("{form}{by}{annotated}{log}{timestamp}{none}{build}")
    }
}

fn kinds() -> Vec<Kind> {
    use Algorithm::{Ed25519, P256, P384, P521, Rsa};
    use By::{Identity as As, Key, Unlogged};
    use Form::{Attestation, Blob, Bundle, Classic};

    let mut kinds = Vec::new();
    let mut all = |form, signers: &[By], witnesses: &[Witnesses]| {
        let build = if form == Classic { Build::Two } else { Build::Three };
        for &by in signers {
            kinds.extend(witnesses.iter().map(|&witnesses| Kind { form, build, by, witnesses, annotated: false }));
        }
    };
    all(Bundle, &[As(PERSON)], &[REKOR_1, REKOR_1_TSA, REKOR_2_TSA, TSA]);
    all(Bundle, &[As(WORKFLOW)], &[REKOR_1, REKOR_2_TSA]);
    all(Bundle, &[Unlogged(PERSON)], &[REKOR_2_TSA]);
    all(Bundle, &[Key(P256)], &[REKOR_1, REKOR_1_TSA, REKOR_2_TSA, TSA, NONE]);
    // It cannot sign a bundle with an Ed25519 key.
    all(Bundle, &[Key(P384), Key(P521), Key(Rsa)], &[REKOR_2_TSA, NONE]);
    all(Attestation, &[As(PERSON)], &[REKOR_1, REKOR_2_TSA]);
    all(Attestation, &[Key(P256)], &[NONE]);
    all(Blob, &[As(PERSON)], &[REKOR_1, REKOR_2_TSA]);
    all(Blob, &[Key(P256)], &[REKOR_1]);
    all(Blob, &[Key(P256), Key(P384), Key(P521), Key(Rsa)], &[REKOR_2_TSA, NONE]);
    all(Classic, &[As(PERSON)], &[REKOR_1, REKOR_1_TSA, TSA]);
    all(Classic, &[As(WORKFLOW)], &[REKOR_1]);
    all(Classic, &[Key(P256)], &[REKOR_1_TSA, TSA]);
    // The log takes no other key's signature over SHA-256, which is what cosign 2 makes with every key.
    all(Classic, &[Key(P256), Key(Rsa)], &[REKOR_1]);
    all(Classic, &[Key(P256), Key(P384), Key(P521), Key(Rsa), Key(Ed25519)], &[NONE]);

    kinds.extend([
        Kind { form: Bundle, build: Build::Three, by: As(PERSON), witnesses: REKOR_2_TSA, annotated: true },
        Kind { form: Classic, build: Build::Two, by: Key(P256), witnesses: NONE, annotated: true },
    ]);
    // cosign 3 signs as cosign 2 does with P-256 alone: with other keys over the hash that goes with the key.
    for (by, witnesses) in [
        (As(PERSON), REKOR_1_TSA),
        (Key(P256), REKOR_1),
        (Key(P384), REKOR_1),
        (Key(P384), NONE),
        (Key(P521), REKOR_1),
        (Key(Ed25519), REKOR_1),
    ] {
        kinds.push(Kind { form: Classic, build: Build::Three, by, witnesses, annotated: false });
    }
    kinds
}

pub(super) const PERSON: Identity = Identity::Person("dev@lab.example");
pub(super) const WORKFLOW: Identity = Identity::Workflow("team/app");

const NONE: Witnesses = Witnesses { log: None, timestamp: false };
const TSA: Witnesses = Witnesses { log: None, timestamp: true };
pub(super) const REKOR_1: Witnesses = Witnesses { log: Some(Log::First), timestamp: false };
const REKOR_1_TSA: Witnesses = Witnesses { log: Some(Log::First), timestamp: true };
pub(super) const REKOR_2_TSA: Witnesses = Witnesses { log: Some(Log::Second), timestamp: true };

/// The variable.
const FIXTURES: &str = "SIG_REPO_FIXTURES";
