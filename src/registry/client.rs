use std::{sync::Arc, time::Duration};

use http::{Method, Request, header};

use crate::{access::Presented, pull::Asker, telemetry::Peer};

use super::Config;

/// Who asks, as far as the form of an answer depends on it. A decision never does.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) family: Family,
    /// Whether a reason phrase may be lost on the way.
    pub(super) behind_hop: bool,
    pub(super) head: bool,
    pub(super) asker: Asker,
    /// When to try again, where there were too many wrong passwords to look at this one.
    pub(super) retry_after: Option<Duration>,
}

/// What a client makes of a refusal; measured, since no specification says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// dockerd with its classic image store.
    Docker,
    /// The tools of containers/image: podman, skopeo, buildah, CRI-O.
    Containers,
    /// Tools that know no mirrors and print what they get.
    NoMirrors,
    Other,
}

const CONTAINERS: [&str; 5] = ["containers/", "skopeo/", "libpod/", "buildah/", "cri-o/"];

const NO_MIRRORS: [&str; 8] =
    ["go-containerregistry", "crane", "oras", "cosign", "notation", "regclient", "regctl", "curl/"];

/// Longer ones tell nobody apart.
const MAX_USER_AGENT: usize = 256;

impl Client {
    pub(super) fn of<B>(request: &Request<B>, peer: &Peer, config: &Config) -> Self {
        let (asker, retry_after) = asker(request, peer, config);
        Self {
            family: Family::of(user_agent(request)),
            behind_hop: peer.behind_hop,
            head: request.method() == Method::HEAD,
            asker,
            retry_after,
        }
    }
}

/// Who asks, and when to try again where that is not looked at now.
pub(super) fn asker<B>(request: &Request<B>, peer: &Peer, config: &Config) -> (Asker, Option<Duration>) {
    let address = peer.client;
    let presented = config.auth.as_ref().map_or(Presented::Nothing, |auth| auth.presented(request.headers(), address));
    // Wrong ones are as good as none: what came to a mirror was meant for somebody else.
    let (account, retry_after) = match presented {
        Presented::Account(account) => (Some(Arc::from(account)), None),
        Presented::Nothing | Presented::Wrong => (None, None),
        Presented::TooMany { retry_after } => (None, Some(retry_after)),
    };
    let by_our_name = config.hosts.named_by(request.headers());
    (Asker { address, user_agent: user_agent(request).into(), account, by_our_name }, retry_after)
}

fn user_agent<B>(request: &Request<B>) -> &str {
    let agent = request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.get(..MAX_USER_AGENT).unwrap_or(agent)
}

impl Client {
    /// Whether this is a tool that signs, at work: it knows no mirrors, so nothing sends it elsewhere, and it
    /// looks whether its manifest is there before it puts it.
    pub(super) fn pushes(&self) -> bool {
        self.family == Family::NoMirrors && self.asker.by_our_name && self.asker.account.is_some()
    }
}

impl Family {
    fn of(agent: &str) -> Self {
        let starts = |prefix: &str| agent.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if starts("docker/") {
            Self::Docker
        } else if CONTAINERS.into_iter().any(starts) {
            Self::Containers
        } else if NO_MIRRORS.into_iter().any(starts) {
            Self::NoMirrors
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agents_tell_how_a_client_reads_a_refusal() {
        for (agent, expected) in [
            ("docker/20.10.24+dfsg1 go/go1.19.8 UpstreamClient(Docker-Client/20.10)", Family::Docker),
            ("docker/28.5.2 go/go1.27.1 containerd-client/2.1.9 storage-driver/overlayfs", Family::Docker),
            ("containers/5.24.1 (github.com/containers/image)", Family::Containers),
            ("skopeo/1.9.3", Family::Containers),
            ("Buildah/1.28.2", Family::Containers),
            ("cri-o/1.28", Family::Containers),
            ("go-containerregistry/v0.20", Family::NoMirrors),
            ("cosign/v2.5.0 (linux; amd64) go-containerregistry/v0.20.3", Family::NoMirrors),
            ("oras-go", Family::NoMirrors),
            ("oras/1.3.3", Family::NoMirrors),
            ("regclient/regctl (v0.11.7)", Family::NoMirrors),
            ("curl/7.88.1", Family::NoMirrors),
            ("containerd/1.6.20", Family::Other),
            ("buildkit/v0.11", Family::Other),
            // distribution as a cache, and another of us.
            ("Go-http-client/1.1", Family::Other),
            ("sig-repo/0.1.0", Family::Other),
            ("", Family::Other),
        ] {
            assert_eq!(Family::of(agent), expected, "{agent}");
        }
    }
}
