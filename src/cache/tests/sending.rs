//! Parts of files that the connection sends.

use std::{io::Read, os::unix::net::UnixStream};

use super::*;
use crate::sendfile::{Files, Sendable, is_stand_in};

/// Sends a body as a connection does, and says how many of its bytes were read for that.
async fn sent(mut body: BlobBody) -> Result<(Bytes, usize), String> {
    let (files, mut received, mut read) = (Files::default(), Vec::new(), 0);
    let (socket, mut peer) = UnixStream::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    body.send_by(&files);
    while let Some(frame) = body.frame().await {
        let mut piece = frame.map_err(|error| error.to_string())?.into_data().unwrap();
        if !is_stand_in(&piece) {
            read += piece.len();
            received.extend(piece);
            continue;
        }
        while !piece.is_empty() {
            let sent = files.send(&socket, &piece[..]).unwrap();
            let _gone = piece.split_to(sent);
            let mut taken = vec![0; sent];
            peer.read_exact(&mut taken).unwrap();
            received.extend(taken);
        }
    }
    Ok((received.into(), read))
}

#[tokio::test]
async fn a_file_is_sent_but_for_its_end() {
    let scene = Scene::new();
    let blob = blob(51, 2_000_003);
    scene.keep(&blob).await;
    for range in [0..2_000_003, 1..1_999_999, 100_000..200_001] {
        let cached = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap();
        let (received, read) = sent(cached.body(range.clone()).await.unwrap()).await.unwrap();
        assert!(received == blob[range.start as usize..range.end as usize], "{range:?}");
        assert_eq!(read, 16 << 10);
    }
    let cached = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap();
    assert_eq!(sent(cached.body(5..40_000).await.unwrap()).await.unwrap(), (blob.slice(5..40_000), 39_995));
}

#[tokio::test]
async fn what_nobody_has_verified_yet_is_read() {
    let scene = Scene::new();
    let blob = blob(52, 600_001);
    scene.keep(&blob).await;
    let scene = scene.restarted().await;
    for read in [600_001, 16 << 10] {
        let cached = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap();
        assert_eq!(sent(cached.body(0..600_001).await.unwrap()).await.unwrap(), (blob.clone(), read));
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_never_arrives_whole() {
    let scene = Scene::new();
    let blob = blob(53, 2_000_000);
    scene.keep(&blob).await;
    let mut body = scene.cache.cached(&Digest::sha256(&blob)).await.unwrap().body(0..2_000_000).await.unwrap();
    body.send_by(&Files::default());
    assert!(is_stand_in(body.frame().await.unwrap().unwrap().data_ref().unwrap()));
    fs::write(scene.file_of(&blob), &blob).unwrap();
    assert!(sent(body).await.unwrap_err().contains("not what it was"));
}
