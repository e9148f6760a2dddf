//! Requests that two readers may take for different ones: each is read in one way or not at all, and
//! what may have been meant for somebody else is not answered.

use std::time::Duration;

use sig_repo::server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{port, port_with};
use crate::support::port::rest_of;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";

#[tokio::test]
async fn two_lengths_for_one_body_smuggle_nothing() {
    let port = port().await;
    // A request that states both is read by its chunks, and nothing after it is read at all.
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: x\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: Chunked\r\n",
    ] {
        let answer = port.exchange(post(head, "0\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("POST /first \"\";"),
            "{head:?}: {answer:?}"
        );
    }
    for (head, status) in [
        ("Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 0x5\r\n", 400),
        ("Content-Length: 5 5\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("Content-Length: 18446744073709551617\r\n", 400),
        ("Content-Length : 5\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding : chunked\r\n", 400),
        ("Content-Length: 5\r\n Transfer-Encoding: chunked\r\n", 400),
    ] {
        only(&port.exchange(post(head, "0\r\n\r\n")).await, status, head);
    }
    port.unharmed().await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_is_no_body_of_ours() {
    let port = port().await;
    for (head, status) in [
        ("Transfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", 400),
        ("Transfer-Encoding: chunked, identity\r\n", 400),
        ("Transfer-Encoding: chunked;q=1\r\n", 400),
        ("Transfer-Encoding: \"chunked\"\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400),
        ("Transfer-Encoding: \r\nContent-Length: 5\r\n", 400),
        ("Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n", 501),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked, chunked\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", 501),
        ("Transfer-Encoding: ,chunked\r\n", 501),
    ] {
        only(&port.exchange(post(head, "0\r\n\r\n")).await, status, head);
    }
    let old = format!("POST /first HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}");
    only(&port.exchange(old).await, 400, "HTTP/1.0");
    port.unharmed().await;
}

#[tokio::test]
async fn a_bare_line_feed_hides_no_header() {
    let port = port().await;
    // It ends a line wherever it stands (RFC 9112, section 2.2), so the length counts.
    let hidden = "POST /first HTTP/1.1\nHost: test\nX: a\nContent-Length: 5\nConnection: close\n\nabcde";
    let answer = port.exchange(format!("{hidden}{SMUGGLED}")).await;
    assert!(answer.ends_with("POST /first \"abcde\";"), "{answer:?}");
    let both =
        "POST /first HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nX: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = port.exchange(format!("{both}{SMUGGLED}")).await;
    assert!(answer.ends_with("POST /first \"\";"), "{answer:?}");
    port.unharmed().await;
}

#[tokio::test]
async fn a_body_in_a_get_is_no_second_request() {
    let port = port().await;
    let length = SMUGGLED.len();
    let request =
        format!("GET /first HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}");
    let answer = port.exchange(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer:?}");
    port.unharmed().await;
}

fn post(head: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: test\r\n{head}\r\n{body}{SMUGGLED}")
}

/// One answer, with this status, and the connection's end.
fn only(answer: &str, status: u16, head: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?}: {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer:?}");
}

#[tokio::test]
async fn what_comes_late_of_an_unread_body_is_no_request() {
    let rest = Duration::from_millis(10);
    let port = port_with(Limits { rest, idle: rest * 20, ..Limits::default() }).await;
    for head in
        ["Content-Length: 39\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 39\r\nExpect: 100-continue\r\n"]
    {
        // It is answered without a look at its body.
        let mut stream = port.connect().await;
        stream.write_all(format!("POST /healthz HTTP/1.1\r\nHost: test\r\n{head}\r\n").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 405", "{head:?}");
        tokio::time::sleep(rest * 5).await;
        // The connection may be closed already.
        let _sent = stream.write_all(SMUGGLED.as_bytes()).await;
        let answer = rest_of(&mut stream).await;
        assert!(!answer.contains("/smuggled"), "{head:?}: {answer:?}");
    }
    port.unharmed().await;
}
