//! Which files of a kernel's module tree a name means, and in which order: the text files that
//! depmod(8) writes, read as kmod reads them. Pure, so that it is tested without a kernel.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::glob::{matches, normalise};

/// One module file to insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Path within the tree, as in modules.dep (`kernel/fs/overlayfs/overlay.ko`).
    pub file: String,
    /// Its failure does not stop the modules after it (soft dependencies).
    pub optional: bool,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Part of the kernel itself.
    Builtin,
    /// These modules by name; an alias can mean several.
    Modules(Vec<String>),
    /// Nothing that this tree knows.
    Unknown,
}

/// The tree of one kernel. Its files are read when first needed; a missing one counts as empty.
#[derive(Debug)]
pub struct Tree {
    /// `/lib/modules/RELEASE`.
    pub folder: PathBuf,
    dep: OnceCell<String>,
    alias: OnceCell<String>,
    softdep: OnceCell<String>,
    builtin: OnceCell<String>,
    modinfo: OnceCell<String>,
}

impl Tree {
    /// The tree in that folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            dep: OnceCell::new(),
            alias: OnceCell::new(),
            softdep: OnceCell::new(),
            builtin: OnceCell::new(),
            modinfo: OnceCell::new(),
        }
    }

    /// Whether there is a tree at all.
    pub fn exists(&self) -> bool {
        !self.dep().is_empty() || !self.builtin().is_empty()
    }

    /// Looks a name or alias up: modules by name, then what is built in, then aliases.
    pub fn meaning(&self, name: &str) -> Meaning {
        let name = normalise(name);
        if self.dep_line(&name).is_some() {
            return Meaning::Modules(vec![name]);
        }
        if self.builtin().lines().any(|file| module_name(file) == name) {
            return Meaning::Builtin;
        }
        let mut found = Vec::new();
        for line in self.alias().lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
                && matches(&normalise(pattern), &name)
                && !found.iter().any(|f| f == module)
            {
                found.push(normalise(module));
            }
        }
        if !found.is_empty() {
            return Meaning::Modules(found);
        }
        // NUL-separated `MODULE.KEY=VALUE`.
        let builtin = self.modinfo().split('\0').any(|entry| {
            let alias = entry.split_once('.').and_then(|(_, rest)| rest.strip_prefix("alias="));
            alias.is_some_and(|pattern| matches(&normalise(pattern), &name))
        });
        if builtin { Meaning::Builtin } else { Meaning::Unknown }
    }

    /// All files to insert for one module (a name from [`Meaning::Modules`]), dependencies and soft
    /// dependencies included, in order and each once; `None` if the tree has no such module.
    pub fn order(&self, module: &str) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        self.visit(module, false, &mut Vec::new(), &mut steps)?;
        Some(steps)
    }

    /// The modules that one needs, nearest first.
    pub fn needs(&self, module: &str) -> Vec<String> {
        let line = self.dep_line(&normalise(module));
        line.map(|(_, needs)| needs.map(module_name).collect()).unwrap_or_default()
    }

    fn visit(
        &self,
        module: &str,
        optional: bool,
        open: &mut Vec<String>,
        steps: &mut Vec<Step>,
    ) -> Option<()> {
        let (file, needs) = self.dep_line(module)?;
        if open.iter().any(|m| m == module) {
            return Some(());
        }
        open.push(module.to_string());
        // modules.dep lists all that a module needs, indirectly too, the deepest last.
        let needs: Vec<&str> = needs.collect();
        for need in needs.iter().rev() {
            self.visit_with_soft(need, &module_name(need), optional, open, steps);
        }
        self.visit_with_soft(file, module, optional, open, steps);
        Some(())
    }

    fn visit_with_soft(
        &self,
        file: &str,
        module: &str,
        optional: bool,
        open: &mut Vec<String>,
        steps: &mut Vec<Step>,
    ) {
        let (pre, post) = self.soft(module);
        self.visit_soft(&pre, open, steps);
        match steps.iter_mut().find(|step| step.file == file) {
            Some(step) => step.optional &= optional,
            None => steps.push(Step { file: file.to_string(), optional }),
        }
        self.visit_soft(&post, open, steps);
    }

    fn visit_soft(&self, names: &[String], open: &mut Vec<String>, steps: &mut Vec<Step>) {
        for name in names {
            if let Meaning::Modules(modules) = self.meaning(name) {
                for module in modules {
                    self.visit(&module, true, open, steps);
                }
            }
        }
    }

    /// Soft dependencies, those before and those after. Names in front of both words are ignored,
    /// as kmod ignores them (cifs in Debian's 6.1 has such lines).
    fn soft(&self, module: &str) -> (Vec<String>, Vec<String>) {
        let (mut pre, mut post) = (Vec::new(), Vec::new());
        for line in self.softdep().lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("softdep") || words.next().map(normalise) != Some(module.into())
            {
                continue;
            }
            let mut list = None;
            for word in words {
                match (word, &mut list) {
                    ("pre:", _) => list = Some(&mut pre),
                    ("post:", _) => list = Some(&mut post),
                    (name, Some(list)) => list.push(name.to_string()),
                    (_, None) => {}
                }
            }
        }
        (pre, post)
    }

    fn dep_line(&self, name: &str) -> Option<(&str, std::str::SplitAsciiWhitespace<'_>)> {
        self.dep().lines().find_map(|line| {
            let (file, needs) = line.split_once(':')?;
            (module_name(file) == name).then(|| (file, needs.split_ascii_whitespace()))
        })
    }

    fn read<'a>(&self, cell: &'a OnceCell<String>, name: &str) -> &'a str {
        cell.get_or_init(|| {
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    fn dep(&self) -> &str {
        self.read(&self.dep, "modules.dep")
    }

    fn alias(&self) -> &str {
        self.read(&self.alias, "modules.alias")
    }

    fn softdep(&self) -> &str {
        self.read(&self.softdep, "modules.softdep")
    }

    fn builtin(&self) -> &str {
        self.read(&self.builtin, "modules.builtin")
    }

    fn modinfo(&self) -> &str {
        self.read(&self.modinfo, "modules.builtin.modinfo")
    }
}

/// `kernel/drivers/md/dm-mod.ko.xz` is the module `dm_mod`.
pub fn module_name(file: &str) -> String {
    let base = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or(file);
    normalise(base.split_once(".ko").map_or(base, |(name, _)| name))
}

/// The parameters of a module on the kernel's command line (`MODULE.KEY=VALUE`), blank-separated,
/// as kmod hands them to modules that are not built in.
pub fn parameters(cmdline: &str, module: &str) -> String {
    let words = cmdline.split_ascii_whitespace().take_while(|&word| word != "--");
    let of_module = words.filter_map(|word| {
        let (name, rest) = word.split_once('.')?;
        (normalise(name) == module).then_some(rest)
    });
    of_module.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut from Debian's 6.1 UML tree, and a compressed one as in newer distributions.
    fn tree() -> (tempdir::Folder, Tree) {
        let folder = tempdir::Folder::new();
        folder.write(
            "modules.dep",
            "kernel/fs/overlayfs/overlay.ko:\n\
             kernel/drivers/md/dm-mod.ko:\n\
             kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko\n\
             kernel/drivers/md/persistent-data/dm-persistent-data.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko kernel/lib/libcrc32c.ko\n\
             kernel/drivers/md/dm-thin-pool.ko: kernel/drivers/md/persistent-data/dm-persistent-data.ko kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko kernel/lib/libcrc32c.ko\n\
             kernel/lib/libcrc32c.ko:\n\
             kernel/crypto/crc32c_generic.ko.xz:\n\
             kernel/a.ko: kernel/lib/libcrc32c.ko\n\
             kernel/b.ko:\n",
        );
        folder.write("modules.alias", "# x\nalias fs-overlay overlay\nalias crypto-crc32c crc32c_generic\nalias block-major-7-* b\nalias block-major-* a\n");
        folder.write("modules.softdep", "softdep libcrc32c pre: crypto-crc32c none post: b\nsoftdep b pre: libcrc32c\nsoftdep a a b\n");
        folder.write(
            "modules.builtin",
            "kernel/fs/ext4/ext4.ko\nkernel/drivers/char/virtio_console.ko\n",
        );
        folder.write(
            "modules.builtin.modinfo",
            "ext4.alias=fs-ext4\0ext4.license=GPL\0virtio_console.alias=virtio:d00000003v*\0",
        );
        let tree = Tree::new(&folder.0);
        (folder, tree)
    }

    mod tempdir {
        use std::path::PathBuf;
        use std::sync::atomic::{AtomicU32, Ordering};

        pub struct Folder(pub PathBuf);

        impl Folder {
            pub fn new() -> Self {
                static COUNT: AtomicU32 = AtomicU32::new(0);
                let name = format!(
                    "lab-init-{}-{}",
                    std::process::id(),
                    COUNT.fetch_add(1, Ordering::Relaxed)
                );
                let path = std::env::temp_dir().join(name);
                std::fs::create_dir(&path).unwrap();
                Self(path)
            }

            pub fn write(&self, name: &str, text: &str) {
                std::fs::write(self.0.join(name), text).unwrap();
            }
        }

        impl Drop for Folder {
            fn drop(&mut self) {
                let _ = std::fs::remove_dir_all(&self.0);
            }
        }
    }

    #[test]
    fn names_aliases_and_builtins_mean_what_kmod_says() {
        let (_folder, tree) = tree();
        let modules = |names: &[&str]| {
            Meaning::Modules(names.iter().map(|name| (*name).to_string()).collect())
        };
        assert!(tree.exists());
        assert_eq!(tree.meaning("dm-thin_pool"), modules(&["dm_thin_pool"]));
        assert_eq!(tree.meaning("fs-overlay"), modules(&["overlay"]));
        assert_eq!(tree.meaning("block-major-7-0"), modules(&["b", "a"]));
        for builtin in ["ext4", "fs-ext4", "virtio-console", "virtio:d00000003v00001AF4"] {
            assert_eq!(tree.meaning(builtin), Meaning::Builtin, "{builtin}");
        }
        assert_eq!(tree.meaning("fs-nonsense"), Meaning::Unknown);
        assert!(!Tree::new("/nonexistent").exists());
        assert_eq!(Tree::new("/nonexistent").meaning("ext4"), Meaning::Unknown);
    }

    #[test]
    fn dependencies_come_first_and_soft_ones_are_optional() {
        let (_folder, tree) = tree();
        let order: Vec<_> = tree.order("dm_thin_pool").unwrap();
        let shown: Vec<String> = order
            .iter()
            .map(|s| format!("{}{}", module_name(&s.file), if s.optional { "?" } else { "" }))
            .collect();
        assert_eq!(
            shown,
            [
                "crc32c_generic?",
                "libcrc32c",
                "b?",
                "dm_mod",
                "dm_bufio",
                "dm_persistent_data",
                "dm_thin_pool"
            ]
        );
        assert_eq!(order[0].file, "kernel/crypto/crc32c_generic.ko.xz");
        assert_eq!(tree.order("nonsense"), None);
        assert_eq!(tree.needs("dm-bufio"), ["dm_mod"]);
    }

    #[test]
    fn circles_of_soft_dependencies_end() {
        let (_folder, tree) = tree();
        let shown: Vec<_> = tree.order("b").unwrap().iter().map(|s| module_name(&s.file)).collect();
        assert_eq!(shown, ["crc32c_generic", "libcrc32c", "b"]);
    }

    #[test]
    fn parameters_come_from_the_kernels_command_line() {
        let line = "quiet null_blk.nr_devices=2 null-blk.gb=1 brd.rd_nr=1 -- null_blk.no=1";
        assert_eq!(parameters(line, "null_blk"), "nr_devices=2 gb=1");
        assert_eq!(parameters(line, "loop"), "");
    }
}
