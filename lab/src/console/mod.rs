//! The three channels of a machine, read by one loop and never mixed: the kernel's log, the steps'
//! terminal, and PID 1's records. Bytes go to the run's folder as they come, so that memory stays
//! small whatever a guest prints.

mod attach;
mod bounded;
mod control;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod line;
mod log;
mod splat;
mod splat_report;
mod terminal;

use std::os::fd::BorrowedFd;

use nix::errno::Errno;

pub use attach::{Session, attach, window};
pub use bounded::{Bounded, Bounds};
pub use control::{Control, Incoming};
pub use frame::Frame;
pub use line::{Line, Writer};
pub use log::Log;
pub use splat::{Splat, SplatKind, signature_of};
pub use terminal::Terminal;

/// Whether a channel may still bring something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nothing more for now.
    Open,
    /// The other end is closed: everything has been read.
    Closed,
}

/// Reads what is there, piece by piece, at most `budget` bytes so that a flood on one channel does
/// not starve the others.
///
/// # Errors
/// What `take` returns, and read(2)'s errors other than "later" and "gone".
pub fn drain(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    budget: usize,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<Flow> {
    let mut read = 0;
    while read < budget {
        match nix::unistd::read(fd, buffer) {
            Ok(0) => return Ok(Flow::Closed),
            Ok(n) => {
                read += n;
                take(&buffer[..n])?;
            }
            Err(Errno::EAGAIN) => return Ok(Flow::Open),
            Err(Errno::EINTR) => {}
            // The far end of a socket pair was closed with bytes of ours unread.
            Err(Errno::ECONNRESET) => return Ok(Flow::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Flow::Open)
}
