//! The helper that stands between the lab and every machine: it puts up the walls of a
//! [`Launch`], starts the machine behind them, and sees how it ends.
//!
//! It is the lab's own binary, started again as `lab __sandbox LAUNCH-FD LIFELINE-FD`, because
//! unshare(2) of a user namespace wants a single-threaded process. Two processes stay: the inner one
//! is PID 1 of the machine's pid namespace, so that the machine's own exit signal is seen (a PID 1
//! that aborts shows as something else) and so that its end is the end of everything inside. The
//! outer one waits for it; where there is no pid namespace it inherits what the machine leaves
//! behind, and ends it.

mod calls;
mod caps;
mod child;
mod landlock;
mod launch;
mod left;
mod level;
mod process;
mod root;

use std::ffi::CString;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, UnixAddr, bind, recv, send};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

pub use child::{Child, Ending};
pub use landlock::version as landlock_version;
pub use launch::{Access, Calls, Isolation, Launch, Limits, Reach, RootEntry};
pub use left::{open_below, read_below};
pub use level::{Walls, choose, probe};

/// How a machine's [`Ending::NotStarted`] begins where the host refuses what [`Isolation::Full`] is
/// made of.
pub const REFUSALS: [&str; 2] = [NO_NAMESPACES, root::NO_MOUNTS];
const NO_NAMESPACES: &str = "user namespaces are refused";

/// The first argument that makes the lab's binary this helper.
pub const DISPATCH: &str = "__sandbox";

/// What the lab may say on the lifeline: stop the machine where it is. Anything else, and the
/// lifeline's end, is the wish that all end.
pub const FREEZE: &[u8] = b"freeze";
/// The answer, when the machine does stand still.
pub const FROZEN: &[u8] = b"frozen";

/// Becomes the helper if this process was started as one; must be called first in `main`, while
/// there is one thread only.
pub fn dispatch() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|a| a == DISPATCH) {
        let mut number = || args.next()?.to_str()?.parse::<RawFd>().ok();
        let (Some(launch), Some(lifeline)) = (number(), number()) else {
            // Somebody typed it: there is nothing to help with.
            std::process::exit(2);
        };
        // SAFETY: the lab passed these two descriptors to this process for exactly this use.
        let (launch, lifeline) =
            unsafe { (OwnedFd::from_raw_fd(launch), OwnedFd::from_raw_fd(lifeline)) };
        std::process::exit(Helper { lifeline }.run(launch));
    }
}

/// What went wrong in the helper: the call, and the errno's words.
type Trouble = String;

fn trouble<'a>(what: &'a str) -> impl Fn(Errno) -> Trouble + 'a {
    move |errno| format!("{what}: {}", errno.desc())
}

struct Helper {
    lifeline: OwnedFd,
}

impl Helper {
    fn run(&self, launch: OwnedFd) -> i32 {
        let _ = fcntl(&self.lifeline, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        // Where the host runs out of memory, machines go before the user's own work.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
        let outcome = read_launch(launch).and_then(|launch| {
            self.close_others(&launch)?;
            match launch.isolation {
                Isolation::Full => self.full(&launch),
                Isolation::Landlock | Isolation::Off => self.without_namespaces(&launch),
            }
        });
        match outcome {
            Ok(status) => status,
            Err(why) => {
                self.say(&Ending::NotStarted(why));
                1
            }
        }
    }

    /// Closes what the lab itself was given by whoever started it: a guest reaches an open folder
    /// through /proc/self/fd.
    fn close_others(&self, launch: &Launch) -> Result<(), Trouble> {
        let mut kept: Vec<RawFd> = launch.keep.clone();
        kept.extend([0, 1, 2, self.lifeline.as_raw_fd()]);
        kept.extend(launch.bind.as_ref().map(|(socket, _)| socket));
        kept.sort_unstable();
        for pair in kept.windows(2) {
            close_range(pair[0] + 1, pair[1] - 1)?;
        }
        close_range(kept[kept.len() - 1] + 1, RawFd::MAX)
    }

    fn say(&self, ending: &Ending) {
        let message = serde_json::to_vec(ending).expect("an ending is plain data");
        let _ = send(self.lifeline.as_raw_fd(), &message, MsgFlags::MSG_NOSIGNAL);
    }

    fn full(&self, launch: &Launch) -> Result<i32, Trouble> {
        // The second belt: when the lab's thread that started us ends, so do we.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        unshare(
            CloneFlags::CLONE_NEWUSER
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS,
        )
        .map_err(|errno| format!("{NO_NAMESPACES}: unshare: {}", errno.desc()))?;
        let map = |file: &str, text: String| {
            std::fs::write(file, text).map_err(|e| {
                format!("{NO_NAMESPACES}: {file}: {}", crate::manifest::errno_words(&e))
            })
        };
        map("/proc/self/setgroups", "deny".into())?;
        map("/proc/self/uid_map", format!("0 {uid} 1"))?;
        map("/proc/self/gid_map", format!("0 {gid} 1"))?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.map_err(trouble("fork"))? {
            ForkResult::Parent { child } => {
                self.wait_outside(launch, child);
                std::process::exit(0);
            }
            ForkResult::Child => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                own_keyring();
                // The machine has no use for namespaces of its own; where the host's kernel does
                // not offer the switch, it has no capabilities to gain by them.
                let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
                root::enter(launch)?;
                self.supervise(launch)
            }
        }
    }

    fn without_namespaces(&self, launch: &Launch) -> Result<i32, Trouble> {
        // No signal at the lab's end: the lifeline's is heard by the inner one, and what the machine
        // leaves behind comes to us, so that it can be found and ended.
        prctl::set_child_subreaper(true).map_err(trouble("prctl"))?;
        // SAFETY: this process has one thread.
        match unsafe { fork() }.map_err(trouble("fork"))? {
            ForkResult::Parent { child } => {
                self.wait_outside(launch, child);
                end_descendants();
                if let Some(folder) = &launch.clear {
                    let _ = std::fs::remove_dir(folder);
                }
                std::process::exit(0);
            }
            ForkResult::Child => {
                let _ = prctl::set_pdeathsig(Signal::SIGKILL);
                if launch.isolation != Isolation::Off {
                    own_keyring();
                }
                self.supervise(launch)
            }
        }
    }

    /// Waits for the inner helper. Only it and the machine may hold the channels' ends: the lab reads
    /// them to their end.
    fn wait_outside(&self, launch: &Launch, inner: Pid) {
        let lifeline = self.lifeline.as_raw_fd();
        let socket = launch.bind.as_ref().map(|(socket, _)| *socket);
        close_all(launch.keep.iter().copied().chain([lifeline, 1, 2]).chain(socket));
        while let Err(Errno::EINTR) = waitpid(inner, None) {}
    }

    /// Starts the machine, waits for its end or the lifeline's, and ends everything.
    fn supervise(&self, launch: &Launch) -> Result<i32, Trouble> {
        if launch.argv.is_empty() {
            // A probe: the walls, around nothing.
            process::confine(launch)?;
            self.say(&Ending::Exited(0));
            return Ok(0);
        }
        if !launch.folder.as_os_str().is_empty() {
            nix::unistd::chdir(&launch.folder).map_err(trouble("enter the machine's folder"))?;
        }
        if let Some((socket, name)) = &launch.bind {
            let name = UnixAddr::new(name.as_str()).map_err(trouble("name a socket"))?;
            bind(*socket, &name).map_err(trouble("bind a socket"))?;
            close_all([*socket].into_iter());
        }
        let argv = c_strings(launch.argv.iter().map(String::as_str))?;
        let env: Vec<String> = launch.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let env = c_strings(env.iter().map(String::as_str))?;
        // SAFETY: this process has one thread.
        let machine = match unsafe { fork() }.map_err(trouble("fork"))? {
            ForkResult::Child => {
                let why = process::become_machine(launch, &argv, &env);
                self.say(&Ending::NotStarted(why));
                std::process::exit(127);
            }
            ForkResult::Parent { child } => child,
        };
        close_all(launch.keep.iter().copied().chain([1, 2]));
        let pidfd = pidfd_open(machine).map_err(trouble("pidfd_open"))?;
        loop {
            let lifeline = PollFd::new(
                // SAFETY: the lifeline lives as long as `self`.
                unsafe { BorrowedFd::borrow_raw(self.lifeline.as_raw_fd()) },
                PollFlags::POLLIN,
            );
            // SAFETY: `pidfd` lives until the end of this function.
            let ended = unsafe { BorrowedFd::borrow_raw(pidfd.as_raw_fd()) };
            let mut fds = [PollFd::new(ended, PollFlags::POLLIN), lifeline];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(trouble("poll")(errno)),
                Ok(_) => {}
            }
            if fds[0].any() == Some(true) {
                self.report(machine);
                break;
            }
            if fds[1].any() == Some(true) {
                let mut wish = [0; 16];
                match recv(self.lifeline.as_raw_fd(), &mut wish, MsgFlags::MSG_DONTWAIT) {
                    Ok(n) if &wish[..n] == FREEZE => self.freeze(machine),
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    _ => break, // the lab wants the end, or is gone
                }
            }
        }
        // Our end is the machine's: of the pid namespace, or by what the outer one does then.
        Ok(0)
    }

    /// Stops the machine, and says so when it stands still; its end is left for [`Self::report`].
    fn freeze(&self, machine: Pid) {
        let _ = nix::sys::signal::kill(machine, Signal::SIGSTOP);
        let flags = WaitPidFlag::WSTOPPED
            | WaitPidFlag::WEXITED
            | WaitPidFlag::WNOWAIT
            | WaitPidFlag::WNOHANG;
        loop {
            match waitid(Id::Pid(machine), flags) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(WaitStatus::Stopped(..)) => {
                    let _ = send(self.lifeline.as_raw_fd(), FROZEN, MsgFlags::MSG_NOSIGNAL);
                    return;
                }
                _ => return,
            }
            // SAFETY: the lifeline lives as long as `self`.
            let lifeline = unsafe { BorrowedFd::borrow_raw(self.lifeline.as_raw_fd()) };
            // A host's disk may keep it from stopping; the lab may not want to wait for that.
            let mut fds = [PollFd::new(lifeline, PollFlags::POLLIN)];
            if matches!(poll(&mut fds, PollTimeout::from(1u16)), Ok(n) if n > 0) {
                return;
            }
        }
    }

    fn report(&self, machine: Pid) {
        let ending = match waitpid(machine, None) {
            Ok(WaitStatus::Exited(_, status)) => Ending::Exited(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ending::Signalled(signal as i32),
            _ => return,
        };
        self.say(&ending);
    }
}

fn read_launch(launch: OwnedFd) -> Result<Launch, Trouble> {
    let mut file = std::fs::File::from(launch);
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).map_err(|e| format!("launch: {e}"))?;
    serde_json::from_slice(&text).map_err(|e| format!("launch: {e}"))
}

/// Ends all descendants of this process; as their subreaper it inherits what they leave behind.
fn end_descendants() {
    let list = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    loop {
        let children = std::fs::read_to_string(&list).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|p| p.parse().ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// A session keyring of its own (keyctl(2)): the user's keys are not the machine's.
fn own_keyring() {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING takes a name, here none.
    let _ = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
}

/// close_range(2), and one by one where the host's kernel is older than 5.9.
fn close_range(first: RawFd, last: RawFd) -> Result<(), Trouble> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) takes integers; nobody in this process uses what is closed.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match Errno::result(closed) {
        Ok(_) => Ok(()),
        Err(Errno::ENOSYS) => {
            let open =
                std::fs::read_dir("/proc/self/fd").map_err(|e| format!("/proc/self/fd: {e}"))?;
            let numbers: Vec<RawFd> =
                open.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
            close_all(numbers.into_iter().filter(|fd| (first..=last).contains(fd)));
            Ok(())
        }
        Err(errno) => Err(trouble("close_range")(errno)),
    }
}

fn close_all(fds: impl Iterator<Item = RawFd>) {
    for fd in fds {
        let _ = nix::unistd::close(fd);
    }
}

fn c_strings<'a>(strings: impl Iterator<Item = &'a str>) -> Result<Vec<CString>, Trouble> {
    strings.map(|s| CString::new(s).map_err(|_| format!("NUL in {s:?}"))).collect()
}

pub(super) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and returns a new descriptor, which is ours.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}
