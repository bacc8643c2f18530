//! What a build leaves in a source tree: `make O=` refuses a source with such files in it, or finds
//! them through VPATH instead of making its own. They are no part of a source, so no copy has them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Folders that are never part of a source, at any depth.
const FOLDERS: [&str; 7] = [".git", ".svn", ".hg", ".pc", ".tmp_versions", ".lab", ".cache"];

/// Files of these endings come from a compiler or from kbuild; no kernel source has any.
const ENDINGS: [&str; 20] = [
    ".o",
    ".ko",
    ".a",
    ".cmd",
    ".mod",
    ".mod.c",
    ".lex.c",
    ".tab.c",
    ".tab.h",
    ".dtb",
    ".dtbo",
    ".so",
    ".so.dbg",
    ".so.raw",
    ".symtypes",
    ".gcno",
    ".dwo",
    ".su",
    ".order",
    ".o.d",
];

/// Files and folders of the top folder. A name with `*` at its end stands for all that begin so.
const TOP: [&str; 13] = [
    ".config",
    ".config.old",
    ".missing-syscalls.d",
    ".version",
    ".vmlinux*",
    "vmlinux*",
    "linux",
    "System.map",
    "Module.symvers",
    "modules.builtin*",
    "modules-only.symvers",
    "include/config",
    "include/generated",
];

/// Whether the folder `path`, relative to the source, is to be passed over with all that is in it.
pub(super) fn is_product_folder(root: &Path, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    if FOLDERS.iter().any(|folder| name == *folder) || is_top(path) {
        return true;
    }
    if path.ends_with("include/generated") && path.starts_with("arch") {
        return true;
    }
    // The output folder of a `make O=` inside the source.
    path.components().count() == 1
        && root.join(path).join(".config").exists()
        && !root.join(path).join("Kconfig").exists()
}

/// Whether the file `path`, relative to the source, is a product by its name.
pub(super) fn is_product_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    // A linked worktree's and a submodule's `.git` is a file.
    name == b".git"
        || name.starts_with(b".tmp_")
        || ENDINGS
            .iter()
            .any(|ending| name.len() > ending.len() && name.ends_with(ending.as_bytes()))
        || is_top(path)
}

/// Whether a source was built in: then it has programs of the host in it too.
pub(super) fn was_built_in(root: &Path) -> bool {
    [".config", "include/config", "include/generated"].iter().any(|name| root.join(name).exists())
}

/// A program of the host that a build left (`scripts/basic/fixdep`): to be asked only of executable
/// files in a source that was built in.
pub(super) fn is_program(file: &Path) -> bool {
    if file.extension().is_some() {
        return false;
    }
    let mut magic = [0; 4];
    let read = std::fs::File::open(file).and_then(|mut f| std::io::Read::read(&mut f, &mut magic));
    matches!(read, Ok(4)) && magic == *b"\x7fELF"
}

fn is_top(path: &Path) -> bool {
    let path: &OsStr = path.as_os_str();
    TOP.iter().any(|name| match name.strip_suffix('*') {
        Some(start) => {
            path.as_bytes().starts_with(start.as_bytes()) && !path.as_bytes().contains(&b'/')
        }
        None => path == *name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_told_from_sources() {
        for product in [
            ".config",
            "vmlinux",
            "vmlinux.o",
            "fs/ext4/ext4.ko",
            "fs/ext4/.inode.o.cmd",
            "scripts/kconfig/lexer.lex.c",
            "modules.order",
            ".tmp_vmlinux1",
            "linux",
            "modules.builtin.modinfo",
            "fs/.tmp_inode.o",
            "lib/lib.a",
        ] {
            assert!(is_product_file(Path::new(product)), "{product}");
        }
        for source in [
            "Makefile",
            "fs/inode.c",
            "arch/x86/configs/x86_64_defconfig",
            ".clang-format",
            "arch/um/kernel/vmlinux.lds.S",
            "include/linux/module.h",
            "tools/testing/.config",
            "scripts/kconfig/lexer.l",
            "Documentation/o",
            "lib/a",
            "drivers/linux",
        ] {
            assert!(!is_product_file(Path::new(source)), "{source}");
        }
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("build")).unwrap();
        std::fs::create_dir_all(root.path().join("fs")).unwrap();
        assert!(!is_product_folder(root.path(), Path::new("build")));
        std::fs::write(root.path().join("build/.config"), "").unwrap();
        assert!(is_product_folder(root.path(), Path::new("build")));
        for product in [".git", "fs/.git", "include/generated", "arch/x86/include/generated"] {
            assert!(is_product_folder(root.path(), Path::new(product)), "{product}");
        }
        for source in ["fs", "include/linux", "tools/include/generated", "arch/x86/include"] {
            assert!(!is_product_folder(root.path(), Path::new(source)), "{source}");
        }
    }
}
