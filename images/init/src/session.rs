//! The shell: its start, its script and its output, counted to the byte.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{Pid, pipe2, read};

use crate::descriptors::STATUS;
use crate::mark::{Mark, MarkScanner};
use crate::pty::{Mode, Pty};
use crate::queue::Queue;
use crate::trouble::{Context, Result, Trouble};

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
        let mut shell = Command::new("/bin/sh");
        shell.arg0("sh").arg("-s").stdin(script_reader);
        let pid = start(shell, env, &pty, Some(status_writer.as_raw_fd()))?;
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
        let mut shell = Command::new(if bash { "/bin/bash" } else { "/bin/sh" });
        if bash {
            // The image may carry a host's start-up files with a prompt of their own.
            shell.args(["--noprofile", "--norc"]);
        }
        shell.arg("-i").stdin(pty.slave()?);
        let mut env = env.to_vec();
        if !env.iter().any(|(name, _)| name == "PS1") {
            env.push(("PS1".into(), "lab# ".into()));
        }
        let pid = start(shell, &env, &pty, None)?;
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

    /// Reads the pty's output, at most `limit` bytes, and appends it without the mark. Returns
    /// whether there may be more at once.
    ///
    /// # Errors
    /// None known, except where the pty is hung up and no mark is due.
    pub fn read_output(&mut self, limit: usize, passed: &mut Vec<u8>) -> Result<()> {
        // A pty gives 4 KiB at a time.
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < limit {
            let n = match read(self.pty.master(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                // A step has hung the tty up (vhangup(2)): no mark will come through.
                Err(Errno::EIO) if self.scanner.is_some() => {
                    let scanner = self.scanner.take();
                    let before = passed.len();
                    passed.extend_from_slice(scanner.as_ref().map_or(&[], |s| s.held()));
                    self.count += (passed.len() - before) as u64;
                    self.at_mark = Some(std::mem::take(&mut self.count));
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
    /// The thread that writes marks is gone.
    pub fn begin_mark(&mut self, mark: Mark) -> Result<()> {
        self.scanner = Some(MarkScanner::new(mark));
        self.pty.send_mark(mark)
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

/// Starts a shell that leads a session on the pty.
fn start(
    mut shell: Command,
    env: &[(String, String)],
    pty: &Pty,
    status: Option<i32>,
) -> Result<Pid> {
    let home = env.iter().find(|(name, _)| name == "HOME").map_or("/root", |(_, home)| home);
    std::fs::create_dir_all(home).context(home)?;
    let program = shell.get_program().to_string_lossy().into_owned();
    shell.env_clear().envs(env.iter().map(|(name, value)| (name, value))).current_dir(home);
    shell.stdout(pty.slave()?).stderr(pty.slave()?);
    // SAFETY: between fork and exec only system calls; STATUS is a number that nothing else uses
    // (descriptors::set_up_init), and `status` is open, as its owner outlives the spawn.
    unsafe {
        shell.pre_exec(move || {
            nix::unistd::setsid()?;
            Errno::result(libc::ioctl(1, libc::TIOCSCTTY, 0))?;
            if let Some(status) = status {
                Errno::result(libc::dup2(status, STATUS))?;
            }
            // PID 1 blocks SIGCHLD and ignores SIGPIPE: neither is to be inherited.
            SigSet::empty().thread_set_mask()?;
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            sigaction(Signal::SIGPIPE, &default)?;
            Ok(())
        });
    }
    let child = shell.spawn().context(format_args!("start {program}"))?;
    Ok(Pid::from_raw(child.id() as i32))
}

/// The line that makes the shell run a step and report.
///
/// `command` keeps the failure of a special builtin or a syntax error within the step, where the
/// shell would end otherwise (POSIX, 2.8.1). Standard input is not the script, nor does any
/// program of the step have the status pipe. The report's standard error is closed, so that `set
/// -x` does not show it. The backslashes keep aliases out.
fn script_line(text: &str) -> String {
    // A here-document's last line wants its newline; single lines look better without in `set -x`.
    let end = if text.contains('\n') { "\n" } else { "" };
    let quoted = text.replace('\'', r"'\''");
    format!(
        "\\command eval '{quoted}{end}' </dev/null {STATUS}>&-; \
         {{ \\command echo \"$?\" >&{STATUS}; }} 2>&-\n"
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use super::*;

    /// What a shell of the host prints when it gets these steps, with the statuses in between.
    fn shell(program: &str, steps: &[&str]) -> Option<String> {
        if !Path::new(program).exists() {
            return None;
        }
        let mut shell = Command::new(program)
            .arg0("sh")
            .args(["-c", &format!("exec {STATUS}>&1 2>&1; exec \"$0\" -s"), program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let script: String = steps.iter().map(|step| script_line(step)).collect();
        let mut input = shell.stdin.take().unwrap();
        let _ = input.write_all(script.as_bytes());
        drop(input);
        let output = shell.wait_with_output().unwrap();
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn steps_share_the_shell_and_survive_their_errors() {
        for program in ["/bin/dash", "/bin/bash"] {
            let steps = [
                "x='it'\\''s'; f() { echo \"$x\"; }; cd /usr",
                "f; pwd",
                "if",
                ". /nonexistent/file",
                "cat <<E\nheredoc $x\nE",
                "cat; read line || echo no input",
                "(exit 3)",
            ];
            let Some(out) = shell(program, &steps) else { continue };
            let lines: Vec<&str> = out
                .lines()
                .filter(|line| !line.contains("rror") && !line.contains("ile"))
                .collect();
            let dot = if program == "/bin/dash" { "2" } else { "1" };
            assert_eq!(
                lines,
                ["0", "it's", "/usr", "0", "2", dot, "heredoc it's", "0", "no input", "0", "3"],
                "{program}: {out}"
            );
        }
    }

    #[test]
    fn programs_of_a_step_have_no_pipe_of_ours() {
        for program in ["/bin/dash", "/bin/bash"] {
            let steps = ["ls -l /proc/self/fd | cut -d' ' -f2- ; echo x >&8"];
            let Some(out) = shell(program, &steps) else { continue };
            // Its own standard output is a pipe here, and so is what the test's caller leaks: the
            // script's pipe would be number 0, the status pipe number 8.
            assert!(out.contains(" 0 -> /dev/null"), "{program}: {out}");
            assert!(!out.contains(" 8 -> "), "{program}: {out}");
            assert!(out.to_lowercase().contains("bad file descriptor"), "{program}: {out}");
        }
    }

    #[test]
    fn a_trace_does_not_show_the_report() {
        for program in ["/bin/dash", "/bin/bash"] {
            let Some(out) = shell(program, &["set -x", "true"]) else { continue };
            assert!(out.contains("+ true"), "{program}: {out}");
            assert!(!out.contains("echo"), "{program}: {out}");
        }
    }
}
