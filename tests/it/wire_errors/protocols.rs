//! Other protocols, and other forms of this one.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::port;
use crate::support::port::rest_of;

#[tokio::test]
async fn a_tls_hello_on_the_plain_port_gets_an_answer_in_http() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(client), name).unwrap().write_tls(&mut hello).unwrap();
    assert_eq!(hello[0], 0x16);
    let port = port().await;
    // Some clients end their side after the first record.
    for hello in [&hello[..], &hello[..5], &hello[..1]] {
        let mut stream = port.connect().await;
        stream.write_all(hello).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest_of(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{} bytes: {answer:?}", hello.len());
    }
    let answer = port.exchange(hello).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?}");
    port.unharmed().await;
}

#[tokio::test]
async fn another_version_of_http_is_not_spoken() {
    let port = port().await;
    for request in ["GET / HTTP/2.0\r\nHost: test\r\n\r\n", "GET / HTTP/0.9\r\n\r\n", "GET /\r\n\r\n"] {
        let answer = port.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{request:?}: {answer:?}");
    }
    // Whoever begins like this could read no answer of ours.
    assert_eq!(port.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await, "");
    port.unharmed().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed_unless_it_asks_to_stay() {
    let port = port().await;
    for request in ["GET /old HTTP/1.0\r\n\r\n", "GET /old HTTP/1.0\r\nHost: test\r\n\r\nGET /two HTTP/1.0\r\n\r\n"] {
        let old = port.exchange(request).await;
        assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("GET /old \"\";"), "{old:?}");
    }
    let request = "GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /two HTTP/1.0\r\n\r\n";
    let kept = port.exchange(request).await;
    assert!(kept.contains("GET /old \"\";HTTP/1.0 200 OK\r\n") && kept.ends_with("GET /two \"\";"), "{kept:?}");
    port.unharmed().await;
}

#[tokio::test]
async fn an_upgrade_is_not_taken_up() {
    let port = port().await;
    for upgrade in [
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Upgrade: TLS/1.2",
    ] {
        let head =
            format!("GET /up HTTP/1.1\r\nHost: test\r\n{upgrade}\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n");
        let mut stream = port.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut status = [0; 15];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK", "{upgrade}");
        // It goes on as what it was: the next bytes are read as a request of the same protocol.
        stream.write_all(b"GET /next HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await.unwrap();
        let rest = rest_of(&mut stream).await;
        assert!(
            rest.contains("GET /up \"\";HTTP/1.1 200 OK") && rest.ends_with("GET /next \"\";"),
            "{upgrade}: {rest:?}"
        );
    }
    port.unharmed().await;
}

#[tokio::test]
async fn nobody_tunnels_through() {
    let port = port().await;
    for head in [
        "CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443",
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80",
    ] {
        let answer = port.ask(head).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(answer, @r#"HTTP/1.1 405 Method Not Allowed | application/problem+json | {"detail":"this is no proxy","status":405,"title":"Method Not Allowed","type":"about:blank"}"#);
        }
    }
    port.unharmed().await;
}
