//! The shell: its start, its script and its output, counted to the byte.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat;
use nix::unistd::{Pid, chdir, pipe2, read};

use crate::mark::{Mark, MarkScanner};
use crate::pty::{Mode, Pty};
use crate::queue::Queue;
use crate::script::{STATUS, script_line};
use crate::trouble::{Context, Result, Trouble};
use crate::worker::Worker;

/// How much a person's typing may wait for the shell, in bytes.
const INPUT_LIMIT: usize = 64 << 10;

/// A shell on its own pty.
#[derive(Debug)]
pub struct Session {
    /// The pty whose master PID 1 holds.
    pub pty: Pty,
    /// The shell's process.
    pub pid: Pid,
    /// Its wait status as a shell would say it, once it is dead.
    pub exit: Option<i32>,
    /// Towards the shell: its script's pipe, or nothing where a person types on the pty.
    pub script: Option<OwnedFd>,
    /// Script (or typing) that waits to be written.
    pub input: Queue,
    /// From the shell: `$?` of each step, a line each.
    pub status: Option<OwnedFd>,
    answer: Vec<u8>,
    scanner: Option<MarkScanner>,
    /// A step has hung the tty up (vhangup(2)): nothing comes through any more, no mark either.
    pub hung_up: bool,
    /// Bytes since the last count was taken.
    count: u64,
    at_mark: Option<u64>,
}

impl Session {
    /// Starts the steps' shell: raw pty, script from a pipe, status on a pipe of its own.
    ///
    /// # Errors
    /// No pty, or the shell does not start.
    pub fn steps(env: &[(String, String)]) -> Result<Self> {
        let pty = Pty::open(Mode::Raw, 80, 24)?;
        let (script_reader, script) = pipe2(OFlag::O_CLOEXEC).context("a pipe")?;
        let (status, status_writer) = pipe2(OFlag::O_CLOEXEC).context("a pipe")?;
        for end in [&script, &status] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("a pipe")?;
        }
        let pipes = Pipes { script: script_reader, status: status_writer };
        let pid = start("/bin/sh", &["sh", "-s"], env, &pty, Some(&pipes))?;
        let mut session = Self::of(pty, pid);
        session.script = Some(script);
        session.status = Some(status);
        Ok(session)
    }

    /// Starts a person's shell: cooked pty, typing from the terminal channel.
    ///
    /// # Errors
    /// As [`Session::steps`].
    pub fn interactive(env: &[(String, String)], cols: u16, rows: u16) -> Result<Self> {
        let pty = Pty::open(Mode::Cooked, cols, rows)?;
        let bash = Path::new("/bin/bash").exists();
        // The image may carry a host's start-up files with a prompt of their own.
        let (program, words): (_, &[&str]) = if bash {
            ("/bin/bash", &["bash", "--noprofile", "--norc", "-i"])
        } else {
            ("/bin/sh", &["sh", "-i"])
        };
        let mut env = env.to_vec();
        if !env.iter().any(|(name, _)| name == "PS1") {
            env.push(("PS1".into(), "lab# ".into()));
        }
        let pid = start(program, words, &env, &pty, None)?;
        Ok(Self::of(pty, pid))
    }

    fn of(pty: Pty, pid: Pid) -> Self {
        Self {
            pty,
            pid,
            exit: None,
            script: None,
            input: Queue::default(),
            status: None,
            answer: Vec::new(),
            scanner: None,
            hung_up: false,
            count: 0,
            at_mark: None,
        }
    }

    /// Whether a person's typing is wanted: not by the steps, nor by a shell that lags behind.
    pub fn wants_typing(&self) -> bool {
        self.script.is_none() && self.exit.is_none() && self.input.len() < INPUT_LIMIT
    }

    /// Gives the shell one step.
    ///
    /// # Errors
    /// Something other than "the shell is gone", which the caller sees by [`Session::exit`].
    pub fn run(&mut self, text: &str) -> Result<()> {
        self.answer.clear();
        self.input.push(script_line(text).as_bytes());
        self.feed()
    }

    /// Writes what waits for the shell, as far as it is taken now.
    ///
    /// # Errors
    /// Something other than "the shell is gone".
    pub fn feed(&mut self) -> Result<()> {
        let result = match &self.script {
            Some(script) => self.input.write_to(script),
            None => self.input.write_to(self.pty.master()),
        };
        match result {
            Err(Errno::EPIPE | Errno::EIO) => self.input.clear(),
            other => other.context("write to the shell")?,
        }
        Ok(())
    }

    /// Reads what the shell has reported.
    ///
    /// # Errors
    /// None known for a pipe.
    pub fn read_status(&mut self) -> Result<()> {
        let mut buffer = [0; 256];
        while let Some(status) = &self.status {
            match read(status, &mut buffer) {
                Ok(0) => self.status = None,
                Ok(n) => self.answer.extend_from_slice(&buffer[..n]),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("read the shell's status"),
            }
        }
        Ok(())
    }

    /// `$?` of the step that runs, when it has ended.
    ///
    /// # Errors
    /// The shell said something else: it is not the shell any more.
    pub fn answered(&self) -> Result<Option<i32>> {
        let Some(end) = self.answer.iter().position(|&b| b == b'\n') else { return Ok(None) };
        let text = String::from_utf8_lossy(&self.answer[..end]);
        match text.parse() {
            Ok(status) => Ok(Some(status)),
            Err(_) => Err(Trouble(format!("the shell reported {text:?} as a status"))),
        }
    }

    /// Reads the pty's output, hardly more than `limit` bytes, and appends it without the mark.
    ///
    /// # Errors
    /// None known for a pty.
    pub fn read_output(&mut self, limit: usize, passed: &mut Vec<u8>) -> Result<()> {
        // A pty gives 4 KiB at a time.
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < limit {
            let n = match read(self.pty.master(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(Errno::EIO) => {
                    self.hung_up = true;
                    if let Some(scanner) = self.scanner.take() {
                        passed.extend_from_slice(scanner.held());
                        self.count += scanner.held().len() as u64;
                        self.at_mark = Some(std::mem::take(&mut self.count));
                    }
                    break;
                }
                Err(errno) => return Err(errno).context("read the pty"),
            };
            total += n;
            self.take_output(&buffer[..n], passed);
        }
        Ok(())
    }

    fn take_output(&mut self, bytes: &[u8], passed: &mut Vec<u8>) {
        let mut rest = bytes;
        if let Some(scanner) = &mut self.scanner {
            let before = passed.len();
            let end = scanner.feed(bytes, passed);
            self.count += (passed.len() - before) as u64;
            let Some(end) = end else { return };
            self.scanner = None;
            self.at_mark = Some(std::mem::take(&mut self.count));
            rest = &bytes[end..];
        }
        passed.extend_from_slice(rest);
        self.count += rest.len() as u64;
    }

    /// Sends a mark after what has been printed so far.
    ///
    /// # Errors
    /// The worker is gone.
    pub fn begin_mark(&mut self, mark: Mark, worker: &Worker) -> Result<()> {
        if self.hung_up {
            self.at_mark = Some(std::mem::take(&mut self.count));
            return Ok(());
        }
        self.scanner = Some(MarkScanner::new(mark));
        self.pty.send_mark(mark, worker)
    }

    /// How many bytes came in front of the mark since the last count, when it has arrived.
    pub fn end_mark(&mut self) -> Option<u64> {
        self.at_mark.take()
    }

    /// How many bytes came since the last count.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }
}

/// The shell's ends of the pipes.
struct Pipes {
    script: OwnedFd,
    status: OwnedFd,
}

/// Starts a shell that leads a session on the pty. By posix_spawn(3), because a fork copies PID 1's
/// page tables, which takes UML milliseconds.
fn start(
    program: &str,
    words: &[&str],
    env: &[(String, String)],
    pty: &Pty,
    pipes: Option<&Pipes>,
) -> Result<Pid> {
    let what = || format!("start {program}");
    let tty = pty.slave_name()?;
    let mut files = PosixSpawnFileActions::init().context(what())?;
    // The leader of a session takes the first tty it opens as the controlling one.
    files.add_open(0, tty.as_str(), OFlag::O_RDWR, stat::Mode::empty()).context(what())?;
    files.add_dup2(0, 1).context(what())?;
    files.add_dup2(0, 2).context(what())?;
    if let Some(pipes) = pipes {
        files.add_dup2(pipes.script.as_raw_fd(), 0).context(what())?;
        files.add_dup2(pipes.status.as_raw_fd(), STATUS).context(what())?;
    }
    // PID 1 blocks SIGCHLD and ignores SIGPIPE: neither is to be inherited.
    let mut attributes = PosixSpawnAttr::init().context(what())?;
    let mut default = SigSet::empty();
    default.add(Signal::SIGPIPE);
    attributes.set_sigdefault(&default).context(what())?;
    attributes.set_sigmask(&SigSet::empty()).context(what())?;
    let flags = [
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
        PosixSpawnFlags::from_bits_retain(libc::POSIX_SPAWN_SETSID as _),
    ];
    attributes.set_flags(flags.into_iter().collect()).context(what())?;
    let words = c_strings(words.iter().map(|word| word.to_string()))?;
    let variables = c_strings(env.iter().map(|(name, value)| format!("{name}={value}")))?;
    let home = env.iter().find(|(name, _)| name == "HOME").map_or("/root", |(_, home)| home);
    fs::create_dir_all(home).context(home)?;
    // The child's folder is the one that its parent has at that moment.
    chdir(home).context(home)?;
    let pid = posix_spawn(program, &files, &attributes, &words, &variables);
    chdir("/").context("/")?;
    pid.context(what())
}

fn c_strings(words: impl Iterator<Item = String>) -> Result<Vec<CString>> {
    let strings: std::result::Result<Vec<_>, _> = words.map(CString::new).collect();
    strings.map_err(|_| Trouble("a NUL in the shell's environment".into()))
}
