//! What `source = ...` names becomes a working tree in the cache that builds can use. The user's own
//! folder, checkout or archive is only ever read.
//!
//! ```text
//! sources/LINEAGE/{tree/, source.json, lock, index, pristine/, applied.json}
//! sources/debian/SUITE_PACKAGE.json      which version a suite had when it was last asked
//! sources/tarballs/DIGEST.json           an archive's digest, good while its stamp holds
//! ```
//! A lineage is a folder's path, a repository and series of releases, or one archive: its tree is
//! used again and again with other contents, and only files whose bytes differ get a new time, so
//! that make builds what differs and nothing else.

mod checkout;
mod files;
mod git;
mod index;
mod look;
mod package;
mod place;
mod products;
mod sync;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;
mod version;

pub(in crate::kernel) use git::{describe, git};
pub(in crate::kernel) use package::PackageFolder;
pub(in crate::kernel) use place::missing;
pub(in crate::kernel) use sync::{beside, no_room};
pub use tree::Tree;
pub use version::{KernelVersion, kernel_version};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};

use super::entry::{Package, disk_usage, write_whole};
use super::store::{lock, remove_locked};
use crate::manifest::{Diagnostic, Result};

/// The source trees in a cache. Cheap to open; any number of labs may use the same one.
#[derive(Clone, Debug)]
pub struct Sources {
    pub(super) root: PathBuf,
}

/// A source as it is at a moment: what a kernel's key is made from.
#[derive(Clone, Debug)]
pub struct Source {
    /// As lab.toml has it.
    pub text: String,
    /// Where it comes from.
    pub origin: SourceOrigin,
    /// A digest, in hex, of all that a build could see of it. That of a folder which was never
    /// copied before changes once, when [`Sources::check_out`] reads its contents: the kernel's key
    /// is to be made from [`Tree::source`].
    pub identity: String,
    /// The name of its folder in the cache.
    lineage: String,
    /// What the look found and the checkout goes on with.
    found: look::Findings,
}

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SourceOrigin {
    /// A package of Debian, verified by apt against the archive's signature.
    Debian {
        /// For example `bookworm`.
        suite: String,
        /// The package and its version.
        #[serde(flatten)]
        package: Package,
    },
    /// A commit of a local repository.
    Git {
        /// The repository.
        path: PathBuf,
        /// As the user wrote it.
        rev: String,
        /// What it is.
        commit: String,
    },
    /// An archive.
    Tarball {
        /// The file.
        file: PathBuf,
        /// Its BLAKE3, in hex.
        blake3: String,
    },
    /// A folder, copied as it is.
    Folder {
        /// The folder.
        path: PathBuf,
        /// `git describe --dirty`, once it is copied; `None` where it is no checkout.
        git: Option<String>,
    },
}

/// What [`Sources::list`] tells of a source tree.
#[derive(Clone, Debug)]
pub struct StoredSource {
    /// The name of its folder in the cache, for [`Sources::remove`].
    pub lineage: String,
    /// Where it comes from.
    pub origin: SourceOrigin,
    /// What its Makefile states; `None`: a package of modules, which are no kernel.
    pub version: Option<KernelVersion>,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// When it was last made ready for a build.
    pub used: SystemTime,
    /// A lab is using it now.
    pub in_use: bool,
}

/// `source.json`: the tree is whole, and what it is without patches.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    origin: SourceOrigin,
    identity: String,
    version: Option<KernelVersion>,
}

/// A change of this makes every source tree anew.
const FORMAT: u32 = 1;

impl Sources {
    /// Opens the sources of a cache folder, which is made if it is not there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(cache: &Path) -> Result<Self> {
        let root = cache.join("sources");
        for name in ["debian", "tarballs"] {
            let folder = root.join(name);
            std::fs::create_dir_all(&folder).map_err(|e| {
                Diagnostic::io("make", &folder, &e).help("LAB_CACHE names the folder for the cache")
            })?;
        }
        // git and make get these paths and run elsewhere.
        let root = root.canonicalize().map_err(|e| Diagnostic::io("find", &root, &e))?;
        Ok(Self { root })
    }

    /// Every source tree, the one used longest ago first.
    ///
    /// # Errors
    /// The cache cannot be read.
    pub fn list(&self) -> Result<Vec<StoredSource>> {
        let io = |e| Diagnostic::io("read", &self.root, &e);
        let mut all = Vec::new();
        for item in std::fs::read_dir(&self.root).map_err(io)? {
            let folder = item.map_err(io)?.path();
            let Some(record) = Record::read(&folder) else { continue };
            let meta = std::fs::metadata(folder.join(RECORD));
            all.push(StoredSource {
                lineage: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                origin: record.origin,
                version: record.version,
                bytes: disk_usage(&folder).unwrap_or(0),
                used: meta.and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH),
                in_use: matches!(lock(&folder, FlockArg::LockExclusiveNonblock), Ok(None)),
            });
        }
        all.sort_by_key(|source| source.used);
        Ok(all)
    }

    /// Deletes a source tree; the bytes freed, 0 where there was nothing.
    ///
    /// # Errors
    /// A running lab uses it, or it cannot be deleted.
    pub fn remove(&self, lineage: &str) -> Result<u64> {
        match remove_locked(&self.root, lineage)? {
            Some(bytes) => Ok(bytes),
            None if !self.root.join(lineage).is_dir() => Ok(0),
            None => Err(Diagnostic::trouble("the source is in use by a running lab")
                .help("end that one first")),
        }
    }
}

/// The record's name in a lineage's folder.
const RECORD: &str = "source.json";

impl Record {
    fn read(folder: &Path) -> Option<Self> {
        let record: Self =
            serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()?;
        (record.format == FORMAT).then_some(record)
    }

    fn new(source: &Source, version: Option<KernelVersion>) -> Self {
        let (origin, identity) = (source.origin.clone(), source.identity.clone());
        Self { format: FORMAT, origin, identity, version }
    }

    /// Writes the record, whole or not at all.
    fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).expect("a record is plain data");
        write_whole(&folder.join(RECORD), &text)
    }
}

impl Source {
    /// A look at what an earlier look found, for a kernel's record.
    pub(in crate::kernel) fn lineage(&self) -> &str {
        &self.lineage
    }

    /// A temporary folder with what was already fetched goes when the last clone does.
    fn fetched(&self) -> Option<&Arc<look::Fetched>> {
        self.found.fetched.as_ref()
    }
}

impl fmt::Display for SourceOrigin {
    /// In a few words, for lists and reports.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian { suite, package } => {
                write!(f, "{} {} ({suite})", package.package, package.version)
            }
            Self::Git { path, rev, commit } => {
                let short = commit.get(..12).unwrap_or(commit);
                write!(f, "{} at {rev}", path.display())?;
                if commit.starts_with(rev.as_str()) { Ok(()) } else { write!(f, " ({short})") }
            }
            Self::Tarball { file, .. } => write!(f, "{}", file.display()),
            Self::Folder { path, git: Some(git) } => write!(f, "{} ({git})", path.display()),
            Self::Folder { path, git: None } => write!(f, "{} (not git)", path.display()),
        }
    }
}
