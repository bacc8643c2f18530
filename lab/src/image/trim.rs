//! What the cache holds of images and when each was last used: what `lab gc` decides by, and how it
//! removes them.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::store::Entry;
use crate::manifest::{Diagnostic, Result};

/// An image in the cache.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its digest, also its folder's name.
    pub digest: String,
    /// When it was last used.
    pub used: SystemTime,
    /// A lab is using it now.
    pub in_use: bool,
}

/// What is being made is younger: its maker locks it a moment after it is there.
const YOUNG: Duration = Duration::from_secs(60);

/// Every image of a cache folder, by digest.
///
/// # Errors
/// The cache cannot be read; one that is not there holds none.
pub fn stored(cache: &Path) -> Result<Vec<StoredImage>> {
    let is_digest = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let image = |(name, path): (String, PathBuf)| {
        let used =
            path.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        StoredImage { digest: name, used, in_use: hold(&path).is_none() }
    };
    let folders = folders(cache)?.into_iter().filter(|(name, _)| is_digest(name));
    Ok(folders.map(image).collect())
}

/// Bytes that an image takes on the disk.
pub fn bytes(cache: &Path, digest: &str) -> u64 {
    crate::kernel::disk_usage(&cache.join("images").join(digest)).unwrap_or(0)
}

/// Removes an image and what leads to it: the bytes freed; `None` where a running lab uses it, or it
/// is gone.
///
/// # Errors
/// It cannot be removed.
pub fn remove(cache: &Path, digest: &str) -> Result<Option<u64>> {
    let root = cache.join("images");
    let folder = root.join(digest);
    let Some(_held) = hold(&folder) else { return Ok(None) };
    let freed = bytes(cache, digest);
    let failed = |e| Diagnostic::io("remove", &folder, &e);
    // Out of sight first: half an image under its own name would be taken for a damaged one.
    let aside = tempfile::Builder::new().prefix(".old-").tempdir_in(&root).map_err(failed)?;
    fs::rename(&folder, aside.path().join(digest)).map_err(failed)?;
    for item in fs::read_dir(root.join("index")).into_iter().flatten().flatten() {
        let leads = fs::read(item.path()).ok();
        let entry = leads.and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
        if entry.is_some_and(|entry| entry.digest == digest) {
            let _ = fs::remove_file(item.path());
        }
    }
    aside.close().map_err(failed)?;
    Ok(Some(freed))
}

/// Folders that killed labs left half-made or half-removed.
///
/// # Errors
/// The cache cannot be read.
pub fn abandoned(cache: &Path) -> Result<Vec<PathBuf>> {
    let left = |(name, path): &(String, PathBuf)| {
        let temporary = [".new-", ".old-"].iter().any(|start| name.starts_with(start));
        let at = path.metadata().and_then(|meta| meta.modified()).ok();
        let old = at.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > YOUNG);
        temporary && old && hold(path).is_some()
    };
    Ok(folders(cache)?.into_iter().filter(left).map(|(_, path)| path).collect())
}

fn folders(cache: &Path) -> Result<Vec<(String, PathBuf)>> {
    let root = cache.join("images");
    let entries = match fs::read_dir(&root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Diagnostic::io("read", &root, &e)),
    };
    let named = |item: fs::DirEntry| (item.file_name().to_string_lossy().into_owned(), item.path());
    let mut folders: Vec<_> =
        entries.flatten().map(named).filter(|(_, path)| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// The exclusive lock on a folder that nobody uses and that still has its name.
fn hold(folder: &Path) -> Option<Flock<File>> {
    let held = Flock::lock(File::open(folder).ok()?, FlockArg::LockExclusiveNonblock).ok()?;
    let (locked, named) = (held.metadata().ok()?, folder.metadata().ok()?);
    ((locked.dev(), locked.ino()) == (named.dev(), named.ino())).then_some(held)
}
