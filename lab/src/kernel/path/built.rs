//! A kernel tree that the user built, in place or with O=: what in it boots, and what is missing.

use std::path::{Path, PathBuf};

use crate::kernel::source::{kernel_version, missing};
use crate::kernel::{Arch, Kconfig, Value};
use crate::manifest::{Diagnostic, Result};

/// A built kernel tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Built {
    pub folder: PathBuf,
    pub arch: Arch,
    pub boot: PathBuf,
    /// What `make kernelrelease` said at the time.
    pub release: String,
    /// Modules: where they are, and their names below `kernel/` of a module tree.
    pub modules: Vec<(PathBuf, PathBuf)>,
}

/// Architectures that boot here: the symbol that says so, what boots, and what makes it.
const ARCHES: [(&str, Arch, &[&str], &str); 2] = [
    ("UML", Arch::Um, &["linux", "vmlinux"], "ARCH=um"),
    ("X86_64", Arch::X86_64, &["arch/x86/boot/bzImage"], "ARCH=x86_64"),
];

/// Symbols of other architectures, for a message.
const OTHERS: [(&str, &str); 7] = [
    ("ARM64", "arm64"),
    ("ARM", "arm"),
    ("RISCV", "riscv"),
    ("PPC", "powerpc"),
    ("S390", "s390"),
    ("X86_32", "32-bit x86"),
    ("LOONGARCH", "loongarch"),
];

/// The built kernel tree that `folder` is in, itself or further up: what `lab run CASE` in it means.
/// Looks at a few names in each folder and runs nothing.
pub fn detect_tree(folder: &Path) -> Option<PathBuf> {
    let built = |folder: &&Path| is_candidate(folder) && Built::of(folder).is_ok();
    folder.ancestors().find(built).map(Path::to_path_buf)
}

fn is_candidate(folder: &Path) -> bool {
    folder.join(".config").is_file() && folder.join("include/config").is_dir()
}

impl Built {
    /// Looks at a folder.
    ///
    /// # Errors
    /// It is no kernel tree, or is not configured or not built: with the command that does it.
    pub fn of(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(missing(folder));
        }
        let shown = folder.display();
        let Ok(config) = std::fs::read(folder.join(".config")) else {
            return Err(not_configured(folder));
        };
        let config = Kconfig::parse(&String::from_utf8_lossy(&config));
        let arch = ARCHES.iter().find(|(symbol, ..)| config.get(symbol) == Value::Yes);
        let Some((_, arch, names, make)) = arch else {
            let other = OTHERS.iter().find(|(symbol, _)| config.get(symbol) == Value::Yes);
            let what = other.map_or("an architecture that is not known here", |(_, name)| name);
            return Err(Diagnostic::usage(format!("{shown} is configured for {what}"))
                .help("kernels for um and x86_64 boot here"));
        };
        let boot = names.iter().map(|name| folder.join(name)).find(|file| file.is_file());
        let release = std::fs::read_to_string(folder.join("include/config/kernel.release"));
        let (Some(boot), Ok(release)) = (boot, release) else {
            let lacks = format!("{shown} is configured and not built: it has no {}", names[0]);
            return Err(Diagnostic::usage(lacks)
                .help(format!("build it: make -C {shown} {make} -j$(nproc)")));
        };
        let modules = match config.get("MODULES") {
            Value::Yes => modules(folder),
            _ => Vec::new(),
        };
        let release = release.trim().to_string();
        if release.is_empty() || release.contains('/') {
            let message = format!("{shown}/include/config/kernel.release holds no release");
            return Err(
                Diagnostic::usage(message).help(format!("build it again: make -C {shown} {make}"))
            );
        }
        Ok(Self { folder: folder.to_path_buf(), arch: *arch, boot, release, modules })
    }

    /// The source that it was built from: another folder with O=.
    pub fn source(&self) -> PathBuf {
        self.folder.join("source").canonicalize().unwrap_or_else(|_| self.folder.clone())
    }
}

/// What modules.order lists and is there: `kernel/fs/x.ko` in old kernels, then `fs/x.ko`, since 6.2
/// `fs/x.o`.
fn modules(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let order = std::fs::read_to_string(folder.join("modules.order")).unwrap_or_default();
    let module = |line: &str| {
        let name = line.trim().strip_prefix("kernel/").unwrap_or(line.trim());
        let name = PathBuf::from(name).with_extension("ko");
        let sound = name.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        // The source has a folder kernel/ too.
        let places = [folder.join(&name), folder.join("kernel").join(&name)];
        let file = places.into_iter().find(|file| sound && file.is_file())?;
        let name = file.strip_prefix(folder).ok()?.to_path_buf();
        Some((file, name))
    };
    order.lines().filter_map(module).collect()
}

fn not_configured(folder: &Path) -> Diagnostic {
    let shown = folder.display();
    if kernel_version(folder).is_ok() {
        return Diagnostic::usage(format!("{shown} is a kernel source that is not built there"))
            .help(format!(
                "build it (make -C {shown} ARCH=um defconfig all), name the folder of its O=, or \
                 let the lab build it: source = \"{shown}\" in lab.toml"
            ));
    }
    let error = Diagnostic::usage(format!("{shown} is not a built kernel tree: it has no .config"));
    match detect_tree(folder) {
        Some(tree) => error.help(format!("{} is one", tree.display())),
        None => error.help("name the folder that was built in: the source, or that of make O="),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    fn tree(config: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        create_dir_all(root.path().join("include/config")).unwrap();
        write(root.path().join(".config"), config).unwrap();
        root
    }

    fn error(root: &tempfile::TempDir) -> String {
        Built::of(root.path()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_missing_is_said_with_the_command() {
        let root = tree("CONFIG_UML=y\n");
        let text = error(&root);
        assert!(text.contains("not built: it has no linux"), "{text}");
        assert!(text.contains("ARCH=um -j$(nproc)"), "{text}");
        write(root.path().join("linux"), "").unwrap();
        write(root.path().join("include/config/kernel.release"), "6.1.0\n").unwrap();
        let built = Built::of(root.path()).unwrap();
        assert_eq!((built.arch, built.release.as_str()), (Arch::Um, "6.1.0"));
        assert_eq!(built.source(), root.path());
        create_dir_all(root.path().join("fs/ext4")).unwrap();
        assert_eq!(detect_tree(&root.path().join("fs/ext4")), Some(root.path().to_path_buf()));
        assert!(error(&tree("CONFIG_X86_64=y\n")).contains("no arch/x86/boot/bzImage"));
        assert!(error(&tree("CONFIG_ARM64=y\n")).contains("configured for arm64"));

        let source = tempfile::tempdir().unwrap();
        assert!(error(&source).contains("is not a built kernel tree"));
        write(source.path().join("Makefile"), "VERSION = 6\nPATCHLEVEL = 1\n").unwrap();
        write(source.path().join("Kconfig"), "").unwrap();
        assert!(error(&source).contains("ARCH=um defconfig all"));
        assert_eq!(detect_tree(source.path()), None);
    }

    #[test]
    fn modules_are_found_in_every_spelling_of_their_order() {
        let root = tree("CONFIG_UML=y\nCONFIG_MODULES=y\n");
        let at = |name: &str| root.path().join(name);
        for folder in ["fs/a", "kernel/time"] {
            create_dir_all(at(folder)).unwrap();
        }
        for file in ["linux", "fs/a/a.ko", "fs/b.ko", "kernel/time/t.ko"] {
            write(at(file), "").unwrap();
        }
        write(at("include/config/kernel.release"), "6.1.0\n").unwrap();
        let order = "kernel/fs/a/a.ko\nfs/b.o\nkernel/time/t.o\nfs/gone.ko\n../x.ko\n";
        write(at("modules.order"), order).unwrap();
        let built = Built::of(root.path()).unwrap();
        let names: Vec<_> = built.modules.iter().map(|(_, name)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["fs/a/a.ko", "fs/b.ko", "kernel/time/t.ko"]);
    }
}
