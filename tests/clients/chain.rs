//! Two mirrors in a row. The one in front enforces nothing of what the one behind refuses, and its clients have Docker Hub
//! to go to.

use crate::{
    clients::{Client, Mode, Pull, Reference},
    doors::Door,
    mirror::Mirror,
    world::{free_address, inside},
};

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn what_the_mirror_behind_refuses_is_refused_by_the_one_in_front() {
    inside(|world| {
        let address = free_address();
        let behind = Mirror::start_at(world, address, &[("POLICY_DEFAULT", "enforce")]);
        let _front = Mirror::start(world, &[("PROXY_REMOTEURL", &format!("http://{address}"))]);
        for (client, mode) in Client::all_by(&[Mode::Mirror]) {
            let (signed, other) = (world.registry.publish("v1"), world.registry.publish("v1"));
            behind.submit(&world.signer, &signed.single, &signed.tag);
            let door = Door::Plain;
            for reference in [Reference::Tag(&signed.tag), Reference::Digest(&signed.single)] {
                Pull { client, mode, door, repository: &signed.repository, reference }.comes(world, &signed.single);
                client.empty(world);
            }
            for reference in
                [Reference::Tag(&other.tag), Reference::Digest(&other.single), Reference::Tag(&other.index_tag)]
            {
                let pull = Pull { client, mode, door, repository: &other.repository, reference };
                pull.is_refused(world, &other, "the upstream registry refuses it");
            }
        }
    });
}
