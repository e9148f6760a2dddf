//! What is found, in words, and what closes it: the lines to write and the file they belong to.

use super::{
    family::{Cause, Form},
    settings::{Mirror, Registry, Setting, Software},
};

pub(super) fn form(form: Form) -> String {
    match form {
        Form::StatusLine(status) => format!("stopped by the reason in the status line of the {}", status.as_u16()),
        Form::NoRedirect(status) => format!("stopped by a {} that leads nowhere", status.as_u16()),
        Form::MadeUpManifest(status) => format!("stopped by a {} whose body is no manifest", status.as_u16()),
    }
}

/// Why a refusal, or what came in its place, does not stop a client.
pub(super) fn cause(cause: &Cause, is_ours: bool) -> String {
    match cause {
        Cause::Base(status) => format!("/v2/ is answered {}, and it leaves at anything but a 200", status.as_u16()),
        Cause::Challenged => "a login is asked for (401), and without one it goes on to the registry".to_owned(),
        Cause::PhraseLost => "the refusal arrives without the reason in its status line, and then it is an ordinary \
                              error: something on the way drops reason phrases"
            .to_owned(),
        Cause::BodyReplaced => {
            "the refusal arrives with another body: something on the way puts an error page in its place".to_owned()
        }
        Cause::OtherForm { status, cached: true } => {
            format!("it gets a {} that was meant for another client, out of a cache on the way", status.as_u16())
        }
        Cause::OtherForm { status, cached: false } => format!(
            "it gets the refusal in the form for other clients ({}): its User-Agent, or the ns= of its request, does \
             not reach the mirror",
            status.as_u16()
        ),
        Cause::HopError(status) => {
            format!("something before the mirror answers {} in its place", status.as_u16())
        }
        Cause::Served => "the test image was handed out".to_owned(),
        Cause::NotFound if is_ours => {
            "the mirror answers 404: by its policy the test image is not enforced, so this is no refusal".to_owned()
        }
        Cause::NotFound => "the answer is 404, which is no refusal to any client".to_owned(),
        Cause::Ordinary(status) => format!("the answer is {}, an ordinary error", status.as_u16()),
        Cause::NoAnswer(error) => format!("no answer came ({error})"),
    }
}

pub(super) fn mend(cause: &Cause, is_ours: bool) -> String {
    match cause {
        Cause::Base(_) | Cause::HopError(_) => "pass /v2/ and everything below it on to sig-repo, with the path as it \
                                                came; for the times when sig-repo is down, let the hop refuse in its \
                                                place, as deploy/nginx/sig-repo.conf does"
            .to_owned(),
        Cause::Challenged => {
            "ask for no login before /v2/: whoever may pull is decided by addresses or client certificates, or not here"
                .to_owned()
        }
        Cause::PhraseLost => "set TRUSTED_PROXIES of sig-repo to the address that the hop connects from: it then \
                              refuses in a form that does without; or have the hop speak HTTP/1.1 both ways and keep \
                              the phrase"
            .to_owned(),
        Cause::BodyReplaced => {
            "turn the hop's own error pages off for this host (nginx: proxy_intercept_errors off)".to_owned()
        }
        Cause::OtherForm { cached: true, .. } => {
            "cache nothing of this host, or keep to Cache-Control: each refusal says no-store".to_owned()
        }
        Cause::OtherForm { cached: false, .. } => {
            "have the hop pass the User-Agent and the query on as they came".to_owned()
        }
        Cause::NotFound if is_ours => {
            "name an image that your policy enforces and that has no signature: --image REPOSITORY:TAG".to_owned()
        }
        Cause::Served => "have somebody withdraw its signature, or name another image with --image".to_owned(),
        Cause::NotFound | Cause::Ordinary(_) => {
            "see that the URL is sig-repo's: the base of /v2/, with the path that a hop may cut off".to_owned()
        }
        Cause::NoAnswer(_) => "see why the connection breaks; sig-repo's log may say more".to_owned(),
    }
}

/// How to leave a client no other place than the mirror.
pub(super) fn strict(setting: &Setting, mirror: Option<&Mirror>) -> String {
    let url = mirror.map_or_else(|| "https://MIRROR".to_owned(), |mirror| mirror.address.to_string());
    let registry = match &setting.registry {
        Registry::Named(name) => name.as_str(),
        Registry::Others => "_default",
    };
    match setting.software {
        Software::Docker => format!(
            "no setting closes it for this image store. Either block this machine's way out to registry-1.docker.io, or \
             turn the containerd image store on (Docker 28 and newer; images of the older store are not seen then): in \
             /etc/docker/daemon.json\n  {{ \"registry-mirrors\": [\"{url}\"], \"features\": {{ \
             \"containerd-snapshotter\": true }} }}\nand in /etc/docker/certs.d/docker.io/hosts.toml\n{}",
            hosts(&url)
        ),
        Software::DockerContainerd => format!(
            "with Docker 28 and newer, in /etc/docker/certs.d/{registry}/hosts.toml\n{}\nwith an older one, block this \
             machine's way out to the registry",
            hosts(&url)
        ),
        Software::Containerd => {
            let file = match setting.file.ends_with("hosts.toml") {
                true => setting.file.clone(),
                false => format!("/etc/containerd/certs.d/{registry}/hosts.toml"),
            };
            format!("in {file}\n{}", hosts(&url))
        }
        Software::Containers => {
            let authority = mirror.map_or_else(|| "MIRROR".to_owned(), |mirror| mirror.address.authority());
            let insecure = if mirror.is_some_and(|mirror| mirror.insecure || !mirror.address.tls) {
                "\n  insecure = true"
            } else {
                ""
            };
            format!(
                "in {}, in the place of what it says of {registry}\n  [[registry]]\n  prefix = \"{registry}\"\n  \
                 location = \"{authority}/{registry}\"{insecure}",
                setting.file
            )
        }
    }
}

/// Strict: `server` and the host are both the mirror.
fn hosts(url: &str) -> String {
    format!("  server = \"{url}\"\n  [host.\"{url}\"]\n    capabilities = [\"pull\", \"resolve\"]")
}
