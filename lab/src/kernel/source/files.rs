//! The files of a source folder with their stamps: what is asked at every run, so it reads no
//! contents.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use super::super::PullError;
use super::super::tool::Watch;
use super::{git, products};
use crate::manifest::Diagnostic;

/// One file of a source folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Relative to the source.
    pub path: PathBuf,
    pub stamp: Stamp,
}

/// What lstat(2) says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub mtime: i64,
    /// Nanoseconds since the epoch; 0 where the file changed so shortly before it was looked at
    /// that another change may hide behind the same time.
    pub ctime: i64,
    /// Somebody may execute it.
    pub executable: bool,
    /// A symbolic link.
    pub link: bool,
}

/// What a source folder holds.
#[derive(Clone, Debug)]
pub(super) struct Listing {
    /// Sorted by path.
    pub files: Vec<Found>,
    /// git said what belongs to it.
    pub checkout: bool,
}

/// File systems stamp with a clock that ticks at least this often.
const TICK: i64 = 20_000_000;

impl Stamp {
    fn of(meta: &Metadata, now: i64) -> Self {
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        let ctime = ns(meta.ctime(), meta.ctime_nsec());
        Self {
            size: meta.size(),
            mtime: ns(meta.mtime(), meta.mtime_nsec()),
            ctime: if ctime + TICK > now { 0 } else { ctime },
            executable: meta.permissions().mode() & 0o111 != 0,
            link: meta.file_type().is_symlink(),
        }
    }
}

/// Lists a source: by git where it is a checkout, else by a walk; what a build left is passed over.
pub(super) fn list(root: &Path, watch: &mut Watch) -> Result<Listing, PullError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
    let listed = git::files(root, watch)?;
    let checkout = listed.is_some();
    let mut files = match listed {
        Some(paths) => of_git(root, paths, now)?,
        None => walk(root, now).map_err(|(path, e)| Diagnostic::io("read", &path, &e))?,
    };
    watch.check()?;
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(Listing { files, checkout })
}

/// Everything below `root` that is not a build's product, in no order.
pub(super) fn walk(root: &Path, now: i64) -> Result<Vec<Found>, (PathBuf, io::Error)> {
    let built_in = products::was_built_in(root);
    // Folders that nobody has read yet, and how many are being read: more may come of those.
    let pending = Mutex::new((vec![PathBuf::new()], 0_usize));
    let work = || -> Result<Vec<Found>, (PathBuf, io::Error)> {
        let mut files = Vec::with_capacity(1 << 14);
        loop {
            let folder = {
                let mut pending = pending.lock().unwrap_or_else(|broken| broken.into_inner());
                match pending.0.pop() {
                    Some(folder) => {
                        pending.1 += 1;
                        folder
                    }
                    None if pending.1 == 0 => return Ok(files),
                    None => {
                        drop(pending);
                        std::thread::yield_now();
                        continue;
                    }
                }
            };
            let mut below = Vec::new();
            let read = read_folder(root, &folder, (built_in, now), &mut files, &mut below);
            let mut pending = pending.lock().unwrap_or_else(|broken| broken.into_inner());
            pending.1 -= 1;
            match read {
                Ok(()) => pending.0.append(&mut below),
                Err(error) => {
                    pending.0.clear();
                    return Err(error);
                }
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(1, 4);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut files = Vec::new();
        for handle in handles {
            match handle.join() {
                Ok(some) => files.append(&mut some?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(files)
    })
}

/// The files of one folder go to `files`, the folders in it to `below`.
fn read_folder(
    root: &Path,
    folder: &Path,
    (built_in, now): (bool, i64),
    files: &mut Vec<Found>,
    below: &mut Vec<PathBuf>,
) -> Result<(), (PathBuf, io::Error)> {
    let full = root.join(folder);
    let failed = |e| (full.clone(), e);
    for item in std::fs::read_dir(&full).map_err(failed)? {
        let item = item.map_err(failed)?;
        let path = folder.join(item.file_name());
        let kind = item.file_type().map_err(failed)?;
        if kind.is_dir() {
            if !products::is_product_folder(root, &path) {
                below.push(path);
            }
        } else if (kind.is_file() || kind.is_symlink()) && !products::is_product_file(&path) {
            let stamp = match item.metadata() {
                Ok(meta) => Stamp::of(&meta, now),
                // It went away in this moment.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err((item.path(), e)),
            };
            if !(built_in && stamp.executable && products::is_program(&item.path())) {
                files.push(Found { path, stamp });
            }
        }
    }
    Ok(())
}

/// The stamps of what git lists: a deleted file is still in its index, a product may be tracked.
fn of_git(root: &Path, paths: Vec<PathBuf>, now: i64) -> Result<Vec<Found>, PullError> {
    let mut files = Vec::with_capacity(paths.len());
    let mut folder = (PathBuf::new(), false);
    for path in paths {
        if products::is_product_file(&path) || path.components().next().is_none() {
            continue;
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        if folder.0 != parent {
            let product =
                |f: &&Path| !f.as_os_str().is_empty() && products::is_product_folder(root, f);
            folder = (parent.to_path_buf(), parent.ancestors().any(|f| product(&f)));
        }
        if folder.1 {
            continue;
        }
        let full = root.join(&path);
        match full.symlink_metadata() {
            Ok(meta) if meta.is_file() || meta.is_symlink() => {
                files.push(Found { path, stamp: Stamp::of(&meta, now) });
            }
            // A submodule or a repository inside.
            Ok(_) => {}
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(Diagnostic::io("read", &full, &e).into()),
        }
    }
    Ok(files)
}
