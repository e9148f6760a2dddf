use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{Limits, connection::Asked};

/// A connection that ends with an error when its peer takes nothing for too long, asks nothing for too long, or takes too
/// long over the head of a request. Where nothing can come but another request, it ends so after a while already, and
/// stays open, to be given back ([`Self::rested`]).
///
/// What every request would have to start and stop is only looked at when there is something to wait for:
/// one timer runs per connection, and when it rings too early it is wound up again.
pub(super) struct Stalling<S> {
    stream: S,
    limits: Limits,
    asked: Asked,
    /// What `asked` was at when the three below began.
    count: usize,
    head_begun: bool,
    /// Since when nothing was read beside an answer.
    answering: Option<Instant>,
    reading: Option<Wait>,
    writing: Option<Instant>,
    timer: Timer,
    rested: bool,
}

/// How long the peer may take over what it is at.
#[derive(Clone, Copy)]
struct Wait {
    for_head: bool,
    until: Instant,
}

#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl<S> Stalling<S> {
    pub(super) fn new(stream: S, asked: Asked, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            count: asked.count(),
            asked,
            head_begun: false,
            answering: None,
            reading: None,
            writing: None,
            timer: Timer::default(),
            rested: false,
        }
    }

    /// The stream, if nothing was asked for so long that whoever read from it gave it up.
    pub(super) fn rested(self) -> Option<S> {
        self.rested.then_some(self.stream)
    }

    /// Ready once the peer has been waited for too long.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let until = match self.reading {
                Some(wait) if wait.for_head == self.head_begun => wait.until,
                _ => {
                    let limit = match (self.head_begun, self.asked.is_between()) {
                        (true, _) => self.limits.head,
                        (false, true) => self.limits.until_rest(),
                        (false, false) => self.limits.idle,
                    };
                    let wait = Wait { for_head: self.head_begun, until: now() + limit };
                    self.reading = Some(wait);
                    wait.until
                }
            };
            let rung = ready!(self.timer.rings(until, cx));
            if self.head_begun || !self.asked.is_between() {
                return Poll::Ready(rung);
            }
            if self.writing.is_none() {
                self.rested = true;
                return Poll::Ready(rung);
            }
            // It has not taken the last answer yet, which has a limit of its own.
            self.reading = None;
        }
    }

    /// Nobody may read again when the answer ends. So the timer rings after it, and the wait begins then.
    fn look_again(&mut self, cx: &mut Context<'_>) {
        let now = now();
        let first = *self.answering.get_or_insert(now) + self.limits.until_rest();
        let _rung = self.timer.rings(if now < first { first } else { now + LOOK_AGAIN }, cx);
    }

    /// What a write came to; the time runs from the first one that had to wait.
    fn watch<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        let until = *self.writing.get_or_insert_with(|| now() + self.limits.stall);
        self.timer.rings(until, cx).map(Err)
    }
}

impl Timer {
    /// Ready from `until` on. It may be asked about several instants; it rings for the earliest.
    fn rings(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<io::Error> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
        if now() < until {
            sleep.as_mut().reset(until);
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

/// The runtime's own time, by which its timers run.
#[expect(clippy::disallowed_methods, reason = "a limit of waiting is no time that anything is decided by")]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let count = this.asked.count();
        if this.count != count {
            (this.count, this.head_begun, this.answering, this.reading) = (count, false, None, None);
        }
        if this.asked.idle().is_none() {
            if read.is_pending() {
                this.look_again(cx);
            }
            return read;
        }
        this.head_begun |= buf.filled().len() > before;
        if read.is_ready() {
            return read;
        }
        this.wait_for_head(cx).map(Err)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.rested {
            return Poll::Ready(Ok(()));
        }
        let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch(shut, cx)
    }
}

/// Of an answer that takes its time; most take none.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
