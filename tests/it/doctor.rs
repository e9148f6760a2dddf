//! `sig-repo doctor`, as a process, against mirrors and what may stand before them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use http::{Request, StatusCode, header};
use tempfile::TempDir;

use crate::support::{
    hop::{Answered, Hop, ask_for_a_login, lose_the_phrase, page, pass, put_error_pages},
    mirror::{Mirror, Setup},
    process,
    registry::{Fault, Registry},
};

const CLASSIC: &str = "Docker, classic image store";
const STORE: &str = "Docker, containerd image store";
const CONTAINERD: &str = "containerd, BuildKit";
const PODMAN: &str = "podman, skopeo, buildah, CRI-O";
const ALL: [&str; 4] = [CLASSIC, STORE, CONTAINERD, PODMAN];

/// What it said, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

async fn doctor(arguments: &[&str]) -> Said {
    let arguments: Vec<_> = ["doctor"].iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
    let run = move || {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        process::run(&arguments, &[])
    };
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(run).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

async fn of_url(addr: SocketAddr) -> Said {
    doctor(&[&format!("http://{addr}"), "--no-settings"]).await
}

impl Said {
    /// The clients with this word before them.
    fn with(&self, word: &str) -> Vec<&str> {
        let lines = self.out.lines().filter_map(|line| line.strip_prefix("  ")?.strip_prefix(word));
        lines.map(str::trim).collect()
    }

    #[track_caller]
    fn assert(&self, code: i32, round: &[&str], held: &[&str]) {
        assert_eq!((self.code, self.err.as_str()), (Some(code), ""), "{}", self.out);
        assert_eq!(self.with("WALKED ROUND"), round, "{}", self.out);
        assert_eq!(self.with("held  "), held, "{}", self.out);
    }

    /// Words, wherever lines were broken.
    #[track_caller]
    fn says(&self, text: &str) {
        let words = self.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(text), "{text:?} is not in\n{}", self.out);
    }
}

#[tokio::test]
async fn a_mirror_that_answers_holds_every_client() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let said = of_url(mirror.addr()).await;
    said.assert(0, &[], &ALL);
    said.says("/v2/ is answered 200 at once it is sig-repo that answers");
    said.says("stopped by the reason in the status line of the 500");
    said.says("stopped by a 300 that leads nowhere");
    said.says("stopped by a 200 whose body is no manifest");
    assert!(said.out.ends_with("\neverything is held\n"), "{}", said.out);
    // It took the way of every pull: refused because it is nowhere, not because it is a test.
    let asked = registry.requests();
    assert!(
        asked.iter().any(|request| request.path.starts_with("/v2/sig-repo/doctor/manifests/internal-")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_upstream_that_is_away_changes_nothing() {
    let registry = Registry::start().await;
    let setup = Setup::over(&registry);
    drop(registry);
    let mirror = setup.start().await;
    of_url(mirror.addr()).await.assert(0, &[], &ALL);
}

#[tokio::test]
async fn with_accounts_the_test_image_is_refused_too() {
    let registry = Registry::start().await;
    let setup = Setup { auth: Some(("admin", "secure-pass")), ..Setup::over(&registry) };
    of_url(setup.start().await.addr()).await.assert(0, &[], &ALL);
}

#[tokio::test]
async fn a_hop_that_loses_the_phrase_is_seen_and_closed_by_trusted_proxies() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let hop = Hop::before(mirror.addr(), lose_the_phrase).await;
    let said = of_url(hop.addr).await;
    said.assert(1, &[CLASSIC], &[STORE, CONTAINERD, PODMAN]);
    said.says("something on the way drops reason phrases");
    said.says("set TRUSTED_PROXIES of sig-repo");

    let told = Setup { trusted_proxies: vec!["127.0.0.0/8"], ..Setup::over(&registry) }.start().await;
    let hop = Hop::before(told.addr(), lose_the_phrase).await;
    let said = of_url(hop.addr).await;
    said.assert(0, &[], &ALL);
    said.says("stopped by a 300 whose body is no manifest");
}

#[tokio::test]
async fn a_hop_that_passes_everything_on_spoils_nothing() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    of_url(Hop::before(mirror.addr(), pass).await.addr).await.assert(0, &[], &ALL);
}

#[tokio::test]
async fn error_pages_in_the_place_of_refusals_are_seen() {
    let registry = Registry::start().await;
    let mirror = Setup { trusted_proxies: vec!["127.0.0.0/8"], ..Setup::over(&registry) }.start().await;
    let hop = Hop::before(mirror.addr(), put_error_pages).await;
    let said = of_url(hop.addr).await;
    said.assert(1, &[CLASSIC], &[STORE, CONTAINERD, PODMAN]);
    said.says("puts an error page in its place");
    said.says("proxy_intercept_errors off");
}

#[tokio::test]
async fn a_hop_that_asks_for_a_login_lets_everybody_round() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let said = of_url(Hop::before(mirror.addr(), ask_for_a_login).await.addr).await;
    said.assert(1, &ALL, &[]);
    said.says("a login is asked for (401)");
    said.says("/v2/ asks for a login: Docker and podman may send the user's Docker Hub password here");
    said.says("it does not show itself as sig-repo");
}

/// One answer for whoever comes next.
#[tokio::test]
async fn a_cache_that_hands_one_refusal_to_everybody_is_seen() {
    fn keep(request: &Request<()>, answer: Answered) -> Answered {
        if !request.uri().path().contains("/manifests/") {
            return answer;
        }
        let mut kept = answer.map(|_| "{\"errors\":[{\"message\":\"sig-repo: kept (no such process)\"}]}".into());
        *kept.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        kept.extensions_mut()
            .insert(hyper::ext::ReasonPhrase::try_from(&b"sig-repo: kept (no such process)"[..]).unwrap());
        kept.headers_mut().remove(header::CONTENT_LENGTH);
        kept.headers_mut().insert(header::AGE, 3.into());
        kept
    }
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let said = of_url(Hop::before(mirror.addr(), keep).await.addr).await;
    said.assert(1, &[STORE, CONTAINERD, PODMAN], &[CLASSIC]);
    said.says("meant for another client, out of a cache on the way");
}

#[tokio::test]
async fn what_is_no_registry_is_told_as_such() {
    fn nothing(_: &Request<()>, _: Answered) -> Answered {
        page(StatusCode::NOT_FOUND)
    }
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let said = of_url(Hop::before(mirror.addr(), nothing).await.addr).await;
    said.assert(1, &ALL, &[]);
    said.says("it does not show itself as sig-repo");
    said.says("/v2/ is answered 404, and it leaves at anything but a 200");
    said.says("the answer is 404, which is no refusal to any client");
}

/// A registry of somebody else's has no such image, and says so.
#[tokio::test]
async fn a_registry_that_is_not_ours_is_told_as_such() {
    let registry = Registry::start().await;
    let said = of_url(registry.addr()).await;
    said.assert(1, &ALL, &[]);
    said.says("it does not show itself as sig-repo");
}

#[tokio::test]
async fn what_the_policy_does_not_enforce_is_no_test() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let url = format!("http://{}", mirror.addr());
    let said = doctor(&[&url, "--no-settings", "--image", "team/app:v1"]).await;
    said.assert(1, &ALL, &[]);
    said.says("by its policy the test image is not enforced");
    said.says("it is sig-repo that answers");
    let said = doctor(&[&url, "--no-settings", "--image", "team/app:preview-1"]).await;
    said.assert(0, &[], &ALL);
    said.says("a pull of team/app:preview-1, which must be refused, is");
}

#[tokio::test]
async fn a_dead_port_cannot_be_told() {
    let registry = Registry::start().await;
    let addr = registry.addr();
    drop(registry);
    let said = of_url(addr).await;
    said.assert(2, &[], &[]);
    said.says("unknown every client why: no connection: Connection refused");
}

#[tokio::test]
async fn a_mirror_that_ends_cannot_be_told() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    fn ending(request: &Request<()>, answer: Answered) -> Answered {
        if request.uri().path() != "/readyz" {
            return answer;
        }
        let mut ending = page(StatusCode::SERVICE_UNAVAILABLE);
        *ending.body_mut() = "{\"status\":\"shutting down\",\"degraded\":[]}".into();
        ending
    }
    let said = of_url(Hop::before(mirror.addr(), ending).await.addr).await;
    said.assert(2, &[], &ALL);
    said.says("it is not ready: shutting down");
}

#[tokio::test]
async fn a_redirect_is_followed_as_the_clients_follow_it() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let place = mirror.addr();
    let away = move |request: &Request<()>, _| {
        let mut moved = page(StatusCode::MOVED_PERMANENTLY);
        let to = format!("http://{place}{}", request.uri().path_and_query().unwrap());
        moved.headers_mut().insert(header::LOCATION, to.parse().unwrap());
        moved
    };
    let hop = Hop::before(place, away).await;
    let said = of_url(hop.addr).await;
    said.assert(0, &[], &ALL);
    said.says(&format!("redirects to http://{place}: write that URL into the clients' settings"));
}

#[tokio::test]
async fn http2_at_a_hop_is_said_where_a_refusal_rests_on_the_phrase() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let hop = Hop::with_http2_before(mirror.addr()).await;
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, hop.certificate.as_ref().unwrap()).unwrap();
    let url = format!("https://localhost:{}", hop.addr.port());
    let untrusted = doctor(&[&url, "--no-settings"]).await;
    untrusted.assert(2, &[], &[]);
    untrusted.says("no TLS: invalid peer certificate");
    let said = doctor(&[&url, "--no-settings", "--ca", ca.to_str().unwrap()]).await;
    said.assert(0, &[], &ALL);
    said.says("HTTP/2 is offered here.");
    said.says("Turn HTTP/2 off at the hop for this host, or set TRUSTED_PROXIES");
}

/// A machine with one file of settings.
fn machine(path: &str, text: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    root
}

fn deployed(path: &str, addr: SocketAddr) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "deploy", path].iter().collect();
    let text = fs::read_to_string(path).unwrap();
    text.replace("https://sig-repo.example.com", &format!("http://{addr}"))
        .replace("location = \"sig-repo.example.com", &format!("insecure = true\nlocation = \"{addr}"))
}

async fn of_machine(root: &Path) -> Said {
    doctor(&["--root", root.to_str().unwrap()]).await
}

#[tokio::test]
async fn without_a_url_the_settings_say_where_the_mirror_is() {
    let registry = Registry::start().await;
    let mut mirror = Mirror::over(&registry).await;
    let addr = mirror.addr();
    let ordinary = machine("etc/docker/daemon.json", &format!("{{\"registry-mirrors\": [\"http://{addr}\"]}}"));
    let strict = machine("etc/containers/registries.conf", &deployed("podman/registries.conf", addr));

    let said = of_machine(ordinary.path()).await;
    let asks = format!("Docker (classic image store), docker.io: asks http://{addr}, then the registry itself");
    said.assert(1, &[&asks], &ALL);
    said.says("/etc/docker/daemon.json: read");
    said.says("with the classic image store, always falls back");

    let podman = |registry| format!("podman, skopeo, buildah, CRI-O, {registry}: asks http://{addr}");
    let (hub, ghcr) = (podman("docker.io"), podman("ghcr.io"));
    let said = of_machine(strict.path()).await;
    said.assert(0, &[], &[&ALL[..], &[&hub, &ghcr]].concat());

    mirror.stop().await;
    of_machine(ordinary.path()).await.assert(1, &[&asks], &[]);
    // Which of https and http it would be cannot be seen of a mirror that is not there.
    let podman = |registry| format!("podman, skopeo, buildah, CRI-O, {registry}: asks https://{addr}");
    let said = of_machine(strict.path()).await;
    said.assert(2, &[], &[&podman("docker.io"), &podman("ghcr.io")]);
    said.says("does not answer now, so nothing can be pulled");
}

#[tokio::test]
async fn a_url_that_the_settings_do_not_name_is_asked_beside_theirs() {
    let registry = Registry::start().await;
    let (one, other) = (Mirror::over(&registry).await, Mirror::over(&registry).await);
    let daemon = machine(
        "etc/docker/daemon.json",
        &format!("{{\"registry-mirrors\": [\"http://{}\", \"http://{}\"]}}", other.addr(), registry.addr()),
    );
    let root = daemon.path().to_str().unwrap();
    let said = doctor(&[&format!("http://{}", one.addr()), "--root", root]).await;
    assert_eq!(said.code, Some(1));
    for addr in [one.addr(), other.addr(), registry.addr()] {
        assert!(said.out.lines().any(|line| line == format!("http://{addr}")), "{}", said.out);
    }
    said.says(&format!("http://{} is not among the mirrors of any setting", one.addr()));
    said.says(&format!("http://{} does not answer as sig-repo does", registry.addr()));
}

#[tokio::test]
async fn a_machine_with_nothing_on_it_cannot_be_told() {
    let root = tempfile::tempdir().unwrap();
    let said = of_machine(root.path()).await;
    said.assert(2, &[], &[]);
    said.says("no client was found");
    said.says("there was nothing to look at: give the mirror's URL");
}

#[tokio::test]
async fn bad_input_is_told_and_ends_with_code_2() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "no certificate").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, error) in [
        (&["mirror:8080"][..], "expected a URL such as https://mirror.example.com"),
        (&["ftp://mirror"], "a mirror is asked over http or https"),
        (&["http://user:secret@mirror"], "a user or password in the URL is not sent by any client"),
        (&["http://mirror?x=1"], "a mirror's URL has no query"),
        (&["http://mirror", "--image", "nginx"], "expected REPOSITORY:TAG, such as team/app:v1"),
        (&["http://mirror", "--image", "Team/App:v1"], "a repository name has components of lower-case"),
        (&["--no-settings"], "<URL>"),
        (&["--root", "/nowhere/at/all"], "--root /nowhere/at/all: No such file or directory"),
        (&["http://mirror", "--ca", "/nowhere"], "--ca /nowhere: No such file or directory"),
        (&["http://mirror", "--ca", empty], "no certificates in PEM form in it"),
    ] {
        let said = doctor(arguments).await;
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(said.err.contains(error), "{arguments:?}: {}", said.err);
    }
}

/// What it sends is seen by others: no credentials, and the shapes of the clients.
#[tokio::test]
async fn it_asks_as_the_clients_ask() {
    let registry = Registry::start().await;
    of_url(registry.addr()).await;
    let asked = registry.requests();
    let manifests: Vec<_> = asked.iter().filter(|request| request.path.contains("/manifests/")).collect();
    let mut shapes: Vec<_> = manifests
        .iter()
        .map(|request| {
            let agent = request.headers[header::USER_AGENT].to_str().unwrap();
            format!("{} {} {}", request.method, agent.split('/').next().unwrap(), request.query)
        })
        .collect();
    shapes.sort();
    assert_eq!(
        shapes,
        ["GET containers ", "GET docker ", "HEAD containerd ns=docker.io", "HEAD docker ", "HEAD docker ns=docker.io"]
    );
    let paths: Vec<_> = manifests.iter().map(|request| &request.path).collect();
    assert!(paths.windows(2).all(|pair| pair[0] == pair[1]), "{paths:?}");
    assert!(asked.iter().all(|request| !request.headers.contains_key(header::AUTHORIZATION)));
    assert!(asked.iter().all(|request| request.method == "GET" || request.method == "HEAD"));
}

/// A mirror that is slow in refusing is waited for, as clients wait.
#[tokio::test]
async fn a_slow_refusal_is_waited_for() {
    let registry = Registry::start().await;
    let setup = Setup::over(&registry);
    registry.fault("/v2/", Fault::Hang);
    let mirror = setup.start().await;
    let said = tokio::time::timeout(Duration::from_secs(60), of_url(mirror.addr())).await.unwrap();
    said.assert(0, &[], &ALL);
}

/// What the documentation shows is what it says, but for the port and the name that is drawn.
#[tokio::test]
async fn the_readme_shows_what_it_says() {
    let registry = Registry::start().await;
    let mirror = Mirror::over(&registry).await;
    let host = format!("localhost:{}", mirror.addr().port());
    let root = machine("etc/docker/daemon.json", &format!("{{\"registry-mirrors\": [\"http://{host}\"]}}"));
    let said = of_machine(root.path()).await.out.replace(&host, "localhost:8080");
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let shown = readme.split("```text\n").find(|block| block.starts_with("http://localhost:8080\n")).unwrap();
    let words = |text: &str| {
        let drawn = |word: &str| word.starts_with("sig-repo/doctor:internal-");
        let words = text.split_whitespace().map(|word| if drawn(word) { "drawn" } else { word }.to_owned());
        words.collect::<Vec<_>>()
    };
    assert_eq!(words(shown.split("```").next().unwrap()), words(&said));
}
