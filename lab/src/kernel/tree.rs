//! What is done to unpacked files before a guest can use them: a program's libraries are gathered
//! in one flat folder, modules are expanded and indexed (PID 1 reads `modules.dep` and plain ELF).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, ElfFile, ProgramHeader};

use super::PullError;
use super::modinfo::{files_below, index_modules};
use super::pull::room_for;
use super::tool::Watch;
use crate::manifest::{Diagnostic, Result};

/// Where Debian keeps libraries, below the root of what was unpacked.
const LIBRARY_FOLDERS: [&str; 6] =
    ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib64", "usr/lib64", "lib", "usr/lib"];

/// A compressed module's ending and the program that expands it in place.
const COMPRESSED: [(&str, &[&str]); 3] = [
    ("xz", &["xz", "--decompress", "--quiet", "--"]),
    ("zst", &["zstd", "--decompress", "--rm", "--quiet", "--"]),
    ("gz", &["gzip", "--decompress", "--quiet", "--"]),
];

/// What glibc opens by its name when a thread is cancelled; no dynamic section names it.
const OPENED_LATER: &str = "libgcc_s.so.1";

/// Copies the interpreter and the libraries that `program` needs, and what those need, from the
/// tree `root` into the flat folder `into`, under the names that are asked for.
pub(super) fn copy_libraries(program: &Path, root: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).map_err(|e| Diagnostic::io("make", into, &e))?;
    let mut wanted: Vec<String> = needed(program)?;
    wanted.push(OPENED_LATER.into());
    let mut copied = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        if !copied.insert(name.clone()) {
            continue;
        }
        let file = LIBRARY_FOLDERS
            .iter()
            .find_map(|folder| resolve(root, &Path::new(folder).join(&name)))
            .ok_or_else(|| {
                Diagnostic::trouble(format!(
                    "{} needs {name}, which the C library's package does not have",
                    program.file_name().unwrap_or_default().to_string_lossy()
                ))
            })?;
        wanted.extend(needed(&file)?);
        let copy = into.join(&name);
        std::fs::copy(&file, &copy).map_err(|e| Diagnostic::io("copy", &file, &e))?;
    }
    Ok(())
}

/// Expands every compressed module below `folder` (`.../modules/RELEASE`) and sees to it that
/// `modules.dep` is there and names them as they are now.
pub(super) fn prepare_modules(folder: &Path, watch: &mut Watch) -> Result<(), PullError> {
    let files = files_below(&folder.join("kernel"))?;
    let packed = |ending: &str| {
        let named = move |file: &&PathBuf| file.extension().is_some_and(|e| e == ending);
        files.iter().filter(named).collect::<Vec<_>>()
    };
    let sizes = COMPRESSED.iter().flat_map(|(ending, _)| packed(ending));
    let bytes: u64 = sizes.map(|file| file.metadata().map_or(0, |meta| meta.len())).sum();
    // Modules shrink to a quarter with xz; no package says what they take expanded.
    room_for(bytes * 5, folder)?;
    for (ending, program) in COMPRESSED {
        // Argument lists have an end.
        for some in packed(ending).chunks(200) {
            let mut expand = Command::new(program[0]);
            expand.args(&program[1..]).args(some);
            watch.must(expand, &format!("expand the kernel's modules with {}", program[0]))?;
        }
    }
    if bytes > 0 || !folder.join("modules.dep").is_file() {
        index_modules(folder)?;
    }
    Ok(())
}

/// The interpreter's name and the libraries that an ELF file asks for.
fn needed(file: &Path) -> Result<Vec<String>> {
    let data = std::fs::read(file).map_err(|e| Diagnostic::io("read", file, &e))?;
    let parse = || -> object::read::Result<Vec<String>> {
        let elf = ElfFile::<FileHeader64<Endianness>>::parse(data.as_slice())?;
        let endian = elf.endian();
        let mut names: Vec<Vec<u8>> = Vec::new();
        for header in elf.elf_program_headers() {
            if let Some(path) = header.interpreter(endian, data.as_slice())? {
                names.push(path.rsplit(|b| *b == b'/').next().unwrap_or(path).to_vec());
            }
        }
        let sections = elf.elf_section_table();
        if let Some((dynamic, link)) = sections.dynamic(endian, data.as_slice())? {
            let strings = sections.strings(endian, data.as_slice(), link)?;
            for item in dynamic {
                if item.tag(endian) == DT_NEEDED {
                    names.push(item.string(endian, strings)?.to_vec());
                }
            }
        }
        Ok(names.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned()).collect())
    };
    parse().map_err(|e| Diagnostic::trouble(format!("cannot read {}: {e}", file.display())))
}

/// Follows symlinks as if `root` were the root file system; `None` if there is no such file.
fn resolve(root: &Path, path: &Path) -> Option<PathBuf> {
    let mut pending: Vec<PathBuf> = vec![path.to_path_buf()];
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(next) = pending.pop() {
        let mut components = next.components();
        let Some(first) = components.next() else { continue };
        let rest = components.as_path().to_path_buf();
        pending.push(rest);
        match first {
            Component::RootDir => at = PathBuf::new(),
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let file = root.join(&at).join(name);
                match std::fs::read_link(&file) {
                    Ok(target) => {
                        links += 1;
                        if links > 40 {
                            return None;
                        }
                        pending.push(target);
                    }
                    Err(_) => at.push(name),
                }
            }
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let file = root.join(at);
    file.is_file().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn links_stay_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir_all(at("usr/lib/arch")).unwrap();
        std::fs::write(at("usr/lib/arch/ld-2.31.so"), "x").unwrap();
        symlink("/usr/lib", at("lib")).unwrap();
        symlink("/lib/arch/ld-2.31.so", at("usr/lib/ld.so")).unwrap();
        symlink("../../../../../usr/lib/ld.so", at("usr/lib/arch/up.so")).unwrap();
        symlink("loop", at("loop")).unwrap();
        let real = Some(at("usr/lib/arch/ld-2.31.so"));
        assert_eq!(resolve(root.path(), Path::new("lib/ld.so")), real);
        assert_eq!(resolve(root.path(), Path::new("lib/arch/up.so")), real);
        assert_eq!(resolve(root.path(), Path::new("loop")), None);
        assert_eq!(resolve(root.path(), Path::new("etc/passwd")), None, "the host's");
        assert_eq!(resolve(root.path(), Path::new("usr/lib")), None, "a folder");
    }

    #[test]
    fn a_program_gets_what_it_and_its_libraries_need() {
        let into = tempfile::tempdir().unwrap();
        let shell = Path::new("/bin/sh").canonicalize().unwrap();
        copy_libraries(&shell, Path::new("/"), into.path()).unwrap();
        let ran = Command::new(into.path().join("ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(into.path())
            .arg(&shell)
            .args(["-c", "echo runs"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&ran.stdout), "runs\n");
        let empty = tempfile::tempdir().unwrap();
        let error = copy_libraries(&shell, empty.path(), into.path()).unwrap_err();
        assert!(error.message().contains("which the C library's package does not have"));
    }

    #[test]
    fn compressed_modules_are_expanded_and_indexed() {
        // No module is at hand on every host: ELF files without .modinfo do for the names, and
        // tests/kernel_pull.rs compares the index of real ones with depmod's.
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("modules/6.1.0-test");
        std::fs::create_dir_all(folder.join("kernel/fs")).unwrap();
        std::fs::write(folder.join("modules.dep"), "kernel/fs/a.ko.xz:\n").unwrap();
        std::fs::write(folder.join("modules.dep.bin"), "stale").unwrap();
        for (name, program) in [("a", "xz"), ("b", "gzip"), ("c", "zstd"), ("d", "true")] {
            let file = folder.join(format!("kernel/fs/{name}.ko"));
            std::fs::copy("/bin/true", &file).unwrap();
            let quiet = ["-q", "--rm"];
            let options = if program == "zstd" { &quiet[..] } else { &[] };
            match Command::new(program).args(options).arg(&file).status() {
                Ok(status) => assert!(status.success()),
                Err(_) => eprintln!("this host has no {program}"),
            }
        }
        let cancel = AtomicBool::new(false);
        let mut watch = Watch { progress: &mut |_| {}, cancel: &cancel };
        prepare_modules(&folder, &mut watch).map_err(PullError::into_diagnostic).unwrap();
        let index = std::fs::read_to_string(folder.join("modules.dep")).unwrap();
        assert_eq!(index, "kernel/fs/a.ko:\nkernel/fs/b.ko:\nkernel/fs/c.ko:\nkernel/fs/d.ko:\n");
        assert!(!folder.join("modules.dep.bin").exists());
        let truth = std::fs::read("/bin/true").unwrap();
        assert_eq!(std::fs::read(folder.join("kernel/fs/a.ko")).unwrap(), truth);
    }
}
