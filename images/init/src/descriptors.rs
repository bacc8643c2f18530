//! The low file descriptors: the standard three, which the kernel may not give, and the one on
//! which the steps' shell reports.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

/// Where the shell finds its status pipe. One digit, because dash redirects no others; high, because
/// people take the low ones.
pub const STATUS: RawFd = 8;

/// Opens /dev/null on those of 0, 1 and 2 that are closed, so that nothing else lands there.
pub fn keep_standard() {
    // open(2) takes the lowest free number: whatever lies above 2 is one too many.
    while let Ok(null) = open_null() {
        if null.as_raw_fd() > 2 {
            break;
        }
        let _ = null.into_raw_fd();
    }
}

/// Points 0, 1 and 2 at /dev/null and takes [`STATUS`] out of circulation: the shell's start dups
/// onto that number, which must not be one that the standard library uses for itself then.
pub fn set_up_init() -> nix::Result<()> {
    keep_standard();
    let null = open_null()?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    // SAFETY: `null` is open; the duplicate belongs to nobody and stays open for ever.
    let kept = unsafe { libc::fcntl(null.as_raw_fd(), libc::F_DUPFD_CLOEXEC, STATUS) };
    if Errno::result(kept)? == STATUS { Ok(()) } else { Err(Errno::EBUSY) }
}

/// To standard error, without caring whether anybody reads it.
pub fn say_plainly(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// /dev/null, also where /dev has none yet.
fn open_null() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    open("/dev/null", flags, Mode::empty()).or_else(|_| {
        mknod("/.null", SFlag::S_IFCHR, Mode::from_bits_truncate(0o600), makedev(1, 3))?;
        let opened = open("/.null", flags, Mode::empty());
        let _ = fs::remove_file("/.null");
        opened
    })
}
