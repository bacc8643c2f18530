//! A working tree that is locked for its holder, and what is known of the patches applied to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use super::super::entry::write_whole;
use super::{KernelVersion, Source};
use crate::manifest::Result;

/// A source tree that is ready to be built from, out of tree (`make O=`). Nobody else changes it
/// while this lives.
pub struct Tree {
    pub(in crate::kernel) folder: PathBuf,
    pub(super) source: Source,
    pub(super) version: KernelVersion,
    _lock: Flock<File>,
}

/// `applied.json`: which files may differ from the source. Their unpatched forms are in `pristine/`;
/// one that is not there was not there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Applied {
    files: BTreeSet<PathBuf>,
}

impl Tree {
    pub(super) fn new(folder: PathBuf, source: Source, lock: Flock<File>) -> Self {
        let version =
            KernelVersion { version: 0, patchlevel: 0, sublevel: 0, extra: String::new() };
        Self { folder, source, version, _lock: lock }
    }

    /// The folder to build from. Stays the same for all contents of a lineage.
    pub fn path(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// What is in it, patches aside; its identity is the one for a kernel's key.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What its Makefile states.
    pub fn version(&self) -> &KernelVersion {
        &self.version
    }

    /// The name of the lineage: build trees of the same lineage may be used again.
    pub fn lineage(&self) -> &str {
        self.source.lineage()
    }

    /// The files that may differ from the source.
    pub(in crate::kernel) fn applied_files(&self) -> BTreeSet<PathBuf> {
        let text = std::fs::read(self.folder.join("applied.json")).ok();
        let applied: Option<Applied> = text.and_then(|text| serde_json::from_slice(&text).ok());
        applied.unwrap_or_default().files
    }

    /// Takes down which files may differ. Before they do: a crash must not lose one.
    pub(in crate::kernel) fn note_applied(&self, files: &BTreeSet<PathBuf>) -> Result<()> {
        let applied = Applied { files: files.clone() };
        let text = serde_json::to_vec_pretty(&applied).expect("a list is plain data");
        write_whole(&self.folder.join("applied.json"), &text)
    }

    /// Where the unpatched form of a file is, if it has one.
    pub(in crate::kernel) fn pristine(
        &self,
        tree: &Path,
        applied: &BTreeSet<PathBuf>,
        file: &Path,
    ) -> PathBuf {
        match applied.contains(file) {
            true => self.folder.join("pristine").join(file),
            false => tree.join(file),
        }
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("source", &self.source).finish_non_exhaustive()
    }
}
