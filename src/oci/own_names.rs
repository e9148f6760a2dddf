use super::{RegistryName, Repository};

/// The names under which clients mean us when they say registry, and the registry that a bare path means
/// there.
#[derive(Debug, Clone)]
pub struct OwnNames {
    hosts: Vec<RegistryName>,
    canonical: RegistryName,
}

impl OwnNames {
    pub fn new(hosts: Vec<RegistryName>, canonical: RegistryName) -> Self {
        Self { hosts, canonical }
    }

    /// The repository that is meant by one that is named under one of our names; any other means itself.
    pub fn meant(&self, repository: &Repository) -> Repository {
        if !self.hosts.iter().any(|host| host.as_str() == repository.registry()) {
            return repository.clone();
        }
        Repository::parse(repository.path(), &self.canonical).unwrap_or_else(|_| repository.clone())
    }
}

impl Default for OwnNames {
    fn default() -> Self {
        let canonical = RegistryName::DOCKER_HUB.parse().expect("the name of a registry");
        Self { hosts: Vec::new(), canonical }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_under_our_name_is_the_one_that_it_stands_for() {
        let name = |text: &str| text.parse::<RegistryName>().unwrap();
        let own = OwnNames::new(vec![name("mirror.example:8080"), name("mirror.example")], name("registry.example"));
        let repository = |text: &str| Repository::parse(text, &name("docker.io")).unwrap();
        for (named, meant) in [
            ("mirror.example:8080/team/app", "registry.example/team/app"),
            ("Mirror.example/ghcr.io/org/app", "ghcr.io/org/app"),
            ("mirror.example/docker.io/nginx", "docker.io/library/nginx"),
            ("mirror.example:8081/team/app", "mirror.example:8081/team/app"),
            ("team/app", "docker.io/team/app"),
        ] {
            assert_eq!(own.meant(&repository(named)), repository(meant), "{named}");
        }
    }
}
