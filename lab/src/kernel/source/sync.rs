//! Copies a folder source into its working tree: only what changed is written, and what is equal
//! keeps its time, so that the next build makes only what it must. The source is only read.

use std::collections::HashSet;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::super::tool::Watch;
use super::super::{PullError, PullProgress};
use super::files::{Found, walk};
use super::index::{Digest, Index, digest_of};
use crate::manifest::Diagnostic;

/// Where the unpatched form of a path of the working tree lies.
pub(super) type Pristine<'a> = &'a (dyn Fn(&Path) -> PathBuf + Sync);

/// Makes the unpatched working tree be what `files` of `root` are. `index` is what is known of the
/// last copy; what is known of this one comes back, and how many files were written or removed.
/// `doubtful`: the last copy was interrupted, so that the index does not know all that is there.
pub(super) fn sync(
    root: &Path,
    files: &[Found],
    (index, doubtful): (Option<Index>, bool),
    tree: &Path,
    pristine: Pristine<'_>,
    watch: &mut Watch,
) -> Result<(Index, usize), PullError> {
    std::fs::create_dir_all(tree).map_err(|e| Diagnostic::io("make", tree, &e))?;
    let mut changed = remove_gone(files, index.as_ref().filter(|_| !doubtful), tree, pristine)?;
    let index = index.unwrap_or_default();
    let stale: Vec<&Found> = files.iter().filter(|found| index.known(found).is_none()).collect();
    let total = stale.len();
    let (done, written) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get()).clamp(1, 8);
    let mut fresh: Vec<(PathBuf, Digest)> = Vec::with_capacity(total);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| -> Result<(), PullError> {
        let work = || -> Result<Vec<(PathBuf, Digest)>, Diagnostic> {
            let mut copied = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // Neighbours go to one worker: they share their folder.
                let from = next.fetch_add(64, Ordering::Relaxed);
                let some = stale.get(from..(from + 64).min(total)).unwrap_or_default();
                if some.is_empty() {
                    break;
                }
                for found in some {
                    let from = root.join(&found.path);
                    match copy(&from, found, &pristine(&found.path)) {
                        Ok((digest, wrote)) => {
                            written.fetch_add(usize::from(wrote), Ordering::Relaxed);
                            copied.push((found.path.clone(), digest));
                        }
                        // It went away meanwhile: the next look sees that.
                        Err(e) if e.kind() == io::ErrorKind::NotFound && !from.exists() => {}
                        Err(e) => {
                            stop.store(true, Ordering::Relaxed);
                            return Err(no_room(&e, Diagnostic::io("copy", &from, &e)));
                        }
                    }
                }
                done.fetch_add(some.len(), Ordering::Relaxed);
            }
            Ok(copied)
        };
        let handles: Vec<_> = (0..workers.min(total / 64 + 1)).map(|_| scope.spawn(work)).collect();
        let mut said = 0;
        let mut interrupted = false;
        while handles.iter().any(|handle| !handle.is_finished()) {
            let done = done.load(Ordering::Relaxed);
            if done != said {
                said = done;
                (watch.progress)(PullProgress::Copy { done, total });
            }
            if watch.check().is_err() {
                interrupted = true;
                stop.store(true, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(if total < 200 { 1 } else { 20 }));
        }
        for handle in handles {
            match handle.join() {
                Ok(copied) => fresh.extend(copied?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        if interrupted { Err(PullError::Interrupted) } else { Ok(()) }
    })?;
    changed += written.into_inner();
    let mut fresh: std::collections::HashMap<_, _> = fresh.into_iter().collect();
    let mut now = Index::default();
    now.0.reserve(files.len());
    for found in files {
        let digest = fresh.remove(&found.path).or_else(|| index.known(found));
        if let Some(digest) = digest {
            now.0.insert(found.path.clone(), (found.stamp, digest));
        }
    }
    Ok((now, changed))
}

/// Removes from the working tree what the source no longer has.
fn remove_gone(
    files: &[Found],
    index: Option<&Index>,
    tree: &Path,
    pristine: Pristine<'_>,
) -> Result<usize, PullError> {
    let there: HashSet<&Path> = files.iter().map(|found| found.path.as_path()).collect();
    let before: Vec<PathBuf> = match index {
        Some(index) => index.0.keys().cloned().collect(),
        // A copy that was interrupted: nobody knows what is in it.
        None => walk(tree, i64::MAX)
            .map_err(|(path, e)| Diagnostic::io("read", &path, &e))?
            .into_iter()
            .map(|found| found.path)
            .collect(),
    };
    let mut removed = 0;
    for gone in before.iter().filter(|path| !there.contains(path.as_path())) {
        let file = pristine(gone);
        match std::fs::remove_file(&file) {
            Ok(()) => removed += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Diagnostic::io("remove", &file, &e).into()),
        }
        // Empty folders are in nobody's way, but a file may come to lie there.
        for folder in file.ancestors().skip(1).take_while(|f| *f != tree && f.starts_with(tree)) {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
    Ok(removed)
}

/// Brings one file over; its digest, and whether anything was written.
fn copy(from: &Path, found: &Found, to: &Path) -> io::Result<(Digest, bool)> {
    let wanted = digest_of(from, found.stamp.link)?;
    let there = to.symlink_metadata().ok();
    if let Some(meta) = &there {
        let same_kind = meta.is_symlink() == found.stamp.link && !meta.is_dir();
        let executable = meta.permissions().mode() & 0o111 != 0;
        if same_kind
            && (found.stamp.link || executable == found.stamp.executable)
            && digest_of(to, found.stamp.link)? == wanted
        {
            return Ok((wanted, false));
        }
        if meta.is_dir() {
            std::fs::remove_dir_all(to)?;
        }
    }
    if there.is_none()
        && let Some(folder) = to.parent()
    {
        std::fs::create_dir_all(folder)?;
    }
    let beside = beside(to);
    let _ = std::fs::remove_file(&beside);
    if found.stamp.link {
        symlink(std::fs::read_link(from)?, &beside)?;
    } else {
        // Shares the blocks where the file system can (copy_file_range(2)).
        std::fs::copy(from, &beside)?;
        let mode = if found.stamp.executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&beside, Permissions::from_mode(mode))?;
    }
    // What was copied counts, not what was there a moment before.
    let digest = digest_of(&beside, found.stamp.link)?;
    std::fs::rename(&beside, to)?;
    Ok((digest, true))
}

/// A temporary name in the same folder, which a listing of products passes over.
pub(in crate::kernel) fn beside(file: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".tmp_lab.");
    name.push(file.file_name().unwrap_or_default());
    file.with_file_name(name)
}

/// A full disk has its own way out.
pub(in crate::kernel) fn no_room(error: &io::Error, otherwise: Diagnostic) -> Diagnostic {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Diagnostic::trouble(otherwise.message().to_string())
                .help("free some room (lab gc), or point LAB_CACHE to a larger file system")
        }
        _ => otherwise,
    }
}
