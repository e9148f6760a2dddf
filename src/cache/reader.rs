//! A blob, or a part of one, on its way to a client: from its file, from a fetch under way, or past a disk
//! that takes no more.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{
    BlobCache,
    chunks::{CHUNK, Chunk, Chunks},
    directory::Stamp,
    fill::{FillError, Reading, Ready, SourceBody, SourceError},
    index::InUse,
};
use crate::{
    oci::{DigestHasher, HeldBack, Repository},
    sendfile::{Files, MAX_PART, Sendable},
};

/// A blob that lies in the cache, opened.
pub struct CachedBlob {
    pub(super) cache: BlobCache,
    pub(super) entry: InUse,
    pub(super) file: File,
    /// Whether the file is as it was when it was last seen to be right; if not it has to be read first.
    pub(super) is_verified: bool,
}

/// A blob that is being fetched.
pub struct ComingBlob {
    pub(super) cache: BlobCache,
    pub(super) reading: Reading,
}

/// Bytes of a blob. Neither a whole one nor a part ends well unless all of the blob had the digest.
pub struct BlobBody {
    from: From,
    left: Range<u64>,
}

enum From {
    File(Box<FileReader>),
    Coming { cache: BlobCache, reading: Reading, next: Option<BoxFuture<'static, Next>> },
    Direct(Box<Direct>),
    Nowhere,
}

struct FileReader {
    cache: BlobCache,
    file: Arc<File>,
    /// Where nobody has verified it yet.
    unverified: Option<Unverified>,
    reading: Option<BoxFuture<'static, io::Result<Arc<Chunk>>>>,
    /// Where the connection takes parts of files.
    files: Option<Files>,
    /// Dropped last: what lies in the cache may go once nobody reads it.
    entry: InUse,
}

/// What is read and hashed at once.
struct Unverified {
    /// Of the file, before any of it was read.
    stamp: Stamp,
    hasher: DigestHasher,
    /// The newest piece, which waits for the next.
    held: Option<Bytes>,
}

/// The rest of a fetch that could not be written down.
struct Direct {
    body: Result<SourceBody, BoxFuture<'static, Result<SourceBody, SourceError>>>,
    check: Option<HeldBack>,
    received: u64,
    fill: Reading,
}

/// Why a blob broke off.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the cached blob could not be read: {0}")]
    Io(#[from] io::Error),
    #[error("the cached blob is not what it was")]
    Altered,
    #[error("{0}")]
    Fetch(#[source] SourceError),
    #[error("{0}")]
    Spoilt(String),
}

enum Next {
    Piece(Bytes),
    End(Result<(), FillError>),
    /// The rest has to be fetched from `at` on; what is `held` was written before.
    Past {
        at: u64,
        hasher: DigestHasher,
        held: Option<Bytes>,
    },
    Failed(io::Error),
}

impl CachedBlob {
    pub fn size(&self) -> u64 {
        self.entry.0.size
    }

    /// Part of it, or all of it.
    pub async fn body(self, range: Range<u64>) -> Result<BlobBody, ReadError> {
        let Self { cache, entry, file, is_verified } = self;
        let file = Arc::new(file);
        let whole = range.start == 0 && range.end == entry.0.size;
        let mut unverified = None;
        if !is_verified {
            if whole {
                let hasher = DigestHasher::new(entry.0.digest.algorithm());
                unverified = Some(Unverified { stamp: Stamp::of(&file)?, hasher, held: None });
            } else {
                // A part has no digest: all of it is read before the first byte leaves.
                let (known, checked, now) = (Arc::clone(&entry.0), Arc::clone(&file), cache.system_time());
                let verified = tokio::task::spawn_blocking(move || super::scrub::verify(&known, &checked, now));
                let verified = verified.await.map_err(io::Error::other).flatten();
                if !verified.inspect_err(|error| cache.not_read(&entry.0, error))? {
                    cache.discard(&entry.0);
                    return Err(ReadError::Altered);
                }
            }
        }
        cache.inner.counters.hits.inc();
        let reader = FileReader { cache, file, unverified, reading: None, files: None, entry };
        Ok(BlobBody { from: From::File(Box::new(reader)), left: range })
    }
}

impl ComingBlob {
    pub fn size(&self) -> u64 {
        self.reading.0.size
    }

    /// Where it comes from.
    pub fn place(&self) -> &Repository {
        self.reading.0.source.place()
    }

    /// Waits for its first byte, so that an upstream that has none is known of before the answer begins.
    pub async fn begun(&self) -> Result<(), ReadError> {
        match self.reading.0.ready(&(0..self.size())).await {
            Ready::End(Err(FillError::Disk { .. } | FillError::Abandoned)) => Ok(()),
            Ready::End(Err(error)) => Err(error.into()),
            Ready::Piece(_) | Ready::InFile(_) | Ready::End(Ok(())) => Ok(()),
        }
    }

    pub fn body(self, range: Range<u64>) -> BlobBody {
        let Self { cache, reading } = self;
        BlobBody { from: From::Coming { cache, reading, next: None }, left: range }
    }
}

impl BlobBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        loop {
            if self.left.is_empty() {
                self.from = From::Nowhere;
                return Poll::Ready(None);
            }
            let piece = match &mut self.from {
                From::Nowhere => return Poll::Ready(None),
                From::File(reader) => match ready!(reader.poll_piece(&self.left, cx)) {
                    Ok(Some(piece)) => piece,
                    // The piece waits until it is known to be right.
                    Ok(None) => continue,
                    Err(error) => return self.broken(error),
                },
                From::Direct(direct) => match ready!(direct.poll_piece(cx)) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => continue,
                    Err(error) => return self.broken(error),
                },
                From::Coming { cache, reading, next } => {
                    let future = next.get_or_insert_with(|| Box::pin(next_of(reading, &cache.chunks(), &self.left)));
                    let met = ready!(future.as_mut().poll(cx));
                    *next = None;
                    match met {
                        Next::Piece(piece) => {
                            let is_last = self.left.start + piece.len() as u64 >= self.left.end;
                            if is_last && !reading.0.is_unchanged() {
                                return self.broken(ReadError::Altered);
                            }
                            piece
                        }
                        Next::Failed(error) => return self.broken(error.into()),
                        Next::Past { at, hasher, held } => {
                            let check = HeldBack::resumed(&reading.0.digest, hasher, at);
                            let check = check.only(self.left.clone()).holding(held);
                            self.from = From::Direct(Box::new(Direct::new(reading.0.join(), at, check)));
                            continue;
                        }
                        Next::End(Err(error)) => return self.broken(error.into()),
                        // All of it is there, so what is left is too.
                        Next::End(Ok(())) => return self.broken(ReadError::Altered),
                    }
                }
            };
            let wanted = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
            let piece = if piece.len() > wanted { piece.slice(..wanted) } else { piece };
            self.left.start += piece.len() as u64;
            return Poll::Ready(Some(Ok(piece)));
        }
    }

    fn broken(&mut self, error: ReadError) -> Poll<Option<Result<Bytes, ReadError>>> {
        self.from = From::Nowhere;
        self.left = 0..0;
        Poll::Ready(Some(Err(error)))
    }
}

impl FileReader {
    fn poll_piece(&mut self, left: &Range<u64>, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        let held =
            self.unverified.as_ref().and_then(|unverified| unverified.held.as_ref()).map_or(0, Bytes::len) as u64;
        let offset = left.start + held;
        if offset == left.end {
            return Poll::Ready(self.verified().map(Some));
        }
        if let Some(part) = self.part(left) {
            return Poll::Ready(Ok(Some(part)));
        }
        let read = ready!(self.poll_read(offset, left.end - offset, cx));
        let piece = read.inspect_err(|error| self.cache.not_read(&self.entry.0, error))?;
        if let Some(unverified) = &mut self.unverified {
            unverified.hasher.update(&piece);
            return Poll::Ready(Ok(unverified.held.replace(piece)));
        }
        // A piece that others read too may hold more than is left.
        if offset + piece.len() as u64 >= left.end && !self.is_unchanged()? {
            self.cache.suspect(&self.entry.0);
            return Poll::Ready(Err(ReadError::Altered));
        }
        Poll::Ready(Ok(Some(piece)))
    }

    /// What stands for a part of the file that the connection may send by itself: one that the system has in memory, so
    /// that nobody waits for the disk there, and not the end, before which the file is looked at again.
    fn part(&self, left: &Range<u64>) -> Option<Bytes> {
        let files = self.files.as_ref().filter(|_| self.unverified.is_none() && self.reading.is_none())?;
        let part = left.start..left.end.saturating_sub(READ_LAST).min(left.start + MAX_PART);
        if part.end < left.start + LEAST_SENT || !is_in_memory(&self.file, &part) {
            return None;
        }
        Some(files.add(Arc::clone(&self.file), part))
    }

    /// The last piece of a blob that had to be read to know it, if all were right.
    fn verified(&mut self) -> Result<Bytes, ReadError> {
        let Unverified { stamp, hasher, held } = self.unverified.take().expect("a piece was held back");
        if hasher.finish() != self.entry.0.digest {
            self.cache.discard(&self.entry.0);
            return Err(ReadError::Altered);
        }
        let mut verified = self.entry.0.verified.lock();
        if stamp.is_settled(self.cache.system_time()) && Stamp::of(&self.file).is_ok_and(|now| now == stamp) {
            *verified = Some(stamp);
        }
        drop(verified);
        Ok(held.unwrap_or_default())
    }

    fn is_unchanged(&self) -> io::Result<bool> {
        let verified = self.entry.0.verified.lock();
        Ok(*verified == Some(Stamp::of(&self.file)?))
    }

    fn poll_read(&mut self, offset: u64, wanted: u64, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        if self.reading.is_none() {
            if let Some(piece) = self.entry.0.shared.at(offset) {
                return Poll::Ready(Ok(piece));
            }
            let mut chunk = self.cache.chunks().lend();
            match read_cached(&self.file, chunk.room(wanted), offset) {
                Ok(length) => return Poll::Ready(Ok(self.read(offset, chunk.filled(length)))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.reading = Some(Box::pin(read_blocking(Arc::clone(&self.file), chunk, offset, wanted)));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let reading = self.reading.as_mut().expect("one was begun above");
        let chunk = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(chunk.map(|chunk| self.read(offset, chunk)))
    }

    /// Clients of one blob read it at the same places, if they began at its beginning.
    fn read(&self, offset: u64, chunk: Arc<Chunk>) -> Bytes {
        if offset.is_multiple_of(CHUNK as u64) {
            self.entry.0.shared.add(offset, &chunk);
        }
        chunk.bytes()
    }
}

impl Direct {
    fn new(fill: Reading, at: u64, check: HeldBack) -> Self {
        fill.0.counters.past_disk.inc();
        let body = Err(fill.0.source.open(at));
        Self { body, check: Some(check), received: at, fill }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if let Err(opening) = &mut self.body {
            self.body = Ok(ready!(opening.as_mut().poll(cx)).map_err(ReadError::Fetch)?);
        }
        let Ok(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
        match ready!(body.as_mut().poll_frame(cx)) {
            Some(Err(error)) => Poll::Ready(Err(ReadError::Fetch(error))),
            Some(Ok(frame)) => {
                let (Ok(piece), Some(check)) = (frame.into_data(), &mut self.check) else {
                    return Poll::Ready(Ok(None));
                };
                self.received += piece.len() as u64;
                self.fill.0.counters.fetched_bytes.inc_by(piece.len() as u64);
                if self.received > self.fill.0.size {
                    return Poll::Ready(Err(self.wrong_size()));
                }
                Poll::Ready(Ok(check.pass(&piece)))
            }
            None if self.received != self.fill.0.size => Poll::Ready(Err(self.wrong_size())),
            None => {
                let last = self.check.take().and_then(HeldBack::finish);
                Poll::Ready(last.map(Some).ok_or_else(|| FillError::WrongDigest.into()))
            }
        }
    }

    fn wrong_size(&self) -> ReadError {
        FillError::WrongSize { size: self.fill.0.size, received: self.received }.into()
    }
}

impl Sendable for BlobBody {
    fn send_by(&mut self, files: &Files) {
        if let From::File(reader) = &mut self.from {
            reader.files = Some(files.clone());
        }
    }
}

impl Body for BlobBody {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}

impl std::fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobBody").field("left", &self.left).finish_non_exhaustive()
    }
}

impl std::convert::From<FillError> for ReadError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Source(source) => Self::Fetch(source),
            other => Self::Spoilt(other.to_string()),
        }
    }
}

fn next_of(reading: &Reading, chunks: &Arc<Chunks>, left: &Range<u64>) -> impl Future<Output = Next> + Send + 'static {
    let (fill, chunks, left) = (Arc::clone(&reading.0), Arc::clone(chunks), left.clone());
    async move {
        let read = |wanted| read_blocking(Arc::clone(&fill.file), chunks.lend(), left.start, wanted);
        let next = match fill.ready(&left).await {
            Ready::Piece(piece) => Ok(Next::Piece(piece)),
            Ready::InFile(available) => read(available).await.map(|chunk| Next::Piece(chunk.bytes())),
            Ready::End(Err(FillError::Disk { at, hasher, .. })) if at > left.start => {
                // The end of a part was written; it waits for the rest of the blob all the same.
                read(left.end - left.start).await.map(|chunk| Next::Past { at, hasher, held: Some(chunk.bytes()) })
            }
            Ready::End(Err(FillError::Disk { at, hasher, .. })) => Ok(Next::Past { at, hasher, held: None }),
            Ready::End(ended) => Ok(Next::End(ended)),
        };
        next.unwrap_or_else(Next::Failed)
    }
}

/// What the system has of it in memory; `WouldBlock` if that is nothing.
fn read_cached(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut room = [IoSliceMut::new(room)];
    match preadv2(file, &mut room, offset, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => Ok(length),
        // Not every file system can say what it has in memory.
        Err(Errno::OPNOTSUPP) => Err(ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the system has all of it in memory, as far as a few looks tell.
fn is_in_memory(file: &File, part: &Range<u64>) -> bool {
    let looks = part.clone().step_by(LOOK_EVERY).chain([part.end - 1]);
    looks.into_iter().all(|at| read_cached(file, &mut [0], at).is_ok())
}

async fn read_blocking(file: Arc<File>, mut chunk: Chunk, offset: u64, wanted: u64) -> io::Result<Arc<Chunk>> {
    let reading = tokio::task::spawn_blocking(move || {
        let room = chunk.room(wanted);
        let length = room.len();
        file.read_exact_at(room, offset)?;
        Ok(chunk.filled(length))
    });
    reading.await.map_err(io::Error::other)?
}

/// The end of a blob is read, so that it is known to be unchanged before it leaves.
const READ_LAST: u64 = 16 << 10;
/// Less than this is cheaper read than sent.
const LEAST_SENT: u64 = 32 << 10;
const LOOK_EVERY: usize = 128 << 10;
