//! Nothing that fails behind the mirror opens it. The Hub is well for everybody who would go round, so a refusal that
//! does not hold is seen there.

use std::{fs, io::Write};

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    hub::Fault,
    mirror::Mirror,
    process::run,
    world::{everything, inside},
};

/// Signed and enforced, but the mirror cannot get at it.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn an_upstream_that_fails_is_a_refusal() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        let faults = [
            (Fault::Status(500), "could not be asked: status"),
            (Fault::Reset, "could not be asked: reset"),
            (Fault::WrongBytes, "sent no valid manifest"),
            // Docker Hub's word for a repository that is not there, or not for this asker.
            (Fault::Status(401), "refused or not found"),
            (Fault::Status(429), "could not be asked: rate-limited"),
        ];
        for (fault, reason) in faults {
            for (client, mode) in Client::all_by(modes()) {
                let image = world.registry.publish("v1");
                mirror.submit(&world.signer, &image.single, &image.tag);
                let faulty = world.hub.fail(fault);
                for reference in [Reference::Tag(&image.tag), Reference::Digest(&image.single)] {
                    let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
                    pull.is_refused(world, &image, reason);
                }
                drop(faulty);
            }
        }
    });
}

/// A refusal that takes its time holds too: every client waits for it.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn an_upstream_that_says_nothing_is_a_refusal() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        let clients = if everything() { Client::all_by(&[Mode::Mirror]) } else { vec![(Client::DOCKER, Mode::Mirror)] };
        for (client, mode) in clients {
            let image = world.registry.publish("v1");
            mirror.submit(&world.signer, &image.single, &image.tag);
            let _faulty = world.hub.fail(Fault::Silence);
            let reference = Reference::Tag(&image.tag);
            let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
            pull.is_refused(world, &image, "could not be asked: timeout");
        }
    });
}

/// What failed is not remembered for long: with the upstream well again, the image comes.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn an_upstream_that_recovers_is_asked_again() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        let image = world.registry.publish("v1");
        mirror.submit(&world.signer, &image.single, &image.tag);
        let reference = Reference::Tag(&image.tag);
        let pull = Pull {
            client: Client::DOCKER,
            mode: Mode::Mirror,
            door: Door::Plain,
            repository: &image.repository,
            reference,
        };
        let faulty = world.hub.fail(Fault::Status(500));
        pull.is_refused(world, &image, "refused");
        drop(faulty);
        // "Could not tell" is kept for a second or two; the client's own pace fills them.
        let came = (0..100).any(|_| pull.run(world).ok);
        assert!(came, "{}", mirror.log());
        pull.comes(world, &image.single);
    });
}

/// The disk of the store is full from the first pull on: what has to be remembered before an answer cannot be.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn a_store_that_fails_is_a_refusal() {
    inside(|world| {
        let directory = world.scratch.join("full");
        fs::create_dir_all(directory.join("data")).unwrap();
        let mut mount = world.command("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=755", "full"]).arg(directory.join("data"));
        run(&mut mount).expect("mount");

        let mirror = Mirror::start_in(world, directory, &[("POLICY_DEFAULT", "enforce")]);
        let images: Vec<_> =
            Client::all_by(modes()).into_iter().map(|cell| (cell, world.registry.publish("v1"))).collect();
        for (_, image) in &images {
            mirror.submit(&world.signer, &image.single, &image.tag);
        }
        fill(&mirror.directory().join("data"));
        for ((client, mode), image) in &images {
            for reference in [Reference::Tag(&image.tag), Reference::Digest(&image.single)] {
                let pull =
                    Pull { client: *client, mode: *mode, door: Door::Plain, repository: &image.repository, reference };
                pull.is_refused(world, image, STORE_FAILED);
            }
            // What was never signed is not let through in the confusion either.
            let pull = Pull {
                client: *client,
                mode: *mode,
                door: Door::Plain,
                repository: &image.repository,
                reference: Reference::Tag(&image.index_tag),
            };
            pull.is_refused(world, image, STORE_FAILED);
        }
    });
}

const STORE_FAILED: &str = "the signature store did not answer";

/// Takes every byte that is left.
fn fill(directory: &std::path::Path) {
    let mut ballast = fs::File::create(directory.join("ballast")).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![0; size];
        while ballast.write_all(&block).is_ok() {}
    }
}

fn modes() -> &'static [Mode] {
    if everything() { &[Mode::Mirror, Mode::Direct] } else { &[Mode::Mirror] }
}
