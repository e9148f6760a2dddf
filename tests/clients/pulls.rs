//! The matrix: every client, as mirror and direct, by tag, by digest, as index and child. What is signed comes, with
//! the digest that it has upstream. What is not stays away, the client says why, and nobody asked the Hub.

use crate::{
    clients::{Client, ImageStore, Mode, Origin, Program, Pull, Reference},
    doors::Door,
    images::Image,
    mirror::{Mirror, WITH_ADMIN},
    world::{everything, inside},
};

/// What a reference stands for: each is a request of its own kind.
#[derive(Clone, Copy, Debug)]
enum Target {
    Tag,
    Digest,
    IndexTag,
    IndexDigest,
    ChildDigest,
}

impl Target {
    /// In an order in which the mirror has seen an index before its child is asked for.
    const ALL: [Self; 5] = [Self::Tag, Self::Digest, Self::IndexTag, Self::IndexDigest, Self::ChildDigest];

    fn reference(self, image: &Image) -> Reference<'_> {
        match self {
            Self::Tag => Reference::Tag(&image.tag),
            Self::Digest => Reference::Digest(&image.single),
            Self::IndexTag => Reference::Tag(&image.index_tag),
            Self::IndexDigest => Reference::Digest(&image.index),
            Self::ChildDigest => Reference::Digest(&image.child),
        }
    }

    /// The digest that the client has afterwards.
    fn digest(self, image: &Image, client: Client) -> &str {
        match self {
            Self::Tag | Self::Digest => &image.single,
            Self::IndexTag | Self::IndexDigest if client.keeps_the_index() => &image.index,
            Self::IndexTag | Self::IndexDigest | Self::ChildDigest => &image.child,
        }
    }
}

fn modes() -> &'static [Mode] {
    if everything() { &[Mode::Mirror, Mode::Direct, Mode::DirectByName] } else { &[Mode::Mirror, Mode::Direct] }
}

fn every_pull(test: impl Fn(Client, Mode)) {
    for (client, mode) in Client::all_by(modes()) {
        test(client, mode);
    }
}

fn signed_images_come(settings: &[(&str, &str)], tag: &str) {
    inside(|world| {
        let mirror = Mirror::start(world, settings);
        every_pull(|client, mode| {
            let image = world.registry.publish(tag);
            mirror.submit(&world.signer, &image.single, &image.tag);
            mirror.submit(&world.signer, &image.index, &image.index_tag);
            for target in Target::ALL {
                let pull = Pull {
                    client,
                    mode,
                    door: Door::Plain,
                    repository: &image.repository,
                    reference: target.reference(&image),
                };
                pull.comes(world, target.digest(&image, client));
                client.empty(world);
            }
        });
    });
}

fn unsigned_images_stay_refused(settings: &[(&str, &str)], tag: &str, targets: &[Target]) {
    inside(|world| {
        let _mirror = Mirror::start(world, settings);
        every_pull(|client, mode| {
            let image = world.registry.publish(tag);
            for target in targets {
                let pull = Pull {
                    client,
                    mode,
                    door: Door::Plain,
                    repository: &image.repository,
                    reference: target.reference(&image),
                };
                pull.is_refused(world, &image, "no valid signature");
            }
        });
    });
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn signed_images_come_where_everything_is_enforced() {
    signed_images_come(&[("POLICY_DEFAULT", "enforce")], "v1");
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn signed_previews_come() {
    signed_images_come(&[], "preview-1");
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn unsigned_images_stay_refused_where_everything_is_enforced() {
    // By digest first: nothing is known of the repository then.
    let targets =
        [Target::Digest, Target::Tag, Target::ChildDigest, Target::IndexDigest, Target::IndexTag, Target::ChildDigest];
    unsigned_images_stay_refused(&[("POLICY_DEFAULT", "enforce")], "v1", &targets);
}

/// By digest only after the tag: what a refused tag names is known, whatever the default level is.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn unsigned_previews_stay_refused_by_tag_and_then_by_digest() {
    unsigned_images_stay_refused(&[], "preview-1", &Target::ALL);
}

/// The default level lets the rest through, so a mirror in front of Docker Hub changes nothing for them.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn unsigned_images_come_where_they_are_only_audited() {
    inside(|world| {
        let _mirror = Mirror::start(world, &[]);
        every_pull(|client, mode| {
            let image = world.registry.publish("v1");
            for target in Target::ALL {
                let pull = Pull {
                    client,
                    mode,
                    door: Door::Plain,
                    repository: &image.repository,
                    reference: target.reference(&image),
                };
                pull.comes(world, target.digest(&image, client));
                client.empty(world);
            }
        });
    });
}

/// A client that has the image asks for the tag alone, by HEAD where it can.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn a_tag_pulled_again_is_decided_again() {
    inside(|world| {
        let mirror = Mirror::start(world, &WITH_ADMIN);
        every_pull(|client, mode| {
            let image = world.registry.publish("preview-1");
            let record = mirror.submit(&world.signer, &image.single, &image.tag);
            let pull = Pull {
                client,
                mode,
                door: Door::Plain,
                repository: &image.repository,
                reference: Reference::Tag(&image.tag),
            };
            pull.comes(world, &image.single);
            pull.comes(world, &image.single);
            mirror.curl(["--request", "DELETE"], &format!("signatures/{record}"));
            pull.stays(world, "refused");
            client.empty(world);
        });
    });
}

/// A build's base image: it comes only if it is signed, and a refused one leaves nothing built.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn the_base_image_of_a_build_is_a_pull() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        let client = Client::new(Program::Build(ImageStore::Classic), Origin::Installed);
        for mode in modes() {
            let (signed, other) = (world.registry.publish("v1"), world.registry.publish("v1"));
            mirror.submit(&world.signer, &signed.single, &signed.tag);
            mirror.submit(&world.signer, &signed.index, &signed.index_tag);
            for reference in
                [Reference::Tag(&signed.tag), Reference::Digest(&signed.single), Reference::Tag(&signed.index_tag)]
            {
                Pull { client, mode: *mode, door: Door::Plain, repository: &signed.repository, reference }
                    .comes(world, "built:latest");
                client.empty(world);
            }
            for reference in
                [Reference::Tag(&other.tag), Reference::Digest(&other.single), Reference::Tag(&other.index_tag)]
            {
                let pull = Pull { client, mode: *mode, door: Door::Plain, repository: &other.repository, reference };
                pull.is_refused(world, &other, "no valid signature");
                assert_eq!(client.held(world), "", "{pull:?}");
            }
        }
    });
}
