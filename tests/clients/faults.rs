//! What failed behind the mirror is a refusal while it lasts, as the matrix of `cells` shows, and no longer.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    hub::Fault,
    images::Image,
    mirror::Mirror,
    world::inside,
};

/// Known to the mirror from before, it comes while the upstream fails, to a client that has nothing of it.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn an_upstream_that_fails_is_not_noticed_by_who_pulls_what_came_before() {
    inside(|world| {
        let mirror = Mirror::start(world, &[("POLICY_DEFAULT", "enforce")]);
        let faults = [Fault::Status(402), Fault::Status(429), Fault::Status(500), Fault::Reset, Fault::Silence];
        for (client, fault) in Client::all().into_iter().zip(faults.into_iter().cycle()) {
            let [signed, unsigned] = std::array::from_fn(|_| world.registry.publish("v1"));
            mirror.submit(&world.signer, &signed.single, &signed.tag);
            pull(client, &signed).comes(world, &signed.single);
            client.empty(world);
            assert!(!mirror.gives(&unsigned, &unsigned.tag));
            let _faulty = world.hub.fail(fault);
            pull(client, &signed).comes(world, &signed.single);
            client.empty(world);
            pull(client, &unsigned).is_refused(world, &unsigned, "refused");
        }
    });
}

fn pull(client: Client, image: &Image) -> Pull<'_> {
    let (mode, reference) = (client.modes()[0], Reference::Tag(&image.tag));
    Pull { client, mode, door: Door::Plain, repository: &image.repository, reference }
}

/// With the upstream well again, the image comes.
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
