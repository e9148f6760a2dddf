//! What failed behind the mirror is a refusal while it lasts, as the matrix of `cells` shows, and no longer.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    hub::Fault,
    mirror::Mirror,
    world::inside,
};

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
