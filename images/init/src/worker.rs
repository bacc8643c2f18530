//! Work that may block (mounts, modules, marks, sync) beside the loop that answers the host.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Builder;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::{pipe2, read, write};

use crate::trouble::{Context, Result, Trouble};

type Job = Box<dyn FnOnce() + Send>;

/// One thread that does jobs in turn. One for all, because on UML a thread costs a millisecond.
#[derive(Clone, Debug)]
pub struct Worker {
    jobs: Sender<Job>,
    /// A byte for each job that somebody waits for, so that poll(2) sees its end.
    ended: Arc<OwnedFd>,
    end: Arc<OwnedFd>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn start() -> Result<Self> {
        // glibc would reserve and trim 64 MiB of address space for a second thread's allocations.
        // SAFETY: mallopt takes two numbers.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        let (jobs, queue) = channel::<Job>();
        let (ended, end) = pipe2(OFlag::O_CLOEXEC).context("a pipe")?;
        fcntl(&ended, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("a pipe")?;
        let work = move || queue.into_iter().for_each(|job| job());
        Builder::new().stack_size(256 << 10).spawn(work).context("a thread")?;
        Ok(Self { jobs, ended: Arc::new(ended), end: Arc::new(end) })
    }

    /// Does something that nobody waits for.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn send(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.jobs.send(Box::new(work)).map_err(|_| gone())
    }

    /// Does something and keeps its result for [`Task::poll`].
    ///
    /// # Errors
    /// The thread is gone.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Task<T>> {
        let (sender, result) = channel();
        let end = Arc::clone(&self.end);
        self.send(move || {
            // Nobody waits any more: the guest is in trouble and about to power off.
            let _ = sender.send(work());
            let _ = write(&*end, b"!");
        })?;
        Ok(Task(result))
    }

    /// Readable when a task has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        (*self.ended).as_fd()
    }

    /// Makes [`Worker::ended`] quiet again.
    pub fn acknowledge(&self) {
        let _ = read(&*self.ended, &mut [0; 16]);
    }
}

/// The result of a job, some time.
#[derive(Debug)]
pub struct Task<T>(Receiver<T>);

impl<T> Task<T> {
    /// The result, if it is there.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn poll(&self) -> Result<Option<T>> {
        match self.0.try_recv() {
            Ok(result) => Ok(Some(result)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }
}

fn gone() -> Trouble {
    Trouble("PID 1's thread is gone".into())
}
