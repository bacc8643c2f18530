//! The files behind a machine's disks: sparse, all zero, gone after the run unless kept.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::manifest::{Diagnostic, Disk, Result};

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
