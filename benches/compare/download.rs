//! A client that downloads: it takes every byte, as clients do, and does nothing with it but count or compare.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::images::{ACCEPT, Blob, USER_AGENT};

/// Where a server is spoken to.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) addr: SocketAddr,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// One that stays open from answer to answer.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
    /// What of the buffer nobody has taken yet.
    read: Range<usize>,
}

pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) length: u64,
    text: String,
}

trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

impl Door {
    pub(crate) fn plain(addr: SocketAddr) -> Self {
        Self { addr, tls: None }
    }

    pub(crate) fn open(&self) -> anyhow::Result<Connection> {
        self.open_with(READ_BYTES)
    }

    /// A connection that takes at most so many bytes at a time.
    pub(crate) fn open_with(&self, at_a_time: usize) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.addr).context("no connection")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::IpAddress(self.addr.ip().into());
                Box::new(StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, stream))
            }
        };
        Ok(Connection { stream, buffer: vec![0; at_a_time].into(), read: 0..0 })
    }

    /// The whole blob, which must be this one.
    pub(crate) fn check(&self, blob: &Blob) -> anyhow::Result<Head> {
        self.open()?.whole(&blob.path(), &blob.bytes)
    }
}

impl Connection {
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> anyhow::Result<Head> {
        self.ask_with(method, path, "")
    }

    /// With further headers, a line each.
    pub(crate) fn ask_with(&mut self, method: &str, path: &str, headers: &str) -> anyhow::Result<Head> {
        ensure!(self.read.is_empty(), "an answer to something that was not asked");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: registry.test\r\nUser-Agent: {USER_AGENT}\r\nAccept: {ACCEPT}\r\n{headers}\r\n"
        );
        self.stream.write_all(head.as_bytes())?;
        self.read = 0..0;
        loop {
            let so_far = &self.buffer[..self.read.end];
            if let Some(end) = so_far.windows(END_OF_HEAD.len()).position(|bytes| bytes == END_OF_HEAD) {
                self.read.start = end + END_OF_HEAD.len();
                return Head::read(&String::from_utf8_lossy(&so_far[..end]));
            }
            let length = self.stream.read(&mut self.buffer[self.read.end..])?;
            if length == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                    .context("the connection ended instead of an answer");
            }
            self.read.end += length;
        }
    }

    /// The next bytes of a body of which `left` are still to come.
    pub(crate) fn take(&mut self, left: u64) -> io::Result<&[u8]> {
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        if self.read.is_empty() {
            let room = self.buffer.len().min(left);
            let length = self.stream.read(&mut self.buffer[..room])?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.read = 0..length;
        }
        let taken = self.read.start..self.read.end.min(self.read.start + left);
        self.read.start = taken.end;
        Ok(&self.buffer[taken])
    }

    /// Asks for something whose every byte is known.
    pub(crate) fn whole(&mut self, path: &str, expected: &[u8]) -> anyhow::Result<Head> {
        let head = self.ask("GET", path)?;
        ensure!(head.status == 200, "{} to {path}", head.status);
        self.body(&head, expected).with_context(|| path.to_owned())?;
        Ok(head)
    }

    /// The body of this answer, of which every byte is known. One that is wrong counts where the body is whole: what breaks
    /// off was no blob yet.
    pub(crate) fn body(&mut self, head: &Head, expected: &[u8]) -> anyhow::Result<()> {
        ensure!(head.length == expected.len() as u64, "{} bytes of {}", head.length, expected.len());
        let (mut rest, mut wrong) = (expected, None);
        while !rest.is_empty() {
            let taken = self.take(rest.len() as u64).with_context(|| format!("with {} bytes to come", rest.len()))?;
            let (these, others) = rest.split_at(taken.len());
            if taken != these {
                wrong.get_or_insert(expected.len() - rest.len());
            }
            rest = others;
        }
        ensure!(wrong.is_none(), "whole, and with wrong bytes after {wrong:?}");
        Ok(())
    }
}

impl Head {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut head = Self { status: 0, length: 0, text: text.to_ascii_lowercase() };
        head.status = text.split_ascii_whitespace().nth(1).context("no status")?.parse()?;
        head.length = head.header("content-length").map_or(Ok(0), str::parse)?;
        Ok(head)
    }

    /// In lower case, as the name is to be.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.trim())
    }
}

/// As much as the buffers of a connection hold; smaller reads would make the client what is measured.
const READ_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(60);
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
