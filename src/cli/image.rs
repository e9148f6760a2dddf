//! Images as commands are told of them.

use std::str::FromStr;

use crate::oci::{Digest, Reference, RegistryName, Repository, Tag};

/// `[REPOSITORY[:TAG]@]DIGEST`, or `REPOSITORY[:TAG][@DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// As it was written: which registry is meant where it names none is not known here.
    path: Option<String>,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Option<Digest>,
}

impl Image {
    /// The repository, under this registry where it names none.
    pub(super) fn repository(&self, default: &RegistryName) -> Option<Repository> {
        let path = self.path.as_ref()?;
        Some(Repository::parse(path, default).expect("it was parsed before"))
    }

    /// What pulling it would ask for.
    pub(super) fn reference(&self) -> Reference {
        match (self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(digest),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag("latest".parse().expect("a tag")),
        }
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(digest) = text.parse() {
            return Ok(Self { path: None, tag: None, digest: Some(digest) });
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|error| format!("{digest:?}: {error}"))?)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => {
                (path, Some(tag.parse().map_err(|error| format!("{tag:?} is no tag: {error}"))?))
            }
            _ => (name, None),
        };
        Repository::parse(path, &DOCKER_HUB.parse().expect("a registry"))
            .map_err(|error| format!("{path:?} is no repository: {error}"))?;
        Ok(Self { path: Some(path.to_owned()), tag, digest })
    }
}

pub(super) const DOCKER_HUB: &str = "docker.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_read_as_pulls_name_them() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let hub = DOCKER_HUB.parse().unwrap();
        for (text, repository, reference) in [
            ("nginx".to_owned(), "docker.io/library/nginx", "latest"),
            ("nginx:1.2".to_owned(), "docker.io/library/nginx", "1.2"),
            ("localhost:5000/app".to_owned(), "localhost:5000/app", "latest"),
            ("localhost:5000/app:v1".to_owned(), "localhost:5000/app", "v1"),
            (format!("ghcr.io/org/app:v1@{digest}"), "ghcr.io/org/app", &digest),
        ] {
            let image: Image = text.parse().unwrap();
            assert_eq!(image.repository(&hub).unwrap().to_string(), repository, "{text}");
            assert_eq!(image.reference().to_string(), reference, "{text}");
        }
        let bare: Image = digest.parse().unwrap();
        assert_eq!((bare.repository(&hub), bare.reference().to_string()), (None, digest));
        for wrong in ["", "UPPER", "nginx@sha256:ab", "nginx:", "nginx:a b", "a//b"] {
            assert!(wrong.parse::<Image>().is_err(), "{wrong}");
        }
    }
}
