//! Out of the box: what is tagged as a preview is enforced, everything else comes. The matrix of `cells` has one level
//! for all; here the class of a tag decides, and what a request by digest is known by.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    images::Image,
    mirror::Mirror,
    world::{World, inside},
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

    fn pull<'a>(self, client: Client, mode: Mode, image: &'a Image) -> Pull<'a> {
        let reference = self.reference(image);
        Pull { client, mode, door: Door::Plain, repository: &image.repository, reference }
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

const TAG: &str = "preview-1";

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn signed_previews_come() {
    inside(|world| {
        let mirror = Mirror::start(world, &[]);
        every_pull(|client, mode| {
            if client.trusts_nobody() {
                return;
            }
            let image = world.registry.publish(TAG);
            mirror.submit(&world.signer, &image.single, &image.tag);
            mirror.submit(&world.signer, &image.index, &image.index_tag);
            all_come(world, client, mode, &image);
        });
    });
}

/// By digest only after the tag: what a refused tag names is known, whatever the default level is.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn unsigned_previews_stay_refused_by_tag_and_then_by_digest() {
    inside(|world| {
        let _mirror = Mirror::start(world, &[]);
        every_pull(|client, mode| {
            let image = world.registry.publish(TAG);
            for target in Target::ALL {
                target.pull(client, mode, &image).is_refused(world, &image, "no valid signature");
            }
        });
    });
}

/// The default level lets the rest through, so a mirror in front of Docker Hub changes nothing for them.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn unsigned_images_come_where_they_are_only_audited() {
    inside(|world| {
        let _mirror = Mirror::start(world, &[]);
        every_pull(|client, mode| all_come(world, client, mode, &world.registry.publish("v1")));
    });
}

fn every_pull(test: impl Fn(Client, Mode)) {
    for (client, mode) in Client::all_by(&[Mode::Mirror, Mode::Direct]) {
        test(client, mode);
    }
}

fn all_come(world: &World, client: Client, mode: Mode, image: &Image) {
    for target in Target::ALL {
        target.pull(client, mode, image).comes(world, target.digest(image, client));
        client.empty(world);
    }
}
