//! A mirror that is down, or a client that no answer can hold, is closed by the client's own settings: those that
//! `deploy` recommends, tried as they are.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    mirror::Mirror,
    world::inside,
};

/// Where a client's setting has no strict form, a name of ours in the reference leaves it nowhere else to go.
fn strict() -> Vec<(Client, Mode, Door)> {
    let way = |client: Client| {
        if client.knows(Mode::Strict) { (client, Mode::Strict, Door::Tls) } else { (client, Mode::Direct, Door::Plain) }
    };
    Client::all().into_iter().filter(|client| !client.is_a_cache()).map(way).collect()
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn with_the_mirror_dead_a_strict_client_stays() {
    inside(|world| {
        let image = world.registry.publish("v1");
        for (client, mode, door) in strict() {
            for reference in [Reference::Tag(&image.tag), Reference::Digest(&image.single)] {
                Pull { client, mode, door, repository: &image.repository, reference }.is_refused(
                    world,
                    &image,
                    "connection refused",
                );
            }
        }
    });
}

/// The same settings with the mirror alive: they work, over TLS, and its refusals hold with their reason.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn a_strict_client_gets_what_is_signed_and_no_more() {
    inside(|world| {
        let mirror = Mirror::start_over_tls(world, &[("POLICY_DEFAULT", "enforce")]);
        for (client, mode, door) in strict().into_iter().filter(|(_, mode, _)| *mode == Mode::Strict) {
            let (signed, other) = (world.registry.publish("v1"), world.registry.publish("v1"));
            mirror.submit(&world.signer, &signed.single, &signed.tag);
            for reference in [Reference::Tag(&signed.tag), Reference::Digest(&signed.single)] {
                Pull { client, mode, door, repository: &signed.repository, reference }.comes(world, &signed.single);
                client.empty(world);
            }
            for reference in [Reference::Tag(&other.tag), Reference::Digest(&other.single)] {
                Pull { client, mode, door, repository: &other.repository, reference }.is_refused(
                    world,
                    &other,
                    "no valid signature",
                );
            }
        }
    });
}
