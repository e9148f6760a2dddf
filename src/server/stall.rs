use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::connection::Asked;

/// A connection that ends with an error when its peer takes nothing for too long, or takes too long
/// over the head of a request.
pub(super) struct Stalling<S> {
    stream: S,
    /// While no request is being answered, what arrives is the head of the next one.
    asked: Asked,
    head: Deadline,
    write: Deadline,
}

/// A timer that costs nothing until somebody has to wait.
struct Deadline {
    after: Duration,
    running: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    pub(super) fn new(stream: S, asked: Asked, head: Duration, write: Duration) -> Self {
        Self { stream, asked, head: Deadline::new(head), write: Deadline::new(write) }
    }
}

impl Deadline {
    fn new(after: Duration) -> Self {
        Self { after, running: None }
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn start(&mut self) {
        self.running.get_or_insert_with(|| Box::pin(sleep(self.after)));
    }

    /// Ready once the time is over; pending, too, while it does not run.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let Some(running) = &mut self.running else { return Poll::Pending };
        ready!(running.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    /// What a write came to; the time runs from the first one that had to wait.
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stop();
            return written;
        }
        self.start();
        self.poll(cx).map(Err)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if !this.asked.is_idle() {
            this.head.stop();
            return read;
        }
        if read.is_ready() {
            if buf.filled().len() > before {
                this.head.start();
            }
            return read;
        }
        this.head.poll(cx).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.write.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.write.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.write.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.write.watch(shut, cx)
    }
}
