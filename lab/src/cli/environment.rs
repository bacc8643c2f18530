//! What a command is given: its folders, its project, its workshop, and the way to stop it. The
//! only place that reads the environment.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::case::Workshop;
use crate::gc::Before;
use crate::kernel::{AptSource, Kernels};
use crate::manifest::{Diagnostic, Project, Result};
use crate::sandbox::{self, Isolation};

/// Where things live.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// Kernels and images: LAB_CACHE, else lab/ in XDG_CACHE_HOME, else ~/.cache/lab.
    pub cache: PathBuf,
    /// Runs: .lab/runs beside lab.toml.
    pub runs: PathBuf,
    /// What lives only as long as a run: TMPDIR, else /tmp.
    pub runtime: PathBuf,
}

impl Dirs {
    /// Reads the environment.
    ///
    /// # Errors
    /// No cache folder is named and there is no home folder.
    pub fn from_environment(root: &Path) -> Result<Self> {
        let absolute = |name: &str| {
            let value = PathBuf::from(std::env::var_os(name)?);
            value.is_absolute().then_some(value)
        };
        let cache = absolute("LAB_CACHE")
            .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("lab")))
            .or_else(|| Some(absolute("HOME")?.join(".cache/lab")))
            .ok_or_else(|| {
                Diagnostic::trouble("there is no home folder for the cache of kernels and images")
                    .help("set LAB_CACHE to an absolute path")
            })?;
        Ok(Self { cache, runs: root.join(".lab/runs"), runtime: std::env::temp_dir() })
    }
}

/// A command's folders and project.
#[derive(Debug)]
pub struct Context {
    /// The project.
    pub project: Project,
    /// The folders.
    pub dirs: Dirs,
    before: OnceLock<Before>,
}

impl Context {
    /// Finds and loads the project.
    ///
    /// # Errors
    /// lab.toml is wrong, or there is no place for the cache.
    pub fn load(start: &Path) -> Result<Self> {
        if start.to_str().is_none() {
            return Err(Diagnostic::usage(format!("{} is not UTF-8", start.display()))
                .help("records of runs are JSON; use a folder whose name is text"));
        }
        let project = Project::load(start)?;
        let dirs = Dirs::from_environment(&project.root)?;
        Ok(Self { project, dirs, before: OnceLock::new() })
    }

    /// The runs that were there before this command's first one; at the first call, what killed labs
    /// left is cleared, and that is said.
    pub fn before(&self) -> &Before {
        self.before.get_or_init(|| {
            let before = Before::look(&self.dirs.runs, &self.dirs.runtime);
            super::gc::say_cleared(&before.cleared);
            before
        })
    }

    /// The kernels of the project.
    ///
    /// # Errors
    /// The cache cannot be opened.
    pub fn kernels(&self) -> Result<Kernels> {
        let apt = AptSource { mirror: self.project.debian_mirror.clone() };
        Kernels::open(&self.dirs.cache, &self.project.root, apt)
    }

    /// The place where runs are put together.
    ///
    /// # Errors
    /// The cache cannot be opened; the isolation that is asked for cannot be had.
    pub fn workshop(&self, asked: Option<Isolation>, keep_disks: bool) -> Result<Workshop> {
        let mut kernels = self.kernels()?;
        // make has no walls of landlock's: then it gets the best that this host has for it.
        kernels.isolation = asked.filter(|asked| *asked != Isolation::Landlock);
        Ok(Workshop {
            kernels,
            cache: self.dirs.cache.clone(),
            runs: self.dirs.runs.clone(),
            runtime: self.dirs.runtime.clone(),
            walls: sandbox::choose(asked, &self.dirs.runtime)?,
            keep_disks,
        })
    }
}

/// The way to stop a command: Ctrl-C, SIGTERM and SIGHUP stop its machines and let it report; a
/// second Ctrl-C ends it at once, and the lifelines end the machines.
#[derive(Debug)]
pub struct Cancel {
    /// Readable, for ever, once asked to stop.
    asked: UnixStream,
    /// Set once asked to stop.
    pub flag: Arc<AtomicBool>,
}

impl Cancel {
    /// Takes the signals over.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn install() -> Result<Self> {
        let failed = |e: std::io::Error| {
            Diagnostic::trouble(format!(
                "cannot handle signals: {}",
                crate::manifest::errno_words(&e)
            ))
        };
        let (asked, teller) = UnixStream::pair().map_err(failed)?;
        let flag = Arc::new(AtomicBool::new(false));
        // Only a second Ctrl-C: timeout(1) sends SIGTERM twice, to its child and to the group.
        // The order matters: the shutdown looks at the flag before it is set.
        signal_hook::flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&flag))
            .map_err(failed)?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).map_err(failed)?;
            let teller = teller.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, teller).map_err(failed)?;
        }
        Ok(Self { asked, flag })
    }

    /// To be polled; never to be read.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}

/// The user's home, for what must not name it.
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

/// The folder that a command starts in.
///
/// # Errors
/// `-C` names none.
pub fn start_folder(directory: Option<&Path>) -> Result<PathBuf> {
    let here = std::env::current_dir()
        .map_err(|e| Diagnostic::io("find", Path::new("the current folder"), &e))?;
    let Some(directory) = directory else { return Ok(here) };
    let folder = here.join(directory);
    if !folder.is_dir() {
        let shown = directory.display();
        return Err(Diagnostic::usage(format!("-C {shown}: there is no such folder"))
            .help("name one that is there; it is looked for from the current folder"));
    }
    // So that what is started from here sees the same folder, as with make and git.
    std::env::set_current_dir(&folder).map_err(|e| Diagnostic::io("enter", &folder, &e))?;
    folder.canonicalize().map_err(|e| Diagnostic::io("find", &folder, &e))
}

/// LAB_LOG=debug shows what the lab itself does, on standard error; for its developers.
pub fn start_tracing() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("LAB_LOG") {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
}
