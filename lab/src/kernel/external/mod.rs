//! Modules that are no part of the kernel's tree (`modules = [...]`): where their source is, and
//! what it is now. [`super::build`] builds them against the kernel.

mod folder;

pub(super) use folder::without_links;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::source::{PackageFolder, Sources, describe};
use super::tool::Watch;
use super::{AptSource, KernelKey, PullError, SourceOrigin};
use crate::manifest::{Diagnostic, Result};

/// Modules in a kernel's module tree that were built out of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalModules {
    /// Where their source comes from.
    pub source: SourceOrigin,
    /// What it was: a digest in hex.
    pub identity: String,
    /// The modules, as `modprobe` takes them.
    pub names: Vec<String>,
}

/// The source of some modules, here to be built.
#[derive(Debug)]
pub(super) struct External {
    pub source: SourceOrigin,
    /// A digest, in hex, of all that a build could see of it.
    pub identity: String,
    root: PathBuf,
    /// Nobody removes the package's files while they are read.
    _package: Option<PackageFolder>,
}

/// Whether a text of `modules` names a package.
fn is_package(text: &str) -> bool {
    text.starts_with("debian:")
}

/// Fails where a text of `modules` names a folder that is no module's source; looks at its Makefile
/// only.
pub(super) fn check(text: &str) -> Result<()> {
    if is_package(text) { Ok(()) } else { folder::check(Path::new(text)) }
}

/// What the source of some modules is now; `None` where to know it wants the network.
///
/// # Errors
/// It is not there, or no module's source.
pub(super) fn identity(
    text: &str,
    sources: &Sources,
    apt: &AptSource,
    watch: &mut Watch<'_>,
) -> Result<Option<String>, PullError> {
    if !is_package(text) {
        check(text)?;
        return Ok(Some(named(&folder::identity(Path::new(text))?)));
    }
    if !sources.is_known(text) {
        return Ok(None);
    }
    Ok(Some(sources.look(text, apt, false, watch.progress, watch.cancel)?.identity))
}

impl External {
    /// Looks at a folder, or fetches a package.
    ///
    /// # Errors
    /// As [`identity`], or as for any package.
    pub fn obtain(
        text: &str,
        sources: &Sources,
        apt: &AptSource,
        watch: &mut Watch<'_>,
    ) -> Result<Self, PullError> {
        if !is_package(text) {
            check(text)?;
            let root = PathBuf::from(text);
            let root = root.canonicalize().map_err(|e| Diagnostic::io("find", &root, &e))?;
            let identity = named(&folder::identity(&root)?);
            let source = SourceOrigin::Folder { path: root.clone(), git: describe(&root, watch) };
            return Ok(Self { source, identity, root, _package: None });
        }
        let source = sources.look(text, apt, false, watch.progress, watch.cancel)?;
        let package = sources.package(source, apt, watch)?;
        folder::check(&package.folder).map_err(|error| {
            let message = format!("{} holds no module's source", package.source.origin);
            let why = error.message().replace(&package.folder.display().to_string(), "it");
            Diagnostic::usage(format!("{message}: {why}")).help(
                "a package such as dm-writeboost-dkms is wanted, whose folder in /usr/src has a \
                 Makefile with obj-m; where its own scripts have to run first, run them and name \
                 that folder: source = \"FOLDER\"",
            )
        })?;
        Ok(Self {
            source: package.source.origin.clone(),
            identity: package.source.identity.clone(),
            root: package.folder.clone(),
            _package: Some(package),
        })
    }

    /// Makes the folder `copy` hold the source. What an earlier build left there stays, and files
    /// that are equal keep their time, so that make builds only what it must.
    ///
    /// # Errors
    /// It cannot be read or written, or changes meanwhile.
    pub fn copy_to(&self, copy: &Path) -> Result<()> {
        let copied = folder::copy(&self.root, copy)?;
        if matches!(self.source, SourceOrigin::Folder { .. }) && named(&copied) != self.identity {
            let message = format!("{} changes while it is copied", self.root.display());
            return Err(
                Diagnostic::trouble(message).help("try again when what writes there is done")
            );
        }
        Ok(())
    }
}

/// The identity of a folder from the digest of its files.
fn named(files: &str) -> String {
    KernelKey::of(&["module folder", files]).as_str().to_string()
}
