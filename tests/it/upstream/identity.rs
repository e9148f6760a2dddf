//! The certificate that we show to a registry which asks who we are.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sig_repo::upstream::{ClientIdentity, Config, UpstreamConfig, UpstreamError};

use super::Client;
use crate::support::{
    forward::{ForwardProxy, Manner},
    registry::{Auth, Fault, Registry},
};

/// Who issues certificates to clients, and one of them.
struct Issued {
    issuer: rcgen::Certificate,
    identity: ClientIdentity,
}

fn issue() -> Issued {
    let [key, ca_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = ca.self_signed(&ca_key).unwrap();
    let certificate = CertificateParams::new(["mirror.example".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let identity = ClientIdentity { certificate: certificate.pem().into(), key: key.serialize_pem().into() };
    Issued { issuer, identity }
}

fn trusting(registries: &[&Registry], identity: &ClientIdentity) -> UpstreamConfig {
    let ca = registries.iter().filter_map(|registry| registry.ca()).collect::<String>();
    UpstreamConfig { ca: Some(ca.into()), identity: Some(identity.clone()), ..registries[0].upstream("docker.io") }
}

/// Whether a certificate was shown, connection by connection where that changed.
fn shown(registry: &Registry) -> Vec<bool> {
    let mut shown = registry.certificates();
    shown.dedup();
    shown
}

#[tokio::test]
async fn a_certificate_is_shown_to_the_registry_and_to_no_other_host() {
    let Issued { issuer, identity } = issue();
    let registry = Registry::asking_for_certificates(None, &issuer).await;
    let storage = Registry::asking_for_certificates(None, &issuer).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let blob = registry.push_blob("library/app", &b"layer"[..]);
    storage.push_blob("store", &b"layer"[..]);
    let mut config = trusting(&[&registry, &storage], &identity);
    // The second server may be reached because it is the configured realm, too.
    config.realm = Some(storage.url().join("/token").unwrap());
    let client = Client::of(config.clone());
    client.manifest("app", "v1").await.unwrap();
    let elsewhere = format!("{}v2/store/blobs/{blob}", storage.url());
    registry.fault("/v2/library/app/blobs/", Fault::Redirect(elsewhere));
    assert_eq!(client.whole_blob("app", &blob).await, (b"layer".to_vec(), Ok(())));
    assert_eq!((shown(&registry), shown(&storage)), (vec![true], vec![false]));

    let without = UpstreamConfig { identity: None, ..config };
    Client::of(without).manifest("app", "v1").await.unwrap();
    assert_eq!(shown(&registry), [true, false]);
}

#[tokio::test]
async fn a_token_service_elsewhere_is_shown_no_certificate() {
    let Issued { issuer, identity } = issue();
    let tokens = Registry::asking_for_certificates(Some(Auth::public(&["library/app"])), &issuer).await;
    let realm = tokens.url().join("/token").unwrap();
    let auth = Auth::public(&["library/app"]).realm(realm.as_str());
    let registry = Registry::asking_for_certificates(Some(auth), &issuer).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let config = UpstreamConfig { realm: Some(realm), ..trusting(&[&registry, &tokens], &identity) };
    // The tokens of one open nothing at the other; what counts here is who was shown what.
    assert_eq!(Client::of(config).manifest("app", "v1").await, Err(UpstreamError::Denied));
    assert_eq!(tokens.requests().len(), 1);
    assert_eq!((shown(&registry), shown(&tokens)), (vec![true], vec![false]));
}

#[tokio::test]
async fn a_certificate_goes_through_a_proxy_and_not_to_it() {
    let Issued { issuer, identity } = issue();
    let registry = Registry::asking_for_certificates(None, &issuer).await;
    registry.push_image("library/app", Some("v1"), &[]);
    let proxy = ForwardProxy::with_tls(Manner::LeadsTo(registry.addr())).await;
    let mut config = trusting(&[&registry], &identity);
    config.remote = "https://registry.example".parse().unwrap();
    config.ca.as_mut().unwrap().extend_from_slice(proxy.certificate.as_ref().unwrap().as_bytes());
    let config = Config { default: config, proxies: proxy.proxies("", ""), ..Config::default() };
    Client::with(config).manifest("app", "v1").await.unwrap();
    assert_eq!(proxy.requests(), ["CONNECT registry.example:443"]);
    assert_eq!(shown(&registry), [true]);
}
