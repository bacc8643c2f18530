//! The files of a folder with modules' source, without what kbuild left in it: their digest, and
//! a copy of them to build in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::kernel::source::{beside, kernel_version, missing, no_room};
use crate::manifest::{Diagnostic, Result};

/// Folders that are never part of a source, at any depth.
const FOLDERS: [&str; 5] = [".git", ".svn", ".hg", ".pc", ".tmp_versions"];

/// Fails unless the folder has a file that tells kbuild of modules.
pub(super) fn check(root: &Path) -> Result<()> {
    let shown = root.display();
    if !root.exists() {
        return Err(missing(root));
    }
    if !root.is_dir() {
        return Err(Diagnostic::usage(format!("{shown} is no folder"))
            .help("modules come from a folder with a Kbuild or Makefile"));
    }
    if kernel_version(root).is_ok() {
        return Err(Diagnostic::usage(format!("{shown} is a kernel source, not a module's"))
            .help("name the module's own folder; modules of the tree are for kconfig = [...]"));
    }
    // kbuild takes Kbuild where there are both (Documentation/kbuild/modules.rst).
    let named = ["Kbuild", "Makefile"].into_iter().find(|name| root.join(name).is_file());
    let Some(named) = named else {
        let error =
            Diagnostic::usage(format!("{shown} has neither a Kbuild nor a Makefile for modules"));
        return Err(match below(root) {
            Some(near) => error.help(format!("did you mean {}?", near.display())),
            None => error.help("it wants a line such as obj-m := NAME.o"),
        });
    };
    if tells_of_modules(&root.join(named)) {
        return Ok(());
    }
    let error = Diagnostic::usage(format!("{shown}/{named} names no module"));
    Err(match below(root) {
        Some(near) => error.help(format!("did you mean {}?", near.display())),
        None => error.help("it wants a line such as obj-m := NAME.o"),
    })
}

/// The digest of all files, in hex.
pub(super) fn identity(root: &Path) -> Result<String> {
    let mut hash = blake3::Hasher::new();
    for file in list(root)? {
        let (bytes, executable) = read(&root.join(&file))?;
        add(&mut hash, &file, &bytes, executable);
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// Removes all below `folder`, and `folder` itself, that is neither a file nor a folder: a Makefile could
/// write there, and the lab's own writing must not be led elsewhere. kbuild makes no links beside what
/// it builds; a module's own Makefile makes its links again.
pub(in crate::kernel) fn without_links(folder: &Path) -> Result<()> {
    let io = |what: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |e: io::Error| Diagnostic::io(what, &path, &e)
    };
    match folder.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io("look at", folder)(e)),
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return std::fs::remove_file(folder).map_err(io("remove", folder)),
    }
    for item in std::fs::read_dir(folder).map_err(io("read", folder))? {
        let item = item.map_err(io("read", folder))?;
        if !item.file_type().map_err(io("look at", &item.path()))?.is_file() {
            without_links(&item.path())?;
        }
    }
    Ok(())
}

/// Makes `copy`, in which there are no links, hold the files of `root` and the products of earlier builds; the digest, in hex, of
/// what was copied. Writes only what differs.
pub(super) fn copy(root: &Path, copy: &Path) -> Result<String> {
    std::fs::create_dir_all(copy).map_err(|e| Diagnostic::io("make", copy, &e))?;
    let files = list(root)?;
    let there: BTreeSet<&PathBuf> = files.iter().collect();
    for gone in list(copy)?.iter().filter(|file| !there.contains(file)) {
        let gone = copy.join(gone);
        std::fs::remove_file(&gone).map_err(|e| Diagnostic::io("remove", &gone, &e))?;
    }
    let mut hash = blake3::Hasher::new();
    for file in &files {
        let (bytes, executable) = read(&root.join(file))?;
        add(&mut hash, file, &bytes, executable);
        let to = copy.join(file);
        put(&to, &bytes, executable).map_err(|e| no_room(&e, Diagnostic::io("write", &to, &e)))?;
    }
    Ok(hash.finalize().to_hex().to_string())
}

/// What is a source in a folder, relative to it, sorted.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let full = root.join(&folder);
        let io = |e| Diagnostic::io("read", &full, &e);
        let names: BTreeSet<_> = std::fs::read_dir(&full)
            .map_err(io)?
            .map(|item| item.map(|item| item.file_name()))
            .collect::<io::Result<_>>()
            .map_err(io)?;
        for name in &names {
            let path = folder.join(name);
            let file = root.join(&path);
            let strange = |what: &str| {
                Diagnostic::usage(format!("{} {what}", file.display()))
                    .help("a module's source is files and folders; links to files are followed")
            };
            let meta = match std::fs::metadata(&file) {
                Ok(meta) => meta,
                // An editor's lock is a dot file that links to nothing.
                Err(_) if name.as_bytes().starts_with(b".") => continue,
                Err(_) if file.is_symlink() => return Err(strange("is a link that leads nowhere")),
                Err(e) => return Err(Diagnostic::io("read", &file, &e)),
            };
            if meta.is_dir() {
                match FOLDERS.iter().any(|folder| name == folder) {
                    true => {}
                    // It might lead above itself.
                    false if file.is_symlink() => return Err(strange("is a link to a folder")),
                    false => folders.push(path),
                }
            } else if !meta.is_file() {
                return Err(strange("is neither a file nor a folder"));
            } else if !is_product(name, |other| names.contains(other)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Whether kbuild made a file. An object without a record of the command that made it is a source:
/// some vendors ship such.
fn is_product(name: &OsStr, there: impl Fn(&OsStr) -> bool) -> bool {
    let bytes = name.as_bytes();
    let ends = |ending: &str| bytes.ends_with(ending.as_bytes());
    let dotted = bytes.starts_with(b".");
    if dotted && (ends(".cmd") || ends(".o.d") || bytes.starts_with(b".tmp_")) {
        return true;
    }
    let record = [b".", bytes, b".cmd"].concat();
    name == "Module.symvers"
        || name == "modules.order"
        || ends(".ko")
        || ends(".mod")
        || ends(".mod.c")
        || there(OsStr::from_bytes(&record))
}

fn read(file: &Path) -> Result<(Vec<u8>, bool)> {
    let read = || -> io::Result<_> {
        let executable = file.metadata()?.permissions().mode() & 0o111 != 0;
        Ok((std::fs::read(file)?, executable))
    };
    read().map_err(|e| Diagnostic::io("read", file, &e))
}

fn add(hash: &mut blake3::Hasher, file: &Path, bytes: &[u8], executable: bool) {
    let path = file.as_os_str().as_bytes();
    for part in [path, bytes] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(&[u8::from(executable)]);
}

/// Writes a file unless it is there as it should be.
fn put(to: &Path, bytes: &[u8], executable: bool) -> io::Result<()> {
    if to.is_dir() {
        std::fs::remove_dir_all(to)?;
    }
    let mode = if executable { 0o755 } else { 0o644 };
    let same = |meta: std::fs::Metadata| {
        meta.len() == bytes.len() as u64 && meta.permissions().mode() & 0o777 == mode
    };
    if std::fs::metadata(to).is_ok_and(same) && std::fs::read(to)? == bytes {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    // Half a file under its own name would have a fresh time and be taken for a whole one.
    let beside = beside(to);
    std::fs::write(&beside, bytes)?;
    std::fs::set_permissions(&beside, Permissions::from_mode(mode))?;
    std::fs::rename(&beside, to)
}

/// Whether a Kbuild file has a line from which modules can come.
fn tells_of_modules(file: &Path) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| {
        let line = line.trim_start();
        ["obj-", "subdir-", "include ", "-include "].iter().any(|begin| line.starts_with(begin))
    })
}

/// The only folder just below that has modules, where that was meant.
fn below(root: &Path) -> Option<PathBuf> {
    let items = std::fs::read_dir(root).into_iter().flatten().flatten();
    let has = |path: &PathBuf| {
        ["Kbuild", "Makefile"].iter().any(|name| tells_of_modules(&path.join(name)))
    };
    let mut found = items.map(|item| item.path()).filter(has);
    let only = found.next()?;
    found.next().is_none().then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        folder
    }

    const KBUILD: (&str, &str) = ("Kbuild", "obj-m := a.o\n");

    #[test]
    fn products_are_no_part_of_a_source_and_blobs_are() {
        let source =
            folder(&[KBUILD, ("a.c", "int a;\n"), ("vendor.o", "blob"), ("linux/a.h", "")]);
        let before = identity(source.path()).unwrap();
        let names = ["Kbuild", "a.c", "linux/a.h", "vendor.o"].map(PathBuf::from);
        assert_eq!(list(source.path()).unwrap(), names);
        for name in [
            "a.o",
            ".a.o.cmd",
            "a.ko",
            ".a.ko.cmd",
            "a.mod",
            "a.mod.c",
            "Module.symvers",
            "modules.order",
            ".git/HEAD",
            ".tmp_versions/a.mod",
            ".a.o.d",
        ] {
            let file = source.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "x").unwrap();
        }
        symlink("user@host.1:2", source.path().join(".#a.c")).unwrap();
        assert_eq!(list(source.path()).unwrap(), names);
        assert_eq!(identity(source.path()).unwrap(), before);

        std::fs::write(source.path().join("a.c"), "int b;\n").unwrap();
        let changed = identity(source.path()).unwrap();
        assert_ne!(changed, before);
        std::fs::rename(source.path().join("a.c"), source.path().join("b.c")).unwrap();
        assert_ne!(identity(source.path()).unwrap(), changed);
    }

    #[test]
    fn a_copy_follows_its_source_and_keeps_what_was_built() {
        let source = folder(&[KBUILD, ("a.c", "a"), ("sub/b.c", "b"), ("gone.c", "")]);
        let into = tempfile::tempdir().unwrap();
        let copied = into.path().join("0");
        assert_eq!(copy(source.path(), &copied).unwrap(), identity(source.path()).unwrap());
        for product in ["a.o", ".a.o.cmd"] {
            std::fs::write(copied.join(product), "built").unwrap();
        }
        let inode = |name: &str| copied.join(name).metadata().unwrap().ino();
        let before = (inode("a.c"), inode("Kbuild"));
        std::fs::write(source.path().join("a.c"), "A").unwrap();
        std::fs::remove_file(source.path().join("gone.c")).unwrap();
        std::fs::remove_dir_all(source.path().join("sub")).unwrap();
        std::fs::write(source.path().join("sub"), "a file now").unwrap();
        assert_eq!(copy(source.path(), &copied).unwrap(), identity(source.path()).unwrap());
        assert_ne!(inode("a.c"), before.0);
        assert_eq!(inode("Kbuild"), before.1, "what is equal is not written again");
        assert_eq!(list(&copied).unwrap(), list(source.path()).unwrap());
        assert!(copied.join("a.o").exists());
    }

    #[test]
    fn planted_links_do_not_lead_a_copy_elsewhere() {
        let source = folder(&[KBUILD, (".a.h", "a"), ("a.c", "a"), ("sub/b.c", "b")]);
        let user = folder(&[("precious.c", "mine"), ("b.c", "mine")]);
        let out = tempfile::tempdir().unwrap();
        let (copies, copied) = (out.path().join("copies"), out.path().join("copies/0"));
        let again = || {
            without_links(&copies).unwrap();
            assert_eq!(copy(source.path(), &copied).unwrap(), identity(source.path()).unwrap());
            assert_eq!(list(&copied).unwrap(), list(source.path()).unwrap());
            assert_eq!(list(user.path()).unwrap(), ["b.c", "precious.c"].map(PathBuf::from));
            for name in ["precious.c", "b.c"] {
                assert_eq!(std::fs::read(user.path().join(name)).unwrap(), b"mine", "{name}");
            }
        };
        again();
        for product in ["a.o", ".a.o.cmd"] {
            std::fs::write(copied.join(product), "built").unwrap();
        }
        again();
        assert!(copied.join("a.o").exists(), "what was built stays");
        // Where the lab itself is about to write, and a record that makes it look like a product.
        let beside = beside(Path::new("a.c")).display().to_string();
        for (link, to) in
            [("0/a.c", "b.c"), (&*format!("0/{beside}"), "b.c"), ("0/sub", ""), ("0", "")]
        {
            let link = copies.join(link);
            let _ = std::fs::remove_file(&link);
            let _ = std::fs::remove_dir_all(&link);
            symlink(user.path().join(to), &link).unwrap();
            std::fs::write(source.path().join("a.c"), link.as_os_str().as_bytes()).unwrap();
            again();
        }
        symlink(user.path().join("new"), copied.join(self::beside(Path::new(".a.h")))).unwrap();
        std::fs::write(source.path().join(".a.h"), "changed").unwrap();
        again();
        std::fs::remove_dir_all(&copies).unwrap();
        symlink(user.path(), &copies).unwrap();
        again();
    }

    #[test]
    fn what_is_no_modules_source_is_told_with_the_nearest() {
        let error = |folder: &Path| check(folder).unwrap_err().to_string();
        let source = folder(&[("mod/Makefile", "ifneq (x,y)\n  obj-m := a.o\nendif\n")]);
        check(&source.path().join("mod")).unwrap();
        let text = error(source.path());
        assert!(text.contains("neither a Kbuild nor a Makefile"), "{text}");
        assert!(text.contains("did you mean") && text.contains("/mod?"), "{text}");
        let text = error(&source.path().join("mood"));
        assert!(text.contains("there is no") && text.contains("/mod?"), "{text}");
        assert!(error(&source.path().join("mod/Makefile")).contains("is no folder"));
        let text = error(folder(&[("Makefile", "all:\n\tcc a.c\n")]).path());
        assert!(text.contains("Makefile names no module") && text.contains("obj-m"), "{text}");
        let linux = folder(&[("Makefile", "VERSION = 6\nPATCHLEVEL = 1\n"), ("Kconfig", "")]);
        assert!(error(linux.path()).contains("is a kernel source"));

        let source = folder(&[KBUILD]);
        symlink("/nowhere", source.path().join("a.h")).unwrap();
        let text = identity(source.path()).unwrap_err().to_string();
        assert!(text.contains("a.h is a link that leads nowhere"), "{text}");
        std::fs::remove_file(source.path().join("a.h")).unwrap();
        symlink("..", source.path().join("include")).unwrap();
        assert!(identity(source.path()).unwrap_err().to_string().contains("a link to a folder"));
    }
}
