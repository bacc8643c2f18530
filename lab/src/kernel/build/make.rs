//! Runs the kernel's own make: configuration and build, out of tree, reproducible, with progress
//! by the objects that it reports, and its words kept for when it fails.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::kernel::tool::{Group, Watch, confine};
use crate::kernel::{Arch, PullError};
use crate::manifest::{Diagnostic, Result, errno_words};

/// One source tree with one build folder.
#[derive(Clone, Debug)]
pub(super) struct Make {
    /// The source, which is not written to.
    pub tree: PathBuf,
    /// `O=`: everything that is made.
    pub out: PathBuf,
    /// The architecture.
    pub arch: Arch,
    /// At most so many compilers at once.
    pub jobs: usize,
    /// Where the output of make goes, whole.
    pub log: PathBuf,
}

/// What a run of make said.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Objects that it made.
    pub objects: usize,
    /// The last lines that look like errors, and else the last lines.
    errors: Vec<String>,
    tail: std::collections::VecDeque<String>,
}

/// Ways of make to say that it made an object: `  CC      fs/open.o`.
const OBJECT: [&str; 6] = ["  CC ", "  AS ", "  CC [M] ", "  AS [M] ", "  LD [M] ", "  HOSTCC "];

/// What is known of failures: a piece of the compiler's words, and the way out.
const HINTS: &[(&str, &str)] = &[
    ("No space left on device", "free some room, or point LAB_CACHE to a larger file system"),
    ("gelf.h: No such file", "install libelf-dev: objtool is built with it"),
    ("libelf.h: No such file", "install libelf-dev: objtool is built with it"),
    ("openssl/", "install libssl-dev: certificates are handled with it"),
    ("flex: not found", "install flex"),
    ("bison: not found", "install bison"),
    ("bc: not found", "install bc"),
    (
        "multiple definition of `yylloc'",
        "the source is older than GCC 10, which no longer merges common symbols: patch scripts/dtc \
         (Linux commit e33a814e772c), or use an older compiler",
    ),
    (
        "-Werror=",
        "the compiler warns of more than it did when this source was written: \
         --config WERROR=n, or an older compiler",
    ),
    (
        "-Werror]",
        "the compiler warns of more than it did when this source was written: \
         --config WERROR=n, or an older compiler",
    ),
    (
        "'asm goto'",
        "the compiler is too old for this source: Documentation/process/changes.rst names the oldest",
    ),
    (
        "cannot use keyword 'false' as enumeration constant",
        "the compiler takes C23 for its default, which this source predates: use GCC 14 or older",
    ),
];

impl Make {
    /// `make TARGET...`, quiet, for configuration: its output is in the error if it fails.
    ///
    /// # Errors
    /// It cannot be started, it fails, or the user interrupts.
    pub fn configure(
        &self,
        arguments: &[&str],
        what: &str,
        watch: &mut Watch<'_>,
    ) -> Result<(), PullError> {
        let mut said = Said::default();
        let mut command = self.command();
        command.args(arguments);
        let status = self.run(command, watch, |_, line| said.take(line))?;
        if status.success() { Ok(()) } else { Err(self.failed(what, &said).into()) }
    }

    /// Builds `targets`; `progress` is told each line, and the number of objects made so far. `what`
    /// completes "cannot ...".
    ///
    /// # Errors
    /// The compiler's words and the log, or the user interrupts.
    pub fn build(
        &self,
        targets: &[&str],
        what: &str,
        watch: &mut Watch<'_>,
        mut progress: impl FnMut(&mut Watch<'_>, &str, usize),
    ) -> Result<usize, PullError> {
        let mut said = Said::default();
        let mut command = self.command();
        command.arg(format!("-j{}", self.jobs)).args(targets);
        let status = self.run(command, watch, |watch, line| {
            said.take(line);
            progress(watch, line, said.objects);
        })?;
        match status.success() {
            true => Ok(said.objects),
            false => Err(PullError::Compile(self.failed(what, &said))),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("make");
        let arch = match self.arch {
            Arch::Um => "um",
            Arch::X86_64 => "x86_64",
        };
        command
            .arg("-C")
            .arg(&self.tree)
            .arg(format!("O={}", self.out.display()))
            .arg(format!("ARCH={arch}"))
            // The same bytes for the same inputs (Documentation/kbuild/reproducible-builds.rst).
            .args(["KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab", "KBUILD_BUILD_VERSION=1"])
            .args(["KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC", "LOCALVERSION="])
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            // What the user's shell sets for other builds is not for this one.
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("ARCH")
            .env_remove("CROSS_COMPILE")
            .env_remove("KBUILD_OUTPUT")
            .env_remove("KCFLAGS");
        if ccache_is_here() {
            command.args(["CC=ccache gcc", "HOSTCC=ccache gcc"]);
        }
        command
    }

    /// Runs to the end; every line goes to the log and to `take`.
    fn run(
        &self,
        mut command: Command,
        watch: &mut Watch<'_>,
        mut take: impl FnMut(&mut Watch<'_>, &str),
    ) -> Result<ExitStatus, PullError> {
        watch.check()?;
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| Diagnostic::io("write", &self.log, &e))?;
        let trouble = |e: std::io::Error| {
            let error = Diagnostic::trouble(format!("cannot run make: {}", errno_words(&e)));
            match e.kind() {
                std::io::ErrorKind::NotFound => error.help("install the package make"),
                _ => error,
            }
        };
        let (reader, writer) = std::io::pipe().map_err(trouble)?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(trouble)?).stderr(writer);
        confine(&mut command);
        let mut group = Group(command.spawn().map_err(trouble)?);
        // The command holds the writing end: with it gone, make's end is the pipe's end.
        drop(command);
        let mut reader = reader;
        let mut buffer = vec![0; 64 << 10];
        let mut line = Vec::new();
        loop {
            watch.check()?;
            let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&reader), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(50u16)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(trouble(errno.into()).into()),
            }
            let read = reader.read(&mut buffer).map_err(trouble)?;
            if read == 0 {
                break;
            }
            // A log that cannot be written is a full disk, which make will say itself.
            let _ = log.write_all(&buffer[..read]);
            for piece in buffer[..read].split_inclusive(|&b| b == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    take(watch, String::from_utf8_lossy(&line).trim_end());
                    line.clear();
                }
            }
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = group.0.try_wait().map_err(trouble)? {
                return Ok(status);
            }
            watch.check()?;
            if Instant::now() > deadline {
                return Err(Diagnostic::trouble("make closed its output and did not end").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn failed(&self, what: &str, said: &Said) -> Diagnostic {
        // As the user's tree has them: where the working copy lies is of no use to them.
        let words = said.words().replace(&format!("{}/", self.tree.display()), "");
        let hint = HINTS.iter().find(|(piece, _)| words.contains(piece)).map(|(_, hint)| *hint);
        let log = format!("the whole log is {}", self.log.display());
        Diagnostic::trouble(format!("cannot {what}:\n{words}")).help(match hint {
            Some(hint) => format!("{hint}; {log}"),
            None => log,
        })
    }
}

impl Said {
    fn take(&mut self, line: &str) {
        const TAIL: usize = 15;
        if object_of(line).is_some() {
            self.objects += 1;
        }
        let error = line.contains("error: ") || line.contains(" Error ") || line.contains("ERROR");
        if error && self.errors.len() < TAIL {
            self.errors.push(line.to_string());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_string());
    }

    /// What explains a failure.
    fn words(&self) -> String {
        let lines: Vec<&str> = match self.errors.is_empty() {
            true => self.tail.iter().map(String::as_str).collect(),
            false => self.errors.iter().map(String::as_str).collect(),
        };
        lines.join("\n")
    }
}

/// The object that a line of make's says it is making, relative to the build folder.
pub(super) fn object_of(line: &str) -> Option<&str> {
    OBJECT.iter().any(|mark| line.starts_with(mark)).then(|| line.split_whitespace().last())?
}

/// Whether ccache would be found.
pub(super) fn ccache_is_here() -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("ccache").is_file()))
}

/// What the compiler says of itself: part of a kernel's key. Cached by nothing: asking takes 2 ms.
///
/// # Errors
/// There is no compiler.
pub(super) fn toolchain(watch: &mut Watch<'_>) -> Result<String, PullError> {
    let mut gcc = Command::new("gcc");
    gcc.arg("--version");
    let mut ld = Command::new("ld");
    ld.arg("--version");
    let first = |text: String| text.lines().next().unwrap_or_default().to_string();
    let gcc = first(watch.must(gcc, "ask gcc for its version")?);
    Ok(format!("{gcc}; {}", first(watch.must(ld, "ask ld for its version")?)))
}

/// Where make puts what boots, below `out`.
pub(super) fn boot_file(arch: Arch, out: &Path) -> PathBuf {
    match arch {
        Arch::Um => out.join("linux"),
        Arch::X86_64 => out.join("arch/x86/boot/bzImage"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_errors_are_told_apart() {
        let mut said = Said::default();
        for line in [
            "  SYNC    include/config/auto.conf",
            "  CC      fs/open.o",
            "  CC [M]  fs/overlayfs/super.o",
            "fs/x.c:3:5: warning: unused variable 'y' [-Wunused-variable]",
            "  AR      fs/built-in.a",
            "fs/x.c:4:5: error: 'z' undeclared",
            "make[2]: *** [scripts/Makefile.build:250: fs/x.o] Error 1",
        ] {
            said.take(line);
        }
        assert_eq!(said.objects, 2);
        assert_eq!(said.words().lines().count(), 2);
    }

    #[test]
    fn known_failures_have_a_way_out() {
        let make = Make {
            tree: "/t".into(),
            out: "/o".into(),
            arch: Arch::Um,
            jobs: 1,
            log: "/o/log".into(),
        };
        let mut said = Said::default();
        said.take("cc1: error: -Werror=dangling-pointer=");
        let error = make.failed("build the kernel", &said);
        assert!(error.way_out().unwrap().contains("WERROR=n"));
        assert!(error.way_out().unwrap().contains("/o/log"));
    }
}
