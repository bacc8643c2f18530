//! The pty of which PID 1 is the master: all that the steps print goes through it.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{PtyMaster, Winsize, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr};
use nix::unistd::write;

use crate::mark::Mark;
use crate::trouble::{Context, Result};
use crate::worker::Worker;

nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, Winsize);

/// A master with its slave.
#[derive(Debug)]
pub struct Pty {
    master: PtyMaster,
    /// Kept open, so that the master never sees a hang-up when the shell is gone.
    slave: Arc<OwnedFd>,
}

/// How the slave treats what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every byte as it is; no echo, no signals: steps.
    Raw,
    /// As a new tty: a person's shell.
    Cooked,
}

impl Pty {
    /// A new pair.
    ///
    /// # Errors
    /// No devpts, or none left.
    pub fn open(mode: Mode, cols: u16, rows: u16) -> Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).context("/dev/ptmx")?;
        unlockpt(&master).context("unlock the pty")?;
        let slave = peer(&master)?;
        if mode == Mode::Raw {
            let mut modes = tcgetattr(&slave).context("the pty's modes")?;
            cfmakeraw(&mut modes);
            tcsetattr(&slave, SetArg::TCSANOW, &modes).context("the pty's modes")?;
        }
        let pty = Self { slave: Arc::new(slave), master };
        pty.resize(cols, rows)?;
        Ok(pty)
    }

    /// The master's side, non-blocking.
    pub fn master(&self) -> &PtyMaster {
        &self.master
    }

    /// The slave's name, for the shell to open: that makes it the controlling terminal.
    ///
    /// # Errors
    /// None known for a live pty.
    pub fn slave_name(&self) -> Result<String> {
        ptsname_r(&self.master).context("the pty's name")
    }

    /// Sets the window's size; the foreground processes get SIGWINCH.
    ///
    /// # Errors
    /// None known for a live pty.
    pub fn resize(&self, cols: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the descriptor is open and `size` is what TIOCSWINSZ reads.
        let set = unsafe { set_window_size(self.master.as_raw_fd(), &size) };
        set.map(drop).context("the pty's size")
    }

    /// Sends a mark behind everything that is written so far; it arrives at the master.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn send_mark(&self, mark: Mark, worker: &Worker) -> Result<()> {
        let slave = Arc::clone(&self.slave);
        worker.send(move || write_mark(&slave, mark))
    }
}

/// Writes a mark, blocking. (Not in PID 1's loop, which reads the master; and not non-blocking, as
/// that may be cut short on a full pty, whereupon a background job's bytes would get into the
/// middle of the mark. A blocking write holds the tty's write lock until all is written.)
fn write_mark(slave: &OwnedFd, mark: Mark) {
    // A step may have stopped the tty's output (tcflow(3)) and left it so.
    let _ = tcflow(slave, FlowArg::TCOON);
    let mut rest = &mark[..];
    while !rest.is_empty() {
        match write(slave, rest) {
            Ok(n) => rest = &rest[n..],
            Err(Errno::EINTR) => {}
            // Hung up by a step: the master's reader sees that too, and stops waiting.
            Err(_) => break,
        }
    }
}

fn peer(master: &PtyMaster) -> Result<OwnedFd> {
    let flags = (OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).bits();
    // SAFETY: the descriptor is a pty master; TIOCGPTPEER takes open flags by value.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = Errno::result(fd).context("open the pty's slave")?;
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
