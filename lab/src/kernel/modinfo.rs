//! Indexes a folder of modules as depmod(8) does: packages of PC kernels leave that to the host's
//! depmod when they are installed. Made from the modules' own `.modinfo`, so that the result
//! depends on the package alone and no host needs kmod.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection};

use super::entry::write_whole;
use crate::manifest::{Diagnostic, Result};

/// What a module says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Module {
    /// Relative to the indexed folder.
    path: String,
    /// Names of the modules whose symbols it uses.
    depends: Vec<String>,
    aliases: Vec<String>,
    softdeps: Vec<String>,
}

/// Writes `modules.dep`, `modules.alias` and `modules.softdep` into `folder`
/// (`.../modules/RELEASE`) for the modules below it, which must not be compressed: the kernel's own
/// in `kernel/`, others in `updates/`.
///
/// # Errors
/// A module is not an ELF file, or an index cannot be written.
pub fn index_modules(folder: &Path) -> Result<()> {
    let mut modules = BTreeMap::new();
    let files = files_below(folder)?;
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "ko")) {
        let data = std::fs::read(file).map_err(|e| Diagnostic::io("read", file, &e))?;
        let mut module = Module::parse(&data).map_err(|e| {
            Diagnostic::trouble(format!("the kernel module {}: {e}", file.display()))
        })?;
        let path = file.strip_prefix(folder).unwrap_or(file);
        module.path = path.to_string_lossy().into_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        modules.insert(canonical(&stem), module);
    }
    let (mut dep, mut alias, mut softdep) = (String::new(), String::new(), String::new());
    for (name, module) in &modules {
        let mut order = Vec::new();
        load_order(name, &modules, &mut BTreeSet::new(), &mut order);
        // The module itself is the last; modprobe loads from right to left.
        let paths: Vec<_> = order.iter().rev().skip(1).map(|n| modules[*n].path.as_str()).collect();
        let space = if paths.is_empty() { "" } else { " " };
        let _ = writeln!(dep, "{}:{space}{}", module.path, paths.join(" "));
        for pattern in &module.aliases {
            let _ = writeln!(alias, "alias {pattern} {name}");
        }
        for rest in &module.softdeps {
            let _ = writeln!(softdep, "softdep {name} {rest}");
        }
    }
    for (name, text) in
        [("modules.dep", dep), ("modules.alias", alias), ("modules.softdep", softdep)]
    {
        write_whole(&folder.join(name), text.as_bytes())?;
        // kmod prefers the binary form, which now tells of other files.
        let _ = std::fs::remove_file(folder.join(format!("{name}.bin")));
    }
    Ok(())
}

/// All files and links below a folder, in no order.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
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

impl Module {
    /// Reads `.modinfo`: `key=value` strings, each ended by a zero byte.
    fn parse(data: &[u8]) -> object::read::Result<Self> {
        let elf = object::File::parse(data)?;
        let mut module = Self::default();
        let Some(section) = elf.section_by_name(".modinfo") else { return Ok(module) };
        for field in section.data()?.split(|byte| *byte == 0) {
            let field = String::from_utf8_lossy(field);
            let Some((key, value)) = field.split_once('=') else { continue };
            match key {
                "depends" => {
                    let names = value.split(',').filter(|name| !name.is_empty());
                    module.depends.extend(names.map(canonical));
                }
                "alias" => module.aliases.push(value.to_string()),
                "softdep" => module.softdeps.push(value.to_string()),
                _ => {}
            }
        }
        Ok(module)
    }
}

/// The names to load for `name`, itself last: whatever a module needs stands before it.
fn load_order<'a>(
    name: &'a str,
    modules: &'a BTreeMap<String, Module>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    // What is not there is built in.
    let Some(module) = modules.get(name) else { return };
    if seen.insert(name) {
        for needed in &module.depends {
            load_order(needed, modules, seen, order);
        }
        order.push(name);
    }
}

/// To the kernel, `-` and `_` in a module's name are the same.
pub(super) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}
