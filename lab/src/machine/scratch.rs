//! The folder of a run for mount points and sockets, in the host's folder for temporary files: it
//! goes with its owner, and what a killed owner left goes with the next lab.
//!
//! ```text
//! TMPDIR/lab-PID.XXXXXX/lock    held for life: a free lock proves that the owner is dead
//! ```
//! Between the making of the folder and of its lock it is empty; a sweep may then remove it, and its
//! maker makes another. So no age and no process number has to be believed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::kernel::lock_folder;
use crate::manifest::{Diagnostic, Result};

/// A folder for what lives only as long as a machine. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    _lock: Flock<File>,
}

/// What every scratch folder's name begins with.
const PREFIX: &str = "lab-";

impl Scratch {
    /// Makes one in `runtime`.
    ///
    /// # Errors
    /// The folder or its lock cannot be made.
    pub fn create(runtime: &Path) -> Result<Self> {
        let prefix = format!("{PREFIX}{}.", std::process::id());
        let io = |e: io::Error| Diagnostic::io("make a folder in", runtime, &e);
        loop {
            let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(runtime);
            let path = folder.map_err(io)?.keep();
            let locked = File::create(path.join("lock"))
                .and_then(|_| lock_folder(&path, FlockArg::LockExclusiveNonblock));
            match locked {
                Ok(Some(lock)) => return Ok(Self { path, _lock: lock }),
                // Swept by another lab before the lock was ours; or it is at that, and the folder
                // outlives its lock for a moment.
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    let _ = std::fs::remove_dir_all(&path);
                    return Err(io(e));
                }
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it.
    ///
    /// # Errors
    /// Something in it cannot be removed.
    pub fn close(self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            // A sweep took it when it was empty already.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// The folders in `runtime` that this user's killed labs left. A folder that cannot be read holds
/// none: this is a look, not a check.
pub fn abandoned(runtime: &Path) -> Vec<PathBuf> {
    let me = nix::unistd::geteuid().as_raw();
    let mut found = Vec::new();
    for item in std::fs::read_dir(runtime).into_iter().flatten().flatten() {
        if !item.file_name().to_str().is_some_and(is_name) {
            continue;
        }
        let path = item.path();
        // Not through a link: anybody may make one in /tmp.
        let mine = path.symlink_metadata().is_ok_and(|meta| meta.is_dir() && meta.uid() == me);
        if mine && is_free(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Removes a folder that [`abandoned`] found; false where it is in use or gone after all.
pub fn remove_abandoned(path: &Path) -> bool {
    // Empty: its owner died, or another lab is just making it and will make another.
    if std::fs::remove_dir(path).is_ok() {
        return true;
    }
    match lock_folder(path, FlockArg::LockExclusiveNonblock) {
        Ok(Some(_held)) => std::fs::remove_dir_all(path).is_ok(),
        _ => false,
    }
}

/// `lab-PID.XXXXXX`, as [`Scratch::create`] names them: nobody's notes are called so.
fn is_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).is_some_and(|(pid, random)| {
        !pid.is_empty()
            && pid.bytes().all(|b| b.is_ascii_digit())
            && random.len() == 6
            && random.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

fn is_free(path: &Path) -> bool {
    match lock_folder(path, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock.is_some(),
        // A folder with something in it and no lock is not one of ours.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::read_dir(path).is_ok_and(|mut items| items.next().is_none())
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a killed lab leaves: the folder, and a lock that nobody holds.
    fn left(runtime: &Path, name: &str) -> PathBuf {
        let path = runtime.join(name);
        std::fs::create_dir_all(path.join("state/x")).unwrap();
        File::create(path.join("lock")).unwrap();
        path
    }

    #[test]
    fn what_dead_labs_left_goes_and_nothing_else() {
        let runtime = tempfile::tempdir().unwrap();
        let at = |name: &str| runtime.path().join(name);
        let alive = Scratch::create(runtime.path()).unwrap();
        std::fs::create_dir(alive.path().join("root")).unwrap();
        let dead = left(runtime.path(), "lab-123.aB3dEf");
        let unfinished = at("lab-124.aB3dEf");
        std::fs::create_dir(&unfinished).unwrap();
        // Somebody's own: another name, no lock, a file, a link to a folder of the right shape.
        for name in ["lab-report", "lab-12.notes", "lab-x.aB3dEf", "lab-12.aB3d-f"] {
            left(runtime.path(), name);
        }
        std::fs::create_dir_all(at("lab-125.aB3dEf/notes")).unwrap();
        File::create(at("lab-126.aB3dEf")).unwrap();
        std::os::unix::fs::symlink(at("lab-report"), at("lab-127.aB3dEf")).unwrap();

        assert_eq!(abandoned(runtime.path()), [dead.clone(), unfinished.clone()]);
        assert!(!remove_abandoned(alive.path()) && alive.path().join("root").is_dir());
        assert!(remove_abandoned(&dead) && remove_abandoned(&unfinished));
        assert!(!dead.exists() && !unfinished.exists() && !remove_abandoned(&dead));
        assert_eq!(abandoned(runtime.path()), [] as [PathBuf; 0]);
        for name in ["lab-report/lock", "lab-12.notes/lock", "lab-125.aB3dEf/notes"] {
            assert!(at(name).exists(), "{name}");
        }
        let path = alive.path().to_path_buf();
        alive.close().unwrap();
        assert!(!path.exists());
        assert_eq!(abandoned(&at("nowhere")), [] as [PathBuf; 0]);
    }

    /// Makers and sweepers at once: nobody loses a folder that is theirs.
    #[test]
    fn a_sweep_never_takes_what_is_being_made() {
        let runtime = tempfile::tempdir().unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for path in abandoned(runtime.path()) {
                            remove_abandoned(&path);
                        }
                    }
                });
            }
            let makers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let scratch = Scratch::create(runtime.path()).unwrap();
                            std::fs::write(scratch.path().join("mine"), "x").unwrap();
                            assert!(scratch.path().join("lock").exists());
                            scratch.close().unwrap();
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = makers.into_iter().map(|maker| maker.join()).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            ended.into_iter().for_each(|end| end.unwrap());
        });
        assert_eq!(std::fs::read_dir(runtime.path()).unwrap().count(), 0);
    }
}
