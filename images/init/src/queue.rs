//! Bytes on their way to a descriptor that takes them when it likes.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::write;

/// Bytes waiting to be written to a non-blocking descriptor, in order.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    /// How many of `bytes` are written already; taken out when all are, so that nothing is moved.
    sent: usize,
}

impl Queue {
    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.tail().extend_from_slice(bytes);
    }

    /// Where to append bytes without a copy.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether none wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what waits: nobody will read it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Writes what the descriptor takes now.
    ///
    /// # Errors
    /// Whatever write(2) says, except that it would block.
    pub fn write_to(&mut self, fd: impl AsFd) -> nix::Result<()> {
        while !self.is_empty() {
            match write(&fd, &self.bytes[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use nix::fcntl::OFlag;
    use nix::unistd::{pipe2, read};

    use super::*;

    #[test]
    fn a_full_pipe_keeps_the_rest_in_order() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        let sent: Vec<u8> = (0..400_000u32).map(|n| (n % 251) as u8).collect();
        let (mut queue, mut got) = (Queue::default(), Vec::new());
        for part in sent.chunks(70_000) {
            queue.push(part);
            queue.write_to(&writer).unwrap();
            let mut buffer = [0; 1000];
            let n = read(&reader, &mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
        }
        assert!(queue.len() > 200_000, "a pipe holds 64 KiB");
        while got.len() < sent.len() {
            let mut buffer = [0; 5000];
            let n = read(&reader, &mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
            queue.write_to(&writer).unwrap();
        }
        assert!(queue.is_empty() && got == sent);
    }

    #[test]
    fn a_closed_reader_is_an_error() {
        let (reader, writer) = pipe2(OFlag::O_NONBLOCK).unwrap();
        drop(reader);
        let mut queue = Queue::default();
        queue.push(b"x");
        assert_eq!(queue.write_to(&writer), Err(Errno::EPIPE));
    }
}
