//! The folder that becomes the archive.

use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::manifest::{Diagnostic, Result};

/// A folder to put files into.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
}

impl Stage {
    /// Makes it.
    pub fn new(root: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&root).map_err(|e| Diagnostic::io("make", &root, &e))?;
        Ok(Self { root })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes a file; `name` is below the folder.
    pub fn write(&self, name: &Path, bytes: &[u8]) -> Result<()> {
        let file = self.place(name)?;
        std::fs::write(&file, bytes).map_err(|e| no_room(&file, &e))
    }

    /// Writes a record.
    pub fn write_json(&self, name: &Path, value: &Value) -> Result<()> {
        self.write(name, format!("{value:#}\n").as_bytes())
    }

    /// A link to something in the folder.
    pub fn link(&self, name: &str, to: &Path) -> Result<()> {
        let link = self.root.join(name);
        std::os::unix::fs::symlink(to, &link).map_err(|e| Diagnostic::io("make", &link, &e))
    }

    /// Copies a file of the host.
    pub fn copy(&self, from: &Path, name: &Path) -> Result<()> {
        let to = self.place(name)?;
        copy(from, &to).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => no_room(&to, &e),
            _ => Diagnostic::io("copy", from, &e),
        })
    }

    /// Copies a folder of the host with what is below it, but for dot files, transcripts that wait
    /// for review, and what is neither a file nor a folder. Links to files are followed, so that the
    /// copy stands alone.
    pub fn copy_tree(&self, from: &Path, name: &Path) -> Result<()> {
        let io = |e| Diagnostic::io("read", from, &e);
        for item in std::fs::read_dir(from).map_err(io)? {
            let item = item.map_err(io)?;
            let (path, file_name) = (item.path(), item.file_name());
            let (name, shown) = (name.join(&file_name), file_name.to_string_lossy().into_owned());
            if shown.starts_with('.') || shown.ends_with(".snap.new") {
                continue;
            }
            let Ok(meta) = path.metadata() else { continue };
            let link = item.file_type().is_ok_and(|kind| kind.is_symlink());
            if meta.is_dir() && !link {
                self.place(&name.join("x"))?;
                self.copy_tree(&path, &name)?;
            } else if meta.is_file() {
                self.copy(&path, &name)?;
            }
        }
        Ok(())
    }

    /// Where a file goes; its folder is made.
    fn place(&self, name: &Path) -> Result<PathBuf> {
        let file = self.root.join(name);
        let folder = file.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder).map_err(|e| no_room(folder, &e))?;
        Ok(file)
    }
}

/// Copies a file with its permissions and time, and leaves holes where it has them: a disk that was
/// kept may say that it is of a terabyte.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = from.metadata()?;
    let sparse = meta.blocks() * 512 < meta.len();
    if !sparse {
        std::fs::copy(from, to)?;
    } else {
        let (from, to) = (std::fs::File::open(from)?, std::fs::File::create(to)?);
        to.set_len(meta.len())?;
        let mut block = vec![0; 1 << 20];
        let mut at = 0;
        while let Some(data) = next_data(&from, at)? {
            at = data;
            let read = from.read_at(&mut block, at)?;
            if read == 0 {
                break;
            }
            if block[..read].iter().any(|byte| *byte != 0) {
                to.write_all_at(&block[..read], at)?;
            }
            at += read as u64;
        }
        to.set_permissions(meta.permissions())?;
    }
    // The time of a run's lock is when the run began.
    std::fs::File::open(to)?.set_modified(meta.modified()?)
}

/// Where the next bytes are that are no hole; see lseek(2), SEEK_DATA.
fn next_data(file: &std::fs::File, from: u64) -> io::Result<Option<u64>> {
    match nix::unistd::lseek(file, from.cast_signed(), nix::unistd::Whence::SeekData) {
        Ok(at) => Ok(Some(at.cast_unsigned())),
        Err(nix::errno::Errno::ENXIO) => Ok(None),
        // This file system knows no holes.
        Err(nix::errno::Errno::EINVAL) => Ok(Some(from)),
        Err(errno) => Err(errno.into()),
    }
}

/// A full disk has its own way out.
pub(super) fn no_room(file: &Path, error: &io::Error) -> Diagnostic {
    let diagnostic = Diagnostic::io("write", file, error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => diagnostic
            .help("free some room (lab gc), set TMPDIR elsewhere, or write to another file system"),
        _ => diagnostic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_stand_alone_and_keep_their_holes() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        std::fs::create_dir_all(from.join("sub/empty")).unwrap();
        std::fs::write(from.join("sub/.secret"), "x").unwrap();
        std::fs::write(from.join("a.snap.new"), "x").unwrap();
        std::fs::write(folder.path().join("target"), "linked").unwrap();
        std::os::unix::fs::symlink("../target", from.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("broken")).unwrap();
        let disk = std::fs::File::create(from.join("disk")).unwrap();
        disk.set_len(1 << 30).unwrap();
        disk.write_all_at(b"data", 512 << 20).unwrap();

        let stage = Stage::new(folder.path().join("stage")).unwrap();
        stage.copy_tree(&from, Path::new("to")).unwrap();
        let to = stage.path().join("to");
        assert_eq!(std::fs::read_to_string(to.join("link")).unwrap(), "linked");
        assert!(!to.join("link").is_symlink() && to.join("sub/empty").is_dir());
        for left_out in ["sub/.secret", "a.snap.new", "broken"] {
            assert!(to.join(left_out).symlink_metadata().is_err(), "{left_out}");
        }
        let copied = std::fs::File::open(to.join("disk")).unwrap();
        let meta = copied.metadata().unwrap();
        assert_eq!(meta.len(), 1 << 30);
        assert!(meta.blocks() * 512 < 8 << 20, "{} blocks", meta.blocks());
        let mut data = [0; 4];
        copied.read_exact_at(&mut data, 512 << 20).unwrap();
        assert_eq!(&data, b"data");
    }
}
