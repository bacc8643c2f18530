//! The files of a project that a kernel from source is made from, for a record that stands alone.

use std::path::{Path, PathBuf};

use super::build::Recipe;
use super::patches::first_of;
use super::{Kernel, KernelKey, KernelSpec, Kernels, Provider, PullError};
use crate::manifest::{Diagnostic, Result};

/// The files, and the spec as it names them.
#[derive(Clone, Debug)]
pub struct Ingredients {
    /// Path below a project's folder, and contents.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// The spec; patches that were files elsewhere have their new place.
    pub spec: KernelSpec,
}

/// Where patches of elsewhere go.
const ONE_OFF: &str = "patches/one-off";

impl Kernels {
    /// Fragments (also those that the lab brings along) and patches of a spec; none where it is not
    /// built from source.
    ///
    /// # Errors
    /// One of them is not there any more.
    pub fn ingredients(&self, spec: &KernelSpec) -> Result<Ingredients> {
        let mut made = Ingredients { files: Vec::new(), spec: spec.clone() };
        let Provider::Source { kconfig, patches, .. } = &mut made.spec.provider else {
            return Ok(made);
        };
        for fragment in Recipe::load(spec, &self.project)?.fragments {
            // One-off options are in the spec itself.
            if kconfig.contains(&fragment.name) {
                let file = Path::new("kconfigs").join(format!("{}.config", fragment.name));
                made.files.push((file, fragment.text.as_bytes().to_vec()));
            }
        }
        for name in patches {
            // `:N` behind it names its first N patches.
            let (bare, first) = match first_of(name) {
                (bare, Some(count)) => (bare.to_string(), format!(":{count}")),
                (bare, None) => (bare.to_string(), String::new()),
            };
            let series = Path::new("patches").join(&bare);
            if self.project.join(&series).join("series").is_file() {
                let folder = self.project.join(&series);
                let io = |e| Diagnostic::io("read", &folder, &e);
                for item in std::fs::read_dir(&folder).map_err(io)? {
                    let item = item.map_err(io)?;
                    if item.path().is_file() {
                        made.files.push((series.join(item.file_name()), read(&item.path())?));
                    }
                }
                continue;
            }
            let file = self.project.join(&bare);
            let text = read(&file)?;
            let below = match file.strip_prefix(&self.project) {
                Ok(below) => below.to_path_buf(),
                Err(_) => Path::new(ONE_OFF).join(file.file_name().unwrap_or_default()),
            };
            *name = format!("{}{first}", below.display());
            made.files.push((below, text));
        }
        Ok(made)
    }

    /// The very kernel that a run was on, by the key in its plan; `None` where it is not here any
    /// more.
    ///
    /// # Errors
    /// The store, or the user's own kernel, cannot be read.
    pub fn with_key(
        &self,
        spec: &KernelSpec,
        key: &str,
        cancel: &std::sync::atomic::AtomicBool,
    ) -> Result<Option<Kernel>, PullError> {
        let found = match (&spec.provider, KernelKey::parse(key)) {
            (_, None) => None,
            (Provider::Path { .. }, Some(_)) => self.find(spec, cancel)?,
            (_, Some(key)) => self.store.open_entry(&key, spec)?,
        };
        Ok(found.filter(|kernel| kernel.key.as_str() == key))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|e| Diagnostic::io("read", file, &e))
}
