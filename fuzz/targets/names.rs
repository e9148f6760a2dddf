//! Digests, tags, references, registries, repositories, and the paths of requests that are made of them.
//!
//! An input is tried as each of these, and as path and query of a request.

#![no_main]

use http::{Method, Request, Uri, header::HOST};
use sig_repo::{
    oci::{Digest, OwnNames, Reference, RegistryName, Repository, Tag},
    registry::fuzzing,
};
use sig_repo_fuzz::Target;

struct Names {
    canonical: RegistryName,
    own: OwnNames,
}

impl Target for Names {
    fn new() -> Self {
        let name = |text: &str| text.parse::<RegistryName>().expect("a registry");
        let hosts = vec![name("mirror.example:8080"), name("mirror.example")];
        Self { canonical: name("docker.io"), own: OwnNames::new(hosts, name("docker.io")) }
    }

    fn seeds() -> Vec<Vec<u8>> {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hex = digest.split_at(7).1;
        [
            digest.to_owned(),
            format!("sha512:{hex}{hex}"),
            format!("sha256-{hex}.sig"),
            format!("sha256-{hex}"),
            "preview-v1.2.3-rc1".to_owned(),
            "Internal_1".to_owned(),
            "docker.io/library/nginx".to_owned(),
            "index.docker.io/nginx".to_owned(),
            "registry-1.docker.io/a/b__c/d--e/f.g".to_owned(),
            "mirror.example:8080/ghcr.io/org/app".to_owned(),
            "localhost/app".to_owned(),
            "/v2/".to_owned(),
            "/v1/_ping".to_owned(),
            "/v2/_oci/ext/discover".to_owned(),
            "/v2/library/nginx/manifests/latest?ns=docker.io".to_owned(),
            format!("/v2/ghcr.io/org/app/manifests/{digest}"),
            format!("/v2/app/blobs/sha256%3A{hex}"),
            format!("/v2/app/referrers/{digest}?artifactType=application%2Fx&ns=quay.io"),
            "/v2/app/tags/list?n=10&last=a".to_owned(),
            format!("/v2/team/app/blobs/uploads/?mount={digest}&from=other"),
            "/v2/team/app/blobs/uploads/0123456789abcdef".to_owned(),
            format!("/extensions/v2/team/app/signatures/{digest}"),
        ]
        .map(String::into_bytes)
        .to_vec()
    }

    fn run(&self, input: &[u8]) {
        let Ok(text) = str::from_utf8(input) else { return };
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
            let tag = Tag::fallback(&digest);
            assert_eq!(tag.as_str().parse::<Tag>(), Ok(tag.clone()));
        }
        if let Ok(tag) = text.parse::<Tag>() {
            assert_eq!(tag.to_string(), text);
            if let Some(artifact) = tag.artifact() {
                assert_eq!(format!("sha256-{}{}", artifact.subject.encoded(), artifact.suffix), text);
            }
            assert!(text.parse::<Digest>().is_err(), "a digest and a tag");
        }
        if let Ok(reference) = text.parse::<Reference>() {
            assert_eq!(reference.to_string(), text);
        }
        if let Ok(registry) = text.parse::<RegistryName>() {
            assert_eq!(registry.to_string().parse(), Ok(registry.clone()));
            assert!(registry.as_str() == RegistryName::DOCKER_HUB || registry.as_str().eq_ignore_ascii_case(text));
        }
        if let Ok(repository) = Repository::parse(text, &self.canonical) {
            self.is_canonical(&repository);
            self.is_canonical(&self.own.meant(&repository));
        }
        self.routed(text);
    }
}

impl Names {
    /// It has one spelling, and that is a name of it.
    fn is_canonical(&self, repository: &Repository) {
        let name = repository.as_str();
        assert_eq!(name, format!("{}/{}", repository.registry(), repository.path()));
        assert!(!name.contains("//") && !name.contains("/../") && !name.contains(['%', '\\', '?', '#', '@']), "{name}");
        let registry: RegistryName = repository.registry().parse().expect("a registry");
        assert_eq!(Repository::new(&registry, repository.path()).as_ref(), Ok(repository));
        if RegistryName::is_named_by(repository.registry()) {
            assert_eq!(Repository::parse(name, &self.canonical).as_ref(), Ok(repository));
        }
    }

    fn routed(&self, text: &str) {
        let Ok(uri) = text.parse::<Uri>() else { return };
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let request =
                Request::builder().method(method).uri(uri.clone()).header(HOST, "mirror.example:8080").body(());
            let request = request.expect("all of it is well formed");
            for routed in fuzzing::routed(&request, &self.canonical) {
                self.is_canonical(&routed.repository);
                // Where the client goes on from here is the same repository.
                let next = Request::get(&routed.path).header(HOST, "mirror.example:8080").body(()).expect("a path");
                let again = fuzzing::routed(&next, &self.canonical);
                assert_eq!(again.len(), 1, "{}", routed.path);
                assert_eq!(again[0].repository, routed.repository, "{}", routed.path);
            }
        }
    }
}

sig_repo_fuzz::target!(Names);
