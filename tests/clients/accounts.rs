//! Whose account reads what: the clients are logged in at the Hub all the time, the mirror may be.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    hub::{ACCOUNT, listed},
    mirror::Mirror,
    world::inside,
};

/// A mirror that challenged would be sent the user's password; one that forwarded would spend it.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn the_hub_account_of_a_client_stays_with_the_client() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        for client in Client::all() {
            let image = world.registry.publish("v1");
            mirror.submit(&world.signer, &image.single, &image.tag);
            let watch = world.hub.watch();
            for mode in client.modes().iter().copied().filter(|mode| *mode != Mode::Strict) {
                let pull = Pull {
                    client,
                    mode,
                    door: Door::Plain,
                    repository: &image.repository,
                    reference: Reference::Tag(&image.tag),
                };
                pull.comes(world, &image.single);
                client.empty(world);
            }
            let logins: Vec<_> = watch.entries().into_iter().filter(|entry| entry.is_login()).collect();
            assert!(logins.is_empty(), "{client:?}:\n{}", listed(&logins));
        }
    });
}

/// What the mirror's own account can read is nobody else's, unless the operator says so.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn the_account_of_the_mirror_opens_private_images_to_nobody_until_told_to() {
    inside(|world| {
        let account = [("POLICY_DEFAULT", "enforce"), ("PROXY_USERNAME", ACCOUNT.0), ("PROXY_PASSWORD", ACCOUNT.1)];
        let (public, private) = (world.registry.publish("v1"), world.registry.publish_in("private", "v1"));
        for told in [false, true] {
            let anonymous = [("PROXY_ANONYMOUS", if told { "all" } else { "probe" })];
            let mirror = Mirror::start(world, &[&account[..], &anonymous].concat());
            for image in [&public, &private] {
                mirror.submit(&world.signer, &image.single, &image.tag);
            }
            for (client, mode) in Client::all_by(&[Mode::Mirror, Mode::Direct]) {
                let pull =
                    |repository| Pull { client, mode, door: Door::Plain, repository, reference: Reference::Tag("v1") };
                pull(&*public.repository).comes(world, &public.single);
                client.empty(world);
                if told {
                    pull(&*private.repository).comes(world, &private.single);
                    client.empty(world);
                } else {
                    pull(&*private.repository).is_refused(world, &private, "refused or not found");
                }
            }
        }
    });
}
