//! Out of a network whose only way out is a proxy.

use sig_repo::upstream::{Config, Proxies, ProxyRefusal, UpstreamConfig, UpstreamError};

use super::{Client, assert_discreet, noise};
use crate::support::{
    forward::{ForwardProxy, Manner},
    registry::{Auth, Fault, Registry},
};

/// `team:hunter2`, as Basic.
const BASIC: &str = "Basic dGVhbTpodW50ZXIy";

/// A registry under a name that only the proxy knows.
fn beyond(remote: &str, registry: &Registry) -> UpstreamConfig {
    let config = UpstreamConfig::configured("docker.io".parse().unwrap(), remote.parse().unwrap());
    UpstreamConfig { ca: registry.ca().map(Into::into), ..config }
}

fn client(config: UpstreamConfig, proxies: Proxies) -> Client {
    Client::with(Config { default: config, proxies, ..Config::default() })
}

fn refused(reason: ProxyRefusal) -> UpstreamError {
    UpstreamError::Proxy { reason }
}

#[tokio::test]
async fn https_goes_through_a_tunnel_that_is_used_again() {
    let registry = Registry::with_tls().await;
    let image = registry.push_image("library/app", Some("v1"), &[]);
    let bytes = noise(1 << 20);
    let blob = registry.push_blob("library/app", bytes.clone());
    for proxy in [
        ForwardProxy::to(registry.addr()).await,
        ForwardProxy::with_tls(Manner::LeadsTo(registry.addr())).await,
        ForwardProxy::with(Manner::AsksFor(BASIC, registry.addr())).await,
    ] {
        let mut config = beyond("https://registry.example", &registry);
        let both = [registry.ca(), proxy.certificate.as_deref()];
        config.ca = Some(both.into_iter().flatten().collect::<String>().into());
        config.username = Some("robot".to_owned());
        config.password = Some("secret".to_owned().into());
        let client = client(config, proxy.proxies("team:hunter2@", ""));
        assert_eq!(client.manifest("app", "v1").await.as_ref(), Ok(&image.bytes));
        assert_eq!(client.whole_blob("app", &blob).await, (bytes.clone(), Ok(())));
        assert_eq!(proxy.requests(), ["CONNECT registry.example:443"]);
        assert!(!proxy.heads()[0].to_lowercase().contains("\r\nauthorization:"), "{:?}", proxy.heads());
    }
    let seen = registry.requests();
    assert!(seen.iter().all(|request| !request.headers.contains_key("proxy-authorization")), "{seen:?}");
}

#[tokio::test]
async fn http_is_passed_on_with_tokens_and_redirects() {
    let registry = Registry::with_auth(Auth::public(&["library/app"])).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let blob = registry.push_blob("library/app", &b"layer"[..]);
    registry.fault(
        "/v2/library/app/blobs/",
        Fault::Redirect(format!("http://registry.example:5000/v2/library/app/manifests/v1?{blob}")),
    );
    let proxy = ForwardProxy::with(Manner::AsksFor(BASIC, registry.addr())).await;
    let client = client(beyond("http://registry.example:5000", &registry), proxy.proxies("team:hunter2@", ""));
    client.manifest("app", "v1").await.unwrap();
    assert_eq!(client.whole_blob("app", &blob).await.1, Err(UpstreamError::WrongDigest));
    let at = |path: &str| format!("GET http://registry.example:5000{path}");
    let requests = proxy.requests();
    assert_eq!(requests[0], at("/v2/library/app/manifests/v1"));
    assert!(requests[1].starts_with(&at("/token?service=")), "{requests:?}");
    assert_eq!(
        requests[2..],
        [
            at("/v2/library/app/manifests/v1"),
            at(&format!("/v2/library/app/blobs/{blob}")),
            at(&format!("/v2/library/app/manifests/v1?{blob}")),
        ]
    );
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_and_its_credentials_are_not() {
    let registry = Registry::with_tls().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = Proxies { https: format!("team:hunter2@{closed}").parse().ok(), ..Proxies::default() };
    let error = client(beyond("https://registry.example", &registry), nobody).manifest("app", "v1").await.unwrap_err();
    assert_eq!(error, refused(ProxyRefusal::Unreachable));
    for (manner, scheme, expected) in [
        (Manner::AsksFor("Basic other", registry.addr()), "https", ProxyRefusal::Credentials),
        (Manner::AsksFor("Basic other", registry.addr()), "http", ProxyRefusal::Credentials),
        (
            Manner::Says("HTTP/1.1 403 Forbidden\r\nContent-Length: 1000000\r\n\r\n<html>"),
            "https",
            ProxyRefusal::Status { status: 403 },
        ),
        (
            Manner::Says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
            "https",
            ProxyRefusal::Status { status: 502 },
        ),
        (Manner::Says("SSH-2.0-OpenSSH\r\n"), "https", ProxyRefusal::Malformed),
        (Manner::Says("HTTP/1.1 200 OK\r\n\r\nand more"), "https", ProxyRefusal::Malformed),
        (Manner::Says(""), "https", ProxyRefusal::Malformed),
    ] {
        let proxy = ForwardProxy::with(manner).await;
        let config = beyond(&format!("{scheme}://registry.example"), &registry);
        let client = client(config, proxy.proxies("team:hunter2@", ""));
        let error = client.manifest("app", "v1").await.unwrap_err();
        assert_eq!(error, refused(expected));
        assert_discreet(&error);
        assert_eq!(client.calls(), [("manifest", "proxy")]);
    }
    assert_eq!(registry.request_lines(), [""; 0]);
}

#[tokio::test]
async fn hosts_without_a_proxy_are_asked_directly() {
    let registry = Registry::start().await;
    registry.push_image("library/app", Some("v1"), &[]);
    let proxy = ForwardProxy::to(registry.addr()).await;
    // This machine is never asked for through a proxy.
    client(registry.upstream("docker.io"), proxy.proxies("", "")).manifest("app", "v1").await.unwrap();
    // Nobody has this name here.
    let named = beyond("http://registry.invalid", &registry);
    let direct = client(named.clone(), proxy.proxies("", ".invalid")).manifest("app", "v1").await;
    assert_eq!(direct, Err(UpstreamError::Dns));
    let only_https = Proxies { http: None, ..proxy.proxies("", "") };
    assert_eq!(client(named.clone(), only_https).manifest("app", "v1").await, Err(UpstreamError::Dns));
    assert_eq!(proxy.requests(), [""; 0]);
    client(named, proxy.proxies("", "other.invalid")).manifest("app", "v1").await.unwrap();
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn pitfall_30_a_proxy_is_no_way_to_addresses_that_are_not_public() {
    let registry = Registry::start().await;
    let blob = registry.push_blob("library/app", &b"layer"[..]);
    let proxy = ForwardProxy::to(registry.addr()).await;
    let redirected = client(beyond("http://registry.example", &registry), proxy.proxies("", ""));
    for target in [
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:10.1.2.3]/",
        "http://[fd12::1]:5000/",
        "http://registry/",
        "http://metadata.google.internal/",
        "https://vault.corp.local/",
    ] {
        registry.fault("/v2/library/app/blobs/", Fault::Redirect(target.to_owned()));
        let asked = proxy.requests().len();
        assert_eq!(redirected.whole_blob("app", &blob).await.1, Err(UpstreamError::PrivateAddress), "{target}");
        assert_eq!(proxy.requests().len(), asked + 1, "{target}");
    }
    // What the operator configured may be anywhere but where a cloud keeps its secrets.
    for (remote, configured, allowed) in [
        ("http://10.1.2.3", true, true),
        ("http://registry:5000", true, true),
        ("http://10.1.2.3", false, false),
        ("http://registry:5000", false, false),
        ("http://169.254.169.254", true, false),
    ] {
        registry.heal();
        let config = UpstreamConfig { configured, ..beyond(remote, &registry) };
        let (_, ended) = client(config, proxy.proxies("", "")).whole_blob("app", &blob).await;
        assert_eq!(ended, if allowed { Ok(()) } else { Err(UpstreamError::PrivateAddress) }, "{remote}");
    }
}
