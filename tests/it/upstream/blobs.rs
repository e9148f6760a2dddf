use std::time::Duration;

use http::{HeaderValue, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use sig_repo::{
    oci::Digest,
    upstream::{BlobAnswer, Limits, Phase, UpstreamError},
};

use super::{Client, noise, read};
use crate::support::{
    liar::{Liar, Step},
    registry::{Fault, Registry},
};

const SIZE: usize = 300_000;

async fn registry_with_blob() -> (Registry, Client, Vec<u8>, Digest) {
    let registry = Registry::start().await;
    let bytes = noise(SIZE);
    let digest = registry.push_blob("library/app", bytes.clone());
    let client = Client::of(registry.upstream("docker.io"));
    (registry, client, bytes, digest)
}

#[tokio::test]
async fn a_blob_comes_whole_in_small_pieces() {
    let (_registry, client, bytes, digest) = registry_with_blob().await;
    let mut answer = client.blob("app", &digest).await.unwrap();
    assert_eq!((answer.status, answer.content_length), (StatusCode::OK, Some(SIZE as u64)));
    assert_eq!(answer.body.size_hint().exact(), Some(SIZE as u64));
    let mut received = Vec::new();
    while let Some(frame) = answer.body.frame().await {
        let piece = frame.unwrap().into_data().unwrap();
        // A piece is read, one is held back and one is being sent on: within 128 KiB together.
        assert!(piece.len() <= 32 << 10, "{}", piece.len());
        received.extend_from_slice(&piece);
        assert_eq!(answer.body.size_hint().exact(), Some((SIZE - received.len()) as u64));
    }
    assert!(received == bytes);
    assert!(answer.body.is_end_stream());
}

#[tokio::test]
async fn a_head_answers_the_length_and_has_no_body() {
    let (registry, client, _, digest) = registry_with_blob().await;
    let answer = client.upstream.blob(&client.repository("app"), &digest, true, None).await.unwrap();
    assert_eq!((answer.status, answer.content_length), (StatusCode::OK, Some(SIZE as u64)));
    assert_eq!(read(answer).await, (Vec::new(), Ok(())));
    assert_eq!(registry.request_lines(), [format!("HEAD /v2/library/app/blobs/{digest}")]);
}

#[tokio::test]
async fn pitfall_3_a_wrong_blob_ends_in_an_error_before_its_last_byte() {
    let (registry, client, bytes, digest) = registry_with_blob().await;
    registry.fault("/v2/library/app/blobs/", Fault::WrongBytes);
    let (received, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::WrongDigest));
    assert!(received.len() < bytes.len() && bytes.starts_with(&received), "{}", received.len());

    // The same for a blob that fits into one piece: nothing of it arrives.
    let small = registry.push_blob("library/app", &b"small"[..]);
    assert_eq!(client.whole_blob("app", &small).await, (Vec::new(), Err(UpstreamError::WrongDigest)));
}

#[tokio::test]
async fn a_blob_that_is_too_long_or_too_short_is_an_error() {
    let (registry, client, bytes, digest) = registry_with_blob().await;
    registry.fault("/v2/library/app/blobs/", Fault::LongBody);
    let (received, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::WrongDigest));
    assert!(received.len() <= SIZE && bytes.starts_with(&received[..received.len().min(SIZE)]));
    // Known from a manifest, the size ends it at the first byte too many.
    let answer = client.blob("app", &digest).await.unwrap();
    let (received, end) = read(expecting(answer, SIZE)).await;
    assert_eq!(end, Err(UpstreamError::TooLarge { what: "blob", limit: SIZE as u64 }));
    assert!(received.len() < SIZE);

    registry.heal();
    registry.fault("/v2/library/app/blobs/", Fault::Cut);
    let (received, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::Reset));
    assert!(received.len() <= SIZE / 2);

    registry.heal();
    let answer = client.blob("app", &digest).await.unwrap();
    let (received, end) = read(expecting(answer, SIZE + 1)).await;
    assert_eq!(end, Err(UpstreamError::Malformed { what: "size" }));
    assert!(received.len() < SIZE);
    let answer = client.blob("app", &digest).await.unwrap();
    assert_eq!(read(expecting(answer, SIZE)).await, (bytes, Ok(())));
}

fn expecting(mut answer: BlobAnswer, size: usize) -> BlobAnswer {
    answer.body = answer.body.expecting(size as u64);
    answer
}

#[tokio::test]
async fn pitfall_19_an_endless_blob_ends_at_the_limit() {
    let (registry, _, _, digest) = registry_with_blob().await;
    registry.fault("/v2/library/app/blobs/", Fault::EndlessBody);
    let limits = Limits { blob_bytes: 1 << 20, ..Limits::default() };
    let client = Client::limited(registry.upstream("docker.io"), limits);
    let (received, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::TooLarge { what: "blob", limit: 1 << 20 }));
    assert!(received.len() <= 1 << 20);
    let small = client.upstream.small_blob(&client.repository("app"), &digest, 1000).await;
    assert_eq!(small, Err(UpstreamError::TooLarge { what: "blob", limit: 1000 }));
}

#[tokio::test]
async fn a_silent_or_dripping_blob_is_given_up() {
    let limits = Limits { idle: Duration::from_millis(150), ..Limits::default() };
    let (registry, _, _, digest) = registry_with_blob().await;
    registry.fault("/v2/library/app/blobs/", Fault::Stall);
    let client = Client::limited(registry.upstream("docker.io"), limits.clone());
    let (received, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::Timeout { phase: Phase::Body }));
    assert!(received.len() <= SIZE / 2);

    let head = Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".into());
    let liar = Liar::start(vec![vec![head, Step::Drip(b"x".to_vec())]]).await;
    let client = Client::limited(liar.upstream("docker.io"), limits);
    let (_, end) = client.whole_blob("app", &digest).await;
    assert_eq!(end, Err(UpstreamError::Timeout { phase: Phase::Body }));
    liar.closed(1).await;
}

#[tokio::test]
async fn a_part_passes_unhashed_and_only_where_it_was_asked_for() {
    let (registry, client, bytes, digest) = registry_with_blob().await;
    let repository = client.repository("app");
    let range = |text: &str| HeaderValue::from_str(text).unwrap();
    let asked = range("bytes=100-299");
    let answer = client.upstream.blob(&repository, &digest, false, Some(&asked)).await.unwrap();
    assert_eq!((answer.status, answer.content_length), (StatusCode::PARTIAL_CONTENT, Some(200)));
    assert_eq!(answer.content_range.as_ref().unwrap(), "bytes 100-299/300000");
    assert_eq!(read(answer).await, (bytes[100..300].to_vec(), Ok(())));

    let asked = range("bytes=300000-");
    let answer = client.upstream.blob(&repository, &digest, false, Some(&asked)).await.unwrap();
    assert_eq!((answer.status, answer.content_length), (StatusCode::RANGE_NOT_SATISFIABLE, None));
    assert_eq!(answer.content_range.as_ref().unwrap(), "bytes */300000");
    assert_eq!(read(answer).await, (Vec::new(), Ok(())));

    let ranges = registry.requests().iter().map(|request| request.headers["range"].clone()).collect::<Vec<_>>();
    assert_eq!(ranges, ["bytes=100-299", "bytes=300000-"]);

    let unasked =
        Liar::saying("HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\nContent-Range: bytes 0-0/9\r\n\r\nx").await;
    let client = Client::of(unasked.upstream("docker.io"));
    assert_eq!(client.whole_blob("app", &digest).await.1, Err(UpstreamError::Malformed { what: "range" }));
    let unsaid = Liar::saying("HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx").await;
    let client = Client::of(unsaid.upstream("docker.io"));
    let answer = client.upstream.blob(&client.repository("app"), &digest, false, Some(&range("bytes=0-0"))).await;
    assert_eq!(answer.unwrap_err(), UpstreamError::Malformed { what: "range" });
}

#[tokio::test]
async fn a_blob_that_nobody_reads_on_closes_its_connection() {
    let head = Step::Send("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".into());
    let liar = Liar::start(vec![vec![head, Step::Endless(vec![0; 4096])]]).await;
    let client = Client::of(liar.upstream("docker.io"));
    let mut answer = client.blob("app", &Digest::sha256(b"")).await.unwrap();
    answer.body.frame().await.unwrap().unwrap();
    drop(answer);
    liar.closed(1).await;
}
