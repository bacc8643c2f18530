//! The second half of getting a source: its working tree is made to be what the look found, and
//! locked for whoever builds from it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

use super::super::store::{TEMPORARY, lock};
use super::super::tool::Watch;
use super::super::{AptSource, PullError, PullProgress};
use super::index::Index;
use super::look::{Findings, folder_identity};
use super::tree::Tree;
use super::version::kernel_version;
use super::{RECORD, Record, Source, SourceOrigin, Sources, files, git, sync};
use crate::manifest::{Diagnostic, Result};

/// A temporary folder of this lab: it goes when this does, or at the next one after a crash.
pub(super) struct Workspace {
    folder: TempDir,
    _lock: Option<Flock<File>>,
}

impl Workspace {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Sources {
    /// Makes the working tree of a source ready: unpacked, copied, or brought from another content
    /// to this one. It is the caller's alone for as long as the [`Tree`] lives; others wait.
    /// Patches that were applied stay applied until [`Tree::with_patches`].
    ///
    /// # Errors
    /// See [`PullError`]; the tree is then made whole by the next call.
    pub fn check_out(
        &self,
        source: &Source,
        apt: &AptSource,
        progress: &mut dyn FnMut(PullProgress),
        cancel: &AtomicBool,
    ) -> Result<Tree, PullError> {
        let mut watch = Watch { progress, cancel };
        let watch = &mut watch;
        let source = self.fetchable(source.clone(), apt, watch)?;
        let folder = self.root.join(&source.lineage);
        let lock = hold(&folder, watch)?;
        let mut tree = Tree::new(folder.clone(), source, lock);
        match tree.source().origin.clone() {
            SourceOrigin::Folder { path, .. } => copy_folder(&mut tree, &path, watch)?,
            SourceOrigin::Git { .. } => check_out_commit(&mut tree, watch)?,
            SourceOrigin::Tarball { .. } | SourceOrigin::Debian { .. } => {
                if Record::read(&folder).is_none() {
                    self.unpack(tree.source(), &folder, watch)?;
                }
            }
        }
        tree.version = kernel_version(&tree.path())?;
        // Also when nothing changed: its time says when the tree was last used.
        Record::new(tree.source(), Some(tree.version.clone())).write(&folder)?;
        tree.source.found = Findings::default();
        Ok(tree)
    }

    /// A source that is here, or whose package can be fetched: the suite may have moved on since it
    /// was last asked.
    pub(super) fn fetchable(
        &self,
        source: Source,
        apt: &AptSource,
        watch: &mut Watch,
    ) -> Result<Source, PullError> {
        match &source.origin {
            SourceOrigin::Debian { suite, package }
                if source.fetched().is_none()
                    && Record::read(&self.root.join(&source.lineage)).is_none() =>
            {
                let text = format!("debian:{suite}/{}", package.package);
                self.look(&text, apt, true, watch.progress, watch.cancel)
            }
            _ => Ok(source),
        }
    }

    /// A fresh temporary folder; what died labs left is deleted.
    pub(super) fn workspace(&self) -> Result<Workspace> {
        let io = |e: io::Error| Diagnostic::io("work in", &self.root, &e);
        for item in std::fs::read_dir(&self.root).map_err(io)?.flatten() {
            let folder = item.path();
            if item.file_name().to_string_lossy().starts_with(TEMPORARY)
                && let Ok(Some(_held)) = lock(&folder, FlockArg::LockExclusiveNonblock)
            {
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
        let folder =
            tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(&self.root).map_err(io)?;
        File::create(folder.path().join("lock")).map_err(io)?;
        let lock = lock(folder.path(), FlockArg::LockExclusiveNonblock).map_err(io)?;
        Ok(Workspace { folder, _lock: lock })
    }
}

/// Waits until the folder of a lineage is ours.
pub(super) fn hold(folder: &Path, watch: &mut Watch) -> Result<Flock<File>, PullError> {
    let mut said = false;
    loop {
        let make = || -> io::Result<Option<Flock<File>>> {
            std::fs::create_dir_all(folder)?;
            OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
            lock(folder, FlockArg::LockExclusiveNonblock)
        };
        match make() {
            Ok(Some(held)) => return Ok(held),
            Ok(None) => {}
            // Somebody is removing it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Diagnostic::io("lock", folder, &e).into()),
        }
        if !said {
            (watch.progress)(PullProgress::Waiting);
            said = true;
        }
        watch.check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Copies what differs, and looks again until the source held still.
fn copy_folder(tree: &mut Tree, path: &Path, watch: &mut Watch) -> Result<(), PullError> {
    let index_file = tree.folder.join("index");
    let doubt = tree.folder.join("copying");
    let mut listing = match tree.source.found.listing.take() {
        Some(listing) => listing,
        None => Arc::new(files::list(path, watch)?),
    };
    for _ in 0..3 {
        let index = Index::read(&index_file);
        let doubtful = doubt.exists();
        let known = !doubtful
            && index.as_ref().is_some_and(|index| {
                index.0.len() == listing.files.len()
                    && listing.files.iter().all(|found| index.known(found).is_some())
            });
        let index = match (known, index) {
            (true, Some(index)) => index,
            (_, index) => {
                File::create(&doubt).map_err(|e| Diagnostic::io("write", &doubt, &e))?;
                let _ = std::fs::remove_file(tree.folder.join(RECORD));
                let applied = tree.applied_files();
                let root = tree.path();
                let pristine = |file: &Path| tree.pristine(&root, &applied, file);
                let (index, changed) =
                    sync::sync(path, &listing.files, (index, doubtful), &root, &pristine, watch)?;
                index.write(&index_file)?;
                std::fs::remove_file(&doubt).map_err(|e| Diagnostic::io("remove", &doubt, &e))?;
                tracing::debug!(changed, "copied a source");
                if changed > 0 {
                    // Files that changed while the copy went on are in the next listing.
                    listing = Arc::new(files::list(path, watch)?);
                    continue;
                }
                index
            }
        };
        let id = Index::identity(Some(&index), path, &listing.files)
            .map_err(|e| Diagnostic::io("read", path, &e))?;
        tree.source.identity = folder_identity(&id);
        let git = if listing.checkout { git::describe(path, watch) } else { None };
        tree.source.origin = SourceOrigin::Folder { path: path.to_path_buf(), git };
        return Ok(());
    }
    let message = format!("the source {} changes while it is copied", path.display());
    Err(Diagnostic::trouble(message).help("try again when what writes there is done").into())
}

/// Brings the working tree to a commit.
fn check_out_commit(tree: &mut Tree, watch: &mut Watch) -> Result<(), PullError> {
    let Some(commit) = tree.source.found.commit.clone() else {
        return Err(Diagnostic::trouble("a git source was not looked at").into());
    };
    let record = Record::read(&tree.folder);
    if record.as_ref().is_some_and(|record| record.identity == tree.source.identity) {
        return Ok(());
    }
    let root = tree.path();
    let make = std::fs::create_dir_all(&root);
    make.map_err(|e| Diagnostic::io("make", &root, &e))?;
    // git must meet what it checked out.
    tree.with_patches(&[])?;
    let index = tree.folder.join("git-index");
    let _ = std::fs::remove_file(tree.folder.join(RECORD));
    git::check_out(&commit, &root, &index, watch)?;
    if record.is_none() {
        git::clean(&commit, &root, &index, watch)?;
    }
    super::unpack::remove_products(&root)?;
    Ok(())
}

impl Source {
    /// Where the source's own files lie, for messages about them: a folder of the user.
    pub fn folder(&self) -> Option<&Path> {
        match &self.origin {
            SourceOrigin::Folder { path, .. } => Some(path),
            _ => None,
        }
    }
}
