//! `sig-repo doctor` beside the real clients: what it says of their settings files, and of what stands before the
//! mirror, is what they then do.

use std::{fs, path::PathBuf};

use http::{Request, StatusCode, header};

use crate::{
    clients::{Client, ImageStore, Mode, Origin, Program, Pull, Reference},
    doors::Door,
    hub::Caller,
    mirror::Mirror,
    process::run,
    world::{World, free_address, inside},
};

#[path = "../it/support/hop.rs"]
#[allow(dead_code, reason = "the in-process tests use the rest of it")]
mod hop;

use hop::{Answered, Hop, ask_for_a_login, lose_the_phrase, page, pass, put_error_pages};

/// What it says of one setting or of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Held,
    Round,
}

/// The mirror is dead: the ordinary settings are walked round, the strict ones hold, and the doctor knows which is which.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn what_it_says_of_settings_with_the_mirror_dead_is_what_the_clients_do() {
    inside(|world| {
        for (client, mode) in Client::all_by(&[Mode::Mirror, Mode::Strict]) {
            if !has_settings(client) {
                continue;
            }
            let image = world.registry.publish("v1");
            let reference = Reference::Tag(&image.tag);
            let pull = Pull { client, mode, door: door(mode), repository: &image.repository, reference };
            let did = what_it_does(world, &pull);
            let said = of_settings(world, client);
            assert_eq!((mode, word(&said, ", docker.io: asks ")), (mode, did), "{pull:?}:\n{said}");
            assert_eq!(did, if mode == Mode::Strict { Word::Held } else { Word::Round }, "{pull:?}");
            client.empty(world);
        }
    });
}

/// Each hop that spoils a refusal, and each client that a usual run has.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn what_it_says_of_a_hop_is_what_the_clients_do() {
    fn no_base(request: &Request<()>, answer: Answered) -> Answered {
        if request.uri().path() == "/v2/" { page(StatusCode::NOT_FOUND) } else { answer }
    }
    fn failing_base(request: &Request<()>, answer: Answered) -> Answered {
        if request.uri().path() == "/v2/" { page(StatusCode::SERVICE_UNAVAILABLE) } else { answer }
    }
    fn base_with_a_login(request: &Request<()>, answer: Answered) -> Answered {
        if request.uri().path() == "/v2/" { ask_for_a_login(request, answer) } else { answer }
    }
    fn other_agents(request: &Request<()>, answer: Answered) -> Answered {
        // What a cache does that tells no clients apart.
        let manifests = request.uri().path().contains("/manifests/");
        let mut kept = answer;
        if manifests {
            *kept.status_mut() = StatusCode::FORBIDDEN;
            kept.headers_mut().insert(header::AGE, 3.into());
        }
        kept
    }
    type Spoil = fn(&Request<()>, Answered) -> Answered;
    let hops: [(&str, Spoil); 8] = [
        ("passes everything on", pass),
        ("loses the phrase", lose_the_phrase),
        ("puts error pages", put_error_pages),
        ("asks for a login", ask_for_a_login),
        ("has no /v2/", no_base),
        ("fails at /v2/", failing_base),
        ("asks for a login at /v2/", base_with_a_login),
        ("hands out another status", other_agents),
    ];
    let clients = [
        (Client::DOCKER, "Docker, classic image store"),
        (Client::new(Program::Containerd, Origin::Installed), "containerd, BuildKit"),
        (Client::new(Program::Podman, Origin::Installed), "podman, skopeo, buildah, CRI-O"),
        (Client::new(Program::Skopeo, Origin::Installed), "podman, skopeo, buildah, CRI-O"),
    ];
    inside(|world| {
        let behind = free_address();
        let _mirror = Mirror::start_at(world, behind, &[("POLICY_DEFAULT", "enforce")]);
        let mut wrong = Vec::new();
        for (name, spoil) in hops {
            let address = world.doors.address(Door::Dropping);
            let hop = world.runtime.block_on(Hop::at(address, behind, spoil));
            let said = doctor(world, &[&world.doors.url(Door::Dropping), "--no-settings"]);
            for (client, family) in clients {
                let image = world.registry.publish("v1");
                let reference = Reference::Tag(&image.tag);
                let (mode, door) = (Mode::Mirror, Door::Dropping);
                let pull = Pull { client, mode, door, repository: &image.repository, reference };
                let did = what_it_does(world, &pull);
                if word(&said, family) != did {
                    wrong.push(format!("a hop that {name}: {client} is {did:?}"));
                }
                client.empty(world);
            }
            if !wrong.is_empty() {
                wrong.push(said);
            }
            world.runtime.block_on(hop.close());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

fn has_settings(client: Client) -> bool {
    matches!(
        client.program,
        Program::Docker(_) | Program::Containerd | Program::Podman | Program::Skopeo | Program::Buildah
    )
}

/// Where the examples in `deploy` have it, and where the quick start has it.
fn door(mode: Mode) -> Door {
    if mode == Mode::Strict { Door::Tls } else { Door::Plain }
}

fn what_it_does(world: &World, pull: &Pull<'_>) -> Word {
    let watch = world.hub.watch();
    let ran = pull.run(world);
    let seen = watch.by(Caller::Client);
    assert!(!ran.ok || !seen.is_empty(), "{pull:?} came from nowhere:\n{}", ran.output);
    if seen.is_empty() { Word::Held } else { Word::Round }
}

/// The files that the client was just made to pull by, where they lie on a machine of its own.
fn of_settings(world: &World, client: Client) -> String {
    let root = world.scratch.join("doctor");
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    let copy = |from: PathBuf, to: &str| {
        let to = root.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    match client.program {
        Program::Docker(store) => {
            let home = world.scratch.join(format!("docker-{:?}-{store:?}", client.origin));
            copy(home.join("daemon.json"), "etc/docker/daemon.json");
            let hosts = PathBuf::from("/etc/docker/certs.d/docker.io/hosts.toml");
            if store == ImageStore::Containerd && hosts.exists() {
                copy(hosts, "etc/docker/certs.d/docker.io/hosts.toml");
            }
        }
        Program::Containerd => {
            let hosts = world.scratch.join("ctr-hosts/docker.io/hosts.toml");
            copy(hosts, "etc/containerd/certs.d/docker.io/hosts.toml");
            let config = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n\
                          config_path = '/etc/containerd/certs.d'\n";
            fs::write(root.join("etc/containerd/config.toml"), config).unwrap();
        }
        _ => copy("/etc/containers/registries.conf".into(), "etc/containers/registries.conf"),
    }
    doctor(world, &["--root", root.to_str().unwrap()])
}

fn doctor(world: &World, arguments: &[&str]) -> String {
    run(world.command(env!("CARGO_BIN_EXE_sig-repo")).arg("doctor").args(arguments)).output
}

/// The word on the line that has this in it.
#[track_caller]
fn word(said: &str, what: &str) -> Word {
    let mut lines = said.lines().filter(|line| line.contains(what) && !line.starts_with("     "));
    match lines.next().and_then(|line| line.split_whitespace().next()) {
        Some("held") => Word::Held,
        Some("WALKED") => Word::Round,
        other => panic!("{other:?} is no word about {what:?}:\n{said}"),
    }
}
