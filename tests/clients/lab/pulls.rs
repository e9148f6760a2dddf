//! What cosign signs here, on its way from the Hub to whoever pulls.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;

use super::{
    Lab,
    artifacts::Artifact,
    cosign::{Build, By, Form, Kind},
    fixtures::{PERSON, REKOR_1, REKOR_2_TSA, WORKFLOW},
    issuer::Identity,
};
use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    images::Image,
    mirror::{Mirror, fresh_directory},
    world::{World, inside},
};

#[test]
#[ignore = "needs root, real clients and servers that are compiled: tests/run --all"]
fn keyless_images_come_and_those_of_anybody_else_stay_away() {
    inside(|world| {
        let lab = world.lab();
        let _mirror = lab.mirror(world, PERSON);
        for (form, build, witnesses) in [
            (Form::Bundle, Build::Three, REKOR_2_TSA),
            (Form::Bundle, Build::Three, REKOR_1),
            (Form::Classic, Build::Two, REKOR_1),
        ] {
            for (who, refused) in [
                (PERSON, None),
                (Identity::Person("stranger@lab.example"), Some("the certificate's subject is not")),
                (WORKFLOW, Some("the certificate's issuer of identities is not")),
            ] {
                let image = world.registry.publish("preview-1");
                let kind = Kind { form, build, by: By::Identity(who), witnesses, annotated: false };
                lab.sign(world, kind, &image);
                match refused {
                    None => pull(&image).comes(world, &image.single),
                    Some(reason) => drop(pull(&image).is_refused(world, &image, reason)),
                }
                CLIENT.empty(world);
            }
        }
    });
}

/// With all that stands beside the signature, submitted as whoever signs elsewhere would.
#[test]
#[ignore = "needs root, real clients and servers that are compiled: tests/run --all"]
fn keyless_signatures_that_were_submitted_let_their_image_through_and_are_read_back() {
    inside(|world| {
        let lab = world.lab();
        let mirror = lab.mirror(world, PERSON);
        for (form, build, witnesses) in [
            (Form::Bundle, Build::Three, REKOR_2_TSA),
            (Form::Classic, Build::Two, REKOR_1),
            (Form::Classic, Build::Three, REKOR_1),
        ] {
            let image = world.registry.publish("preview-1");
            let kind = Kind { form, build, by: By::Identity(PERSON), witnesses, annotated: false };
            lab.sign(world, kind, &image);
            let (signature, beside) = match lab.take(world, kind, &image) {
                Artifact::Bundle(bundle) => (BASE64_STANDARD.encode(bundle), Vec::new()),
                Artifact::Classic { payload, mut annotations } => {
                    let signature = annotations.remove("dev.cosignproject.cosign/signature").expect("a signature");
                    let mut beside = vec![("payload", BASE64_STANDARD.encode(payload))];
                    for name in ["certificate", "chain", "bundle", "rfc3161timestamp"] {
                        let text = annotations.remove(&format!("dev.sigstore.cosign/{name}"));
                        // cosign writes an empty chain where Fulcio's certificate needs none.
                        beside.extend(text.filter(|text| !text.is_empty()).map(|text| (name, text)));
                    }
                    assert!(annotations.is_empty(), "{annotations:?}");
                    (signature, beside)
                }
            };
            pull(&image).is_refused(world, &image, "no valid signature");
            let beside: Vec<_> = beside.iter().map(|(name, text)| (*name, &**text)).collect();
            let record = mirror.submit_record(&image.single, &image.tag, &signature, &beside);
            assert_eq!(record["is_valid"], true, "{record}");
            pull(&image).comes(world, &image.single);
            CLIENT.empty(world);
            let name = format!("{}/docker.io/{}@{}", mirror.host(), image.repository, image.single);
            let verified = lab.verify_at(world, kind, &name).expect("cosign verify");
            assert!(verified.contains(&image.single), "{verified}");
        }
    });
}

#[test]
#[ignore = "needs root, real clients and servers that are compiled: tests/run --all"]
fn a_sigstore_that_is_not_trusted_certifies_nobody() {
    inside(|world| {
        let lab = world.lab();
        let directory = fresh_directory(world);
        trust(&directory, PERSON);
        let _mirror = Mirror::start_in(world, directory, &[]);
        let image = world.registry.publish("preview-1");
        let by = By::Identity(PERSON);
        let kind = Kind { form: Form::Classic, build: Build::Two, by, witnesses: REKOR_1, annotated: false };
        lab.sign(world, kind, &image);
        pull(&image).is_refused(world, &image, "no certificate authority of a trusted root");
    });
}

impl Lab {
    /// A mirror that believes this sigstore, and trusts one identity.
    fn mirror<'a>(&self, world: &'a World, who: Identity) -> Mirror<'a> {
        let directory = fresh_directory(world);
        fs::copy(self.trusted_root(), trust(&directory, who).join("trusted_root.json")).unwrap();
        Mirror::start_in(world, directory, &[])
    }
}

/// The directory of trust, with a file for the identity.
fn trust(directory: &Path, who: Identity) -> PathBuf {
    let trust = directory.join("trust");
    fs::create_dir_all(&trust).unwrap();
    let signer = json!({"keyless": {"issuer": who.issuer(), "subject": who.subject()}});
    fs::write(trust.join("dev.json"), signer.to_string()).unwrap();
    trust
}

fn pull(image: &Image) -> Pull<'_> {
    let reference = Reference::Tag(&image.tag);
    Pull { client: CLIENT, mode: Mode::Mirror, door: Door::Plain, repository: &image.repository, reference }
}

/// What is tried here happens before any client has a part in it.
const CLIENT: Client = Client::DOCKER;
