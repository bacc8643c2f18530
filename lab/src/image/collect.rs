//! Puts the tree of an image together: programs and files of the host, with everything that they
//! need to run, at the host's own paths, so that run-time paths and scripts stay true.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::Extra;
use super::libraries::{self, Libraries};
use super::packages;
use super::recipe;
use super::search::SearchPath;
use super::stamp::Stamp;
use super::tree::{Node, Source, Tree};
use crate::manifest::{Diagnostic, ImageSpec, Result};

/// A tree and what it was made from.
#[derive(Debug)]
pub struct Collected {
    /// The guest's files.
    pub tree: Tree,
    /// Every file and symlink of the host that was looked at.
    pub inputs: Vec<Stamp>,
    /// What the search for each program gave; `None` for optional ones that the host lacks.
    pub found: Vec<(String, Option<PathBuf>)>,
    /// Requested programs and the real guest path of each, without the leading slash.
    pub programs: BTreeMap<String, String>,
}

/// Collects an image. Fails where a program is missing or a file cannot be read.
pub fn collect(spec: &ImageSpec, extra: &Extra, search: &SearchPath) -> Result<Collected> {
    let mut collector = Collector {
        tree: Tree::default(),
        inputs: BTreeMap::new(),
        found: Vec::new(),
        programs: BTreeMap::new(),
        missing: Vec::new(),
        visited: HashSet::new(),
        libraries: Libraries::of_host(),
        search,
    };
    collector.base()?;
    let image = format!("image {}", spec.name);
    collector.shell(&spec.shell, &image)?;
    let wanted = spec.programs.iter().map(|p| (p, image.as_str()));
    for (program, asker) in wanted.chain(extra.programs.iter().map(|p| (p, "the case"))) {
        collector.program(program, asker)?;
    }
    for program in &spec.optional {
        match search.find(program) {
            Some(_) => collector.program(program, &image)?,
            None => collector.found.push((program.clone(), None)),
        }
    }
    if !collector.missing.is_empty() {
        return Err(packages::missing(&collector.missing, search));
    }
    collector.companions()?;
    for (guest, text) in &spec.texts {
        collector.tree.put(guest, Node::File(0o644, Source::Text(text.clone())))?;
    }
    for file in &spec.files {
        collector.file(utf8(&file.guest)?, &file.host)?;
    }
    for (guest, host) in &extra.files {
        collector.file(guest, host)?;
    }
    collector.stamp_if_there(Path::new(libraries::CACHE));
    Ok(Collected {
        tree: collector.tree,
        inputs: collector.inputs.into_values().collect(),
        found: collector.found,
        programs: collector.programs,
    })
}

/// An image in the making; what its files need in turn is in `needs.rs`.
pub(super) struct Collector<'a> {
    pub(super) tree: Tree,
    inputs: BTreeMap<String, Stamp>,
    found: Vec<(String, Option<PathBuf>)>,
    pub(super) programs: BTreeMap<String, String>,
    /// Programs that the host lacks, and who asked for them.
    missing: Vec<(String, String)>,
    /// Files whose needs are known, by the DT_RPATHs that they inherited.
    pub(super) visited: HashSet<(PathBuf, Vec<PathBuf>)>,
    pub(super) libraries: Libraries,
    pub(super) search: &'a SearchPath,
}

impl Collector<'_> {
    fn base(&mut self) -> Result<()> {
        for (path, mode) in recipe::DIRS {
            self.tree.put(path, Node::Dir(*mode))?;
        }
        for (path, text) in recipe::LINKS {
            self.tree.put(path, Node::Link((*text).into()))?;
        }
        for (path, text) in recipe::TEXTS {
            self.tree.put(path, Node::File(0o644, Source::Text((*text).into())))?;
        }
        // The kernel opens it for PID 1 before there is a devtmpfs.
        self.tree.put("/dev/console", Node::Char(0o600, 5, 1))?;
        let init = self.tree.put("/init", Node::File(0o755, Source::Embedded(recipe::INIT)))?;
        let tools = Node::File(0o755, Source::Embedded(recipe::TOOLS));
        let tools = self.tree.put("/usr/bin/lab-tools", tools)?;
        self.programs.insert("modprobe".into(), init);
        self.programs.insert("lab-tools".into(), tools.clone());
        for name in recipe::TOOL_NAMES {
            self.tree.put(&format!("/usr/bin/{name}"), Node::Link("lab-tools".into()))?;
            self.programs.insert((*name).into(), tools.clone());
        }
        Ok(())
    }

    fn shell(&mut self, shell: &str, asker: &str) -> Result<()> {
        self.program(shell, asker)?;
        let Some(place) = self.programs.get(shell).cloned() else {
            return Err(packages::missing(&self.missing, self.search));
        };
        let text = place.strip_prefix("usr/bin/").map_or(format!("/{place}"), str::to_string);
        self.tree.put("/usr/bin/sh", Node::Link(text))?;
        self.programs.insert("sh".into(), place);
        Ok(())
    }

    /// Takes a program of the host along under its own name.
    pub(super) fn program(&mut self, name: &str, asker: &str) -> Result<()> {
        let base = name.rsplit('/').next().unwrap_or_default();
        if base.is_empty() || (name.contains('/') && !name.starts_with('/')) {
            return Err(Diagnostic::usage(format!(
                "{asker} asks for the program {name:?}, which is neither a name nor an absolute path"
            )));
        }
        if self.programs.contains_key(name) {
            return Ok(());
        }
        let path = self.search.find(name);
        self.found.push((name.to_string(), path.clone()));
        let Some(path) = path else {
            self.missing.push((name.to_string(), asker.to_string()));
            return Ok(());
        };
        let place = self.executable(&path, name)?;
        // A program from elsewhere (a build folder on the PATH) must be found by its name too.
        let known =
            recipe::GUEST_PATH.iter().find_map(|f| self.tree.resolve(&format!("{f}/{base}")));
        if known.as_ref() != Some(&place) {
            self.tree.put(&format!("/usr/local/sbin/{base}"), Node::Link(format!("/{place}")))?;
        }
        self.programs.insert(name.to_string(), place);
        Ok(())
    }

    /// Takes an executable file along, with what it needs; where it is in the guest. `who` is the
    /// program on whose behalf, for errors.
    pub(super) fn executable(&mut self, path: &Path, who: &str) -> Result<String> {
        let (place, real) = self.mirror(path)?;
        self.closure(&real, &real, who, &[])?;
        Ok(place)
    }

    /// Puts a host file at its own path into the guest, with every symlink on the way there, which
    /// keeps names that matter (mkfs.ext4 -> mke2fs). Where it is in the guest, and on the host.
    pub(super) fn mirror(&mut self, path: &Path) -> Result<(String, PathBuf)> {
        let mut pending = names(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let meta = next.symlink_metadata().map_err(|e| Diagnostic::io("read", &next, &e))?;
            if meta.is_symlink() {
                links += 1;
                if links > 40 {
                    return Err(Diagnostic::trouble(format!(
                        "too many symlinks in {}",
                        path.display()
                    )));
                }
                let target = fs::read_link(&next).map_err(|e| Diagnostic::io("read", &next, &e))?;
                self.link(&next, &target, &at)?;
                if target.is_absolute() {
                    at = "/".into();
                }
                pending.extend(names(&target));
            } else if meta.is_dir() {
                at = next;
            } else if pending.is_empty() && meta.is_file() {
                self.stamp(&next)?;
                let place = self.tree.place(utf8(&next)?)?;
                let node = Node::File(meta.mode() & 0o7777, Source::Host(next.clone()));
                match self.tree.get(&place) {
                    // What lab brings itself is not replaced by the host's.
                    Some(Node::File(..)) => {}
                    _ => drop(self.tree.put(utf8(&next)?, node)?),
                }
                return Ok((place, next));
            } else {
                break;
            }
        }
        Err(Diagnostic::trouble(format!("{} is no regular file", path.display())))
    }

    /// Repeats a symlink of the host, unless the guest's own layout has something there.
    fn link(&mut self, path: &Path, target: &Path, parent: &Path) -> Result<()> {
        self.stamp(path)?;
        let path = utf8(path)?;
        let place = self.tree.place(path)?;
        if self.tree.get(&place).is_none() {
            // Relative text would lead elsewhere from another folder (a host with a real /bin).
            let moved = format!("/{place}") != path;
            let target = if moved { parent.join(target) } else { target.to_path_buf() };
            self.tree.put(path, Node::Link(utf8(&target)?.to_string()))?;
        }
        Ok(())
    }

    /// Puts a file or folder of the host at a path of the guest. Permissions become 755 or 644, so
    /// that a checkout's umask makes no difference.
    fn file(&mut self, guest: &str, host: &Path) -> Result<()> {
        if !guest.starts_with('/') || !host.is_absolute() {
            return Err(Diagnostic::usage(format!(
                "a file of an image needs two absolute paths: {} on the host, {guest} in the guest",
                host.display()
            )));
        }
        self.stamp_if_there(host);
        let real = host.canonicalize().map_err(|e| Diagnostic::io("read", host, &e))?;
        self.stamp(&real)?;
        let meta = real.metadata().map_err(|e| Diagnostic::io("read", &real, &e))?;
        if meta.is_dir() {
            return self.folder(guest, &real);
        }
        if !meta.is_file() {
            let message = format!("{} is neither a file nor a folder", host.display());
            return Err(Diagnostic::usage(message));
        }
        let runs = meta.mode() & 0o111 != 0;
        let mode = if runs { 0o755 } else { 0o644 };
        self.tree.put(guest, Node::File(mode, Source::Host(real.clone())))?;
        if runs {
            self.closure(&real, &real, guest, &[])?;
        }
        Ok(())
    }

    fn folder(&mut self, guest: &str, host: &Path) -> Result<()> {
        self.tree.put(guest, Node::Dir(0o755))?;
        let read = |e| Diagnostic::io("read", host, &e);
        let entries =
            fs::read_dir(host).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
        let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
        paths.sort();
        for path in paths {
            let name = utf8(&path)?.rsplit('/').next().unwrap_or_default();
            let guest = format!("{}/{name}", guest.trim_end_matches('/'));
            if path.is_symlink() {
                self.stamp(&path)?;
                let target = fs::read_link(&path).map_err(|e| Diagnostic::io("read", &path, &e))?;
                self.tree.put(&guest, Node::Link(utf8(&target)?.to_string()))?;
            } else {
                self.file(&guest, &path)?;
            }
        }
        Ok(())
    }

    fn stamp(&mut self, path: &Path) -> Result<()> {
        let text = utf8(path)?;
        if !self.inputs.contains_key(text) {
            let stamp = Stamp::of(text).map_err(|e| Diagnostic::io("read", path, &e))?;
            self.inputs.insert(text.to_string(), stamp);
        }
        Ok(())
    }

    fn stamp_if_there(&mut self, path: &Path) {
        // A missing file is reported by who needs it.
        let _ = self.stamp(path);
    }
}

/// The components of a path, last first, without `.` and the root.
fn names(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .rev()
        .filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir))
        .map(|c| c.as_os_str().to_owned())
        .collect()
}

/// The text of a path; archives and manifests know only UTF-8.
pub(super) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Diagnostic::trouble(format!(
            "the path {} is not UTF-8, which an image needs",
            path.display()
        ))
    })
}
