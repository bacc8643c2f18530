//! The kernel store: `kernels/` in the cache. Kernels lie under their key, made elsewhere and
//! renamed into place; an index leads from what a manifest asks for to a key. Locks only save work
//! and keep kernels that are in use: a crash at any point leaves nothing that a later look
//! mistakes for a kernel.
//!
//! ```text
//! kernels/KEY/{kernel.json, lock, boot, config, vmlinux, libraries/, modules/RELEASE/}
//! kernels/by-spec/DIGEST.{json, lock}    what was asked for and its key; held while it is pulled
//! kernels/.tmp-*/lock                    work in progress, or what is left of it
//! kernels/.gate                          held while temporary folders come and go
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, FORMAT, Health, Origin, disk_usage, write_whole};
use super::{Arch, Kernel, KernelKey, KernelSpec, Provider};
use crate::manifest::{Diagnostic, Result};

/// The kernels in a cache. Cheap to open; any number of labs may use the same one.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) root: PathBuf,
}

/// What [`Store::list`] tells of a kernel.
#[derive(Clone, Debug)]
pub struct StoredKernel {
    /// What the store knows it by.
    pub key: KernelKey,
    /// Its architecture.
    pub arch: Arch,
    /// What `uname -r` says in the guest.
    pub release: String,
    /// Where it came from.
    pub origin: Origin,
    /// What manifests ask for when they get this one; empty: it is left over.
    pub wanted_as: Vec<Provider>,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was made.
    pub made: SystemTime,
    /// When a run last used it, or when it was made.
    pub used: SystemTime,
    /// A lab is using it now.
    pub in_use: bool,
}

/// `by-spec/DIGEST.json`.
#[derive(Serialize, Deserialize)]
struct Pointer {
    format: u32,
    arch: Arch,
    provider: Provider,
    key: KernelKey,
}

/// Every temporary folder's name begins so.
pub(super) const TEMPORARY: &str = ".tmp-";

impl Store {
    /// Opens the store of a cache folder, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("kernels");
        let index = root.join("by-spec");
        std::fs::create_dir_all(&index).map_err(|e| {
            Diagnostic::io("make", &index, &e).help("LAB_CACHE names the folder for the cache")
        })?;
        // Programs get these paths and run elsewhere.
        let root = root.canonicalize().map_err(|e| Diagnostic::io("find", &root, &e))?;
        Ok(Self { root })
    }

    /// The kernel that a spec asks for, if it is here. Starts no process and reads no large file,
    /// unless a file's time changed: then its digest decides, and a damaged kernel is dropped.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn find(&self, spec: &KernelSpec) -> Result<Option<Kernel>> {
        match self.pointer(spec)? {
            Some(pointer) => self.open_entry(&pointer.key, spec),
            None => Ok(None),
        }
    }

    /// The key that a spec leads to, without a look at the kernel.
    pub(super) fn key_of(&self, spec: &KernelSpec) -> Result<Option<KernelKey>> {
        Ok(self.pointer(spec)?.map(|pointer| pointer.key))
    }

    /// Every kernel in the store, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<StoredKernel>> {
        let pointers = self.pointers()?;
        let mut kernels = Vec::new();
        for folder in self.folders(|name| !name.starts_with('.'))? {
            let Some(entry) = Entry::read(&folder) else { continue };
            let wanted = pointers.iter().filter(|(_, p)| p.key == entry.key);
            kernels.push(StoredKernel {
                used: used(&folder),
                wanted_as: wanted.map(|(_, pointer)| pointer.provider.clone()).collect(),
                in_use: matches!(lock(&folder, FlockArg::LockExclusiveNonblock), Ok(None)),
                made: SystemTime::UNIX_EPOCH + Duration::from_secs(entry.made),
                key: entry.key,
                arch: entry.arch,
                release: entry.release,
                origin: entry.origin,
                bytes: entry.bytes,
            });
        }
        kernels.sort_by(|a, b| (a.made, &a.key).cmp(&(b.made, &b.key)));
        Ok(kernels)
    }

    /// Forgets the kernel that a spec asks for (of one built here: every state of it), and deletes it
    /// unless another spec leads to the same one. Returns the bytes freed: 0 where there was nothing.
    ///
    /// # Errors
    /// A running lab uses it; or the store cannot be written.
    pub fn remove(&self, spec: &KernelSpec) -> Result<u64> {
        let _gate = self.gate()?;
        let asks = |p: &Pointer| p.arch == spec.arch && p.provider.same_wish(&spec.provider);
        let (mine, others): (Vec<_>, Vec<_>) =
            self.pointers()?.into_iter().partition(|(_, pointer)| asks(pointer));
        let mut bytes = 0;
        for (file, pointer) in mine {
            let folder = self.root.join(pointer.key.as_str());
            let held = match lock(&folder, FlockArg::LockExclusiveNonblock) {
                Ok(Some(held)) => Some(held),
                Ok(None) => {
                    let message = format!("the kernel {} is in use by a running lab", spec.name);
                    return Err(Diagnostic::trouble(message).help("end that one first"));
                }
                // The folder is already gone.
                Err(_) => None,
            };
            std::fs::remove_file(&file).map_err(|e| Diagnostic::io("remove", &file, &e))?;
            if held.is_some() && !others.iter().any(|(_, other)| other.key == pointer.key) {
                bytes += disk_usage(&folder).unwrap_or(0);
                self.discard(&folder, held)?;
            }
        }
        Ok(bytes)
    }

    /// Deletes a kernel, whatever asks for it; the bytes freed, 0 where a running lab uses it or it is
    /// not there.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn remove_key(&self, key: &KernelKey) -> Result<u64> {
        let _gate = self.gate()?;
        let folder = self.root.join(key.as_str());
        let Ok(Some(held)) = lock(&folder, FlockArg::LockExclusiveNonblock) else { return Ok(0) };
        for (file, pointer) in self.pointers()? {
            if pointer.key == *key {
                std::fs::remove_file(&file).map_err(|e| Diagnostic::io("remove", &file, &e))?;
            }
        }
        let bytes = disk_usage(&folder).unwrap_or(0);
        self.discard(&folder, Some(held))?;
        Ok(bytes)
    }

    /// Opens an entry with a lease on it; `None` if it is not there, on its way out, or damaged
    /// (and is then dropped).
    pub(super) fn open_entry(&self, key: &KernelKey, spec: &KernelSpec) -> Result<Option<Kernel>> {
        let folder = self.root.join(key.as_str());
        // Waits: who looks at a list holds the other lock for a moment.
        let lease = match lock(&folder, FlockArg::LockShared) {
            Ok(Some(lease)) => lease,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !folder.exists() => return Ok(None),
            // A folder without its lock is no kernel.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.drop_damaged(&folder),
            Err(e) => return Err(Diagnostic::io("lock", &folder, &e)),
        };
        let Some(mut entry) = Entry::read(&folder).filter(|entry| entry.key == *key) else {
            drop(lease);
            return self.drop_damaged(&folder);
        };
        match entry.health(&folder) {
            Health::Good => {}
            Health::Touched => {
                // Only to be faster the next time: a read-only cache is still a good one.
                let _ = entry.remark(&folder).and_then(|()| entry.write(&folder));
            }
            Health::Damaged => {
                drop(lease);
                return self.drop_damaged(&folder);
            }
        }
        Ok(Some(Kernel {
            name: spec.name.clone(),
            arch: entry.arch,
            boot: folder.join("boot"),
            libraries: entry.libraries.then(|| folder.join("libraries")),
            modules: entry.modules.then(|| folder.join("modules").join(&entry.release)),
            cmdline: spec.cmdline.clone(),
            config_file: folder.join("config"),
            config: OnceLock::new(),
            release: entry.release,
            origin: entry.origin,
            key: entry.key,
            _lease: Arc::new(lease),
        }))
    }

    fn drop_damaged(&self, folder: &Path) -> Result<Option<Kernel>> {
        tracing::warn!(folder = %folder.display(), "a damaged kernel is dropped from the store");
        let _gate = self.gate()?;
        self.discard(folder, None)?;
        Ok(None)
    }

    /// Takes an entry out of sight at once, and deletes it unless somebody still uses it (then the
    /// next pull's [`Store::sweep`] does). `held` is the caller's own lock on it. Call with the gate
    /// held.
    pub(super) fn discard(&self, folder: &Path, held: Option<Flock<File>>) -> Result<()> {
        let io = |e: io::Error| Diagnostic::io("remove", folder, &e);
        let aside =
            tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.root).map_err(io)?.keep();
        match std::fs::rename(folder, &aside) {
            Ok(()) => {}
            // Somebody was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io(e)),
        }
        drop(held);
        delete_if_free(&aside);
        Ok(())
    }

    /// Deletes what interrupted pulls left, and kernels that no spec leads to any more. Call with
    /// the gate held.
    pub(super) fn sweep(&self) -> Result<()> {
        for folder in self.folders(|name| name.starts_with(TEMPORARY))? {
            delete_if_free(&folder);
        }
        let pointers = self.pointers()?;
        for folder in self.folders(|name| !name.starts_with('.') && name != "by-spec")? {
            let wanted = |key: &str| pointers.iter().any(|(_, p)| p.key.as_str() == key);
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if wanted(&name) {
                continue;
            }
            if let Ok(Some(held)) = lock(&folder, FlockArg::LockExclusiveNonblock) {
                self.discard(&folder, Some(held))?;
            }
        }
        Ok(())
    }

    /// Makes `spec` lead to `key`.
    pub(super) fn point(&self, spec: &KernelSpec, key: &KernelKey) -> Result<()> {
        let (arch, provider) = (spec.arch, spec.provider.clone());
        let pointer = Pointer { format: FORMAT, arch, provider, key: key.clone() };
        let text = serde_json::to_vec_pretty(&pointer).expect("a pointer is plain data");
        write_whole(&self.by_spec(spec, "json"), &text)
    }

    /// Serialises the short moments in which folders change their names.
    pub(super) fn gate(&self) -> Result<Flock<File>> {
        let path = self.root.join(".gate");
        let open = || -> io::Result<Flock<File>> {
            let options = OpenOptions::new().create(true).append(true).open(&path)?;
            Flock::lock(options, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
        };
        open().map_err(|e| Diagnostic::io("lock", &path, &e))
    }

    /// A file of the index: what is asked for decides, not by which name or with which command
    /// line.
    pub(super) fn by_spec(&self, spec: &KernelSpec, extension: &str) -> PathBuf {
        let wanted = serde_json::to_string(&(spec.arch, &spec.provider)).expect("plain data");
        let digest = KernelKey::of(&[&wanted]);
        self.root.join("by-spec").join(format!("{digest}.{extension}"))
    }

    fn pointer(&self, spec: &KernelSpec) -> Result<Option<Pointer>> {
        read_pointer(&self.by_spec(spec, "json"))
    }

    fn pointers(&self) -> Result<Vec<(PathBuf, Pointer)>> {
        let folder = self.root.join("by-spec");
        let io = |e| Diagnostic::io("read", &folder, &e);
        let mut pointers = Vec::new();
        for item in std::fs::read_dir(&folder).map_err(io)? {
            let path = item.map_err(io)?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(pointer) = read_pointer(&path)?
            {
                pointers.push((path, pointer));
            }
        }
        Ok(pointers)
    }

    fn folders(&self, named: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        let io = |e| Diagnostic::io("read", &self.root, &e);
        let mut folders = Vec::new();
        for item in std::fs::read_dir(&self.root).map_err(io)? {
            let item = item.map_err(io)?;
            if item.path().is_dir() && named(&item.file_name().to_string_lossy()) {
                folders.push(item.path());
            }
        }
        Ok(folders)
    }
}

/// An index file that is not one leads nowhere, and the next pull replaces it.
fn read_pointer(path: &Path) -> Result<Option<Pointer>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Diagnostic::io("read", path, &e)),
    };
    let pointer: Option<Pointer> = serde_json::from_slice(&text).ok();
    Ok(pointer.filter(|pointer| pointer.format == FORMAT && pointer.key.is_sound()))
}

/// Locks an entry or a temporary folder by the file `lock` in it; `None` if another has it, or if
/// the folder was renamed away before the lock was ours.
pub(crate) fn lock(folder: &Path, how: FlockArg) -> io::Result<Option<Flock<File>>> {
    let path = folder.join("lock");
    let file = File::open(&path)?;
    let lock = match Flock::lock(file, how) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(errno.into()),
    };
    let (mine, there) = (lock.metadata()?, path.metadata());
    let same = there.is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino()));
    Ok(same.then_some(lock))
}

/// When a locked folder was last used: its lock carries the time, see [`Kernel::mark_used`].
pub(super) fn used(folder: &Path) -> SystemTime {
    let lock = folder.join("lock").metadata().and_then(|meta| meta.modified());
    lock.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Deletes a locked folder `name` of `root` unless somebody uses it: the bytes freed; `None` where it
/// is in use or not there. Out of sight first: half of it under its own name would be taken for
/// whole.
pub(super) fn remove_locked(root: &Path, name: &str) -> Result<Option<u64>> {
    let folder = root.join(name);
    let Ok(Some(_held)) = lock(&folder, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    let bytes = disk_usage(&folder).unwrap_or(0);
    let aside = root.join(format!("{TEMPORARY}{name}"));
    let _ = std::fs::remove_dir_all(&aside);
    std::fs::rename(&folder, &aside).map_err(|e| Diagnostic::io("remove", &folder, &e))?;
    std::fs::remove_dir_all(&aside).map_err(|e| Diagnostic::io("remove", &aside, &e))?;
    Ok(Some(bytes))
}

/// Deletes a folder that nobody has locked. What cannot be deleted now can be at the next pull.
fn delete_if_free(folder: &Path) {
    match lock(folder, FlockArg::LockExclusiveNonblock) {
        Ok(None) => {}
        // The gate is held: a folder without a lock is not a new one, it is a broken one.
        Ok(Some(_)) | Err(_) => {
            if let Err(error) = std::fs::remove_dir_all(folder) {
                tracing::debug!(folder = %folder.display(), %error, "left for the next pull");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_or_mangled_store_holds_nothing() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let provider = Provider::Debian { suite: "bookworm".into(), package: "p".into() };
        let spec =
            KernelSpec { name: "k".into(), arch: Arch::Um, provider, cmdline: vec![], asked: None };
        assert!(store.find(&spec).unwrap().is_none());
        assert!(store.list().unwrap().is_empty());
        assert_eq!(store.remove(&spec).unwrap(), 0);

        let key = KernelKey::of(&["k"]);
        store.point(&spec, &key).unwrap();
        assert!(store.find(&spec).unwrap().is_none(), "it leads to nothing");
        let folder = store.root.join(key.as_str());
        std::fs::create_dir(&folder).unwrap();
        File::create(folder.join("lock")).unwrap();
        assert!(store.find(&spec).unwrap().is_none(), "a folder without a record");
        assert!(!folder.exists());

        std::fs::write(store.by_spec(&spec, "json"), "{\"key\": \"../..\"}").unwrap();
        assert!(store.find(&spec).unwrap().is_none(), "an index file that is not one");
    }

    #[test]
    fn removing_a_kernel_removes_every_state_of_it_and_no_variant() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let built = |config: &[&str], inputs: Option<&str>| {
            let provider = Provider::Source {
                source: "/linux".into(),
                kconfig: vec!["uml".into()],
                patches: vec![],
                config: config.iter().map(ToString::to_string).collect(),
                modules: vec![],
                inputs: inputs.map(String::from),
            };
            KernelSpec { name: "k".into(), arch: Arch::Um, provider, cmdline: vec![], asked: None }
        };
        let keep = |spec: &KernelSpec, key: &str| {
            let key = KernelKey::of(&[key]);
            let folder = store.root.join(key.as_str());
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("boot"), "x").unwrap();
            File::create(folder.join("lock")).unwrap();
            store.point(spec, &key).unwrap();
            folder
        };
        let (old, new) = (built(&[], Some("1")), built(&[], Some("2")));
        let gone = [keep(&old, "old"), keep(&new, "new")];
        let shared = keep(&built(&[], Some("3")), "shared");
        keep(&built(&["KASAN=y"], Some("4")), "shared");
        let variant = keep(&built(&["KASAN=y"], Some("5")), "variant");
        assert!(store.remove(&built(&[], None)).unwrap() > 0);
        assert!(gone.iter().all(|folder| !folder.exists()));
        assert!(shared.exists() && variant.exists());
        assert_eq!(store.pointers().unwrap().len(), 2);
        assert_eq!(store.remove(&built(&[], None)).unwrap(), 0);
    }

    #[test]
    fn a_name_and_a_command_line_make_no_other_kernel() {
        let cache = tempfile::tempdir().unwrap();
        let store = Store::open(cache.path()).unwrap();
        let spec = |name: &str, suite: &str, arch| {
            let provider = Provider::Debian { suite: suite.into(), package: "p".into() };
            let spec = KernelSpec {
                name: name.into(),
                arch,
                provider,
                cmdline: vec![name.into()],
                asked: None,
            };
            store.by_spec(&spec, "json")
        };
        assert_eq!(spec("a", "bookworm", Arch::Um), spec("b", "bookworm", Arch::Um));
        assert_ne!(spec("a", "bookworm", Arch::Um), spec("a", "trixie", Arch::Um));
        assert_ne!(spec("a", "bookworm", Arch::Um), spec("a", "bookworm", Arch::X86_64));
    }
}
