//! The port with a certificate of its own.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use sig_repo::server::{Config, Limits, Tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ask, echo};
use crate::support::port::{Port, SHORT, config, rest_of};

struct Certificate {
    directory: tempfile::TempDir,
    der: CertificateDer<'static>,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let der = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        Self { directory, der }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tls(&self) -> Tls {
        Tls::load(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    async fn handshake(
        &self,
        port: &Port,
        alpn: &[&str],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, port.connect().await).await
    }
}

#[tokio::test]
async fn tls_offers_http_1_1_and_nothing_else() {
    let certificate = Certificate::new();
    let port = Port::with_tls(certificate.tls(), echo()).await;
    let mut stream = certificate.handshake(&port, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    stream.write_all(b"GET /tls HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("GET /tls \"\";"), "{answer:?}");

    let refused = certificate.handshake(&port, &["h2"]).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    let without = certificate.handshake(&port, &[]).await.unwrap();
    assert_eq!(without.get_ref().1.alpn_protocol(), None);
}

#[tokio::test]
async fn who_asks_again_after_a_rest_is_answered_in_the_same_session() {
    let certificate = Certificate::new();
    let limits = Limits { rest: Duration::from_millis(10), ..Limits::default() };
    let port = Port::open(Config { limits, tls: Some(certificate.tls()), ..config() }, echo()).await;
    let mut stream = certificate.handshake(&port, &["http/1.1"]).await.unwrap();
    for _ in 0..3 {
        ask(&mut stream).await;
        tokio::time::sleep(limits.rest * 5).await;
    }
    stream.shutdown().await.unwrap();
    port.all_closed().await;
}

#[tokio::test]
async fn bytes_that_are_no_request_keep_no_connection() {
    let certificate = Certificate::new();
    let limits = Limits { rest: Duration::from_millis(10), idle: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, tls: Some(certificate.tls()), ..config() }, echo()).await;
    for asks in [false, true] {
        let mut stream = certificate.handshake(&port, &["http/1.1"]).await.unwrap();
        if asks {
            ask(&mut stream).await;
        }
        // The head of a record, and its content byte by byte, which ends nowhere.
        let (mut reading, mut writing) = stream.get_mut().0.split();
        let dribbling = async {
            for byte in [0x17, 3, 3, 0x40, 0].into_iter().chain(std::iter::repeat(0)) {
                if writing.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(limits.rest * 5).await;
            }
        };
        let mut rest = Vec::new();
        let ended = async { tokio::time::timeout(SHORT * 10, reading.read_to_end(&mut rest)).await.expect("it stays") };
        tokio::select! {
            _ended = ended => {}
            () = dribbling => {}
        }
    }
    port.all_closed().await;
}

#[tokio::test]
async fn a_connection_that_rests_ends_with_the_word_that_says_so() {
    let certificate = Certificate::new();
    let limits = Limits { rest: Duration::from_millis(10), idle: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, tls: Some(certificate.tls()), ..config() }, echo()).await;
    let mut stream = certificate.handshake(&port, &["http/1.1"]).await.unwrap();
    ask(&mut stream).await;
    // An end without it would be an error.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_told_so() {
    let port = Port::with_tls(Certificate::new().tls(), echo()).await;
    insta::assert_snapshot!(port.get("/").await, @"HTTP/1.1 400 Bad Request | - | this port speaks TLS: its URLs begin with https://");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_believes_the_configured_certificate_and_no_other() {
    let (ours, other) = (Certificate::new(), Certificate::new());
    let port = Port::with_tls(ours.tls(), echo()).await;
    let ask = |certificate: &Certificate| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sig-repo"));
        command.arg("healthcheck").env_clear().env("PORT", port.addr.port().to_string());
        command.env("HTTP_TLS_CERTIFICATE", certificate.path("cert.pem"));
        command.env("HTTP_TLS_KEY", certificate.path("key.pem")).output().unwrap()
    };
    let good = ask(&ours);
    assert_eq!((good.status.code(), String::from_utf8_lossy(&good.stderr).as_ref()), (Some(0), ""));
    let bad = ask(&other);
    assert_eq!(bad.status.code(), Some(1));
    let line = String::from_utf8_lossy(&bad.stderr);
    assert!(line.contains("invalid peer certificate"), "{line}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_or_is_none_ends() {
    let limits = Limits { head: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, tls: Some(Certificate::new().tls()), ..config() }, echo()).await;
    for begun in ["", "\x16", "\x16\x03\x01\x02\x00\x01"] {
        let mut stream = port.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert_eq!(rest_of(&mut stream).await, "", "{begun:?}");
    }
    let nonsense = port.exchange([0x16, 3, 1, 0, 4, 1, 2, 3, 4].as_slice()).await;
    assert!(!nonsense.contains("HTTP/"), "an alert, or nothing: {nonsense:?}");
    port.all_closed().await;
}
