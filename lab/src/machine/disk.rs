//! The files behind a machine's disks: sparse, all zero, gone after the run unless kept.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::room;
use crate::manifest::{Diagnostic, Disk, Result};

/// Less room than this and no file system can be made on a disk, let alone be used. More cannot be
/// asked for: what a guest will write to a sparse disk, only the guest knows.
const LEAST_ROOM: u64 = 16 << 20;

/// Makes the files of `disks` in `folder`; each is named as its disk.
///
/// # Errors
/// The folder or a file cannot be made, a file of that size is more than the file system takes, or
/// that has no room left at all.
pub fn create(disks: &[Disk], folder: &Path) -> Result<Vec<(Disk, PathBuf)>> {
    if disks.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(folder).map_err(|e| Diagnostic::io("make", folder, &e))?;
    let declared: u64 = disks.iter().map(|disk| disk.size).sum();
    let free = room::free_space(folder)?;
    if free < declared.min(LEAST_ROOM) {
        let shown = folder.display();
        return Err(Diagnostic::trouble(format!(
            "no room for the disks: the file system of {shown} has {} KiB left",
            free >> 10
        ))
        .help("make room there; `lab gc` removes what old runs have left"));
    }
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

/// What the host did to a machine's disks, or the machine to its host: `None` where all is as it was
/// declared. To be asked when the machine is gone, and before its disks are.
///
/// A disk is a file of the host, and reading or writing it fails only where the host's file system
/// does: it is full, over quota, or broken. The guest's block layer then says so in the kernel's
/// `log` (block/blk-mq.c, blk_print_req_error).
pub fn trouble(disks: &[(Disk, PathBuf)], log: &str) -> Option<String> {
    let longer = disks.iter().find_map(|(disk, path)| {
        let length = std::fs::metadata(path).ok()?.len();
        (length != disk.size).then(|| {
            let (name, size) = (&disk.name, disk.size);
            format!("the file of the disk {name} has {length} bytes and was made with {size}")
        })
    });
    longer.or_else(|| {
        let failed = log.lines().find(|line| FAILURES.iter().any(|words| line.contains(words)))?;
        let free = disks.first().and_then(|(_, path)| room::free_space(path).ok());
        let free = free.map(|bytes| format!(" ({} KiB are free there)", bytes >> 10));
        Some(format!(
            "the host could not read or write a file behind the disks{}; the kernel says: {}",
            free.unwrap_or_default(),
            failed.trim()
        ))
    })
}

/// ENOSPC, and all else, on the disks of a UML machine.
const FAILURES: [&str; 2] = ["critical space allocation error, dev ubd", "I/O error, dev ubd"];

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(name: &str, size: u64) -> Disk {
        Disk { name: name.into(), size }
    }

    #[test]
    fn a_disk_is_as_long_as_declared_and_what_failed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let disks = create(&[disk("a", 1 << 30)], folder.path()).unwrap();
        let quiet = "[    0.1] ubda: detected\n[    0.2] Buffer I/O error on dev dm-0\n";
        assert_eq!(trouble(&disks, quiet), None);
        for line in [
            "[    1.5] blk_update_request: I/O error, dev ubda, sector 8 op 0x1:(WRITE) flags 0x0",
            "[    1.5] critical space allocation error, dev ubdb, sector 8 op 0x1:(WRITE)",
        ] {
            let words = trouble(&disks, &format!("{quiet}{line}\n")).unwrap();
            assert!(words.contains(line) && words.contains("KiB are free"), "{words}");
        }
        std::fs::File::options().write(true).open(&disks[0].1).unwrap().set_len(5).unwrap();
        assert!(trouble(&disks, quiet).unwrap().contains("disk a has 5 bytes"));
    }
}
