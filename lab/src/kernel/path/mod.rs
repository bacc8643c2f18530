//! The `path` provider: kernels that the user has, used where they are. Nothing of the user's is
//! written; what a guest needs beside them (a module tree with its index, a configuration) is made in
//! the cache.
//!
//! ```text
//! path/KEY/{lock, config, modules/RELEASE/}   of one state of a tree; KEY is made of stamps
//! path/last-DIGEST                            the key of the last state of a path
//! ```

mod boot;
mod built;
pub(super) mod packed;
#[cfg(test)]
mod tests;

pub use built::detect_tree;

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use nix::fcntl::{Flock, FlockArg};

use super::entry::write_whole;
use super::source::{describe, missing, no_room};
use super::store::{TEMPORARY, lock};
use super::tool::Watch;
use super::{Arch, Kernel, KernelKey, Origin, PullError, index_modules};
use crate::manifest::{Diagnostic, Result};
use boot::Boot;
use built::Built;
use packed::Packed;

/// Opens kernels that the user has.
#[derive(Clone, Debug)]
pub struct PathKernels {
    pub(super) root: PathBuf,
}

/// What a path turned out to be.
struct Found {
    arch: Arch,
    boot: PathBuf,
    release: String,
    /// To be copied into a module tree.
    modules: Vec<(PathBuf, PathBuf)>,
    /// A module tree that is there already.
    tree: Option<PathBuf>,
    libraries: Option<PathBuf>,
    config: Config,
    origin: Origin,
}

/// Where a configuration is.
enum Config {
    /// In this file of the user.
    File(PathBuf),
    /// In the program itself.
    Program,
    /// Nobody knows it.
    Unknown,
}

impl PathKernels {
    /// Opens the part of a cache folder that is for them.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("path");
        std::fs::create_dir_all(&root).map_err(|e| {
            Diagnostic::io("make", &root, &e).help("LAB_CACHE names the folder for the cache")
        })?;
        let root = root.canonicalize().map_err(|e| Diagnostic::io("find", &root, &e))?;
        Ok(Self { root })
    }

    /// The kernel at `path`: a built tree (in place or of O=), or a boot file. `arch`: what it has to
    /// be, where the manifest says so. Always looks: what was built a moment ago is what boots.
    ///
    /// # Errors
    /// It is not a kernel, or not built: with the command that builds it.
    pub fn kernel(
        &self,
        name: &str,
        path: &Path,
        arch: Option<Arch>,
        cmdline: &[String],
        cancel: &AtomicBool,
    ) -> Result<Kernel, PullError> {
        let mut watch = Watch { progress: &mut |_| {}, cancel };
        let path = path.canonicalize().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => missing(path),
            _ => Diagnostic::io("find", path, &e),
        })?;
        let found = match (path.is_dir(), Packed::read(&path)) {
            (_, Some(packed)) => packed.found(&path)?,
            (true, None) => tree(path.clone(), &mut watch)?,
            (false, None) => file(path.clone(), &mut watch)?,
        };
        if let Some(wanted) = arch
            && wanted != found.arch
        {
            let word = |arch| if arch == Arch::Um { "um" } else { "x86_64" };
            let (is, not) = (word(found.arch), word(wanted));
            let message = format!("kernel {name}: {} is for {is}, not {not}", path.display());
            return Err(Diagnostic::usage(message)
                .help(format!("write arch = \"{is}\", or leave `arch` away"))
                .into());
        }
        let key = found.key(&path)?;
        let folder = self.root.join(key.as_str());
        let lease = match shared(&folder) {
            Some(lease) => lease,
            None => self.make(&found, &path, &key, &folder, &mut watch)?,
        };
        Ok(Kernel {
            name: name.to_string(),
            key,
            arch: found.arch,
            boot: found.boot,
            libraries: found.libraries,
            modules: match found.modules.is_empty() {
                true => found.tree,
                false => Some(folder.join("modules").join(&found.release)),
            },
            release: found.release,
            cmdline: cmdline.to_vec(),
            origin: found.origin,
            config_file: folder.join("config"),
            config: OnceLock::new(),
            _lease: Arc::new(lease),
        })
    }

    /// Where the key of a path's last state stands.
    pub(super) fn last_file(&self, path: &Path) -> PathBuf {
        self.root.join(format!("last-{}", KernelKey::of(&[&path.to_string_lossy()])))
    }

    /// Makes what lies in the cache for one state of a path; that of its last state goes.
    fn make(
        &self,
        found: &Found,
        path: &Path,
        key: &KernelKey,
        folder: &Path,
        watch: &mut Watch,
    ) -> Result<Flock<File>, PullError> {
        let last_file = self.last_file(path);
        let last = std::fs::read_to_string(&last_file).ok().map(|text| self.root.join(text.trim()));
        let last = last.filter(|last| last != folder && last.parent() == Some(&self.root));
        let io = |e: io::Error| no_room(&e, Diagnostic::io("work in", &self.root, &e));
        let work = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.root).map_err(io)?;
        // Held from the start: a free one proves that the lab that made it is dead.
        File::create(work.path().join("lock")).map_err(io)?;
        let _alive = shared(work.path());
        match &found.config {
            Config::File(file) => {
                let copied =
                    std::fs::read(file).and_then(|t| std::fs::write(work.path().join("config"), t));
                copied.map_err(|e| Diagnostic::io("read", file, &e))?;
            }
            Config::Program => {
                let mut show = Command::new(&found.boot);
                show.arg("--showconfig");
                let text = watch
                    .must(show, &format!("ask {} for its configuration", found.boot.display()))?;
                std::fs::write(work.path().join("config"), text).map_err(io)?;
            }
            Config::Unknown => {
                std::fs::write(work.path().join("config"), "# not known\n").map_err(io)?;
            }
        }
        if !found.modules.is_empty() {
            let modules = work.path().join("modules").join(&found.release);
            let old = last.as_ref().map(|last| last.join("modules").join(&found.release));
            for (from, name) in &found.modules {
                watch.check()?;
                let copied = copy_module(from, name, &modules, old.as_deref());
                copied.map_err(|e| no_room(&e, Diagnostic::io("copy", from, &e)))?;
            }
            let builtin = path.join("modules.builtin");
            if builtin.is_file() {
                let _ = std::fs::copy(builtin, modules.join("modules.builtin"));
            }
            index_modules(&modules)?;
        }
        let lease = loop {
            match std::fs::rename(work.path(), folder) {
                Ok(()) => {}
                // Another lab was faster; or what is there is broken.
                Err(_) if folder.exists() => {
                    if let Some(lease) = shared(folder) {
                        break lease;
                    }
                    std::fs::remove_dir_all(folder).map_err(io)?;
                    continue;
                }
                Err(e) => return Err(io(e).into()),
            }
            if let Some(lease) = shared(folder) {
                break lease;
            }
            return Err(Diagnostic::trouble(format!("{} vanished", folder.display())).into());
        };
        write_whole(&last_file, key.as_str().as_bytes())?;
        if let Some(last) = last
            && let Ok(Some(_held)) = lock(&last, FlockArg::LockExclusiveNonblock)
        {
            // In use it stays, until somebody cleans the cache.
            let _ = std::fs::remove_dir_all(&last);
        }
        Ok(lease)
    }
}

impl Found {
    /// A digest of everything that decides what boots: paths and stamps, no contents.
    fn key(&self, path: &Path) -> Result<KernelKey> {
        let mut parts =
            vec!["path 1".to_string(), path.to_string_lossy().into_owned(), self.release.clone()];
        let mut files = vec![&self.boot];
        if let Config::File(config) = &self.config {
            files.push(config);
        }
        files.extend(self.modules.iter().map(|(file, _)| file));
        for file in files {
            let meta = file.metadata().map_err(|e| Diagnostic::io("read", file, &e))?;
            let (mtime, ctime) =
                ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
            parts.push(format!("{} {} {mtime:?} {ctime:?}", file.display(), meta.size()));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(KernelKey::of(&parts))
    }
}

fn tree(path: PathBuf, watch: &mut Watch) -> Result<Found, PullError> {
    let built = Built::of(&path)?;
    runs(&built.boot, built.arch)?;
    let git = describe(&built.source(), watch);
    watch.check()?;
    Ok(Found {
        arch: built.arch,
        boot: built.boot,
        release: built.release,
        modules: built.modules,
        tree: None,
        libraries: None,
        config: Config::File(path.join(".config")),
        origin: Origin::Path { path, git },
    })
}

fn file(path: PathBuf, watch: &mut Watch) -> Result<Found, PullError> {
    let boot = Boot::of(&path)?;
    let arch = boot.arch();
    runs(&path, arch)?;
    let (release, config) = match boot {
        Boot::Uml => {
            let mut version = Command::new(&path);
            version.arg("--version");
            let said = watch.must(version, &format!("ask {} for its release", path.display()))?;
            (said.trim().to_string(), Config::Program)
        }
        Boot::BzImage(release) => {
            let beside = path.with_file_name(format!("config-{release}"));
            let tree = path.ancestors().nth(4).map(|tree| tree.join(".config"));
            let in_tree = path.ends_with("arch/x86/boot/bzImage");
            let places = [Some(beside), tree.filter(|_| in_tree)];
            let config = places.into_iter().flatten().find(|file| file.is_file());
            (release, config.map_or(Config::Unknown, Config::File))
        }
    };
    let origin = Origin::Path { path: path.clone(), git: None };
    let modules = Vec::new();
    Ok(Found { arch, boot: path, release, modules, tree: None, libraries: None, config, origin })
}

/// A program must be executable, whoever copied it.
fn runs(boot: &Path, arch: Arch) -> Result<()> {
    let mode = boot.metadata().map_err(|e| Diagnostic::io("read", boot, &e))?.permissions().mode();
    match arch == Arch::Um && mode & 0o111 == 0 {
        true => Err(Diagnostic::usage(format!("{} is not executable", boot.display()))
            .help(format!("chmod +x {}", boot.display()))),
        false => Ok(()),
    }
}

/// Copies a module, or takes the copy of the last state where that is the same (ours alone, and
/// never written to). The time goes along: it tells them apart the next time.
fn copy_module(from: &Path, name: &Path, modules: &Path, old: Option<&Path>) -> io::Result<()> {
    let to = modules.join("kernel").join(name);
    std::fs::create_dir_all(to.parent().unwrap_or(modules))?;
    let meta = from.metadata()?;
    if let Some(old) = old.map(|old| old.join("kernel").join(name))
        && let Ok(before) = old.metadata()
        && before.len() == meta.len()
        && (before.mtime(), before.mtime_nsec()) == (meta.mtime(), meta.mtime_nsec())
        && std::fs::hard_link(&old, &to).is_ok()
    {
        return Ok(());
    }
    std::fs::copy(from, &to)?;
    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644))?;
    File::options().write(true).open(&to)?.set_modified(meta.modified()?)
}

/// A shared lock on what was made before, if it is there and whole.
fn shared(folder: &Path) -> Option<Flock<File>> {
    lock(folder, FlockArg::LockSharedNonblock).ok().flatten()
}
