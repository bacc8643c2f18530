//! Runs the host's programs that fill the store (apt-get, dpkg-deb, xz, ...): they never read
//! standard input, never outlive the lab, and end when the user interrupts it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{PullError, PullProgress};
use crate::manifest::{Diagnostic, errno_words};

/// What a pull reports to, and what may stop it.
pub(crate) struct Watch<'a> {
    /// Takes each piece of news.
    pub progress: &'a mut dyn FnMut(PullProgress),
    /// Set by Ctrl-C.
    pub cancel: &'a AtomicBool,
}

/// What a program left.
pub(crate) struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub out: String,
    /// Its standard error, and with [`Output::Together`] its standard output too.
    pub err: String,
}

/// Where standard output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Into `out`.
    Apart,
    /// Into `err`, in the order in which the program wrote.
    Together,
}

/// Which package holds a program, where the two are not called the same.
const PACKAGES: [(&str, &str); 5] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("apt-config", "apt"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
];

impl Watch<'_> {
    /// Whether the user has had enough.
    pub fn check(&self) -> Result<(), PullError> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(PullError::Interrupted),
            false => Ok(()),
        }
    }

    /// Runs a program to its end; `tick` is called some fifty times a second meanwhile.
    ///
    /// # Errors
    /// It cannot be started (names its package), or the user interrupts.
    pub fn run(
        &mut self,
        mut command: Command,
        output: Output,
        mut tick: impl FnMut(&mut Self),
    ) -> Result<Ran, PullError> {
        self.check()?;
        let name = command.get_program().to_owned();
        let trouble = |e: io::Error| PullError::from(not_started(&name, &e));
        // In memory: a full disk must not swallow the words that say so.
        let mut err = memory_file().map_err(trouble)?;
        let mut out = match output {
            Output::Apart => memory_file().map_err(trouble)?,
            Output::Together => err.try_clone().map_err(trouble)?,
        };
        command
            .env("LC_ALL", "C")
            .env_remove("LANGUAGE")
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(trouble)?)
            .stderr(err.try_clone().map_err(trouble)?);
        confine(&mut command);
        let mut group = Group(command.spawn().map_err(trouble)?);
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = group.0.try_wait().map_err(trouble)? {
                break status;
            }
            self.check()?;
            tick(self);
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        };
        let text = |file: &mut File| -> io::Result<String> {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let err = text(&mut err).map_err(trouble)?;
        let out = match output {
            Output::Apart => text(&mut out).map_err(trouble)?,
            Output::Together => String::new(),
        };
        tracing::debug!(program = ?name, %status, "ran");
        Ok(Ran { status, out, err })
    }

    /// Runs a program that has to succeed; `what` completes "cannot ...".
    ///
    /// # Errors
    /// As [`Watch::run`], or it failed: its own last words are in the message.
    pub fn must(&mut self, command: Command, what: &str) -> Result<String, PullError> {
        let ran = self.run(command, Output::Apart, |_| {})?;
        if ran.status.success() {
            return Ok(ran.out);
        }
        if super::debian::is_no_room(&ran.err) {
            return Err(Diagnostic::trouble(format!("cannot {what}: the disk is full"))
                .help("free some room, or point LAB_CACHE to a larger file system")
                .into());
        }
        // tar repeats itself for every file: the first line is the cause.
        let words = ran.err.lines().next().unwrap_or("no message").trim().to_string();
        Err(Diagnostic::trouble(format!("cannot {what}: {words}")).into())
    }
}

/// The program of this name that PATH finds; its relative folders do not count.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()))
}

/// Makes a command's process lead a group of its own and end when the lab's thread does.
pub(super) fn confine(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id();
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The lab may have died in between.
            match nix::unistd::getppid().as_raw() as u32 == parent {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(nix::libc::ESRCH)),
            }
        });
    }
}

/// A child with all its descendants; they go when this does.
pub(super) struct Group(pub Child);

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // Not reaped, so the number still belongs to this child.
        let group = Pid::from_raw(self.0.id() as i32);
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(1);
        while Instant::now() < deadline && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}

/// What to say when a program cannot be started.
pub(super) fn not_started(program: &OsStr, error: &io::Error) -> Diagnostic {
    let program = program.to_string_lossy();
    if error.kind() != io::ErrorKind::NotFound {
        return Diagnostic::trouble(format!("cannot run {program}: {}", errno_words(error)));
    }
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or(&*program, |p| p.1);
    let help = match package {
        "apt" | "dpkg" => {
            "Debian's kernels are fetched and verified by Debian's own tools: install the packages \
             apt, dpkg and debian-archive-keyring (other distributions carry them too; on Fedora \
             the last one is called debian-keyring)"
                .to_string()
        }
        _ => format!("install the package {package}"),
    };
    Diagnostic::trouble(format!("this host has no {program}")).help(help)
}

fn memory_file() -> io::Result<File> {
    Ok(File::from(memfd_create(c"lab-output", MFdFlags::MFD_CLOEXEC)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn watched<T>(cancel: &AtomicBool, act: impl FnOnce(&mut Watch) -> T) -> T {
        act(&mut Watch { progress: &mut |_| {}, cancel })
    }

    #[test]
    fn output_is_kept_apart_or_together() {
        let script = "echo a; echo b >&2; echo c; cat; exit 3";
        watched(&AtomicBool::new(false), |watch| {
            let ran = watch.run(shell(script), Output::Apart, |_| {}).unwrap();
            assert_eq!((ran.out.as_str(), ran.err.as_str()), ("a\nc\n", "b\n"));
            assert_eq!(ran.status.code(), Some(3));
            let ran = watch.run(shell(script), Output::Together, |_| {}).unwrap();
            assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", "a\nb\nc\n"));
        });
    }

    #[test]
    fn an_interrupt_ends_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("grandchild");
        let script = format!("(sleep 2; touch {}) & wait", mark.display());
        let cancel = AtomicBool::new(false);
        let begun = Instant::now();
        let stopped = watched(&cancel, |watch| {
            watch.run(shell(&script), Output::Apart, |w| w.cancel.store(true, Ordering::Relaxed))
        });
        assert!(matches!(stopped, Err(PullError::Interrupted)));
        assert!(begun.elapsed() < Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(2200));
        assert!(!mark.exists(), "the grandchild went on");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        watched(&AtomicBool::new(false), |watch| {
            let Err(error) = watch.must(Command::new("no-such-program"), "try") else { panic!() };
            assert!(error.into_diagnostic().to_string().contains("no no-such-program"));
            let Err(error) = watch.must(shell("echo one >&2; echo two >&2; false"), "try") else {
                panic!()
            };
            assert_eq!(error.into_diagnostic().to_string(), "cannot try: one");
        });
        let error = io::Error::from(io::ErrorKind::NotFound);
        let said = not_started(OsStr::new("xz"), &error).to_string();
        assert_eq!(said, "this host has no xz (install the package xz-utils)");
        let said = not_started(OsStr::new("apt-get"), &error).to_string();
        assert!(said.contains("packages apt, dpkg and debian-archive-keyring"), "{said}");
    }
}
