//! What comes before a body: too much of it, too slowly, or nothing that is a request.

use std::time::Duration;

use sig_repo::server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{answered, ask, port, port_with};
use crate::support::port::{SHORT, rest_of};

#[tokio::test]
async fn heads_over_the_limits_are_431() {
    let port = port().await;
    let long = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X: a\r\n".repeat(200));
    let path = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(70_000));
    for head in [long, many] {
        let answer = port.exchange(&head).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer:?}");
    }
    let answer = port.exchange(path).await;
    assert!(answer.starts_with("HTTP/1.1 414 ") || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    port.unharmed().await;
}

#[tokio::test]
async fn what_is_no_request_is_400() {
    let port = port().await;
    for garbage in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n folded: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX: a\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : test\r\n\r\n",
        "GET / HTTP/1.1\r\n: test\r\n\r\n",
        "GET /a\0b HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: test\r\n\r\n",
        "G\0T / HTTP/1.1\r\nHost: test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\nX: a\0b\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n",
    ] {
        let answer = port.exchange(garbage).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{garbage:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{garbage:?}: {answer:?}");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn a_request_needs_exactly_one_host() {
    let port = port().await;
    for head in [
        "GET / HTTP/1.1\r\nX: y",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET http://a/ HTTP/1.1\r\nHost: b",
        "GET http://a:80/ HTTP/1.1\r\nHost: a:81",
        "GET http://user@a/ HTTP/1.1\r\nHost: a",
    ] {
        let answer = port.ask(head).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(answer, @r#"HTTP/1.1 400 Bad Request | application/problem+json | {"detail":"a request names exactly one host","status":400,"title":"Bad Request","type":"about:blank"}"#);
        }
    }
}

#[tokio::test]
async fn a_target_with_the_same_host_is_read_as_its_path() {
    let port = port().await;
    for head in ["GET http://test/a?b=c HTTP/1.1\r\nHost: test", "GET http://TEST/a HTTP/1.1\r\nHost: test"] {
        assert_eq!(port.ask(head).await, "HTTP/1.1 200 OK | - | GET /a \"\";");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn a_slow_head_ends_the_connection_and_nothing_is_answered_from_it() {
    let port = port_with(Limits { head: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    assert_eq!(rest_of(&mut stream).await, "");
    // The second head of a connection has no more time than the first.
    let mut stream = port.connect().await;
    stream.write_all(b"GET /whole HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stream.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    assert!(rest_of(&mut stream).await.ends_with("GET /whole \"\";"));
    port.unharmed().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let port = port_with(Limits { idle: SHORT, ..Limits::default() }).await;
    assert_eq!(rest_of(&mut port.connect().await).await, "");
    // After an answer, too.
    let mut stream = port.connect().await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert!(rest_of(&mut stream).await.ends_with("GET /a \"\";"));
    port.unharmed().await;
}

#[tokio::test]
async fn who_asks_again_after_a_rest_is_answered_as_before() {
    let rest = Duration::from_millis(10);
    let port = port_with(Limits { rest, head: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    for _ in 0..3 {
        ask(&mut stream).await;
        tokio::time::sleep(rest * 5).await;
    }
    // What came of a next request stays what came of it.
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /a HTTP/1").await.unwrap();
    answered(&mut stream).await;
    tokio::time::sleep(rest * 5).await;
    stream.write_all(b".1\r\nHost: test\r\n\r\n").await.unwrap();
    answered(&mut stream).await;
    stream.write_all(b"GET /half HTTP/1.1\r\nHos").await.unwrap();
    assert_eq!(rest_of(&mut stream).await, "");
    port.unharmed().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let two = "GET /a HTTP/1.1\r\nHost: test\r\n\r\nGET /b HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let answer = port().await.exchange(two).await;
    let bodies = ["GET /a \"\";", "GET /b \"\";"].map(|body| answer.find(body).unwrap());
    assert!(bodies[0] < bodies[1], "{answer:?}");
}

#[tokio::test]
async fn many_pipelined_requests_are_answered_one_by_one() {
    let port = port().await;
    let mut all: String = (0..1000).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
    all.push_str(
        "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\nGET /after HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    let answer = port.exchange(&all).await;
    let found: Vec<&str> =
        answer.split("GET /").skip(1).filter_map(|piece| piece.split_once(' ')).map(|it| it.0).collect();
    let expected: Vec<String> = (0..1000).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(found, expected, "in order, and nothing after the last");
    port.unharmed().await;
}

#[tokio::test]
async fn a_peer_that_pipelines_and_reads_nothing_is_cut() {
    let port = port_with(Limits { stall: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    // More than both ends' buffers hold: the server stops reading when it cannot write, and then ends.
    let piece = "GET /a HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1000);
    while stream.write_all(piece.as_bytes()).await.is_ok() {}
    port.unharmed().await;
}
