//! A supervised process: started through the sandbox helper, watched by a lifeline, and gone when
//! its owner is.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use serde::{Deserialize, Serialize};

use super::launch::Launch;
use super::{FREEZE, FROZEN};
use crate::manifest::{Diagnostic, Result, errno_words};

/// How long a process may take to stand still: it does so at once unless a host's disk keeps it.
const STANDSTILL: Duration = Duration::from_secs(2);

/// How a supervised process ended, as its parent (the helper) saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It never started: a mount, a map or the exec failed.
    NotStarted(String),
    /// exit(2) with this status.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// The helper vanished without a word: somebody killed it, and everything with it.
    HelperGone,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted(why) => write!(f, "it did not start: {why}"),
            Self::Exited(status) => write!(f, "it exited with status {status}"),
            Self::Signalled(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "it was ended by {signal}"),
                Err(_) => write!(f, "it was ended by signal {number}"),
            },
            Self::HelperGone => write!(f, "its supervisor was killed"),
        }
    }
}

/// A process with everything that belongs to it. Dropping it kills and reaps.
///
/// The lifeline is a socket: the helper ends, and its namespaces with it, when the lab's end
/// closes, however the lab ends; over it the helper says how the process ended.
#[derive(Debug)]
pub struct Child {
    helper: std::process::Child,
    lifeline: OwnedFd,
    ending: Option<Ending>,
}

impl Child {
    /// Starts `launch`; standard output and error both go to `words`.
    ///
    /// # Errors
    /// Only if the helper itself cannot be started; what goes wrong later is an [`Ending`].
    pub fn start(launch: &Launch, words: OwnedFd) -> Result<Self> {
        let trouble = |what: &str, e: &dyn std::fmt::Display| {
            Diagnostic::trouble(format!("cannot start the supervisor: {what}: {e}"))
        };
        let policy = serde_json::to_vec(launch).expect("a launch is plain data");
        let memory = memfd_create(c"lab-launch", MFdFlags::MFD_CLOEXEC)
            .map_err(|e| trouble("memfd_create", &e.desc()))?;
        let mut file = std::fs::File::from(memory);
        file.write_all(&policy).map_err(|e| trouble("write", &errno_words(&e)))?;
        let (lifeline, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| trouble("socketpair", &e.desc()))?;
        fcntl(&lifeline, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|e| trouble("fcntl", &e.desc()))?;

        let mut keep: Vec<RawFd> = launch.keep.clone();
        keep.extend([file.as_raw_fd(), theirs.as_raw_fd()]);
        keep.extend(launch.bind.as_ref().map(|(socket, _)| socket));
        let errors = words.try_clone().map_err(|e| trouble("dup", &errno_words(&e)))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("lab-sandbox")
            .arg(super::DISPATCH)
            .arg(file.as_raw_fd().to_string())
            .arg(theirs.as_raw_fd().to_string())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(words)
            .stderr(errors);
        // SAFETY: fcntl(2) and setpgid(2) are async-signal-safe, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                for fd in &keep {
                    let fd = BorrowedFd::borrow_raw(*fd);
                    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
                }
                // Its own process group: Ctrl-C at the lab's terminal is for the lab to handle.
                nix::unistd::setpgid(nix::unistd::Pid::from_raw(0), nix::unistd::Pid::from_raw(0))?;
                Ok(())
            });
        }
        let helper = command.spawn().map_err(|e| trouble("exec", &errno_words(&e)))?;
        Ok(Self { helper, lifeline, ending: None })
    }

    /// The helper's process id on the host.
    pub fn helper_pid(&self) -> u32 {
        self.helper.id()
    }

    /// Readable when [`Child::ending`] may have an answer.
    pub fn ending_fd(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }

    /// How the process ended, if it did. Does not block.
    pub fn ending(&mut self) -> Option<Ending> {
        if self.ending.is_none() {
            let mut buffer = [0; 4096];
            self.ending = match recv(self.lifeline.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // Of a process that was to be frozen, and was so too late to be waited for.
                Ok(n) if &buffer[..n] == FROZEN => None,
                Ok(n) => Some(said(&buffer[..n])),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => None,
                Err(_) => Some(Ending::HelperGone),
            };
        }
        self.ending.clone()
    }

    /// Stops the process where it is, so that it runs no instruction more until it is killed; waits
    /// until it does stand still.
    ///
    /// # Errors
    /// It had ended before, which [`Child::ending`] then says; or it still ran after 2 s.
    pub fn freeze(&mut self) -> Result<()> {
        let ended = || Diagnostic::trouble("the machine had ended before it could be stopped");
        if self.ending().is_some() {
            return Err(ended());
        }
        let _ = send(self.lifeline.as_raw_fd(), FREEZE, MsgFlags::MSG_NOSIGNAL);
        let until = Instant::now() + STANDSTILL;
        loop {
            let mut buffer = [0; 4096];
            match recv(self.lifeline.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(n) if &buffer[..n] == FROZEN => return Ok(()),
                Ok(n) => {
                    self.ending = Some(said(&buffer[..n]));
                    return Err(ended());
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(_) => {
                    self.ending = Some(Ending::HelperGone);
                    return Err(ended());
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Diagnostic::trouble("the machine could not be stopped within 2 s"));
            }
            let mut fds = [PollFd::new(self.lifeline.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
            let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO));
        }
    }

    /// Kills the process and all that belongs to it, and waits for their end.
    pub fn kill(&mut self) {
        let _ = shutdown(self.lifeline.as_raw_fd(), Shutdown::Write);
        // The helper ends within milliseconds of the lifeline's end. Waiting for it, not for a
        // moment, is what guarantees that nothing is left: the kernel lets it be reaped only
        // after every process of its pid namespace is gone.
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.helper.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.helper.kill();
                let _ = self.helper.wait();
                break;
            }
            self.wait_for_helper(Duration::from_millis(20));
        }
    }

    /// Sleeps until the helper says or does something, or the time is over.
    fn wait_for_helper(&self, at_most: Duration) {
        let mut fds = [PollFd::new(self.lifeline.as_fd(), PollFlags::POLLHUP)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        if matches!(poll(&mut fds, timeout), Ok(n) if n > 0) {
            // Its end of the socket is closed: only the reaping is left, a matter of microseconds.
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// What the helper says of the end; its silence is its own.
fn said(message: &[u8]) -> Ending {
    serde_json::from_slice(message).unwrap_or(Ending::HelperGone)
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
