use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::sendfile::{Files, is_stand_in};

/// What the bytes of a connection go through.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;

    /// Whether what is written leaves as it is.
    const IS_PLAIN: bool;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    const IS_PLAIN: bool = true;
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }

    const IS_PLAIN: bool = false;
}

/// A stream that sends parts of files where what is written stands for them.
pub(super) struct Wire<S> {
    stream: S,
    /// What was read before.
    ahead: Bytes,
    files: Files,
}

impl<S: Socket> Wire<S> {
    pub(super) fn new(stream: S, ahead: Bytes) -> Self {
        Self { stream, ahead, files: Files::default() }
    }

    /// Where parts of files are left for it, if it can send them: a stand-in must not be copied into one piece with others.
    pub(super) fn files(&self) -> Option<Files> {
        (S::IS_PLAIN && self.stream.is_write_vectored()).then(|| self.files.clone())
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, stand_in: &[u8]) -> Poll<io::Result<usize>> {
        let tcp = self.stream.tcp();
        loop {
            ready!(tcp.poll_write_ready(cx))?;
            match tcp.try_io(Interest::WRITABLE, || self.files.send(tcp, stand_in)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl<S: Socket> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Socket> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if is_stand_in(buf) {
            return self.poll_send(cx, buf);
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bufs = match bufs.iter().position(|buf| is_stand_in(buf)) {
            Some(0) => return self.poll_send(cx, &bufs[0]),
            Some(bytes) => &bufs[..bytes],
            None => bufs,
        };
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        if bufs.len() > 1 && length <= ONE_PIECE {
            let mut room = [const { MaybeUninit::uninit() }; ONE_PIECE];
            let mut piece = ReadBuf::uninit(&mut room);
            bufs.iter().for_each(|buf| piece.put_slice(buf));
            return Pin::new(&mut self.stream).poll_write(cx, piece.filled());
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer of up to this many bytes is put together first: one piece costs the system less than a list.
const ONE_PIECE: usize = 4096;
