//! The folder that becomes the archive.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::manifest::{Diagnostic, Result};
use crate::sandbox::open_below;

/// A folder to put files into.
#[derive(Debug)]
pub(super) struct Stage {
    root: PathBuf,
    /// The project's folder, where links may lead.
    project: PathBuf,
    /// Links that lead out of what may go in, as they were found.
    left_out: RefCell<Vec<PathBuf>>,
}

impl Stage {
    /// Makes it, for files of a project.
    pub fn new(root: PathBuf, project: &Path) -> Result<Self> {
        std::fs::create_dir_all(&root).map_err(|e| Diagnostic::io("make", &root, &e))?;
        let project = project.canonicalize().map_err(|e| Diagnostic::io("find", project, &e))?;
        Ok(Self { root, project, left_out: RefCell::default() })
    }

    /// Links that were left out, because they lead out of the project and of the folder that they are in,
    /// or to a dot file.
    pub fn left_out(&self) -> Vec<PathBuf> {
        self.left_out.borrow().clone()
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

    /// Copies a file of the host that the user names.
    pub fn copy(&self, from: &Path, name: &Path) -> Result<()> {
        self.put(File::open(from), from, name)
    }

    /// Copies a file of the project, where a guest may have put a link in its place.
    pub fn copy_own(&self, from: &Path, name: &Path) -> Result<()> {
        self.copy_within(from, name, std::slice::from_ref(&self.project))
    }

    /// Copies a folder of the host with what is below it, but for dot files, transcripts that wait
    /// for review, and what is neither a file nor a folder. Links to files of this folder or of the
    /// project are followed, so that the copy stands alone. A guest can write links into what it
    /// shares: others might lead to what is the user's alone.
    pub fn copy_tree(&self, from: &Path, name: &Path) -> Result<()> {
        let real = from.canonicalize().map_err(|e| Diagnostic::io("find", from, &e))?;
        self.copy_below(from, name, &[real, self.project.clone()])
    }

    fn copy_below(&self, from: &Path, name: &Path, within: &[PathBuf]) -> Result<()> {
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
                self.copy_below(&path, &name, within)?;
            } else if meta.is_file() {
                self.copy_within(&path, &name, within)?;
            }
        }
        Ok(())
    }

    /// Copies a file if it is really in one of the folders.
    fn copy_within(&self, from: &Path, name: &Path, within: &[PathBuf]) -> Result<()> {
        let real = from.canonicalize().map_err(|e| Diagnostic::io("find", from, &e))?;
        let hidden = |below: &&Path| {
            below.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
        };
        let mut places =
            within.iter().filter_map(|root| Some((root, real.strip_prefix(root).ok()?)));
        match places.find(|(_, below)| !hidden(below)) {
            // By this way, and no other that a guest that runs has opened meanwhile.
            Some((root, below)) => self.put(open_below(root, below), from, name),
            None => {
                self.left_out.borrow_mut().push(from.to_path_buf());
                Ok(())
            }
        }
    }

    fn put(&self, file: io::Result<File>, from: &Path, name: &Path) -> Result<()> {
        let to = self.place(name)?;
        file.and_then(|file| copy(file, &to)).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull => no_room(&to, &e),
            _ => Diagnostic::io("copy", from, &e),
        })
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
fn copy(mut from: File, to: &Path) -> io::Result<()> {
    let meta = from.metadata()?;
    let sparse = meta.blocks() * 512 < meta.len();
    let mut to = File::create(to)?;
    if !sparse {
        io::copy(&mut from, &mut to)?;
    } else {
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
    }
    to.set_permissions(meta.permissions())?;
    // The time of a run's lock is when the run began.
    to.set_modified(meta.modified()?)
}

/// Where the next bytes are that are no hole; see lseek(2), SEEK_DATA.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
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

        let stage = Stage::new(folder.path().join("stage"), folder.path()).unwrap();
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
        assert!(stage.left_out().is_empty());
    }

    #[test]
    fn links_that_a_guest_planted_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["home/.ssh/key", "home/notes", "home/p/.env", "home/p/tool", "data/sub/own"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), name).unwrap();
        }
        let share = at("home/p/share");
        std::fs::create_dir_all(&share).unwrap();
        let link = |to: &Path, name: &Path| std::os::unix::fs::symlink(to, name).unwrap();
        link(&at("home/.ssh/key"), &share.join("absolute"));
        link(Path::new("../../notes"), &share.join("relative"));
        link(Path::new("relative"), &share.join("twice"));
        link(Path::new("../.env"), &share.join("hidden"));
        link(Path::new("../tool"), &share.join("tool"));
        let stage = Stage::new(at("stage"), &at("home/p")).unwrap();
        stage.copy_tree(&share, Path::new("to")).unwrap();
        let all: Vec<_> = std::fs::read_dir(stage.path().join("to")).unwrap().flatten().collect();
        assert_eq!(all.iter().map(|item| item.file_name()).collect::<Vec<_>>(), ["tool"]);
        assert_eq!(std::fs::read(stage.path().join("to/tool")).unwrap(), b"home/p/tool");
        let mut left_out = stage.left_out();
        left_out.sort();
        assert_eq!(left_out, ["absolute", "hidden", "relative", "twice"].map(|n| share.join(n)));

        // A file of the project that became a link, and a folder elsewhere that the user links to.
        stage.copy_own(&share.join("absolute"), Path::new("own")).unwrap();
        assert!(!stage.path().join("own").exists());
        link(&at("data"), &at("home/p/data"));
        link(Path::new("own"), &at("data/sub/same"));
        stage.copy_tree(&at("home/p/data"), Path::new("data")).unwrap();
        let copied = std::fs::read(stage.path().join("data/sub/same")).unwrap();
        assert_eq!((copied.as_slice(), stage.left_out().len()), (&b"data/sub/own"[..], 5));
    }
}
