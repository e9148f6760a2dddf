//! Whom credentials may be shown, and where a token may be asked for at all.

use url::Url;

use super::RealmRefusal;

/// Of one address of a registry.
pub(super) struct Realms {
    /// The registry itself.
    pub(super) remote: Url,
    /// The token service that belongs to it, preset or configured.
    pub(super) realm: Option<Url>,
}

impl Realms {
    /// Whether a configured realm can be used at all.
    pub(super) fn is_sound(&self) -> bool {
        self.realm.as_ref().is_none_or(|realm| self.check(realm).is_ok())
    }

    /// Whether a token may be asked for there, by whomever.
    pub(super) fn check(&self, realm: &Url) -> Result<(), RealmRefusal> {
        if !realm.has_host() || !realm.username().is_empty() || realm.password().is_some() {
            return Err(RealmRefusal::Url);
        }
        match realm.scheme() {
            "https" => Ok(()),
            // What is said in the clear to the registry may be said in the clear to its host.
            "http" if self.remote.scheme() == "http" && realm.host() == self.remote.host() => Ok(()),
            "http" => Err(RealmRefusal::NotHttps),
            _ => Err(RealmRefusal::Url),
        }
    }

    /// Whether our credentials may be shown there; `check` has passed.
    pub(super) fn trusts(&self, realm: &Url) -> bool {
        realm.host() == self.remote.host() || self.realm.as_ref().is_some_and(|own| own.origin() == realm.origin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realms(remote: &str, realm: Option<&str>) -> Realms {
        Realms { remote: remote.parse().unwrap(), realm: realm.map(|realm| realm.parse().unwrap()) }
    }

    #[test]
    fn pitfall_29_credentials_are_shown_to_the_registry_and_its_token_service_only() {
        let hub = realms("https://registry-1.docker.io", Some("https://auth.docker.io/token"));
        let plain = realms("http://registry.internal:5000", None);
        let odd = realms("http://registry.internal:5000", Some("https://tokens.internal/x"));
        for (realms, realm, expected) in [
            (&hub, "https://auth.docker.io/token", Ok(true)),
            (&hub, "https://registry-1.docker.io/token", Ok(true)),
            (&hub, "https://auth.docker.io:444/token", Ok(false)),
            (&hub, "https://auth.docker.io.evil.example/token", Ok(false)),
            (&hub, "https://evil.example/token", Ok(false)),
            (&hub, "https://169.254.169.254/token", Ok(false)),
            (&hub, "http://auth.docker.io/token", Err(RealmRefusal::NotHttps)),
            (&hub, "http://registry-1.docker.io/token", Err(RealmRefusal::NotHttps)),
            (&hub, "http://169.254.169.254/latest", Err(RealmRefusal::NotHttps)),
            (&hub, "https://user@auth.docker.io/token", Err(RealmRefusal::Url)),
            (&hub, "file:///etc/passwd", Err(RealmRefusal::Url)),
            (&plain, "http://registry.internal:5001/token", Ok(true)),
            (&plain, "https://registry.internal/token", Ok(true)),
            (&plain, "http://other.internal/token", Err(RealmRefusal::NotHttps)),
            (&odd, "https://tokens.internal/other", Ok(true)),
            (&odd, "http://tokens.internal/x", Err(RealmRefusal::NotHttps)),
        ] {
            let realm: Url = realm.parse().unwrap();
            assert_eq!(realms.check(&realm).map(|()| realms.trusts(&realm)), expected, "{realm}");
        }
    }
}
