//! Tables: what the files of a machine say, and what that lets through with the mirror well, and with it down.

use std::{fs, path::Path};

use http::StatusCode;

use super::*;
use crate::cli::doctor::{
    exchange::ExchangeError,
    family::Form,
    files::Files,
    settings::{self, Machine},
};

/// Files of a machine, by path.
type Tree = &'static [(&'static str, &'static str)];

/// One machine, and what is found of each setting: what it is for; with the mirror well; with it down; a piece of why.
type Case = (&'static str, Tree, &'static [(&'static str, Verdict, Verdict, &'static str)]);

const DAEMON: &str = "etc/docker/daemon.json";
const DOCKER_HOSTS: &str = "etc/docker/certs.d/docker.io/hosts.toml";
const CONFIG: &str = "etc/containerd/config.toml";
const HOSTS: &str = "etc/containerd/certs.d/docker.io/hosts.toml";
const REGISTRIES: &str = "etc/containers/registries.conf";

const ORDINARY_DAEMON: &str = r#"{"registry-mirrors": ["https://sig-repo.example.com"]}"#;
const CONTAINERD_STORE: &str = include_str!("../../../../deploy/docker/daemon.json");
const STRICT_HOSTS: &str = include_str!("../../../../deploy/containerd/hosts.toml");
const STRICT_REGISTRIES: &str = include_str!("../../../../deploy/podman/registries.conf");
const CRI: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n\
                   config_path = \"/etc/containerd/certs.d\"\n";

fn machine(tree: &[(&str, &str)]) -> Machine {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in tree {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    settings::read(&Files::under(root.path()).unwrap())
}

fn held(family: Family) -> Form {
    match family {
        Family::Docker => Form::StatusLine(StatusCode::INTERNAL_SERVER_ERROR),
        Family::DockerContainerd | Family::Containerd => Form::NoRedirect(StatusCode::MULTIPLE_CHOICES),
        Family::Containers => Form::MadeUpManifest(StatusCode::OK),
    }
}

fn found(is_ours: bool, taken: impl Fn(Family) -> Taken) -> Found {
    Found {
        is_ours,
        readiness: Readiness::Ready,
        taken: Family::ALL.into_iter().map(|family| (family, taken(family))).collect(),
        base: StatusCode::OK,
        base_slow: false,
        http2: false,
        redirected: None,
    }
}

/// Every URL of a machine, answered like this; what is not called sig-repo is none.
fn probes(machine: &Machine, answer: impl Fn() -> Result<Found, ExchangeError>) -> Probes {
    let mirrors = machine.settings.iter().flat_map(Setting::mirrors);
    let each = mirrors.map(|mirror| match mirror.address.bare_host() {
        "other.example.com" => {
            let foreign = found(false, |_| Taken::Round(Cause::NotFound));
            (mirror.address.clone(), Probe { found: Ok(foreign) })
        }
        _ => (mirror.address.clone(), Probe { found: answer() }),
    });
    each.collect()
}

fn well() -> Result<Found, ExchangeError> {
    Ok(found(true, |family| Taken::Held(held(family))))
}

fn check((name, tree, expected): &Case) {
    let machine = machine(tree);
    assert_eq!(machine.unknown, Vec::<String>::new(), "{name}");
    let (up, down) = (probes(&machine, well), probes(&machine, || Err(ExchangeError::ConnectTimeout)));
    let subjects: Vec<_> =
        machine.settings.iter().map(|setting| format!("{}, {}", setting.software, setting.registry)).collect();
    let wanted: Vec<_> = expected.iter().map(|(subject, ..)| *subject).collect();
    assert_eq!(subjects, wanted, "{name}");
    for (setting, (subject, with_it, without, why)) in machine.settings.iter().zip(*expected) {
        let judged = of_setting(setting, &up, None);
        assert_eq!(judged.verdict, *with_it, "{name}: {subject} with the mirror well: {judged:?}");
        assert!(judged.why.iter().any(|said| said.contains(why)), "{name}: {subject}: {why:?} is not in {judged:?}");
        assert_eq!(judged.close.is_empty(), *with_it == Held, "{name}: {judged:?}");
        let judged = of_setting(setting, &down, None);
        assert_eq!(judged.verdict, *without, "{name}: {subject} with the mirror down: {judged:?}");
    }
}

const CLASSIC: &str = "Docker (classic image store), docker.io";
const STORE: &str = "Docker (containerd image store), docker.io";
const CONTAINERD: &str = "containerd (CRI, nerdctl), docker.io";
const PODMAN: &str = "podman, skopeo, buildah, CRI-O, docker.io";
const PODMAN_GHCR: &str = "podman, skopeo, buildah, CRI-O, ghcr.io";

use Verdict::{Held, Round};

#[test]
fn what_docker_is_told() {
    let cases: &[Case] = &[
        ("nobody is here", &[], &[]),
        (
            "installed, and told nothing",
            &[("usr/bin/dockerd", "")],
            &[(CLASSIC, Round, Round, "it is told of no mirror")],
        ),
        ("no mirror among the settings", &[(DAEMON, "{}")], &[(CLASSIC, Round, Round, "it is told of no mirror")]),
        (
            "an ordinary mirror",
            &[(DAEMON, ORDINARY_DAEMON)],
            &[(CLASSIC, Round, Round, "with the classic image store, always falls back")],
        ),
        (
            "another mirror beside it",
            &[(DAEMON, r#"{"registry-mirrors": ["https://sig-repo.example.com", "https://other.example.com/"]}"#)],
            &[(CLASSIC, Round, Round, "https://other.example.com does not answer as sig-repo does")],
        ),
        (
            "the containerd store without a file of hosts",
            &[(DAEMON, CONTAINERD_STORE)],
            &[(STORE, Round, Round, "registry-mirrors falls back")],
        ),
        (
            "the containerd store, strict",
            &[(DAEMON, CONTAINERD_STORE), (DOCKER_HOSTS, STRICT_HOSTS)],
            &[(STORE, Held, Held, "there is no other place that it would ask")],
        ),
        (
            "a strict file that the classic store does not read",
            &[(DAEMON, ORDINARY_DAEMON), (DOCKER_HOSTS, STRICT_HOSTS)],
            &[(CLASSIC, Round, Round, "the classic image store does not read them")],
        ),
    ];
    cases.iter().for_each(check);
}

#[test]
fn what_containerd_is_told() {
    let cases: &[Case] = &[
        ("nothing", &[(CONFIG, "version = 2\n")], &[(CONTAINERD, Round, Round, "it is told of no mirror")]),
        ("there for Docker alone", &[(CONFIG, "disabled_plugins = [\"cri\"]\n")], &[]),
        (
            "strict",
            &[(CONFIG, CRI), (HOSTS, STRICT_HOSTS)],
            &[(CONTAINERD, Held, Held, "there is no other place that it would ask")],
        ),
        (
            "strict, where CRI does not look",
            &[(CONFIG, "version = 2\n"), (HOSTS, STRICT_HOSTS)],
            &[(CONTAINERD, Round, Round, "names no config_path")],
        ),
        (
            "a list of directories",
            &[
                (
                    CONFIG,
                    "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n\
                     config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n",
                ),
                (HOSTS, STRICT_HOSTS),
            ],
            &[(CONTAINERD, Round, Round, "ignores a list")],
        ),
        (
            "without a server",
            &[
                (CONFIG, CRI),
                (HOSTS, "[host.\"https://sig-repo.example.com\"]\ncapabilities = [\"pull\", \"resolve\"]\n"),
            ],
            &[(CONTAINERD, Round, Round, "this setting falls back")],
        ),
        (
            "the registry as the server",
            &[
                (CONFIG, CRI),
                (HOSTS, "server = \"https://registry-1.docker.io\"\n[host.\"https://sig-repo.example.com\"]\n"),
            ],
            &[(CONTAINERD, Round, Round, "this setting falls back")],
        ),
        (
            "a server alone",
            &[(CONFIG, CRI), (HOSTS, "server = \"https://sig-repo.example.com\"\n")],
            &[(CONTAINERD, Round, Round, "containerd 1.6 and 1.7 use the registry itself")],
        ),
        (
            "pull without resolve",
            &[
                (CONFIG, CRI),
                (
                    HOSTS,
                    "server = \"https://registry-1.docker.io\"\n[host.\"https://sig-repo.example.com\"]\n\
                     capabilities = [\"pull\"]\n",
                ),
            ],
            &[(CONTAINERD, Round, Round, "has no \"resolve\" in its capabilities")],
        ),
        (
            "another mirror beside it",
            &[
                (CONFIG, CRI),
                (
                    HOSTS,
                    "server = \"https://sig-repo.example.com\"\n[host.\"https://sig-repo.example.com\"]\n\
                     [host.\"https://other.example.com\"]\n",
                ),
            ],
            &[(CONTAINERD, Round, Round, "https://other.example.com does not answer as sig-repo does")],
        ),
        (
            "every registry by one file",
            &[(CONFIG, CRI), ("etc/containerd/certs.d/_default/hosts.toml", STRICT_HOSTS)],
            &[("containerd (CRI, nerdctl), every other registry", Held, Held, "no other place")],
        ),
        (
            "the older way",
            &[(
                CONFIG,
                "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\n\
                 endpoint = [\"https://sig-repo.example.com\"]\n",
            )],
            &[(CONTAINERD, Round, Round, "this setting falls back")],
        ),
    ];
    cases.iter().for_each(check);
}

#[test]
fn what_podman_is_told() {
    let cases: &[Case] = &[
        (
            "installed, and told nothing",
            &[("usr/bin/podman", "")],
            &[(PODMAN, Round, Round, "it is told of no mirror")],
        ),
        (
            "strict",
            &[(REGISTRIES, STRICT_REGISTRIES)],
            &[(PODMAN, Held, Held, "no other place"), (PODMAN_GHCR, Held, Held, "no other place")],
        ),
        (
            "strict in a file of its own",
            &[
                (REGISTRIES, "unqualified-search-registries = [\"docker.io\"]\n"),
                ("etc/containers/registries.conf.d/sig-repo.conf", STRICT_REGISTRIES),
            ],
            &[(PODMAN, Held, Held, "no other place"), (PODMAN_GHCR, Held, Held, "no other place")],
        ),
        (
            "a mirror",
            &[(
                REGISTRIES,
                "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"sig-repo.example.com\"\n",
            )],
            &[(PODMAN, Round, Round, "this setting falls back")],
        ),
        (
            "a mirror with a registry's name",
            &[(
                REGISTRIES,
                "[[registry]]\nprefix = \"docker.io\"\n[[registry.mirror]]\n\
                 location = \"sig-repo.example.com/docker.io\"\n",
            )],
            &[(PODMAN, Round, Round, "where a refusal is an ordinary 403")],
        ),
        (
            "a mirror, and no other place",
            &[(
                REGISTRIES,
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"sig-repo.example.com\"\n[[registry.mirror]]\n\
                 location = \"sig-repo.example.com\"\n",
            )],
            &[(PODMAN, Held, Held, "no other place")],
        ),
        (
            "by digest alone",
            &[(
                REGISTRIES,
                "[[registry]]\nlocation = \"docker.io\"\nmirror-by-digest-only = true\n[[registry.mirror]]\n\
                 location = \"sig-repo.example.com\"\n",
            )],
            &[(PODMAN, Round, Round, "is asked by digest alone")],
        ),
        (
            "a later file takes it back",
            &[
                (REGISTRIES, STRICT_REGISTRIES),
                ("etc/containers/registries.conf.d/zz.conf", "[[registry]]\nlocation = \"docker.io\"\n"),
            ],
            &[(PODMAN, Round, Round, "it is told of no mirror"), (PODMAN_GHCR, Held, Held, "no other place")],
        ),
        (
            "another registry without its name",
            &[(
                REGISTRIES,
                "[[registry]]\nprefix = \"docker.io\"\nlocation = \"sig-repo.example.com\"\n\
                 [[registry]]\nprefix = \"ghcr.io\"\nlocation = \"sig-repo.example.com\"\n",
            )],
            &[
                (PODMAN, Held, Held, "no other place"),
                (PODMAN_GHCR, Round, Round, "the mirror takes the name for Docker Hub's"),
            ],
        ),
        (
            "blocked, and the mirror's own entry",
            &[(
                REGISTRIES,
                "[[registry]]\nprefix = \"docker.io\"\nblocked = true\n\
                 [[registry]]\nlocation = \"localhost:8080\"\ninsecure = true\n",
            )],
            &[],
        ),
    ];
    cases.iter().for_each(check);
}

#[test]
fn files_that_cannot_be_understood_leave_the_client_untold() {
    for (tree, what) in [
        (&[(DAEMON, "{")][..], "Docker: /etc/docker/daemon.json is not what dockerd reads: EOF"),
        (
            &[(DAEMON, r#"{"registry-mirrors": ["mirror:8080"]}"#)],
            "Docker: /etc/docker/daemon.json: registry-mirrors: \"mirror:8080\": expected a URL",
        ),
        (&[(CONFIG, "version = ")], "containerd: /etc/containerd/config.toml is not what containerd reads: "),
        (&[(CONFIG, CRI), (HOSTS, "server = 1")], "hosts.toml: server should be a string"),
        (&[(CONFIG, CRI), (HOSTS, "[host.\"ftp://m\"]")], "hosts.toml: \"ftp://m\" is no URL of a mirror: "),
        (&[(CONFIG, CRI), (HOSTS, "[[host]]")], "hosts.toml: host should be a table for each mirror"),
        (&[(REGISTRIES, "[[registry]]\n")], "registries.conf is not what they read: a [[registry]] has neither"),
        (&[(REGISTRIES, "[registry]\n")], "registries.conf is not what they read: "),
    ] {
        let unknown = machine(tree).unknown;
        assert!(unknown.len() == 1 && unknown[0].contains(what), "{what:?} is not in {unknown:?}");
    }
}

#[test]
fn a_refusal_that_does_not_stop_the_client_is_told_for_its_setting() {
    let machine = machine(&[(DAEMON, ORDINARY_DAEMON)]);
    let lost = probes(&machine, || Ok(found(true, |_| Taken::Round(Cause::PhraseLost))));
    let judged = of_setting(&machine.settings[0], &lost, None);
    assert_eq!(judged.verdict, Round);
    assert!(judged.why[0].contains("a refusal by https://sig-repo.example.com does not stop it"), "{judged:?}");
    assert!(judged.close[0].contains("TRUSTED_PROXIES"), "{judged:?}");
}

/// Alone it lets nobody round, and still it must not be.
#[test]
fn a_login_at_the_base_is_never_well() {
    let asked = Found { base: StatusCode::UNAUTHORIZED, ..well().unwrap() };
    let judged = of_whole(&asked);
    assert_eq!(judged.verdict, Round);
    assert!(judged.why[0].contains("may send the user's Docker Hub password here"), "{judged:?}");
    assert_eq!(of_whole(&well().unwrap()).verdict, Held);
}

#[test]
fn with_nowhere_else_to_go_the_form_of_a_refusal_does_not_matter() {
    let machine = machine(&[(REGISTRIES, STRICT_REGISTRIES)]);
    let plain = probes(&machine, || Ok(found(true, |_| Taken::Round(Cause::Ordinary(StatusCode::FORBIDDEN)))));
    assert_eq!(of_setting(&machine.settings[0], &plain, None).verdict, Held);
    let served = probes(&machine, || Ok(found(true, |_| Taken::Round(Cause::Served))));
    assert_eq!(of_setting(&machine.settings[0], &served, None).verdict, Round);
}

#[test]
fn the_lines_to_write_are_those_of_the_examples() {
    let written = |text: &str| -> toml::Table {
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with(' ')).collect();
        lines.join("\n").parse().unwrap()
    };
    let close = |tree: &[(&str, &str)]| {
        let machine = machine(tree);
        of_setting(&machine.settings[0], &probes(&machine, well), None).close.pop().unwrap()
    };
    let ordinary = "[host.\"https://sig-repo.example.com\"]\n";
    let said = close(&[(CONFIG, CRI), (HOSTS, ordinary)]);
    assert!(said.starts_with("in /etc/containerd/certs.d/docker.io/hosts.toml\n"), "{said}");
    assert_eq!(written(&said), STRICT_HOSTS.parse().unwrap());

    let mirror = "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"sig-repo.example.com\"\n";
    let said = close(&[(REGISTRIES, mirror)]);
    let example: toml::Table = STRICT_REGISTRIES.parse().unwrap();
    assert_eq!(written(&said)["registry"][0], example["registry"][0]);

    let said = close(&[(DAEMON, ORDINARY_DAEMON)]);
    let json: serde_json::Value = serde_json::from_str(CONTAINERD_STORE).unwrap();
    let line = said.lines().find(|line| line.trim_start().starts_with('{')).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap(), json);
}

#[test]
fn certificates_are_found_where_the_clients_find_them() {
    let machine = machine(&[
        (DAEMON, r#"{"registry-mirrors": ["https://m.example.com:5000"], "insecure-registries": ["n:1"]}"#),
        ("etc/docker/certs.d/m.example.com:5000/ca.crt", "docker's"),
        (CONFIG, CRI),
        (
            HOSTS,
            "server = \"https://m.example.com\"\nca = \"mine.pem\"\n[host.\"https://m.example.com\"]\nca = [\"/ca.pem\"]\n",
        ),
        ("etc/containerd/certs.d/docker.io/mine.pem", "beside"),
        ("ca.pem", "absolute"),
        (REGISTRIES, "[[registry]]\nprefix = \"docker.io\"\nlocation = \"m.example.com/docker.io\"\ninsecure = true\n"),
        ("etc/containers/certs.d/m.example.com/x.crt", "podman's"),
    ]);
    let authorities: Vec<_> = machine
        .settings
        .iter()
        .flat_map(Setting::mirrors)
        .map(|mirror| (mirror.insecure, String::from_utf8(mirror.authorities.concat()).unwrap()))
        .collect();
    let expected = [(false, "docker's"), (false, "absolute"), (false, "beside"), (true, "podman's")];
    assert_eq!(authorities, expected.map(|(insecure, text)| (insecure, text.to_owned())));
}

/// The root of a machine without any client: nothing is found, and nothing is made up.
#[test]
fn a_machine_without_clients_has_no_settings() {
    let machine = machine(&[]);
    assert!(machine.settings.is_empty() && machine.unknown.is_empty() && machine.notes.is_empty());
    assert!(machine.looked.iter().all(|(path, _)| Path::new(path).is_absolute()));
}
