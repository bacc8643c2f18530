//! What is done to unpacked files before a guest can use them: a program's libraries are gathered
//! in one flat folder, modules are expanded and indexed (PID 1 reads `modules.dep` and plain ELF).

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, ElfFile, ProgramHeader};

use super::PullError;
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

/// Indexes that go stale when `modules.dep` is rewritten without depmod.
const BINARY_INDEX: &str = "modules.dep.bin";

/// Copies the interpreter and the libraries that `program` needs, and what those need, from the
/// tree `root` into the flat folder `into`, under the names that are asked for.
pub(super) fn copy_libraries(program: &Path, root: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).map_err(|e| Diagnostic::io("make", into, &e))?;
    let mut wanted: Vec<String> = needed(program)?;
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
    let mut expanded = false;
    for (ending, program) in COMPRESSED {
        let ending = format!(".ko.{ending}");
        let named = |file: &&PathBuf| file.to_string_lossy().ends_with(&ending);
        let modules: Vec<_> = files.iter().filter(named).collect();
        // Argument lists have an end.
        for some in modules.chunks(200) {
            let mut expand = Command::new(program[0]);
            expand.args(&program[1..]).args(some);
            watch.must(expand, &format!("expand the kernel's modules with {}", program[0]))?;
            expanded = true;
        }
    }
    let index = folder.join("modules.dep");
    if index.is_file() && !expanded {
        return Ok(());
    }
    match depmod(folder, watch) {
        Ok(()) => Ok(()),
        // The index that came along is good but for the endings.
        Err(PullError::Other(_)) if index.is_file() => {
            let io = |e| Diagnostic::io("rewrite", &index, &e);
            let mut text = std::fs::read_to_string(&index).map_err(io)?;
            for (ending, _) in COMPRESSED {
                text = text.replace(&format!(".ko.{ending}"), ".ko");
            }
            std::fs::write(&index, text).map_err(io)?;
            let _ = std::fs::remove_file(folder.join(BINARY_INDEX));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes `modules.dep` and the other indexes. depmod wants to see a root file system.
fn depmod(folder: &Path, watch: &mut Watch) -> Result<(), PullError> {
    let release = folder.file_name().unwrap_or_default();
    let all = folder.parent().unwrap_or(folder);
    let root = tempfile::Builder::new().prefix(".depmod-").tempdir_in(all);
    let root = root.map_err(|e| Diagnostic::io("work in", all, &e))?;
    let link = || -> std::io::Result<()> {
        std::fs::create_dir_all(root.path().join("usr/lib"))?;
        symlink(all, root.path().join("usr/lib/modules"))?;
        symlink("usr/lib", root.path().join("lib"))
    };
    link().map_err(|e| Diagnostic::io("work in", root.path(), &e))?;
    let mut depmod = Command::new("depmod");
    // Where it lives is not on every user's PATH.
    for place in ["/usr/sbin/depmod", "/sbin/depmod"] {
        if Path::new(place).is_file() {
            depmod = Command::new(place);
        }
    }
    depmod.arg("-b").arg(root.path()).arg(release);
    watch.must(depmod, "index the kernel's modules with depmod")?;
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

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |e| Diagnostic::io("read", folder, &e);
    let mut files = Vec::new();
    for item in std::fs::read_dir(folder).map_err(io)? {
        let item = item.map_err(io)?;
        match item.file_type().map_err(io)?.is_dir() {
            true => files.extend(files_below(&item.path())?),
            false => files.push(item.path()),
        }
    }
    Ok(files)
}
