//! From a [`KernelSpec`] to a [`Kernel`] that boots: the content-addressed store in the cache, and
//! the providers that fill it (one file each; [`debian`] is the first).

mod build;
mod debian;
mod entry;
mod external;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod ingredients;
mod kconfig;
mod kernels;
mod modinfo;
mod modules;
mod patches;
mod path;
mod pull;
mod source;
mod store;
pub(crate) mod symbols;
mod tool;
mod tree;
mod unused;

pub use crate::manifest::{Arch, KernelSpec, Provider};
pub use build::new_warnings;
pub use debian::AptSource;
pub(crate) use entry::disk_usage;
pub use entry::{Origin, Package};
pub use external::ExternalModules;
pub use ingredients::Ingredients;
pub use kconfig::{
    Asked, Description, Explanation, Fragment, Kconfig, KconfigTree, Merged, Request, Target,
    Value, describe, explain, merge, verify,
};
pub use kernels::Kernels;
pub use modinfo::index_modules;
pub use modules::{MODULES, module_for};
pub use patches::{Applied, Patch, first_of, load_series};
pub use path::{PathKernels, detect_tree};
pub use pull::{PullError, PullProgress};
pub use source::{
    KernelVersion, Source, SourceOrigin, Sources, StoredSource, Tree, kernel_version,
};
pub(crate) use store::lock as lock_folder;
pub use store::{Store, StoredKernel};
pub use symbols::Symbols;
pub(crate) use tool::{Output, Watch};
pub use unused::{Part, Stored};

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use crate::manifest::{Detector, Diagnostic, Result};

/// The content digest of a kernel, in hex: what it was made from and by which recipe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KernelKey(String);

/// A kernel that can be booted. It stays in the store for as long as a clone of this lives.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name in lab.toml.
    pub name: String,
    /// What the store knows it by.
    pub key: KernelKey,
    /// The architecture, and so the backend.
    pub arch: Arch,
    /// What `uname -r` says in the guest.
    pub release: String,
    /// The program (UML) or the bzImage.
    pub boot: PathBuf,
    /// UML: a flat folder with the dynamic loader and the libraries that the program was built
    /// against, under the names that it asks for (`ld-linux-x86-64.so.2`, `libc.so.6`, ...).
    pub libraries: Option<PathBuf>,
    /// The folder that holds `modules.dep`: `/lib/modules/RELEASE` of the guest. Its modules are
    /// never compressed.
    pub modules: Option<PathBuf>,
    /// Words for the command line of every boot, as the manifest has them.
    pub cmdline: Vec<String>,
    /// Where it came from.
    pub origin: Origin,
    pub(in crate::kernel) config_file: PathBuf,
    pub(in crate::kernel) config: OnceLock<Kconfig>,
    /// A shared lock on the entry: held, never read.
    pub(in crate::kernel) _lease: Arc<Flock<File>>,
}

impl Kernel {
    /// Its `.config`, read and parsed at the first call.
    ///
    /// # Errors
    /// The store's copy cannot be read.
    pub fn config(&self) -> Result<&Kconfig> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let text = std::fs::read(&self.config_file)
            .map_err(|e| Diagnostic::io("read", &self.config_file, &e))?;
        Ok(self.config.get_or_init(|| Kconfig::parse(&String::from_utf8_lossy(&text))))
    }

    /// Its `.config` as it is.
    ///
    /// # Errors
    /// As [`Kernel::config`].
    pub fn config_text(&self) -> Result<String> {
        let text = std::fs::read(&self.config_file)
            .map_err(|e| Diagnostic::io("read", &self.config_file, &e))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Notes that a run uses it, for `lab gc`: the lock of its folder gets the time. In a cache that
    /// cannot be written nothing is noted, and nothing is removed either.
    pub fn mark_used(&self) {
        let _ = self._lease.set_modified(std::time::SystemTime::now());
    }

    /// The means to notice its own faults that it was built with.
    ///
    /// # Errors
    /// As [`Kernel::config`].
    pub fn detectors(&self) -> Result<BTreeSet<Detector>> {
        Ok(self.config()?.detectors())
    }
}

impl KernelKey {
    /// The digest of `parts`, in order. No two different lists give the same input to the hash.
    pub(in crate::kernel) fn of(parts: &[&str]) -> Self {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        // 128 bits are enough against accidents, and half as long in every path.
        Self(hash.finalize().to_hex()[..32].to_string())
    }

    /// A key as a record of ours has it.
    pub(in crate::kernel) fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_string())).filter(Self::is_sound)
    }

    /// All 32 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    /// A key is also the name of a folder: nothing else than digits may come from a file.
    pub(in crate::kernel) fn is_sound(&self) -> bool {
        self.0.len() == 32 && self.0.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

impl fmt::Display for KernelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_every_boundary() {
        let key = KernelKey::of(&["ab", "c"]);
        assert_ne!(key, KernelKey::of(&["a", "bc"]));
        assert_ne!(key, KernelKey::of(&["abc"]));
        assert_eq!(key, KernelKey::of(&["ab", "c"]));
        assert_eq!(key.to_string().len(), 32);
        assert!(key.as_str().starts_with(key.short()) && key.short().len() == 12);
        assert!(key.is_sound() && !KernelKey("../../etc".into()).is_sound());
    }

    #[test]
    fn kernels_are_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Kernel>();
        shared::<Store>();
    }
}
