//! Packages of Debian that ship modules as source (`*-dkms`, in /usr/src/NAME-VERSION): unpacked
//! beside the kernels' sources, and kept as these are.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::super::tool::Watch;
use super::super::{AptSource, PullError, PullProgress};
use super::checkout::hold;
use super::look::Findings;
use super::unpack::{fetch_package, remove_old};
use super::{Record, Source, Sources};
use crate::manifest::{Diagnostic, Result};

/// What a package had in /usr/src. It stays there while this lives.
#[derive(Debug)]
pub(in crate::kernel) struct PackageFolder {
    /// The package as it was fetched: the suite may have moved on since it was looked at.
    pub source: Source,
    /// Its folder in the cache.
    pub folder: PathBuf,
    _lock: Flock<File>,
}

impl Sources {
    /// Fetches and unpacks a package of a `debian:` source, if it is not here.
    pub(in crate::kernel) fn package(
        &self,
        source: Source,
        apt: &AptSource,
        watch: &mut Watch,
    ) -> Result<PackageFolder, PullError> {
        let mut source = self.fetchable(source, apt, watch)?;
        let kept = self.root.join(&source.lineage);
        let lock = hold(&kept, watch)?;
        let folder = kept.join("tree");
        if Record::read(&kept).is_none() {
            remove_old(&kept)?;
            let unpacked = fetch_package(&source, watch)?;
            (watch.progress)(PullProgress::Unpack);
            let found = only_source(&unpacked, &source)?;
            std::fs::rename(&found, &folder).map_err(|e| Diagnostic::io("make", &folder, &e))?;
            let _ = std::fs::remove_dir_all(&unpacked);
        }
        // Also when nothing changed: its time says when it was last used.
        Record::new(&source, None).write(&kept)?;
        source.found = Findings::default();
        Ok(PackageFolder { source, folder, _lock: lock })
    }
}

/// The one folder below /usr/src of an unpacked package.
fn only_source(unpacked: &Path, source: &Source) -> Result<PathBuf> {
    let items = std::fs::read_dir(unpacked.join("usr/src")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        items.map(|item| item.path()).filter(|path| path.is_dir()).collect();
    match (folders.pop(), folders.is_empty()) {
        (Some(only), true) => Ok(only),
        (found, _) => {
            let has = if found.is_some() { "several folders" } else { "no folder" };
            Err(Diagnostic::usage(format!(
                "{} is no package of a module's source: it has {has} in /usr/src",
                source.origin
            ))
            .help("a package such as dm-writeboost-dkms is wanted"))
        }
    }
}
