//! Brings a kernel into the store: one lab works, others that want the same wait and share the
//! result; what an interrupt or a failure leaves is a temporary folder, and nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::entry::{Entry, FORMAT, Origin, disk_usage};
use super::store::{TEMPORARY, lock};
use super::tool::Watch;
use super::{AptSource, Arch, Kernel, KernelKey, KernelSpec, Provider, Store, debian};
use crate::manifest::{Diagnostic, Result};

/// News of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullProgress {
    /// Another lab is pulling the same kernel.
    Waiting,
    /// The list of packages is being fetched.
    Index {
        /// Of this suite.
        suite: String,
    },
    /// Packages are being fetched.
    Fetch {
        /// Bytes that are here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Packages are being unpacked.
    Unpack,
    /// A kernel is being configured.
    Configure,
    /// A kernel is being built.
    Build {
        /// Objects made so far.
        objects: usize,
        /// How many the last whole build made, if there was one.
        expected: Option<usize>,
        /// Since the build began.
        seconds: u64,
    },
    /// Modules that are no part of the kernel's tree are being built.
    Modules {
        /// Their source.
        source: String,
    },
    /// A warning of the compiler.
    Warning(String),
    /// Something worth saying once.
    Note(String),
    /// A folder of the user is being copied.
    Copy {
        /// Files that are done.
        done: usize,
        /// Files that differ in all.
        total: usize,
    },
}

impl std::fmt::Display for PullProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Waiting => f.write_str("waits for another lab that works on it"),
            Self::Index { suite } => write!(f, "asks for the index of {suite}"),
            Self::Fetch { done, total } => {
                write!(f, "fetches {} of {} MB", done / 1_000_000, total / 1_000_000)
            }
            Self::Unpack => f.write_str("unpacks"),
            Self::Configure => f.write_str("configures"),
            Self::Build { objects, expected: None, seconds } => {
                write!(f, "builds: {objects} objects, {seconds} s")
            }
            Self::Build { objects, expected: Some(expected), seconds } => {
                write!(f, "builds: {objects} of up to {expected} objects, {seconds} s")?;
                // Objects take about the same time each, but the last link takes its own.
                if *objects * 20 > *expected && objects < expected {
                    let left = *seconds as usize * (expected - objects) / objects;
                    write!(f, ", some {left} s left")?;
                }
                Ok(())
            }
            Self::Modules { source } => write!(f, "builds the modules of {source}"),
            Self::Warning(line) | Self::Note(line) => f.write_str(line),
            Self::Copy { done, total } => write!(f, "copies {done} of {total} files"),
        }
    }
}

/// Why a kernel could not be had.
#[derive(Clone, Debug)]
pub enum PullError {
    /// The mirror works and does not carry it (any more): other kernels may still be had.
    Gone {
        /// The suite that was asked for.
        suite: String,
        /// What is missing, as a sentence without a full stop.
        what: String,
    },
    /// The user interrupted (exit code 130).
    Interrupted,
    /// A patch does not apply to the source.
    Patch(Diagnostic),
    /// The source does not compile.
    Compile(Diagnostic),
    /// Anything else.
    Other(Diagnostic),
}

/// What a provider left in the folder of an entry: `boot`, `config`, and as it says here.
pub(super) struct Made {
    pub release: String,
    /// `libraries/`.
    pub libraries: bool,
    /// `modules/RELEASE/`.
    pub modules: bool,
}

/// A temporary folder of this lab: it goes when this does, or at the next pull after a crash.
pub(super) struct Workspace {
    pub folder: TempDir,
    _lock: Flock<File>,
}

impl Store {
    /// Fetches (or makes) the kernel that a spec asks for and returns it with a lease. Looks for a
    /// newer version even if one is here; downloads only what the store lacks. `cancel` is looked
    /// at some fifty times a second.
    ///
    /// # Errors
    /// See [`PullError`]. The store is then as it was.
    pub fn pull(
        &self,
        spec: &KernelSpec,
        apt: &AptSource,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &AtomicBool,
    ) -> Result<Kernel, PullError> {
        let Provider::Debian { suite, package } = &spec.provider else {
            let message = format!("kernel {} is no package: it is built here", spec.name);
            return Err(Diagnostic::usage(message).help("lab kernel build makes it").into());
        };
        let mut watch = Watch { progress, cancel };
        let (_turn, waited) = self.turn(spec, &mut watch)?;
        if waited && let Some(kernel) = self.find(spec)? {
            return Ok(kernel);
        }
        let work = self.workspace()?;
        let folder = work.folder.path();
        let resolved = debian::Resolved::new(apt, suite, package, spec.arch, folder, &mut watch)?;
        let key = resolved.key();
        let kernel = match self.open_entry(&key, spec)? {
            Some(kernel) => kernel,
            None => {
                let entry = folder.join("entry");
                std::fs::create_dir(&entry).map_err(|e| Diagnostic::io("make", &entry, &e))?;
                let made = resolved.make(folder, &entry, &mut watch)?;
                let _lease = record(&entry, &key, spec.arch, resolved.origin(), made)?;
                watch.check()?;
                self.install(&entry, &key, spec)?
            }
        };
        self.point(spec, &key)?;
        Ok(kernel)
    }

    /// Waits until nobody else pulls for this spec; also says whether there was a wait.
    pub(super) fn turn(
        &self,
        spec: &KernelSpec,
        watch: &mut Watch,
    ) -> Result<(Flock<File>, bool), PullError> {
        let path = self.by_spec(spec, "lock");
        let trouble = |e: &io::Error| Diagnostic::io("lock", &path, e);
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(&path).map_err(|e| trouble(&e))?;
        let mut waited = false;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(turn) => return Ok((turn, waited)),
                Err((back, Errno::EWOULDBLOCK)) => file = back,
                Err((_, errno)) => return Err(trouble(&errno.into()).into()),
            }
            if !waited {
                (watch.progress)(PullProgress::Waiting);
            }
            waited = true;
            watch.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A fresh temporary folder; those of crashed labs go first.
    pub(super) fn workspace(&self) -> Result<Workspace> {
        let _gate = self.gate()?;
        self.sweep()?;
        let make = || -> io::Result<Workspace> {
            let folder = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.root)?;
            File::create(folder.path().join("lock"))?;
            let lock = lock(folder.path(), FlockArg::LockExclusiveNonblock)?;
            let lock = lock.ok_or_else(|| io::Error::other("a new lock is taken"))?;
            Ok(Workspace { folder, _lock: lock })
        };
        make().map_err(|e| Diagnostic::io("work in", &self.root, &e))
    }

    /// Renames a finished entry into place. One that is there already is kept if it is sound.
    pub(super) fn install(
        &self,
        entry: &Path,
        key: &KernelKey,
        spec: &KernelSpec,
    ) -> Result<Kernel> {
        let target = self.root.join(key.as_str());
        if let Some(kernel) = self.open_entry(key, spec)? {
            return Ok(kernel);
        }
        {
            let _gate = self.gate()?;
            if target.exists() {
                self.discard(&target, None)?;
            }
            std::fs::rename(entry, &target).map_err(|e| Diagnostic::io("make", &target, &e))?;
        }
        self.open_entry(key, spec)?.ok_or_else(|| {
            Diagnostic::trouble(format!("the new kernel {} vanished from the store", spec.name))
        })
    }
}

/// Writes an entry's record and lock. The shared lock that it returns keeps other labs' sweeps away
/// until the index leads here.
pub(super) fn record(
    entry: &Path,
    key: &KernelKey,
    arch: Arch,
    origin: Origin,
    made: Made,
) -> Result<Flock<File>> {
    let io = |e: io::Error| Diagnostic::io("write", entry, &e);
    let mut files = vec!["boot".to_string(), "config".to_string()];
    if made.libraries {
        for item in std::fs::read_dir(entry.join("libraries")).map_err(io)? {
            files.push(format!("libraries/{}", item.map_err(io)?.file_name().to_string_lossy()));
        }
    }
    if made.modules {
        files.push(format!("modules/{}/modules.dep", made.release));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut record = Entry {
        format: FORMAT,
        key: key.clone(),
        arch,
        release: made.release,
        origin,
        libraries: made.libraries,
        modules: made.modules,
        bytes: disk_usage(entry).map_err(io)?,
        made: now.as_secs(),
        files: Vec::new(),
    };
    record.mark(entry, &files)?;
    record.write(entry)?;
    File::create(entry.join("lock")).map_err(io)?;
    // After a crash of the host, the name must not be there before the contents.
    nix::unistd::syncfs(File::open(entry).map_err(io)?).map_err(|e| io(e.into()))?;
    let lease = lock(entry, FlockArg::LockSharedNonblock).map_err(io)?;
    lease.ok_or_else(|| Diagnostic::trouble("a new kernel is locked by another lab"))
}

/// Fails unless the file system of `folder` has room for `bytes`.
pub(super) fn room_for(bytes: u64, folder: &Path) -> Result<()> {
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|e| Diagnostic::io("look at", folder, &e.into()))?;
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    if free >= bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let parent: PathBuf = folder.parent().unwrap_or(folder).to_path_buf();
    Err(Diagnostic::trouble(format!(
        "no room for the kernel: it needs {} MiB, and {} has {} MiB left",
        mib(bytes),
        parent.display(),
        mib(free)
    ))
    .help("free some room (lab kernel rm, lab gc), or point LAB_CACHE to a larger file system"))
}

impl PullError {
    /// As an error for people: trouble where the mirror has not got it (exit code 3).
    pub fn into_diagnostic(self) -> Diagnostic {
        match self {
            Self::Gone { suite, what } => Diagnostic::trouble(what).help(format!(
                "Debian moves old suites to an archive of their own: name a mirror that still \
                 carries {suite} in lab.toml ([debian] mirror = \"...\"), or use a newer kernel"
            )),
            Self::Interrupted => Diagnostic::trouble("interrupted"),
            Self::Patch(diagnostic) | Self::Compile(diagnostic) | Self::Other(diagnostic) => {
                diagnostic
            }
        }
    }
}

impl From<Diagnostic> for PullError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Other(diagnostic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_before_work_begins() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room_for(0, folder.path()).is_ok());
        let error = room_for(u64::MAX, folder.path()).unwrap_err();
        assert!(error.message().starts_with("no room for the kernel: it needs 17592186044416 MiB"));
    }

    #[test]
    fn what_crashes_leave_is_swept_and_what_is_in_use_is_not() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let running = store.workspace().unwrap();
        let crashed = store.root.join(".tmp-crashed");
        let orphan = store.root.join(KernelKey::of(&["orphan"]).as_str());
        let used = store.root.join(KernelKey::of(&["used"]).as_str());
        for folder in [&crashed, &orphan, &used] {
            std::fs::create_dir(folder).unwrap();
            File::create(folder.join("lock")).unwrap();
        }
        let lease = lock(&used, FlockArg::LockSharedNonblock).unwrap().unwrap();
        let next = store.workspace().unwrap();
        assert!(running.folder.path().exists() && next.folder.path().exists() && used.exists());
        assert!(!crashed.exists() && !orphan.exists());

        // Renamed away under a user: out of sight at once, deleted when the user is done.
        store.discard(&used, None).unwrap();
        let aside = |store: &Store| {
            let items = std::fs::read_dir(&store.root).unwrap().flatten();
            items.filter(|i| i.file_name().to_string_lossy().starts_with(TEMPORARY)).count()
        };
        assert!(!used.exists());
        assert_eq!(aside(&store), 3, "two workspaces and what is in use");
        drop((lease, running, next));
        drop(store.workspace().unwrap());
        assert_eq!(aside(&store), 0);
    }
}
