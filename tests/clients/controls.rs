//! The suite's own proof that it can fail: where nothing stops a client it reaches the stand-in, and is seen there.

use crate::{
    clients::{Client, ImageStore, Mode, Origin, Program, Pull, Reference},
    doors::Door,
    hub::{Caller, listed},
    world::inside,
};

/// The bypass that only the client's settings close. It also shows that every client here can go round us, that the
/// stand-in notices, and that the images are good.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn with_the_mirror_dead_every_client_goes_round_and_is_seen() {
    inside(|world| {
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            for by_digest in [false, true] {
                let image = world.registry.publish("v1");
                let tag = if client.keeps_the_index() { "v1-multi" } else { "v1" };
                let digest = if client.keeps_the_index() { &image.index } else { &image.single };
                let reference = if by_digest { Reference::Digest(digest) } else { Reference::Tag(tag) };
                let pull = Pull { client, mode, door: Door::Plain, repository: &image.repository, reference };
                let watch = world.hub.watch();
                pull.run(world).expect(&format!("{pull:?}"));
                let left = if client.builds() { "built:latest" } else { digest.as_str() };
                assert!(client.held(world).contains(left), "{pull:?}");
                let seen = watch.by(Caller::Client);
                assert!(seen.iter().any(|entry| entry.line.contains("/manifests/")), "{pull:?}:\n{}", listed(&seen));
                assert!(watch.by(Caller::Mirror).is_empty());
                client.empty(world);
                assert!(!client.held(world).contains(left), "{pull:?}");
            }
        }
    });
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn with_the_mirror_dead_a_build_goes_round_and_is_seen() {
    inside(|world| {
        let (client, image) =
            (Client::new(Program::Build(ImageStore::Classic), Origin::Installed), world.registry.publish("v1"));
        let reference = Reference::Tag(&image.tag);
        let watch = world.hub.watch();
        Pull { client, mode: Mode::Mirror, door: Door::Plain, repository: &image.repository, reference }
            .run(world)
            .expect("docker build");
        assert!(client.held(world).contains("built:latest"));
        let seen = watch.by(Caller::Client);
        assert!(seen.iter().any(|entry| entry.line.contains("/manifests/v1")), "{}", listed(&seen));
        client.empty(world);
    });
}
