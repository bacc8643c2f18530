//! The standard descriptors, which the kernel may not give.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

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

/// Points 0, 1 and 2 at /dev/null.
///
/// # Errors
/// There is no /dev/null and none can be made.
pub fn silence() -> nix::Result<()> {
    keep_standard();
    let null = open_null()?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)
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
