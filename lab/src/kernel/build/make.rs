//! Runs the kernel's own make: configuration and build, out of tree, reproducible, with progress
//! by the objects that it reports, and its words kept for when it fails.

use std::cell::RefCell;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::said::Said;
use super::walls::Walls;
use crate::kernel::tool::{Watch, not_started, on_path};
use crate::kernel::{Arch, PullError, PullProgress};
use crate::manifest::{Diagnostic, Result, errno_words};
use crate::sandbox::{Child, Ending, Isolation, open_below, read_below};

/// One source tree with one build folder.
#[derive(Clone, Debug)]
pub(super) struct Make {
    /// The source, which is not written to.
    pub tree: PathBuf,
    /// `O=`: everything that is made.
    pub out: PathBuf,
    /// What the configuration is made from; make can read it.
    pub seed: PathBuf,
    /// The architecture.
    pub arch: Arch,
    /// At most so many compilers at once.
    pub jobs: usize,
    /// Where the output of make goes, whole.
    pub log: PathBuf,
    /// What make may see and touch. They come down, and stay so, where the host refuses them.
    pub walls: RefCell<Walls>,
}

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
        let ending = self.run(arguments, watch, |_, line| said.take(line))?;
        match ending {
            Ending::Exited(0) => Ok(()),
            _ => Err(said.trouble(what, &ending, self)),
        }
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
        let jobs = format!("-j{}", self.jobs);
        let arguments: Vec<&str> =
            std::iter::once(jobs.as_str()).chain(targets.iter().copied()).collect();
        let ending = self.run(&arguments, watch, |watch, line| {
            said.take(line);
            progress(watch, line, said.objects);
        })?;
        match ending {
            Ending::Exited(0) => Ok(said.objects),
            _ => Err(said.trouble(what, &ending, self)),
        }
    }

    /// Lets make write to another folder too.
    pub fn writing_to(&self, folder: &Path) -> Self {
        let make = self.clone();
        make.walls.borrow_mut().writable.push(folder.to_path_buf());
        make
    }

    /// The text of a file below `out`. A Makefile writes there: no link is followed.
    ///
    /// # Errors
    /// It is not there, or no plain file.
    pub fn made(&self, name: &str) -> Result<String> {
        let read = read_below(&self.out, Path::new(name));
        read.map_err(|e| Diagnostic::io("read", &self.out.join(name), &e))
    }

    /// Copies a file below `out`, with its permissions. No link is followed.
    ///
    /// # Errors
    /// It is not there, or no plain file; `to` cannot be written.
    pub fn take(&self, name: &str, to: &Path) -> Result<()> {
        let copy = || -> std::io::Result<()> {
            let mut from = open_below(&self.out, Path::new(name))?;
            let mut copy = File::create(to)?;
            std::io::copy(&mut from, &mut copy)?;
            copy.set_permissions(from.metadata()?.permissions())
        };
        copy().map_err(|e| Diagnostic::io("copy", &self.out.join(name), &e))
    }

    fn argv(&self, arguments: &[&str], ccache: bool) -> Result<Vec<String>> {
        let missing = || not_started("make".as_ref(), &std::io::ErrorKind::NotFound.into());
        let make = on_path("make").ok_or_else(missing)?;
        let arch = match self.arch {
            Arch::Um => "um",
            Arch::X86_64 => "x86_64",
        };
        let mut argv: Vec<String> = vec![
            make.display().to_string(),
            "-C".into(),
            self.tree.display().to_string(),
            format!("O={}", self.out.display()),
            format!("ARCH={arch}"),
            // The same bytes for the same inputs (Documentation/kbuild/reproducible-builds.rst).
            "KBUILD_BUILD_USER=lab".into(),
            "KBUILD_BUILD_HOST=lab".into(),
            "KBUILD_BUILD_VERSION=1".into(),
            "KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC".into(),
            "LOCALVERSION=".into(),
        ];
        if ccache {
            argv.extend(["CC=ccache gcc".into(), "HOSTCC=ccache gcc".into()]);
        }
        argv.extend(arguments.iter().map(|word| (*word).to_string()));
        Ok(argv)
    }

    /// Runs to the end; every line goes to the log and to `take`. Where the host refuses the walls,
    /// and nobody asked for them by name, make runs without them, and that is said.
    fn run(
        &self,
        arguments: &[&str],
        watch: &mut Watch<'_>,
        mut take: impl FnMut(&mut Watch<'_>, &str),
    ) -> Result<Ending, PullError> {
        watch.check()?;
        let ccache = ccache_folder(watch)?;
        let argv = self.argv(arguments, ccache.is_some())?;
        loop {
            let launch = self.walls.borrow().launch(argv.clone(), ccache.as_deref());
            let (reader, writer) = std::io::pipe().map_err(|e| trouble(&e))?;
            let mut make = Child::start(&launch, writer.into())?;
            self.read(reader, watch, &mut take)?;
            let ending = wait(&mut make, watch)?;
            match ending {
                Ending::NotStarted(why) if launch.isolation == Isolation::Full => {
                    self.walls.borrow_mut().fall(&why)?;
                    let note =
                        format!("make runs without a sandbox, which this host refuses: {why}");
                    (watch.progress)(PullProgress::Note(note));
                }
                ending => return Ok(ending),
            }
        }
    }

    /// Reads what make and all that it starts print, until nobody can print any more.
    fn read(
        &self,
        mut reader: PipeReader,
        watch: &mut Watch<'_>,
        take: &mut impl FnMut(&mut Watch<'_>, &str),
    ) -> Result<(), PullError> {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| Diagnostic::io("write", &self.log, &e))?;
        let mut buffer = vec![0; 64 << 10];
        let mut line = Vec::new();
        loop {
            watch.check()?;
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(50u16)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(trouble(&errno.into()).into()),
            }
            let read = reader.read(&mut buffer).map_err(|e| trouble(&e))?;
            if read == 0 {
                return Ok(());
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
    }
}

/// How make ended, now that its output has.
fn wait(make: &mut Child, watch: &Watch<'_>) -> Result<Ending, PullError> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(ending) = make.ending() {
            return Ok(ending);
        }
        watch.check()?;
        if Instant::now() > deadline {
            return Err(Diagnostic::trouble("make closed its output and did not end").into());
        }
        let mut fds = [PollFd::new(make.ending_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(50u16));
    }
}

fn trouble(error: &std::io::Error) -> Diagnostic {
    Diagnostic::trouble(format!("cannot run make: {}", errno_words(error)))
}

/// The folder of ccache, where it is installed.
fn ccache_folder(watch: &mut Watch<'_>) -> Result<Option<PathBuf>, PullError> {
    if on_path("ccache").is_none() {
        return Ok(None);
    }
    let mut ccache = Command::new("ccache");
    ccache.args(["-k", "cache_dir"]);
    let said = watch.must(ccache, "ask ccache for its folder")?;
    let folder = PathBuf::from(said.trim());
    // ccache makes it at its first use, which is behind the walls.
    std::fs::create_dir_all(&folder).map_err(|e| Diagnostic::io("make", &folder, &e))?;
    Ok(Some(folder))
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
pub(super) fn boot_file(arch: Arch) -> &'static str {
    match arch {
        Arch::Um => "linux",
        Arch::X86_64 => "arch/x86/boot/bzImage",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    impl Make {
        /// One that is not run.
        pub fn of_test(out: PathBuf) -> Self {
            let walls = Walls {
                isolation: Isolation::Full,
                may_fall: true,
                mount_on: "/root".into(),
                readable: Vec::new(),
                writable: Vec::new(),
            };
            let (tree, seed, log) = ("/t".into(), "/lab.config".into(), "/o/log".into());
            Self { tree, out, seed, arch: Arch::Um, jobs: 1, log, walls: walls.into() }
        }
    }

    #[test]
    fn links_in_the_place_of_products_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let make = Make::of_test(folder.path().join("out"));
        std::fs::create_dir_all(make.out.join("include/config")).unwrap();
        std::fs::write(folder.path().join("secret"), "the user's").unwrap();
        std::fs::write(make.out.join("linux"), "boots").unwrap();
        let mode = std::fs::Permissions::from_mode(0o751);
        std::fs::set_permissions(make.out.join("linux"), mode.clone()).unwrap();
        let to = folder.path().join("boot");
        make.take(boot_file(Arch::Um), &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"boots");
        assert_eq!(to.metadata().unwrap().permissions().mode() & 0o777, mode.mode());

        for name in ["linux", ".config", "include/config/kernel.release"] {
            let _ = std::fs::remove_file(make.out.join(name));
            symlink(folder.path().join("secret"), make.out.join(name)).unwrap();
            assert_eq!(std::fs::read(make.out.join(name)).unwrap(), b"the user's");
            let error = make.take(name, &folder.path().join("taken")).unwrap_err().to_string();
            assert!(error.contains("a link or a file is in the way"), "{error}");
            assert!(make.made(name).is_err() && !folder.path().join("taken").exists());
        }
    }
}
