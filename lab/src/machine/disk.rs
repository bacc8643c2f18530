//! The files behind a machine's disks: sparse, all zero, gone after the run unless kept.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::room;
use crate::manifest::{Diagnostic, Disk, Result};

/// With less than this many bytes left, the next write of a guest may be lost.
const NO_ROOM: u64 = 64 << 10;

/// Makes the files of `disks` in `folder`; each is named as its disk.
///
/// # Errors
/// The folder or a file cannot be made, or a file of that size is more than the file system takes.
pub fn create(disks: &[Disk], folder: &Path) -> Result<Vec<(Disk, PathBuf)>> {
    if disks.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(folder).map_err(|e| Diagnostic::io("make", folder, &e))?;
    disks
        .iter()
        .map(|disk| {
            let path = folder.join(&disk.name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
                .and_then(|file| file.set_len(disk.size))
                .map_err(|e| Diagnostic::io("make the disk", &path, &e))?;
            Ok((disk.clone(), path))
        })
        .collect()
}

/// Whether the host has no room left for what a guest writes to its disks in `folder`. They are
/// sparse, so that only the write fails, and the guest sees a disk with faults.
pub fn is_out_of_room(folder: &Path) -> bool {
    room::free_space(folder).is_ok_and(|bytes| bytes < NO_ROOM)
}
