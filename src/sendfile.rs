//! Parts of files that go out without passing through the memory of this process, by sendfile(2).
//!
//! The HTTP library sends bytes and knows nothing of files. So a body gives it a stand-in, bytes that nobody reads and
//! of the same number, and the connection puts the part of the file in its place.
//!
//! To a peer that has gone, sendfile raises SIGPIPE, which nothing may set back to ending the process: Rust's runtime has
//! it ignored.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use http_body_util::{Either, Full};
use parking_lot::Mutex;
use rustix::io::Errno;

/// A body that may have parts of files in it.
pub trait Sendable {
    /// Tells it that it goes out on a connection which takes these; most have none.
    fn send_by(&mut self, _: &Files) {}
}

/// The parts of files that are to go out on one connection, in their order.
#[derive(Clone, Debug, Default)]
pub struct Files(Arc<Mutex<VecDeque<Part>>>);

#[derive(Debug)]
struct Part {
    file: Arc<File>,
    left: Range<u64>,
}

/// The most that is sent as one part.
pub const MAX_PART: u64 = 512 << 10;

/// Never written to, so that it takes no memory; its bytes are told by their address.
static STAND_IN: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; MAX_PART as usize]);

impl Files {
    /// What stands for the part in the body, which has to give it on at once and whole.
    ///
    /// # Panics
    ///
    /// If it is more than [`MAX_PART`].
    pub fn add(&self, file: Arc<File>, part: Range<u64>) -> Bytes {
        let stand_in = &STAND_IN[..usize::try_from(part.end - part.start).expect("a part is small")];
        self.0.lock().push_back(Part { file, left: part });
        Bytes::from_static(stand_in)
    }

    /// Sends of the next part what `socket` takes, and says how much that was.
    pub fn send(&self, socket: impl AsFd, stand_in: &[u8]) -> io::Result<usize> {
        let mut parts = self.0.lock();
        // Two lengths are two ideas of what comes next; nothing is sent any more.
        let Some(part) = parts.front_mut().filter(|part| part.left.end - part.left.start == stand_in.len() as u64)
        else {
            return Err(io::Error::new(ErrorKind::InvalidData, "a stand-in without its part of a file"));
        };
        let sent = match rustix::fs::sendfile(&socket, &*part.file, Some(&mut part.left.start), stand_in.len()) {
            // Not every file system can, and not every container may.
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS) => copy(&socket, part)?,
            sent => sent?,
        };
        match sent {
            0 => {
                return Err(io::Error::new(
                    ErrorKind::UnexpectedEof,
                    "a file is shorter than what was to be sent of it",
                ));
            }
            _ if part.left.is_empty() => drop(parts.pop_front()),
            _ => {}
        }
        Ok(sent)
    }
}

/// The same by way of our memory.
fn copy(socket: impl AsFd, part: &mut Part) -> io::Result<usize> {
    let mut room = [0; 16 << 10];
    let wanted = room.len().min(usize::try_from(part.left.end - part.left.start).unwrap_or(usize::MAX));
    let length = part.file.read_at(&mut room[..wanted], part.left.start)?;
    let sent = rustix::io::write(socket, &room[..length])?;
    part.left.start += sent as u64;
    Ok(sent)
}

/// Whether these are to be sent by [`Files::send`].
pub fn is_stand_in(bytes: &[u8]) -> bool {
    !bytes.is_empty() && STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

impl<L: Sendable, R: Sendable> Sendable for Either<L, R> {
    fn send_by(&mut self, files: &Files) {
        match self {
            Self::Left(body) => body.send_by(files),
            Self::Right(body) => body.send_by(files),
        }
    }
}

impl Sendable for Full<Bytes> {}

impl Sendable for axum::body::Body {}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Seek, SeekFrom, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        Arc::new(file)
    }

    #[test]
    fn parts_go_out_in_their_order_however_little_is_taken() {
        let bytes: Vec<u8> = (0..MAX_PART).map(|n| (n % 251) as u8).collect();
        let (file, files) = (file(&bytes), Files::default());
        let parts = [1..7, 0..MAX_PART, 100_000..100_001];
        let stand_ins = parts.clone().map(|part| files.add(Arc::clone(&file), part));
        let (socket, mut peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        for (part, mut stand_in) in parts.into_iter().zip(stand_ins) {
            let mut received = Vec::new();
            while !stand_in.is_empty() {
                assert!(is_stand_in(&stand_in));
                let sent = files.send(&socket, &stand_in).unwrap();
                let _gone = stand_in.split_to(sent);
                let mut taken = vec![0; sent];
                peer.read_exact(&mut taken).unwrap();
                received.extend(taken);
            }
            assert!(received == bytes[part.start as usize..part.end as usize], "{part:?}");
        }
        assert!(files.0.lock().is_empty());
    }

    #[test]
    fn a_file_that_the_system_does_not_send_goes_out_all_the_same() {
        let file = File::open("/proc/self/auxv").unwrap();
        let (socket, mut peer) = UnixStream::pair().unwrap();
        rustix::fs::sendfile(&socket, &file, Some(&mut 3), 20).expect_err("the test needs a file that is not sent");
        let (mut expected, mut received) = ([0; 20], [0; 20]);
        file.read_exact_at(&mut expected, 3).unwrap();
        let files = Files::default();
        let stand_in = files.add(Arc::new(file), 3..23);
        assert_eq!(files.send(&socket, &stand_in).unwrap(), 20);
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, expected);
        assert!(files.0.lock().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_nothing_is_sent() {
        let (file, files) = (file(b"0123456789"), Files::default());
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let error = |stand_in: &[u8]| files.send(&socket, stand_in).unwrap_err().kind();
        assert_eq!(error(&STAND_IN[..1]), ErrorKind::InvalidData);
        let stand_in = files.add(file, 5..15);
        assert_eq!(error(&stand_in[1..]), ErrorKind::InvalidData);
        assert_eq!(files.send(&socket, &stand_in).unwrap(), 5);
        // The file ends there.
        assert_eq!(error(&stand_in[5..]), ErrorKind::UnexpectedEof);
        drop(socket);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"56789");
    }

    #[test]
    fn only_stand_ins_are_taken_for_some() {
        let stand_in = Files::default().add(file(b""), 0..MAX_PART);
        assert!(is_stand_in(&stand_in) && is_stand_in(&stand_in[MAX_PART as usize - 1..]));
        assert!(!is_stand_in(&vec![0; MAX_PART as usize]) && !is_stand_in(&stand_in[..0]));
    }
}
