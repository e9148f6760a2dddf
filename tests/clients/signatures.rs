//! Signatures as people make them, from the program that signs to the program that pulls.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    hub::Caller,
    mirror::{Mirror, WITH_ADMIN},
    signing::{Cosign, Form, Signer},
    world::inside,
};

/// A key that was added over the API, and revoked over it.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn openssl_signs_and_curl_submits_until_the_key_is_revoked() {
    inside(|world| {
        let mirror = Mirror::start(world, &WITH_ADMIN);
        let signer = Signer::new(&world.scratch, "alice");
        let added = serde_json::json!({"name": "alice", "public_key": signer.public_key()}).to_string();
        let added = mirror.curl(["--data", &added, "--header", "Content-Type: application/json"], "signers");
        let id = added["id"].as_str().expect("the key's id").to_owned();

        let image = world.registry.publish("preview-1");
        mirror.submit(&signer, &image.single, &image.tag);
        mirror.submit(&signer, &image.index, &image.index_tag);
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            for reference in [Reference::Tag(&image.tag), Reference::Digest(&image.single)] {
                let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
                pull.comes(world, &image.single);
                client.empty(world);
            }
        }
        mirror.curl(["--request", "DELETE"], &format!("signers/{id}"));
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            for reference in
                [Reference::Tag(&image.tag), Reference::Digest(&image.single), Reference::Digest(&image.child)]
            {
                let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
                pull.is_refused(world, &image, "refused");
            }
        }
    });
}

/// Nobody submits anything: the signature is found where cosign put it, beside the image in the upstream.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn cosign_signs_in_the_upstream_until_the_key_is_revoked() {
    inside(|world| {
        let cosign = Cosign::new(world);
        let image = world.registry.publish("preview-1");
        for digest in [&image.single, &image.index] {
            let watch = world.hub.watch();
            cosign.sign(Form::Classic, &format!("docker.io/{}@{digest}", image.repository));
            let tag = format!("/manifests/{}.sig", digest.replace(':', "-"));
            let pushed = watch.by(Caller::Client);
            let pushed = pushed.iter().any(|entry| entry.line.starts_with("PUT") && entry.line.contains(&tag));
            assert!(pushed, "cosign put no {tag}");
        }
        let other = world.registry.publish("preview-1");

        let mirror = Mirror::start(world, &WITH_ADMIN);
        let added = serde_json::json!({"name": "release", "public_key": cosign.public_key()}).to_string();
        let added = mirror.curl(["--data", &added, "--header", "Content-Type: application/json"], "signers");
        let id = added["id"].as_str().expect("the key's id").to_owned();
        let clients = Client::all_by(&[Mode::Mirror, Mode::Direct]);
        for (client, mode) in clients.into_iter().filter(|(client, _)| !client.trusts_nobody()) {
            let pull =
                |repository, tag| Pull { client, mode, door: Door::Plain, repository, reference: Reference::Tag(tag) };
            pull(&image.repository, &image.tag).comes(world, &image.single);
            client.empty(world);
            let chosen = if client.keeps_the_index() { &image.index } else { &image.child };
            pull(&image.repository, &image.index_tag).comes(world, chosen);
            client.empty(world);
            pull(&other.repository, &other.tag).is_refused(world, &other, "no valid signature");
        }
        mirror.curl(["--request", "DELETE"], &format!("signers/{id}"));
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            let reference = Reference::Tag(&image.tag);
            let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
            pull.is_refused(world, &image, "refused");
        }
    });
}
