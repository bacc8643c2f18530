//! Inserts modules of the running kernel's tree, with what they need.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::utsname::uname;

use crate::modules::{Meaning, Step, Tree, module_name, parameters};
use crate::trouble::{Context, Result, Trouble};

/// MODULE_INIT_COMPRESSED_FILE of linux/module.h (since 5.17), which nix does not name.
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);

/// `uname -r`.
pub fn release() -> String {
    uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The tree of the kernel that runs.
pub fn running_tree() -> Tree {
    Tree::new(Path::new("/lib/modules").join(release()))
}

/// Loads what a module name or alias means; nothing to do if it is built in.
///
/// # Errors
/// No such module, or the kernel refuses it (its log says why).
pub fn load(tree: &Tree, name: &str, given: &str) -> Result<()> {
    let modules = match tree.meaning(name) {
        Meaning::Builtin => return Ok(()),
        Meaning::Unknown if in_the_kernel(name) => return Ok(()),
        Meaning::Unknown if !tree.exists() => {
            let tree = tree.folder.display();
            return Err(Trouble(format!("module {name}: there is no module tree in {tree}")));
        }
        Meaning::Unknown => return Err(Trouble(format!("module {name}: no such module"))),
        Meaning::Modules(modules) => modules,
    };
    // An alias of several drivers is served when one of them loads.
    let mut first_error = None;
    let mut loaded = false;
    for module in modules {
        match load_module(tree, &module, given) {
            Ok(()) => loaded = true,
            Err(trouble) => first_error = first_error.or(Some(trouble)),
        }
    }
    match first_error {
        Some(trouble) if !loaded => Err(trouble),
        _ => Ok(()),
    }
}

/// Takes a module out, and what only it needed.
///
/// # Errors
/// It is in use, built in, or not loaded.
pub fn unload(tree: &Tree, name: &str) -> Result<()> {
    let modules = match tree.meaning(name) {
        Meaning::Builtin => return Err(Trouble(format!("module {name}: built into the kernel"))),
        Meaning::Modules(modules) => modules,
        Meaning::Unknown => vec![module_name(name)],
    };
    for module in modules {
        remove(&module).context(format_args!("module {module}"))?;
        for need in tree.needs(&module) {
            // In use by another, or loaded for its own sake: both are fine.
            let _ = remove(&need);
        }
    }
    Ok(())
}

fn remove(module: &str) -> nix::Result<()> {
    let name = CString::new(module).map_err(|_| Errno::EINVAL)?;
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
}

fn load_module(tree: &Tree, module: &str, given: &str) -> Result<()> {
    let Some(steps) = tree.order(module) else {
        return Err(Trouble(format!("module {module}: not in modules.dep")));
    };
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for Step { file, optional } in steps {
        let name = module_name(&file);
        if is_live(&name) {
            continue;
        }
        let mut options = parameters(&cmdline, &name);
        if name == module && !given.is_empty() {
            options = format!("{options} {given}");
        }
        match insert(&tree.folder.join(&file), options.trim()) {
            Err(trouble) if !optional => return Err(trouble),
            _ => {}
        }
    }
    Ok(())
}

fn insert(file: &Path, options: &str) -> Result<()> {
    let options = CString::new(options).map_err(|_| Trouble("NUL in module options".into()))?;
    let plain = uncompressed(file);
    let (opened, flags) = match plain.as_ref().and_then(|plain| File::open(plain).ok()) {
        Some(opened) => (opened, ModuleInitFlags::empty()),
        None => {
            let flags = if plain.is_some() { COMPRESSED } else { ModuleInitFlags::empty() };
            (File::open(file).context(format_args!("module file {}", file.display()))?, flags)
        }
    };
    match finit_module(&opened, &options, flags) {
        Err(Errno::EEXIST) => Ok(()),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) if flags == COMPRESSED => Err(Trouble(format!(
            "module file {}: the kernel cannot decompress it (CONFIG_MODULE_DECOMPRESS)",
            file.display()
        ))),
        result => result.context(format_args!("module {}", module_name(&file.to_string_lossy()))),
    }
}

/// The name without its compression's ending; `None` where it has none.
fn uncompressed(file: &Path) -> Option<PathBuf> {
    let compressed = file.extension().is_some_and(|e| e == "xz" || e == "zst" || e == "gz");
    compressed.then(|| file.with_extension(""))
}

fn is_live(module: &str) -> bool {
    let state = fs::read_to_string(format!("/sys/module/{module}/initstate"));
    state.is_ok_and(|state| state.trim_end() == "live")
}

/// Whether a kernel without a module tree shows the thing: a user's own, with all built in.
fn in_the_kernel(name: &str) -> bool {
    let short = name.strip_prefix("fs-").unwrap_or(name);
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = filesystems.lines().any(|line| line.split('\t').next_back() == Some(short));
    known || Path::new("/sys/module").join(module_name(name)).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_files_have_a_plain_name() {
        assert_eq!(uncompressed(Path::new("a/b.ko.xz")), Some("a/b.ko".into()));
        assert_eq!(uncompressed(Path::new("a/b.ko.zst")), Some("a/b.ko".into()));
        assert_eq!(uncompressed(Path::new("a/b.ko")), None);
    }

    #[test]
    fn what_the_host_kernel_has_is_in_it() {
        assert!(in_the_kernel("proc"));
        assert!(in_the_kernel("fs-proc"));
        assert!(!in_the_kernel("nonsense"));
    }
}
