//! Bodies that do not come, do not end, or are not taken.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use hyper::{body::Incoming, service::service_fn};
use sig_repo::server::{Config, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

use super::{port, port_with};
use crate::support::port::{Body, Port, SHORT, config, rest_of, text};

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let port = port_with(Limits { body: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"POST /api HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer:?}");
    assert!(answer.contains("the request did not arrive in time"), "{answer:?}");
    port.unharmed().await;
}

#[tokio::test]
async fn a_chunked_body_that_never_ends_is_cut() {
    let port = port_with(Limits { body: SHORT, ..Limits::default() }).await;
    let mut stream = port.connect().await;
    stream.write_all(b"POST /api HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let writing = async {
        while writing.write_all(b"1\r\na\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut answer = Vec::new();
    // What is still being sent when the server closes may take the answer with it, on its way back.
    let (_, ended) = tokio::join!(writing, reading.read_to_end(&mut answer));
    assert!(ended.is_err() || answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    drop(stream);
    port.unharmed().await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut() {
    /// Says when the server has let go of it.
    struct Endless(#[expect(dead_code, reason = "its drop is what counts")] oneshot::Sender<()>);
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 16 * 1024])))))
        }
    }
    let (let_go, gone) = oneshot::channel();
    let body = Mutex::new(Some(Endless(let_go)));
    let service = service_fn(move |_: Request<Incoming>| {
        let body = body.lock().unwrap().take();
        async move { Ok(body.map_or_else(|| text("at once"), |body| Response::new(Body::new(body)))) }
    });
    let limits = Limits { stall: SHORT, ..Limits::default() };
    let port = Port::open(Config { limits, ..config() }, service).await;
    let mut stream = port.connect().await;
    stream.write_all(b"GET /blob HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    assert!(gone.await.is_err(), "dropped without a word");
    port.unharmed().await;
}

#[tokio::test]
async fn a_body_that_nobody_wants_holds_nothing_up() {
    let service = service_fn(|_: Request<Incoming>| async move { Ok(text("not read")) });
    let port = Port::open(config(), service).await;
    for body in ["Content-Length: 1000000\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
        let request = format!("POST /a HTTP/1.1\r\nHost: test\r\n{body}");
        let answer = port.exchange(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("not read"), "{answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "what follows is no request: {answer:?}");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn malformed_chunks_end_the_connection() {
    let port = port().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    for body in [
        "g\r\n",
        "-1\r\n",
        "0x5\r\nabcde\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\r\nabcdeX0\r\n\r\n",
        "5\r\nabcde\n0\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "5;a=\n\r\nabcde\r\n0\r\n\r\n",
        "\r\n",
    ] {
        let head = "POST /first HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = port.exchange(format!("{head}{body}{smuggled}")).await;
        assert!(!answer.contains("/smuggled"), "{body:?}: {answer:?}");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn chunk_extensions_and_trailers_are_bounded_and_mean_nothing() {
    let port = port().await;
    let head = "POST /first HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let small = "5;a=b;c\r\nabcde\r\n0;x\r\nTransfer-Encoding: gzip\r\nHost: other\r\n\r\n";
    let answer = port.exchange(format!("{head}{small}")).await;
    assert!(answer.ends_with("POST /first \"abcde\";"), "{answer:?}");
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "e".repeat(20_000));
    let many_extensions = "1;eeeeeeeeeeeeeeee\r\na\r\n".repeat(2000) + "0\r\n\r\n";
    let long_trailer = format!("0\r\nX: {}\r\n\r\n", "t".repeat(70_000));
    let many_trailers = format!("0\r\n{}\r\n", "X: t\r\n".repeat(200));
    for body in [long_extension, many_extensions, long_trailer, many_trailers] {
        let answer = port.exchange(format!("{head}{body}")).await;
        // The echo gives an empty body where there was an error.
        assert!(answer.is_empty() || answer.ends_with("POST /first \"\";"), "{answer:?}");
    }
    port.unharmed().await;
}

#[tokio::test]
async fn who_waits_to_be_told_to_go_on_is_told_or_answered() {
    let port = port().await;
    let mut stream = port.connect().await;
    let head =
        "POST /first HTTP/1.1\r\nHost: test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abcde").await.unwrap();
    let answer = rest_of(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("POST /first \"abcde\";"), "{answer:?}");
    port.unharmed().await;
}
