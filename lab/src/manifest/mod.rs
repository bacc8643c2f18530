//! What people write: lab.toml and the cases, validated as a whole before anything runs.
//!
//! These are declarations only. Later modules take them and act: [`crate::kernel`] makes a
//! [`KernelSpec`] bootable, [`crate::image`] assembles an [`ImageSpec`], [`crate::case`] runs a
//! [`Case`].

mod assertion;
mod case_toml;
mod diagnostic;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod image_toml;
mod kernel_toml;
mod lab_toml;
mod machine_toml;
mod project;
mod reader;
#[cfg(test)]
mod reference;
mod schema;
mod script;
mod select;
pub mod skeleton;
mod source;
mod step_toml;
mod twin_toml;
mod values;

pub use assertion::{Assertion, Comparison, Term};
pub use diagnostic::{Diagnostic, Fault, Place, Result, errno_words, nearest};
pub use script::{
    Action, Case, Change, Clock, Detector, Disk, Filter, MachineOp, MachineSpec, NamedFilter,
    Needs, Share, ShareMode, StatusRule, Step, Twin, Variant,
};
pub use values::{parse_duration, parse_size};

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A validated lab.toml and its cases; immutable.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder of lab.toml; the current folder where there is none.
    pub root: PathBuf,
    /// lab.toml, or `None` where only the embedded one applies.
    pub file: Option<PathBuf>,
    /// `[debian] mirror = URL`: where packages come from; `None`: what the host's apt uses.
    pub debian_mirror: Option<String>,
    /// `[runs]` and `[cache]`: how much is kept.
    pub bounds: Bounds,
    /// `default-kernels`: what runs without `-k`.
    pub default_kernels: Vec<String>,
    /// `[kernel.NAME]`, `extends` flattened; the project's own and the embedded ones.
    pub kernels: BTreeMap<String, KernelSpec>,
    /// `images/NAME.toml`; `base` is always there.
    pub images: BTreeMap<String, ImageSpec>,
    /// `[[known]]`.
    pub known: Vec<Known>,
    /// `[matrix.NAME]`.
    pub matrices: BTreeMap<String, MatrixSpec>,
    /// `cases/NAME/case.toml`: a case with an error harms no other.
    pub cases: BTreeMap<String, Result<Case>>,
}

/// `[runs]` and `[cache]`: how much is kept, and for how long. The defaults are in default.toml.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At most so many runs.
    pub runs: usize,
    /// No run older than this; the last one always stays.
    pub run_age: Duration,
    /// What is in the cache and was not used for so long is unused.
    pub cache_age: Duration,
}

impl Bounds {
    /// A day.
    pub const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Takes what one lab.toml gives.
    fn set(&mut self, [runs, run_days, cache_days]: [Option<u32>; 3]) {
        let age = |days: u32| Self::DAY * days;
        self.runs = runs.map_or(self.runs, |runs| runs as usize);
        self.run_age = run_days.map_or(self.run_age, age);
        self.cache_age = cache_days.map_or(self.cache_age, age);
    }
}

/// What a kernel is made of: one `[kernel.NAME]` with `extends` flattened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelSpec {
    /// The name in lab.toml.
    pub name: String,
    /// The architecture, and so the backend.
    pub arch: Arch,
    /// Where it comes from.
    pub provider: Provider,
    /// Words for the command line of every boot.
    pub cmdline: Vec<String>,
    /// How a command line asks for it, where that is not its name: `uml-6.1-src --patch fix.patch`.
    #[serde(default)]
    pub asked: Option<String>,
}

/// The architecture of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// User-Mode Linux.
    Um,
    /// A PC, in QEMU.
    #[serde(rename = "x86_64")]
    X86_64,
}

/// What runs a kernel; follows from its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The kernel is a process.
    Uml,
    /// A full machine.
    Qemu,
}

/// Where a kernel comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// `debian = "SUITE/PACKAGE"`: a prebuilt package.
    Debian {
        /// For example `bookworm`.
        suite: String,
        /// For example `user-mode-linux`.
        package: String,
    },
    /// `source = ...`: built here.
    Source {
        /// A directory, a tarball, `git:PATH#REV` or `debian:SUITE/linux-source-X.Y`.
        source: String,
        /// Names of fragments in kconfigs/.
        kconfig: Vec<String>,
        /// Names of series in patches/, or patch files.
        patches: Vec<String>,
        /// `SYMBOL=value` on top of the fragments: `--config`.
        #[serde(default)]
        config: Vec<String>,
        /// Modules that are built out of the tree: folders with a Kbuild or Makefile, or
        /// `debian:SUITE/PACKAGE`. Left out where there are none, so that the store's index knows
        /// the kernels that it knew before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        modules: Vec<String>,
        /// A digest of all that goes in, once it is known; the store's index is by it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<String>,
    },
    /// `path = ...`: files or a built tree that the user has.
    Path {
        /// A boot file or a built kernel tree.
        path: PathBuf,
    },
}

/// One `images/NAME.toml`: the guest's root file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// The manifest's name.
    pub name: String,
    /// What it is for.
    pub summary: String,
    /// The program that is /bin/sh in the guest.
    pub shell: String,
    /// Programs of the host, found on its PATH and in the sbin folders; each with its ELF closure.
    pub programs: Vec<String>,
    /// Programs to take along only where the host has them.
    pub optional: Vec<String>,
    /// Other files of the host.
    pub files: Vec<ImageFile>,
    /// Small files written out in the manifest: path in the guest and text.
    pub texts: BTreeMap<String, String>,
}

/// A file or folder of the host in an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageFile {
    /// On the host: absolute, or relative to the manifest's folder.
    pub host: PathBuf,
    /// In the guest, absolute.
    pub guest: PathBuf,
}

/// `[[known]]`: a failure that is known; a different failure is a new one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// A case's name or a glob.
    pub case: String,
    /// Globs of kernel names.
    pub kernel: Vec<String>,
    /// Why it fails.
    pub reason: String,
    /// The failure's signature where it is not a difference of output, for example
    /// `splat:WARNING` (as the report prints it). A difference of output is compared with
    /// `snapshots/*.known.snap` instead.
    pub signature: Option<String>,
}

/// `[matrix.NAME]`: kernels x cases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixSpec {
    /// Globs of kernel names.
    pub kernels: Vec<String>,
    /// Globs of case names.
    pub cases: Vec<String>,
}

impl Provider {
    /// Whether two manifests' words mean the same kernel, whatever went into it at the time.
    pub fn same_wish(&self, other: &Self) -> bool {
        let bare = |provider: &Self| {
            let mut bare = provider.clone();
            if let Self::Source { inputs, .. } = &mut bare {
                *inputs = None;
            }
            bare
        };
        bare(self) == bare(other)
    }
}

impl KernelSpec {
    /// What stands behind `-k` to ask for it.
    pub fn asked(&self) -> &str {
        self.asked.as_deref().unwrap_or(&self.name)
    }

    /// This kernel with more patches (series or files) and options (`SYMBOL=value`), under a name
    /// that says so.
    ///
    /// # Errors
    /// It is not built from source, so that nothing can be changed about it.
    pub fn varied(&self, patches: &[String], config: &[String]) -> Result<Self> {
        let mut varied = self.clone();
        let Provider::Source { patches: old, config: options, .. } = &mut varied.provider else {
            return Err(Diagnostic::usage(format!(
                "{} is not built here: patches and options need a kernel from source",
                self.name
            ))
            .help("name one with `source = ...` in lab.toml, for example -k uml-6.1-src"));
        };
        old.extend(patches.iter().cloned());
        options.extend(config.iter().cloned());
        let word = |option: &'static str| move |word: &String| format!(" {option} {word}");
        let words = patches.iter().map(word("--patch")).chain(config.iter().map(word("--config")));
        varied.asked = Some(self.asked().to_string() + &words.collect::<String>());
        for word in patches.iter().chain(config) {
            let short = word.rsplit('/').next().unwrap_or(word);
            varied.name.push_str(&format!("+{}", short.trim_end_matches(".patch")));
        }
        Ok(varied)
    }
}

impl Arch {
    /// The backend of this architecture.
    pub fn backend(self) -> Backend {
        match self {
            Self::Um => Backend::Uml,
            Self::X86_64 => Backend::Qemu,
        }
    }
}

impl Project {
    /// The embedded project's folder stands for nothing on disk: a project without lab.toml.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Where a path of the project is, as a person would write it: relative to `from` if below it.
    pub fn shown<'a>(path: &'a Path, from: &Path) -> &'a Path {
        path.strip_prefix(from).unwrap_or(path)
    }
}
