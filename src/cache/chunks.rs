//! The memory that blobs are read into: a bounded number of large pieces, used again and again, and small
//! ones where these are all lent. Whoever reads the same place of the same blob gets the same piece.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;

/// Lends buffers, and takes them back when the last reader has sent what is in them.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    free: Mutex<Vec<Box<[u8]>>>,
    lent: AtomicUsize,
}

/// What was read, in a buffer that goes back when nobody needs it any more.
pub(super) struct Chunk {
    buffer: Box<[u8]>,
    length: usize,
    chunks: Option<Arc<Chunks>>,
}

/// The pieces of one blob that somebody is sending.
#[derive(Default)]
pub(super) struct Shared {
    pieces: Mutex<Vec<(u64, Weak<Chunk>)>>,
}

struct Sent(Arc<Chunk>);

impl Chunks {
    /// A buffer of [`CHUNK`] bytes, or of fewer where too many of these are lent: a reader that takes its
    /// time costs the others speed, never memory without end.
    pub(super) fn lend(self: &Arc<Self>) -> Chunk {
        if self.lent.fetch_add(1, Ordering::Relaxed) >= MAX_LENT {
            self.lent.fetch_sub(1, Ordering::Relaxed);
            return Chunk { buffer: vec![0; SMALL].into(), length: 0, chunks: None };
        }
        let buffer = self.free.lock().pop().unwrap_or_else(|| vec![0; CHUNK].into());
        Chunk { buffer, length: 0, chunks: Some(Arc::clone(self)) }
    }
}

impl Chunk {
    /// The room for at most `wanted` bytes.
    pub(super) fn room(&mut self, wanted: u64) -> &mut [u8] {
        let room = usize::try_from(wanted).unwrap_or(usize::MAX).min(self.buffer.len());
        &mut self.buffer[..room]
    }

    pub(super) fn filled(mut self, length: usize) -> Arc<Self> {
        self.length = length;
        Arc::new(self)
    }

    pub(super) fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Sent(Arc::clone(self)))
    }
}

impl Shared {
    /// What somebody has read at `offset` and is not done with.
    pub(super) fn at(&self, offset: u64) -> Option<Bytes> {
        let pieces = self.pieces.lock();
        let (_, piece) = pieces.iter().find(|(at, _)| *at == offset)?;
        Some(piece.upgrade()?.bytes())
    }

    pub(super) fn add(&self, offset: u64, chunk: &Arc<Chunk>) {
        let mut pieces = self.pieces.lock();
        pieces.retain(|(at, piece)| *at != offset && piece.strong_count() > 0);
        pieces.push((offset, Arc::downgrade(chunk)));
    }
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.0.buffer[..self.0.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(chunks) = self.chunks.take() {
            chunks.lent.fetch_sub(1, Ordering::Relaxed);
            let mut free = chunks.free.lock();
            if free.len() < MAX_FREE {
                free.push(std::mem::take(&mut self.buffer));
            }
        }
    }
}

/// What one read takes: large enough that the reads cost next to nothing, small enough that other
/// connections of the thread do not notice.
pub(super) const CHUNK: usize = 256 << 10;
const SMALL: usize = 16 << 10;
/// 64 MiB in all.
const MAX_LENT: usize = 256;
/// What is kept for the next readers.
const MAX_FREE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_and_there_is_an_end_to_them() {
        let chunks = Arc::new(Chunks::default());
        let lent: Vec<_> = (0..MAX_LENT + 10).map(|_| chunks.lend().filled(1)).collect();
        let large = lent.iter().filter(|chunk| chunk.buffer.len() == CHUNK).count();
        assert_eq!((large, lent[MAX_LENT].buffer.len()), (MAX_LENT, SMALL));
        let bytes = lent[0].bytes();
        drop(lent);
        assert_eq!((bytes.len(), chunks.lent.load(Ordering::Relaxed)), (1, 1));
        drop(bytes);
        assert_eq!((chunks.free.lock().len(), chunks.lent.load(Ordering::Relaxed)), (MAX_FREE, 0));
        assert_eq!(chunks.lend().room(u64::MAX).len(), CHUNK);
        assert_eq!(chunks.lend().room(7).len(), 7);
    }

    #[test]
    fn what_is_being_sent_is_sent_to_all_who_want_it() {
        let (chunks, shared) = (Arc::new(Chunks::default()), Shared::default());
        let chunk = chunks.lend().filled(5);
        shared.add(CHUNK as u64, &chunk);
        assert_eq!(shared.at(0), None);
        let bytes = shared.at(CHUNK as u64).unwrap();
        drop(chunk);
        assert!(shared.at(CHUNK as u64).is_some());
        drop(bytes);
        assert_eq!(shared.at(CHUNK as u64), None);
    }
}
