//! Work that may block for long (mounts, modules, sync) beside the loop that answers the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{Builder, JoinHandle};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::trouble::{Context, Result, Trouble};

/// A thread whose end can be polled for.
#[derive(Debug)]
pub struct Worker<T> {
    ended: OwnedFd,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts the work.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn start(work: impl FnOnce() -> T + Send + 'static) -> Result<Self> {
        let (ended, held) = pipe2(OFlag::O_CLOEXEC).context("a pipe")?;
        let thread = Builder::new().spawn(move || {
            let result = work();
            drop(held);
            result
        });
        Ok(Self { ended, thread: thread.context("a thread")? })
    }

    /// Hangs up when the work is done.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The work panicked.
    pub fn join(self) -> Result<T> {
        self.thread.join().map_err(|_| Trouble("a thread of PID 1 panicked".into()))
    }
}
