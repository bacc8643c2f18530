//! The management console of User-Mode Linux: requests to the kernel itself, answered in interrupt
//! context, whatever PID 1 and the steps do (arch/um/drivers/mconsole_kern.c).
//!
//! Requests and replies are datagrams between two sockets in the machine's state folder: the
//! kernel's, `m/mconsole`, and the lab's, [`REPLIES`], to which the kernel answers by the name that
//! it sees. That name must lead to the same file on both sides. Therefore the machine's current
//! folder is its state folder, and both names are relative: short enough for a socket's name (108
//! bytes), whatever TMPDIR is.
//!
//! Seen on Debian's kernels: `sysrq w`, `m` and `s` are answered within a millisecond. `sysrq t` takes
//! 0.5 s on 5.10, and on 6.1 and 6.12 it is the guest's death: print_worker_info() reads a rescuer's
//! NULL worker by copy_from_kernel_nofault(), which UML cannot do in an interrupt; the kernel panics
//! ("Kernel mode fault at addr 0x8"), by /proc/sysrq-trigger too.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, recv, sendto, socket,
};
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::manifest::{Diagnostic, Result};

/// The lab's socket in the state folder; bound there by the sandbox helper.
pub const REPLIES: &str = "lab";

/// `umid=`, and the kernel's socket below it.
pub const UMID: &str = "m";
const CONSOLE: &str = "m/mconsole";

/// MCONSOLE_MAGIC, MCONSOLE_VERSION and MCONSOLE_MAX_DATA of arch/um/drivers/mconsole.h.
const MAGIC: u32 = 0xcafe_babe;
const VERSION: u32 = 2;
const MAX_DATA: usize = 512;

/// The kernel drops what does not fit into our queue (net.unix.max_dgram_qlen), the word that this
/// was all among it. After so long a pause what came is taken for all. The kernel has handled the
/// request by then: it answers from within.
const PAUSE: Duration = Duration::from_millis(500);

/// No answer is kept beyond this; `sysrq t` of a full guest is some 100 KiB.
const LONGEST: usize = 1 << 20;

/// Where the state folder is, as the lab sees it.
#[derive(Clone, Debug)]
pub struct StateFolder {
    /// A path that is the lab's own or the kernel's: followed as it is.
    pub base: PathBuf,
    /// Below it, where a guest may have written: no symbolic link is followed.
    pub below: PathBuf,
}

/// The lab's end of a machine's management console.
#[derive(Debug)]
pub struct Mconsole {
    replies: OwnedFd,
    /// A request went unanswered: what still came would be taken for the answer to another.
    silent: bool,
}

impl Mconsole {
    /// A socket that the sandbox helper is to bind as [`REPLIES`].
    ///
    /// # Errors
    /// No more descriptors.
    pub fn new() -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let replies =
            socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(|e| {
                Diagnostic::trouble(format!("cannot make a socket: {}", e.desc()))
                    .help("see the limit of open files: ulimit -n")
            })?;
        Ok(Self { replies, silent: false })
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.replies.as_fd()
    }

    /// Sends a command (`sysrq w`, `stop`, `go`, `version`, `proc FILE`, ...) and returns what the
    /// kernel answers, for `sysrq` what it printed as far as it fits. `ended` is readable when the
    /// machine has ended.
    ///
    /// # Errors
    /// There is no console (yet), the kernel refuses, it does not answer within `patience`, or the
    /// machine ends meanwhile.
    pub fn request(
        &mut self,
        state: &StateFolder,
        command: &str,
        ended: BorrowedFd<'_>,
        patience: Duration,
    ) -> Result<String> {
        let trouble = |what: &str| {
            Diagnostic::trouble(format!("the machine's mconsole, asked for {command:?}, {what}"))
        };
        if self.silent {
            return Err(trouble("has not answered before"));
        }
        let kernel = state.console().map_err(|why| trouble(&format!("is not there: {why}")))?;
        let request = request(command).ok_or_else(|| trouble("takes 511 bytes at most"))?;
        let name = format!("/proc/self/fd/{}", kernel.as_raw_fd());
        let address = UnixAddr::new(name.as_str()).map_err(|e| trouble(e.desc()))?;
        sendto(self.replies.as_raw_fd(), &request, &address, MsgFlags::empty())
            .map_err(|e| trouble(&format!("cannot be reached: {}", e.desc())))?;

        let mut text = Vec::new();
        let mut heard = false;
        let mut until = Instant::now() + patience;
        loop {
            match self.next_reply() {
                Ok(Some(Reply { refused, more, data })) => {
                    if text.len() < LONGEST {
                        text.extend_from_slice(&data);
                    }
                    let shown = String::from_utf8_lossy(&text).into_owned();
                    match (refused, more) {
                        (true, _) => return Err(trouble(&format!("refuses: {}", shown.trim()))),
                        (false, false) => return Ok(shown),
                        (false, true) => {}
                    }
                    heard = true;
                    until = Instant::now() + PAUSE;
                    continue;
                }
                Ok(None) => {}
                Err(why) => return Err(trouble(&why)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.silent = !heard;
                return match heard {
                    true => Ok(String::from_utf8_lossy(&text).into_owned()),
                    false => {
                        Err(trouble(&format!("did not answer within {} s", patience.as_secs())))
                    }
                };
            }
            let mut fds = [
                PollFd::new(self.replies.as_fd(), PollFlags::POLLIN),
                PollFd::new(ended, PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
            let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::ZERO));
            if fds[0].any() != Some(true) && fds[1].any() == Some(true) {
                return Err(trouble("said nothing more: the machine ended"));
            }
        }
    }

    fn next_reply(&self) -> std::result::Result<Option<Reply>, String> {
        let mut buffer = [0; 3 * 4 + MAX_DATA];
        match recv(self.replies.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(n) => match Reply::parse(&buffer[..n]) {
                Some(reply) => Ok(Some(reply)),
                None => Err("answered what is no reply".into()),
            },
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(format!("cannot be heard: {}", errno.desc())),
        }
    }
}

impl StateFolder {
    /// The kernel's socket. The state folder is the guest's to write, so that nothing of it is
    /// followed: a link there could lead to any socket of the host.
    fn console(&self) -> std::result::Result<OwnedFd, String> {
        let words = |path: &Path, errno: Errno| format!("{}: {}", path.display(), errno.desc());
        let mut at = open(&self.base, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| words(&self.base, errno))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        for part in self.below.join(CONSOLE).components() {
            let Component::Normal(name) = part else { continue };
            at = openat(&at, name, flags, Mode::empty())
                .map_err(|errno| words(Path::new(name), errno))?;
        }
        let kind = fstat(&at).map_err(|errno| errno.desc().to_string())?.st_mode;
        match SFlag::from_bits_truncate(kind & SFlag::S_IFMT.bits()) == SFlag::S_IFSOCK {
            true => Ok(at),
            false => Err("what has its name is no socket".into()),
        }
    }

    /// Empties it: a machine that was killed leaves its `umid` there, and the next one would take
    /// another name.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn clear(&self) -> Result<()> {
        let path = self.base.join(&self.below);
        for removed in
            [std::fs::remove_dir_all(path.join(UMID)), std::fs::remove_file(path.join(REPLIES))]
        {
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Diagnostic::io("clear", &path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// struct mconsole_request; `None` where the command is too long for it.
fn request(command: &str) -> Option<Vec<u8>> {
    if command.len() >= MAX_DATA {
        return None;
    }
    let length = u32::try_from(command.len()).ok()?;
    let mut bytes: Vec<u8> =
        [MAGIC, VERSION, length].iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend_from_slice(command.as_bytes());
    // The kernel ends the text itself, at `length`; a whole structure is what its own client sends.
    bytes.resize(3 * 4 + MAX_DATA, 0);
    Some(bytes)
}

/// struct mconsole_reply.
#[derive(Debug, PartialEq)]
struct Reply {
    refused: bool,
    more: bool,
    data: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (err, more, length) = (word(0)?, word(4)?, word(8)? as usize);
        // The length counts the NUL behind the text.
        let data = bytes.get(12..12 + length)?.split_last().map_or(&[][..], |(_, text)| text);
        Some(Self { refused: err != 0, more: more != 0, data: data.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::thread::{JoinHandle, spawn};

    use nix::sys::socket::bind;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn reply(err: u32, more: u32, text: &str) -> Vec<u8> {
        let words = [err, more, text.len() as u32 + 1];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        bytes
    }

    /// A state folder, and a thread that answers each request there as a kernel would.
    struct Kernel {
        folder: tempfile::TempDir,
        thread: Option<JoinHandle<Vec<u8>>>,
    }

    fn kernel(replies: Vec<Vec<u8>>) -> (Kernel, Mconsole, StateFolder) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(UMID)).unwrap();
        let console = UnixDatagram::bind(folder.path().join(CONSOLE)).unwrap();
        let mconsole = Mconsole::new().unwrap();
        let name = UnixAddr::new(&folder.path().join(REPLIES)).unwrap();
        bind(mconsole.replies.as_raw_fd(), &name).unwrap();
        let thread = spawn(move || {
            let mut buffer = [0; 1024];
            let (n, from) = console.recv_from(&mut buffer).unwrap();
            let to = from.as_pathname().unwrap().to_path_buf();
            for reply in replies {
                console.send_to(&reply, &to).unwrap();
            }
            buffer[..n].to_vec()
        });
        let state = StateFolder { base: folder.path().into(), below: PathBuf::new() };
        (Kernel { folder, thread: Some(thread) }, mconsole, state)
    }

    fn ask(replies: Vec<Vec<u8>>) -> (std::result::Result<String, String>, Vec<u8>) {
        let (mut kernel, mut mconsole, state) = kernel(replies);
        let (alive, _machine) = UnixStream::pair().unwrap();
        let answer = mconsole.request(&state, "sysrq w", alive.as_fd(), PATIENCE);
        (answer.map_err(|e| e.to_string()), kernel.thread.take().unwrap().join().unwrap())
    }

    #[test]
    fn a_request_is_answered_in_pieces() {
        let (answer, sent) = ask(vec![reply(0, 1, "one\n"), reply(0, 1, "two\n"), reply(0, 0, "")]);
        assert_eq!(answer.unwrap(), "one\ntwo\n");
        assert_eq!(sent.len(), 12 + MAX_DATA);
        assert_eq!(sent[..4], MAGIC.to_ne_bytes());
        assert_eq!(sent[4..8], VERSION.to_ne_bytes());
        assert_eq!(sent[8..12], 7_u32.to_ne_bytes());
        assert!(sent[12..].starts_with(b"sysrq w\0"));
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let refused = ask(vec![reply(1, 0, "Unknown command")]).0.unwrap_err();
        assert!(refused.contains("refuses: Unknown command"), "{refused}");
        let short = ask(vec![vec![0; 5]]).0.unwrap_err();
        assert!(short.contains("what is no reply"), "{short}");
        let mut lying = reply(0, 0, "x");
        lying[8] = 200;
        assert!(ask(vec![lying]).0.is_err());
    }

    #[test]
    fn a_lost_end_is_no_silence() {
        assert_eq!(ask(vec![reply(0, 1, "all of it\n")]).0.unwrap(), "all of it\n");
    }

    /// The guest may write in its state folder, and must not lead the lab to other sockets.
    #[test]
    fn no_link_is_followed() {
        let (mut kernel, mut mconsole, state) = kernel(vec![reply(0, 0, "")]);
        let (alive, _machine) = UnixStream::pair().unwrap();
        let (place, moved) = (kernel.folder.path().join(UMID), kernel.folder.path().join("other"));
        std::fs::rename(&place, &moved).unwrap();
        symlink(&moved, &place).unwrap();
        let why =
            mconsole.request(&state, "version", alive.as_fd(), PATIENCE).unwrap_err().to_string();
        assert!(why.contains("is not there"), "{why}");
        std::fs::remove_file(&place).unwrap();
        std::fs::create_dir(&place).unwrap();
        symlink(moved.join("mconsole"), place.join("mconsole")).unwrap();
        let why =
            mconsole.request(&state, "version", alive.as_fd(), PATIENCE).unwrap_err().to_string();
        assert!(why.contains("no socket"), "{why}");
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::rename(&moved, &place).unwrap();
        assert_eq!(mconsole.request(&state, "version", alive.as_fd(), PATIENCE).unwrap(), "");
        kernel.thread.take().unwrap().join().unwrap();
    }

    #[test]
    fn a_machine_that_ends_is_not_waited_for() {
        let (_kernel, mut mconsole, state) = kernel(vec![]);
        let (alive, machine) = UnixStream::pair().unwrap();
        drop(machine);
        let begun = Instant::now();
        let why =
            mconsole.request(&state, "sysrq c", alive.as_fd(), PATIENCE).unwrap_err().to_string();
        assert!(why.contains("the machine ended"), "{why}");
        assert!(begun.elapsed() < PATIENCE / 2);
    }

    #[test]
    fn a_cleared_folder_is_as_new() {
        let (_kernel, _mconsole, state) = kernel(vec![]);
        state.clear().unwrap();
        state.clear().unwrap();
        assert_eq!(std::fs::read_dir(&state.base).unwrap().count(), 0);
        drop((_kernel.folder, _kernel.thread));
    }
}
