//! A kernel in a folder of its own, with everything that it needs: what `lab runs bundle --kernel`
//! puts into an archive, and what `-k path:FOLDER` boots on another host.
//!
//! ```text
//! FOLDER/{kernel.json, boot, config, libraries/, modules/RELEASE/}
//! ```

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::entry::{Entry, FORMAT, Health, disk_usage, write_whole};
use super::super::{Kernel, Origin};
use super::{Config, Found};
use crate::manifest::{Diagnostic, Result};

/// `kernel.json`: as in the store, with what lab.toml says of it.
#[derive(Serialize, Deserialize)]
pub(in crate::kernel) struct Packed {
    /// Its name, by which known failures and variants of snapshots go.
    pub name: String,
    /// Words for the command line of every boot.
    pub cmdline: Vec<String>,
    #[serde(flatten)]
    entry: Entry,
}

const RECORD: &str = "kernel.json";

impl Packed {
    /// Reads the record of a packed kernel; `None` where `folder` is none.
    pub fn read(folder: &Path) -> Option<Self> {
        let packed: Self =
            serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()?;
        let sound = packed.entry.format == FORMAT && is_one_name(&packed.entry.release);
        (sound && folder.join("boot").exists()).then_some(packed)
    }

    /// What there is to boot.
    ///
    /// # Errors
    /// A file is missing or is not what was packed.
    pub(super) fn found(self, folder: &Path) -> Result<Found> {
        if self.entry.health(folder) == Health::Damaged {
            return Err(Diagnostic::trouble(format!(
                "the kernel in {} is damaged: its files are not those that were packed",
                folder.display()
            ))
            .help("unpack the archive again"));
        }
        let modules = folder.join("modules").join(&self.entry.release);
        Ok(Found {
            arch: self.entry.arch,
            boot: folder.join("boot"),
            libraries: self.entry.libraries.then(|| folder.join("libraries")),
            tree: self.entry.modules.then_some(modules),
            release: self.entry.release,
            modules: Vec::new(),
            config: Config::File(folder.join("config")),
            origin: self.entry.origin,
        })
    }
}

impl Kernel {
    /// Copies the kernel with all that it needs into `folder`, which is made.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn pack(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|e| Diagnostic::io("make", folder, &e))?;
        let mut files = vec!["boot".to_string(), "config".to_string()];
        copy(&self.boot, &folder.join("boot"))?;
        copy(&self.config_file, &folder.join("config"))?;
        if let Some(libraries) = &self.libraries {
            copy_tree(libraries, &folder.join("libraries"), &mut |name| {
                files.push(format!("libraries/{name}"));
            })?;
        }
        if let Some(modules) = &self.modules {
            let to = folder.join("modules").join(&self.release);
            copy_tree(modules, &to, &mut |name| {
                files.push(format!("modules/{}/{name}", self.release));
            })?;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut entry = Entry {
            format: FORMAT,
            key: self.key.clone(),
            arch: self.arch,
            release: self.release.clone(),
            origin: self.origin.clone(),
            libraries: self.libraries.is_some(),
            modules: self.modules.is_some(),
            bytes: disk_usage(folder).unwrap_or(0),
            made: now.as_secs(),
            files: Vec::new(),
        };
        entry.mark(folder, &files)?;
        // Where it lay on this host is nobody else's business.
        if let Origin::Path { path, .. } = &mut entry.origin {
            *path = path.file_name().map(PathBuf::from).unwrap_or_default();
        }
        let packed = Packed { name: self.name.clone(), cmdline: self.cmdline.clone(), entry };
        let text = serde_json::to_vec_pretty(&packed).expect("a record is plain data");
        write_whole(&folder.join(RECORD), &text)
    }
}

/// A release becomes a part of a path: nothing else may come from a file.
fn is_one_name(release: &str) -> bool {
    !release.is_empty() && release != ".." && release != "." && !release.contains(['/', '\0'])
}

/// Files of a folder and below; links are followed, so that the copy stands alone.
fn copy_tree(from: &Path, to: &Path, each: &mut dyn FnMut(&str)) -> Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let (from, to) = (from.join(&below), to.join(&below));
        std::fs::create_dir_all(&to).map_err(|e| Diagnostic::io("make", &to, &e))?;
        let io = |e| Diagnostic::io("read", &from, &e);
        for item in std::fs::read_dir(&from).map_err(io)? {
            let item = item.map_err(io)?;
            let name = below.join(item.file_name());
            // `build` and `source` of a tree that make installed lead out of it.
            let is_link = item.file_type().is_ok_and(|kind| kind.is_symlink());
            match item.path().is_dir() {
                true if is_link => {}
                true => folders.push(name),
                false => {
                    copy(&item.path(), &to.join(item.file_name()))?;
                    each(&name.to_string_lossy());
                }
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    match std::fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
            Err(Diagnostic::io("write", to, &e).help("free some room, or set TMPDIR elsewhere"))
        }
        Err(e) => Err(Diagnostic::io("copy", from, &e)),
    }
}
