//! What stops each family of clients, and what a hop has done to a refusal that does not: pure, from answers.
//!
//! The rules are those that real clients were seen to follow; no specification has them.

use http::{Method, StatusCode, header};

use super::exchange::Answer;

/// Clients that read a refusal in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// dockerd with its classic image store.
    Docker,
    /// dockerd with the containerd image store.
    DockerContainerd,
    Containerd,
    Containers,
}

/// How a client takes the refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    /// The pull ends here.
    Held(Form),
    /// The client asks the next registry that it knows.
    Round(Cause),
}

/// What ends the pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    StatusLine(StatusCode),
    NoRedirect(StatusCode),
    MadeUpManifest(StatusCode),
}

/// Why a refusal does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// `/v2/`, which these clients ask for first, is not answered as a registry does.
    Base(StatusCode),
    Challenged,
    /// sig-repo's refusal for dockerd, without the phrase in its status line.
    PhraseLost,
    /// Status and headers of a refusal, and somebody else's body.
    BodyReplaced,
    /// A refusal for another family: what tells them apart does not arrive, or a cache answered.
    OtherForm {
        status: StatusCode,
        cached: bool,
    },
    /// An error of a hop's own, in the place of the mirror's answer.
    HopError(StatusCode),
    /// The image would have been handed out.
    Served,
    /// Not there, which no client takes for a refusal.
    NotFound,
    Ordinary(StatusCode),
    /// No answer at all, in words.
    NoAnswer(String),
}

impl Family {
    pub(super) const ALL: [Self; 4] = [Self::Docker, Self::DockerContainerd, Self::Containerd, Self::Containers];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker, classic image store",
            Self::DockerContainerd => "Docker, containerd image store",
            Self::Containerd => "containerd, BuildKit",
            Self::Containers => "podman, skopeo, buildah, CRI-O",
        }
    }

    /// As the mirror and the hops before it tell the families apart.
    pub(super) fn agent(self) -> &'static str {
        match self {
            Self::Docker => "docker/28.5.2 go/go1.24.9 (sig-repo doctor) UpstreamClient(Docker-Client/28.5.2)",
            Self::DockerContainerd => {
                "docker/28.5.2 (sig-repo doctor) containerd-client/1.7.28 storage-driver/overlayfs"
            }
            Self::Containerd => "containerd/2.1.9 (sig-repo doctor)",
            Self::Containers => "containers/5.36.2 (github.com/containers/image; sig-repo doctor)",
        }
    }

    /// Whether a mirror is told which registry it stands in for.
    pub(super) fn names_registry(self) -> bool {
        matches!(self, Self::DockerContainerd | Self::Containerd)
    }

    /// Why this family goes no further than to `/v2/`: podman's asks for it first. So does dockerd, but it looks there
    /// for a challenge alone.
    pub(super) fn leaves_at_base(self, answer: &Answer) -> Option<Cause> {
        match answer.status {
            StatusCode::OK | StatusCode::UNAUTHORIZED => None,
            status => (self == Self::Containers).then_some(Cause::Base(status)),
        }
    }

    /// How the family asks a mirror for a tag; the last one is what it goes by.
    pub(super) fn methods(self) -> &'static [Method] {
        const HEAD_GET: &[Method] = &[Method::HEAD, Method::GET];
        match self {
            Self::Docker => HEAD_GET,
            Self::DockerContainerd | Self::Containerd => &[Method::HEAD],
            Self::Containers => &[Method::GET],
        }
    }

    /// What this family makes of the answers to [`Self::methods`].
    pub(super) fn takes(self, answers: &[Result<Answer, String>]) -> Taken {
        let mut taken = Taken::Round(Cause::NoAnswer("nothing was asked".to_owned()));
        for (method, answer) in self.methods().iter().zip(answers) {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Taken::Round(Cause::NoAnswer(error.clone())),
            };
            let resolved = answer.status.as_u16() < 400 && answer.headers.contains_key(DOCKER_CONTENT_DIGEST);
            if method == Method::HEAD && resolved {
                return Taken::Round(diagnose(answer));
            }
            taken = match self.stopped_by(answer) {
                Some(form) => Taken::Held(form),
                None => Taken::Round(diagnose(answer)),
            };
        }
        taken
    }

    fn stopped_by(self, answer: &Answer) -> Option<Form> {
        let status = answer.status;
        match self {
            // An error whose text is that of ESRCH ends the loop over registries: with a status from 500 on, the text
            // is the status line, and for what passes as a manifest, the complaint about its media type.
            Self::Docker if status.is_server_error() => {
                answer.phrase.to_ascii_lowercase().contains(ENDS_DOCKER).then_some(Form::StatusLine(status))
            }
            Self::Docker => {
                let read = (200..400).contains(&status.as_u16()) && is_manifest_type(answer);
                (read && made_up_media_type(answer).is_some_and(|said| said.contains(ENDS_DOCKER)))
                    .then_some(Form::MadeUpManifest(status))
            }
            // A 3xx that leads nowhere is no error that another registry could mend.
            Self::DockerContainerd | Self::Containerd => {
                let followed = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
                (status.is_redirection() && !followed).then_some(Form::NoRedirect(status))
            }
            // What came with 200 is the manifest, whatever is wrong with it.
            Self::Containers => (status == StatusCode::OK && made_up_media_type(answer).is_some())
                .then_some(Form::MadeUpManifest(status)),
        }
    }
}

/// Whether anything in the answer is sig-repo's.
pub(super) fn is_signed_by_us(answer: &Answer) -> bool {
    has_our_warning(answer) || answer.phrase.contains(MARK) || has_our_body(answer)
}

/// What a hop says in the place of a mirror that does not answer it, when it was told to: `deploy/nginx` does.
pub(super) fn says_mirror_is_down(answer: &Answer) -> bool {
    has_our_warning(answer) && warnings(answer).any(|text| text.contains(MIRROR_IS_DOWN))
}

fn diagnose(answer: &Answer) -> Cause {
    let status = answer.status;
    if status == StatusCode::UNAUTHORIZED {
        return Cause::Challenged;
    }
    if is_signed_by_us(answer) {
        let body = String::from_utf8_lossy(&answer.body);
        let for_docker = status == StatusCode::INTERNAL_SERVER_ERROR && !answer.phrase.contains(MARK);
        return match () {
            () if for_docker && (body.contains(ENDS_DOCKER) || !has_our_body(answer)) => Cause::PhraseLost,
            () if !has_our_body(answer) && !answer.phrase.contains(MARK) => Cause::BodyReplaced,
            () if status.as_u16() < 400 && made_up_media_type(answer).is_some() && !is_manifest_type(answer) => {
                Cause::BodyReplaced
            }
            () => Cause::OtherForm { status, cached: came_from_a_cache(answer) },
        };
    }
    match status.as_u16() {
        200 if made_up_media_type(answer).is_none() && is_manifest_type(answer) => Cause::Served,
        300 => Cause::BodyReplaced,
        404 => Cause::NotFound,
        500..=599 => Cause::HopError(status),
        _ => Cause::Ordinary(status),
    }
}

fn came_from_a_cache(answer: &Answer) -> bool {
    let hit = |name: &str| {
        answer
            .headers
            .get_all(name)
            .iter()
            .any(|value| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("hit")))
    };
    answer.headers.contains_key(header::AGE) || ["x-cache", "x-cache-status", "cf-cache-status"].into_iter().any(hit)
}

fn has_our_warning(answer: &Answer) -> bool {
    warnings(answer).any(|text| text.contains(MARK))
}

fn warnings(answer: &Answer) -> impl Iterator<Item = &str> {
    answer.headers.get_all(header::WARNING).iter().filter_map(|value| value.to_str().ok())
}

fn has_our_body(answer: &Answer) -> bool {
    answer.body.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

fn is_manifest_type(answer: &Answer) -> bool {
    let content_type = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    MANIFEST_TYPES.contains(&content_type)
}

/// The media type that a body states, where it is JSON and that is none: a refusal in the form of a manifest.
fn made_up_media_type(answer: &Answer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let stated = body["mediaType"].as_str()?;
    (!MANIFEST_TYPES.contains(&stated)).then(|| stated.to_ascii_lowercase())
}

/// How every refusal of ours begins.
const MARK: &str = "sig-repo: ";
/// In lower case, as dockerd compares it.
const ENDS_DOCKER: &str = "no such process";
const MIRROR_IS_DOWN: &str = "the mirror is down";
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[cfg(test)]
mod tests;
