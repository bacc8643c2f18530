//! A supervised process: started through the sandbox helper, watched by a lifeline, and gone when
//! its owner is.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::launch::Launch;
use super::{FREEZE, FROZEN, pidfd_open};
use crate::manifest::{Diagnostic, Result, errno_words};

/// How long a process may take to stand still: it does so at once unless a host's disk keeps it.
const STANDSTILL: Duration = Duration::from_secs(2);
/// How long a helper has to end all when it is asked: it takes milliseconds.
const ASKED: Duration = Duration::from_secs(2);
/// How long the outer one has when the inner one was killed.
const KILLED: Duration = Duration::from_secs(3);
/// How long what was killed is waited for.
const LAST: Duration = Duration::from_secs(5);

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
    pidfd: OwnedFd,
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
        let mut helper = command.spawn().map_err(|e| trouble("exec", &errno_words(&e)))?;
        let pidfd = pidfd_open(Pid::from_raw(helper.id().cast_signed())).map_err(|e| {
            let _ = helper.kill().and_then(|()| helper.wait());
            trouble("pidfd_open", &e.desc())
        })?;
        Ok(Self { helper, pidfd, lifeline, ending: None })
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
    ///
    /// It asks by the lifeline's end; a helper that does not answer, because somebody stopped it, is
    /// killed, the inner one first: with that the kernel ends the whole pid namespace, and without
    /// one the outer helper ends what is left. Only what sleeps uninterruptibly in the host's kernel
    /// outlives that, and is waited for no longer than [`LAST`].
    pub fn kill(&mut self) {
        let _ = shutdown(self.lifeline.as_raw_fd(), Shutdown::Write);
        if !self.reap(ASKED) {
            let inner = self.inner();
            for pidfd in &inner {
                signal(pidfd, Signal::SIGKILL);
            }
            // A stopped one cannot wait for it.
            signal(&self.pidfd, Signal::SIGCONT);
            if !self.reap(KILLED) {
                signal(&self.pidfd, Signal::SIGKILL);
                self.reap(LAST);
            }
            // Its PID 1 is gone only after all of a namespace is.
            for pidfd in &inner {
                ended(pidfd, LAST);
            }
        }
    }

    /// Waits for the outer helper's end at most so long, and takes its status.
    fn reap(&mut self, at_most: Duration) -> bool {
        ended(&self.pidfd, at_most) && matches!(self.helper.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// The inner helper, as long as the outer one, which is our child and not reaped yet, has it as
    /// its own: the number in between cannot have become somebody else's.
    fn inner(&self) -> Vec<OwnedFd> {
        let outer = self.helper.id();
        let list = format!("/proc/{outer}/task/{outer}/children");
        let children = || std::fs::read_to_string(&list).unwrap_or_default();
        let open = |pid: &str| pidfd_open(Pid::from_raw(pid.parse().ok()?)).ok();
        let pidfds = children()
            .split_whitespace()
            .map(|pid| (pid.to_string(), open(pid)))
            .collect::<Vec<_>>();
        let still = children();
        let is_still = |pid: &String| still.split_whitespace().any(|other| other == pid);
        pidfds.into_iter().filter(|(pid, _)| is_still(pid)).filter_map(|(_, pidfd)| pidfd).collect()
    }
}

/// Waits at most so long for the end of a process: its pidfd is then readable (pidfd_open(2)).
fn ended(pidfd: &OwnedFd, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(n) if n > 0 => return true,
            Err(Errno::EINTR) => {}
            _ if left.is_zero() => return false,
            _ => {}
        }
    }
}

/// What the helper says of the end; its silence is its own.
fn said(message: &[u8]) -> Ending {
    serde_json::from_slice(message).unwrap_or(Ending::HelperGone)
}

fn signal(pidfd: &OwnedFd, signal: Signal) {
    let no_details: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: pidfd_send_signal(2) with a descriptor that is open, and no siginfo.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal as libc::c_int,
            no_details,
            0,
        )
    };
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
