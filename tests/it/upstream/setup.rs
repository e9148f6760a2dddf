use std::sync::Arc;

use secrecy::SecretString;
use sig_repo::{
    clock::Clock,
    upstream::{ClientIdentity, Config, UpstreamConfig, UpstreamError, UpstreamSetupError, Upstreams},
};

use super::{Client, assert_discreet};
use crate::support::registry::Registry;

fn build(default: UpstreamConfig, others: Vec<UpstreamConfig>) -> Result<Upstreams, UpstreamSetupError> {
    let config = Config { default, others, ..Config::default() };
    Upstreams::new(config, Clock::system(), Arc::new(|_, _| {}))
}

fn configured(name: &str, remote: &str) -> UpstreamConfig {
    UpstreamConfig::configured(name.parse().unwrap(), remote.parse().unwrap())
}

#[test]
fn eight_registries_are_ready_by_name() {
    let upstreams = build(UpstreamConfig::docker_hub(), Vec::new()).unwrap();
    for name in
        "docker.io gcr.io ghcr.io registry.k8s.io nvcr.io quay.io mcr.microsoft.com docker.elastic.co".split(' ')
    {
        assert_eq!(upstreams.of(name).unwrap().name().as_str(), name);
    }
    assert_eq!(upstreams.canonical().as_str(), "docker.io");
}

#[test]
fn pitfall_17_a_name_that_nobody_configured_has_no_upstream() {
    let upstreams = build(UpstreamConfig::docker_hub(), vec![configured("registry.example:5000", "https://r.example")]);
    let upstreams = upstreams.unwrap();
    assert!(upstreams.of("registry.example:5000").is_some());
    for name in
        ["registry.example", "evil.example", "169.254.169.254", "localhost", "", "docker.io.", "DOCKER.IO", "r.example"]
    {
        assert!(upstreams.of(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn the_default_upstream_replaces_the_preset_of_its_name() {
    let registry = Registry::start().await;
    let image = registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    assert_eq!(client.manifest("app", "v1").await, Ok(image.bytes));

    let mut ghcr = registry.upstream("ghcr.io");
    ghcr.host = Some("Ghcr.Mirror.Example".to_owned());
    let upstreams = build(UpstreamConfig::docker_hub(), vec![ghcr]).unwrap();
    assert_eq!(upstreams.of_host("ghcr.mirror.example").unwrap().as_str(), "ghcr.io");
    assert_eq!(upstreams.of_host("mirror.example"), None);
}

#[tokio::test]
async fn pitfall_17_private_addresses_are_for_configured_upstreams_only() {
    let registry = Registry::start().await;
    registry.push_image("library/app", Some("v1"), &[]);
    let config = UpstreamConfig { configured: false, ..registry.upstream("docker.io") };
    let error = Client::of(config).manifest("app", "v1").await.unwrap_err();
    assert_eq!(error, UpstreamError::PrivateAddress);
    assert_discreet(&error);
    assert_eq!(registry.request_lines(), [""; 0]);
    // A name is no way round: what counts is the address it leads to.
    let mut by_name = registry.upstream("docker.io");
    by_name.remote = format!("http://localhost:{}", registry.addr().port()).parse().unwrap();
    by_name.configured = false;
    assert_eq!(Client::of(by_name.clone()).manifest("app", "v1").await, Err(UpstreamError::PrivateAddress));
    by_name.configured = true;
    Client::of(by_name).manifest("app", "v1").await.unwrap();
    // Metadata addresses are refused to everybody.
    for remote in ["http://169.254.169.254", "http://[fe80::1]", "http://[::ffff:169.254.169.254]:80"] {
        let client = Client::of(configured("docker.io", remote));
        assert_eq!(client.manifest("app", "v1").await, Err(UpstreamError::PrivateAddress), "{remote}");
    }
}

#[tokio::test]
async fn an_upstream_may_be_an_ipv6_address() {
    let registry = Registry::with_tls_over_ipv6().await;
    let image = registry.push_image("library/app", Some("v1"), &[]);
    let config = UpstreamConfig { ca: registry.ca().map(Into::into), ..registry.upstream("docker.io") };
    assert_eq!(config.remote.host_str(), Some("[::1]"));
    assert_eq!(Client::of(config.clone()).manifest("app", "v1").await, Ok(image.bytes));
    let config = UpstreamConfig { configured: false, ..config };
    assert_eq!(Client::of(config).manifest("app", "v1").await, Err(UpstreamError::PrivateAddress));
}

#[tokio::test]
async fn an_upstream_may_have_a_certificate_authority_of_its_own() {
    let registry = Registry::with_tls().await;
    let image = registry.push_image("library/app", Some("v1"), &[]);
    let client = Client::of(registry.upstream("docker.io"));
    let error = client.manifest("app", "v1").await.unwrap_err();
    assert_eq!(error, UpstreamError::Tls);
    assert_discreet(&error);

    let config = UpstreamConfig { ca: registry.ca().map(Into::into), ..registry.upstream("docker.io") };
    assert_eq!(Client::of(config.clone()).manifest("app", "v1").await, Ok(image.bytes));

    // The certificate names 127.0.0.1 and localhost, and is believed for these only.
    let mut other = config;
    other.remote.set_host(Some("127.0.0.2")).unwrap();
    let error = Client::of(other).manifest("app", "v1").await.unwrap_err();
    assert!(matches!(error, UpstreamError::Tls | UpstreamError::Connect), "{error:?}");
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let good = || configured("r.example", "https://r.example");
    let secret = || Some(SecretString::from("hunter2"));
    let realm = |realm: &str| Some(realm.parse().unwrap());
    let [made, other] = std::array::from_fn(|_| rcgen::generate_simple_self_signed(["r.example".to_owned()]).unwrap());
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identified = |certificate: &str, key: &str| {
        let identity = ClientIdentity { certificate: certificate.into(), key: key.to_owned().into() };
        UpstreamConfig { identity: Some(identity), ..good() }
    };
    build(UpstreamConfig::docker_hub(), vec![identified(&certificate, &key)]).unwrap();
    let cases: Vec<(UpstreamConfig, &str)> = vec![
        (configured("r.example", "ftp://r.example"), "remoteurl must be"),
        (configured("r.example", "https://user:hunter2@r.example"), "remoteurl must be"),
        (configured("r.example", "https://r.example?x=y"), "remoteurl must be"),
        (configured("r.example", "unix:/run/registry"), "remoteurl must be"),
        (UpstreamConfig { username: Some("team".to_owned()), ..good() }, "belong together"),
        (UpstreamConfig { password: secret(), ..good() }, "belong together"),
        (UpstreamConfig { username: Some("a:b".to_owned()), password: secret(), ..good() }, "belong together"),
        (UpstreamConfig { realm: realm("http://r.example/token"), ..good() }, "realm must be"),
        (
            UpstreamConfig {
                realm: realm("http://other.example/token"),
                ..configured("r.example", "http://r.example")
            },
            "realm must be",
        ),
        (UpstreamConfig { ca: Some(b"no certificate".to_vec()), ..good() }, "holds no usable PEM certificate"),
        (
            UpstreamConfig { alternatives: vec!["http://b.example".parse().unwrap()], ..good() },
            "alternatives must be like remoteurl",
        ),
        (
            UpstreamConfig { alternatives: vec!["https://team:hunter2@b.example".parse().unwrap()], ..good() },
            "alternatives must be like remoteurl",
        ),
        (identified("no certificate", &key), "clientCertificate holds no certificate in PEM form"),
        (identified(&certificate, "hunter2"), "clientKey holds no private key in PEM form"),
        (identified(&certificate, &other.signing_key.serialize_pem()), "clientKey is not the key of"),
        (
            UpstreamConfig {
                identity: identified(&certificate, &key).identity,
                ..configured("r.example", "http://r.example")
            },
            "a client certificate needs a remoteurl of https://",
        ),
        (configured("docker.io", "https://r.example"), "the name stands twice"),
    ];
    for (config, expected) in cases {
        let name = config.name.to_string();
        let error = build(UpstreamConfig::docker_hub(), vec![config]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("upstream {name}: ")) && error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let hosts = ["a.example", "b.example"]
        .map(|name| UpstreamConfig { host: Some("m.example".to_owned()), ..configured(name, "https://r.example") });
    let error = build(UpstreamConfig::docker_hub(), hosts.to_vec()).unwrap_err();
    assert!(matches!(error, UpstreamSetupError::DuplicateHost { host, .. } if host == "m.example"));
}

#[test]
fn no_secret_is_printed() {
    let mut config = configured("r.example", "https://r.example");
    config.username = Some("team".to_owned());
    config.password = Some(SecretString::from("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let upstreams = build(UpstreamConfig::docker_hub(), vec![config]).unwrap();
    let text = format!("{upstreams:?} {:?}", upstreams.of("r.example"));
    assert!(text.contains("r.example") && !text.contains("hunter2"), "{text}");
}
