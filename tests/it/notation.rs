//! Signatures of notation, by the files that notation itself has, and whether a certificate was revoked
//! is asked where it says.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};
use serde_json::json;
use sig_repo::policy::Level;
use tokio::{net::TcpListener, task::JoinSet};
use url::Url;

use crate::support::{
    forward::ForwardProxy,
    mirror::{DOCKER, Mirror, Setup},
    registry::{Image, Registry},
};

const REPOSITORY: &str = "team/app";
const TAG: &str = "v1";

/// A CA, and a signer whose certificate says where the CA's revocation list is.
struct Notary {
    key: KeyPair,
    certificate: Vec<u8>,
    ca: CertificateParams,
    ca_key: KeyPair,
    ca_der: Vec<u8>,
    ca_pem: String,
}

impl Notary {
    fn new(crl: &Url) -> Self {
        let [key, ca_key] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let mut ca = named("CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let mut signer = named("signer");
        signer.serial_number = Some(SerialNumber::from(7_u64));
        signer.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        signer.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![crl.to_string()] }];
        let certificate = signer.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap().der().to_vec();
        let (ca_der, ca_pem) = (ca_certificate.der().to_vec(), ca_certificate.pem());
        Self { key, certificate, ca, ca_key, ca_der, ca_pem }
    }

    /// What the CA says of its certificates.
    fn list(&self, revoked: bool) -> Bytes {
        let entry = RevokedCertParams {
            serial_number: SerialNumber::from(7_u64),
            revocation_time: date_time_ymd(2026, 11, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 11, 20),
            next_update: date_time_ymd(2026, 12, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: if revoked { vec![entry] } else { Vec::new() },
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::from_params(&self.ca, &self.ca_key)).unwrap().der().to_vec().into()
    }

    /// The files of notation, strict for everything.
    fn write_files(&self, directory: &Path) {
        let store = directory.join("truststore/x509/ca/wabbit");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("ca.crt"), &self.ca_pem).unwrap();
        let statement = json!({
            "name": "release",
            "registryScopes": ["*"],
            "signatureVerification": { "level": "strict" },
            "trustStores": ["ca:wabbit"],
            "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Wabbit Networks"],
        });
        let policy = json!({ "version": "1.0", "trustPolicies": [statement] });
        fs::write(directory.join("trustpolicy.json"), policy.to_string()).unwrap();
    }

    /// An envelope over the image, as notation writes it.
    fn sign(&self, image: &Image) -> String {
        let target = json!({
            "mediaType": image.media_type,
            "digest": image.digest.to_string(),
            "size": image.bytes.len(),
            "annotations": { "build": "7" },
        });
        let payload = json!({ "targetArtifact": target });
        let protected = json!({
            "alg": "ES256",
            "crit": ["io.cncf.notary.signingScheme"],
            "cty": "application/vnd.cncf.notary.payload.v1+json",
            "io.cncf.notary.signingScheme": "notary.x509",
            "io.cncf.notary.signingTime": "2026-11-22T11:00:00Z",
        });
        let [payload, protected] = [payload, protected].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signature = fixed(&self.key.sign(format!("{protected}.{payload}").as_bytes()).unwrap());
        let chain = [&self.certificate, &self.ca_der].map(|der| BASE64_STANDARD.encode(der));
        let envelope = json!({
            "payload": payload,
            "protected": protected,
            "header": { "x5c": chain },
            "signature": BASE64_URL_SAFE_NO_PAD.encode(signature),
        });
        BASE64_STANDARD.encode(envelope.to_string())
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    for (kind, value) in [
        (DnType::CountryName, "US"),
        (DnType::StateOrProvinceName, "WA"),
        (DnType::OrganizationName, "Wabbit Networks"),
        (DnType::CommonName, name),
    ] {
        params.distinguished_name.push(kind, value);
    }
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 6, 1));
    params
}

/// The two numbers of an ECDSA signature in DER, side by side.
fn fixed(der: &[u8]) -> Vec<u8> {
    let (first, rest) = der[4..].split_at(usize::from(der[3]));
    let number = |bytes: &[u8]| {
        let bytes = &bytes[bytes.len().saturating_sub(32)..];
        [vec![0; 32 - bytes.len()], bytes.to_vec()].concat()
    };
    [number(first), number(&rest[2..])].concat()
}

/// Answers every request with what it holds, or with 503 where that is nothing.
struct Service {
    url: Url,
    answer: Arc<Mutex<Option<Bytes>>>,
    requests: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ca.crl", listener.local_addr().unwrap()).parse().unwrap();
        let (answer, requests) = (Arc::new(Mutex::new(None::<Bytes>)), Arc::new(Mutex::new(0)));
        let mut tasks = JoinSet::new();
        let (held, counted) = (Arc::clone(&answer), Arc::clone(&requests));
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(|_| {
                    *counted.lock().unwrap() += 1;
                    let (status, body) = match held.lock().unwrap().clone() {
                        Some(body) => (StatusCode::OK, body),
                        None => (StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
                    };
                    let answer = Response::builder().status(status).body(Full::new(body)).unwrap();
                    async move { Ok::<_, std::convert::Infallible>(answer) }
                });
                let http = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
                // How a connection ends is the client's business.
                drop(http.await);
            }
        });
        Self { url, answer, requests, _tasks: tasks }
    }

    fn holds(&self, list: Option<Bytes>) {
        *self.answer.lock().unwrap() = list;
    }

    fn requests(&self) -> usize {
        *self.requests.lock().unwrap()
    }
}

/// A mirror that enforces everything, an image, and its signature submitted.
async fn signed_image(notary: &Notary, hosts: Vec<Url>) -> (Mirror, Registry, serde_json::Value) {
    signed_image_by(notary, |setup| setup.revocation_hosts(hosts)).await
}

async fn signed_image_by(
    notary: &Notary,
    changed: impl FnOnce(Setup) -> Setup,
) -> (Mirror, Registry, serde_json::Value) {
    let registry = Registry::start().await;
    let image = registry.push_image(REPOSITORY, Some(TAG), &[b"layer"]);
    let mirror = changed(Setup::over(&registry).level(Level::Enforce)).start().await;
    notary.write_files(&mirror.trust_dir());
    // The manifest is held once somebody has asked for it; size and media type are signed beside the digest.
    let unsigned = mirror.get(&path(), DOCKER).await;
    assert_ne!(unsigned.status, StatusCode::OK);
    let body = json!({ "image_digest": image.digest, "tag": TAG, "signature": notary.sign(&image) });
    let record = loop {
        let record = mirror.post("/api/v1/signatures", &body).await;
        assert!(record.status.is_success(), "{record:?}");
        // The files count within a second.
        if record.json()["reason"] != "notation-scope" {
            break record.json();
        }
        tokio::task::yield_now().await;
    };
    (mirror, registry, record)
}

fn path() -> String {
    format!("/v2/{REPOSITORY}/manifests/{TAG}")
}

#[tokio::test]
async fn an_image_signed_with_notation_comes_by_notations_own_policy_and_the_list_is_fetched_once() {
    let service = Service::start().await;
    let notary = Notary::new(&service.url);
    service.holds(Some(notary.list(false)));
    let (mirror, _registry, record) = signed_image(&notary, vec![service.url.clone()]).await;
    assert_eq!((&record["is_valid"], &record["format"]), (&json!(true), &json!("notation-jws")), "{record}");
    assert_eq!(record["verified_by"]["name"], "release");
    for _ in 0..3 {
        assert_eq!(mirror.get(&path(), DOCKER).await.status, StatusCode::OK);
    }
    assert_eq!(service.requests(), 1);
}

#[tokio::test]
async fn a_revocation_list_is_fetched_through_the_proxy() {
    let service = Service::start().await;
    let at = service.url.socket_addrs(|| None).unwrap()[0];
    let proxy = ForwardProxy::to(at).await;
    let notary = Notary::new(&"http://lists.example/ca.crl".parse().unwrap());
    service.holds(Some(notary.list(false)));
    let (mirror, _registry, record) = signed_image_by(&notary, |setup| setup.proxies(proxy.proxies("", ""))).await;
    assert_eq!(record["is_valid"], true, "{record}");
    assert_eq!(mirror.get(&path(), DOCKER).await.status, StatusCode::OK);
    // The registry is on this machine, and so no business of the proxy's.
    assert_eq!(proxy.requests(), ["GET http://lists.example/ca.crl"]);
}

#[tokio::test]
async fn an_image_whose_signers_certificate_was_revoked_is_refused() {
    let service = Service::start().await;
    let notary = Notary::new(&service.url);
    service.holds(Some(notary.list(true)));
    let (mirror, _registry, record) = signed_image(&notary, vec![service.url.clone()]).await;
    assert_eq!((&record["is_valid"], &record["reason"]), (&json!(false), &json!("notation-revoked")), "{record}");
    assert_ne!(mirror.get(&path(), DOCKER).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_does_not_answer_is_could_not_tell_and_is_not_asked_at_every_pull() {
    let service = Service::start().await;
    let notary = Notary::new(&service.url);
    let (mirror, _registry, record) = signed_image(&notary, vec![service.url.clone()]).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("unknown"), &json!("revocation-unknown")), "{record}");
    for _ in 0..3 {
        assert_ne!(mirror.get(&path(), DOCKER).await.status, StatusCode::OK);
    }
    assert_eq!(service.requests(), 1);
    service.holds(Some(notary.list(false)));
    mirror.clock.advance(std::time::Duration::from_secs(60));
    mirror.until(&path(), 200).await;
    assert_eq!(service.requests(), 2);
}

#[tokio::test]
async fn pitfall_29_a_certificate_that_names_a_private_address_has_nobody_asked_there() {
    let service = Service::start().await;
    let notary = Notary::new(&service.url);
    service.holds(Some(notary.list(false)));
    let (_mirror, _registry, record) = signed_image(&notary, Vec::new()).await;
    assert_eq!(record["reason"], "revocation-unknown", "{record}");
    assert_eq!(service.requests(), 0);
}
