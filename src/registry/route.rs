use std::{borrow::Cow, str::FromStr};

use http::{Method, Request, header};

use crate::oci::{Digest, DigestError, Reference, ReferenceError, RegistryName, Repository, RepositoryError};

/// What a request asks for. Past this point nobody looks at a path again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `/v2/`: is this a registry?
    Base,
    /// `/v1/`: a client from before 2014.
    TooOld,
    /// `/v2/_oci/ext/discover`.
    Discover,
    Manifest {
        target: Target<'a>,
        reference: Reference,
    },
    Blob {
        target: Target<'a>,
        digest: Digest,
    },
    Tags {
        target: Target<'a>,
        query: String,
    },
    Referrers {
        target: Target<'a>,
        digest: Digest,
        query: String,
    },
    /// POST to `blobs/uploads/`.
    StartUpload {
        target: Target<'a>,
        query: &'a str,
    },
    /// Whatever is done to an upload by its name.
    Upload {
        target: Target<'a>,
        name: &'a str,
    },
    PutManifest {
        target: Target<'a>,
        reference: Reference,
    },
}

/// What a path under `/extensions` asks for: the signatures of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignaturesRoute<'a> {
    pub(super) target: Target<'a>,
    pub(super) digest: Digest,
}

/// A repository, and how it was addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) repository: Repository,
    pub(super) mode: Mode,
    /// The name as it was asked for.
    pub(super) shown: &'a str,
}

/// Whether the client may have another endpoint to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A bare path: what a mirror gets, and what a direct pull of the default upstream looks like.
    Mirror,
    /// `ns=` names the registry that we stand in for.
    MirrorNs,
    /// The registry is named in the path: we are the client's only endpoint.
    Direct,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RouteError {
    Method,
    NotFound,
    Name(RepositoryError),
    Reference(ReferenceError),
    Digest(DigestError),
    UnknownRegistry { name: String, mode: Mode },
}

impl<'a> Route<'a> {
    /// Distribution specification, "Endpoints". `canonical` is the registry that a bare name means.
    pub(super) fn parse<B>(request: &'a Request<B>, canonical: &RegistryName) -> Result<Self, RouteError> {
        let path = request.uri().path();
        if path == "/v1" || path.starts_with("/v1/") {
            return Ok(Self::TooOld);
        }
        let rest = path.strip_prefix("/v2").ok_or(RouteError::NotFound)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Self::parse_push(request, rest, canonical);
        }
        let rest = match rest {
            "" | "/" => return Ok(Self::Base),
            "/_oci/ext/discover" => return Ok(Self::Discover),
            _ => rest.strip_prefix('/').ok_or(RouteError::NotFound)?,
        };
        let query = Query(request.uri().query().unwrap_or_default());
        let [name, kind, last] = segments(rest).ok_or(RouteError::NotFound)?;
        let target = || Target::parse(name, query, request, canonical);
        match kind {
            "manifests" => Ok(Self::Manifest { target: target()?, reference: reference(last)? }),
            "blobs" => Ok(Self::Blob { target: target()?, digest: digest(last)? }),
            "referrers" => {
                // How the next page is asked for is the upstream's own matter.
                let query = query.only(|name| name != "ns");
                Ok(Self::Referrers { target: target()?, digest: digest(last)?, query })
            }
            "uploads" => Self::upload(request, name, last, canonical),
            "tags" if last == "list" => {
                let query = query.only(|name| matches!(name, "n" | "last"));
                Ok(Self::Tags { target: target()?, query })
            }
            _ => Err(RouteError::NotFound),
        }
    }
}

impl<'a> Route<'a> {
    /// Distribution specification, "Push"; `rest` follows `/v2`. Nothing but uploads and manifests is written.
    fn parse_push<B>(request: &'a Request<B>, rest: &'a str, canonical: &RegistryName) -> Result<Self, RouteError> {
        let [name, kind, last] = rest.strip_prefix('/').and_then(segments).ok_or(RouteError::Method)?;
        let raw = request.uri().query().unwrap_or_default();
        let target = |name| Target::parse(name, Query(raw), request, canonical);
        match (request.method().as_str(), kind, last) {
            ("POST", "uploads", "") => {
                let name = name.strip_suffix("/blobs").ok_or(RouteError::NotFound)?;
                Ok(Self::StartUpload { target: target(name)?, query: raw })
            }
            ("POST", "blobs", "uploads") => Ok(Self::StartUpload { target: target(name)?, query: raw }),
            ("PATCH" | "PUT" | "DELETE", "uploads", _) => Self::upload(request, name, last, canonical),
            ("PUT", "manifests", _) => Ok(Self::PutManifest { target: target(name)?, reference: reference(last)? }),
            _ => Err(RouteError::Method),
        }
    }

    /// An upload by its name, which is one that we gave.
    fn upload<B>(
        request: &'a Request<B>,
        name: &'a str,
        last: &'a str,
        canonical: &RegistryName,
    ) -> Result<Self, RouteError> {
        let repository = name.strip_suffix("/blobs").ok_or(RouteError::NotFound)?;
        if last.is_empty() || !last.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(RouteError::NotFound);
        }
        let query = Query(request.uri().query().unwrap_or_default());
        Ok(Self::Upload { target: Target::parse(repository, query, request, canonical)?, name: last })
    }
}

impl<'a> SignaturesRoute<'a> {
    /// `/extensions/v2/{name}/signatures/{digest}`.
    pub(super) fn parse<B>(request: &'a Request<B>, canonical: &RegistryName) -> Result<Self, RouteError> {
        let rest = request.uri().path().strip_prefix("/extensions/v2/").ok_or(RouteError::NotFound)?;
        let Some([name, "signatures", last]) = segments(rest) else { return Err(RouteError::NotFound) };
        let query = Query(request.uri().query().unwrap_or_default());
        Ok(Self { target: Target::parse(name, query, request, canonical)?, digest: digest(last)? })
    }
}

impl<'a> Target<'a> {
    fn parse<B>(
        name: &'a str,
        query: Query<'_>,
        request: &Request<B>,
        canonical: &RegistryName,
    ) -> Result<Self, RouteError> {
        let host = || request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let mut named = query.values("ns");
        let named = match (named.next(), named.next()) {
            (None, _) => None,
            // BuildKit names the host it speaks to, also where that is the registry itself.
            (Some(ns), None) if host().is_some_and(|host| host.eq_ignore_ascii_case(&ns)) => None,
            (Some(ns), None) => Some(ns.parse::<RegistryName>().map_err(|_| unknown_registry(&ns, Mode::MirrorNs))?),
            (Some(_), Some(_)) => return Err(unknown_registry("several names in ns=", Mode::MirrorNs)),
        };
        let (repository, mode) = match (named, RegistryName::leading(name)) {
            (Some(registry), _) => (Repository::new(&registry, name), Mode::MirrorNs),
            (None, Some((first, path))) => {
                let registry = first.parse().map_err(|_| unknown_registry(first, Mode::Direct))?;
                (Repository::new(&registry, path), Mode::Direct)
            }
            (None, None) => (Repository::new(canonical, name), Mode::Mirror),
        };
        Ok(Self { repository: repository.map_err(RouteError::Name)?, mode, shown: name })
    }

    /// A path of this repository, as the client goes on from here.
    pub(super) fn path(&self, rest: &str) -> String {
        match self.mode {
            Mode::MirrorNs => format!("/v2/{}/{rest}?ns={}", self.shown, self.repository.registry()),
            Mode::Mirror | Mode::Direct => format!("/v2/{}/{rest}", self.shown),
        }
    }

    /// The image as the client named it.
    pub(super) fn image(&self, reference: Option<&Reference>) -> String {
        match reference {
            Some(Reference::Tag(tag)) => format!("{}:{tag}", self.shown),
            Some(Reference::Digest(digest)) => format!("{}@{digest}", self.shown),
            None => self.shown.to_owned(),
        }
    }
}

impl Mode {
    pub(super) fn is_direct(self) -> bool {
        self == Self::Direct
    }
}

/// A query, decoded as it is looked into.
#[derive(Clone, Copy)]
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn pairs(self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
        url::form_urlencoded::parse(self.0.as_bytes())
    }

    fn values(self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.pairs().filter(move |(key, _)| key == name).map(|(_, value)| value)
    }

    /// The parameters that may go on to the upstream, encoded anew.
    fn only(self, passes: fn(&str) -> bool) -> String {
        let kept = self.pairs().filter(|(name, _)| passes(name));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

/// A repository's name, what of it is asked for, and which. A name may hold any word, so a path is read from its end.
fn segments(path: &str) -> Option<[&str; 3]> {
    let slash = |text: &str| memchr::memrchr(b'/', text.as_bytes());
    let last = slash(path)?;
    let kind = slash(&path[..last])?;
    Some([&path[..kind], &path[kind + 1..last], &path[last + 1..]])
}

fn reference(text: &str) -> Result<Reference, RouteError> {
    unescaped(text).map_err(|error| match error {
        ReferenceError::Digest(error) => RouteError::Digest(error),
        error @ ReferenceError::Tag(_) => RouteError::Reference(error),
    })
}

fn digest(text: &str) -> Result<Digest, RouteError> {
    unescaped(text).map_err(RouteError::Digest)
}

/// Reads what may have been escaped: the colon of a digest is the one character that clients escape without need.
fn unescaped<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse().or_else(|error| match text.split_once('%').map(|(before, rest)| (before, rest.split_at_checked(2))) {
        Some((algorithm, Some(("3A" | "3a", encoded)))) => format!("{algorithm}:{encoded}").parse(),
        _ => Err(error),
    })
}

fn unknown_registry(name: &str, mode: Mode) -> RouteError {
    RouteError::UnknownRegistry { name: name.to_owned(), mode }
}

#[cfg(test)]
mod tests;
